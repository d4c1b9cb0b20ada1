"""What is left in Azure of services that the site does not know: found wherever it lies, and removed."""

import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from entrepot.cloud.providers.azure.provider import AzureProvider
from entrepot.core.errors import NotFoundError
from entrepot.objects.memory import MemoryStore
from entrepot.protocol.cloudhost import RunState
from entrepot.trust.authority import create_authority

from ..lightpfx import light_management
from .arm_double import SUBSCRIPTION, ArmDouble
from .test_azure_provider import FQDN, OPTIONS, POINT, ROOT, access, make_spec


@pytest.fixture(scope="module")
def authority() -> Any:
    return create_authority("Contoso", now=time.time())


@pytest.fixture(scope="module")
def pair() -> Any:
    return light_management("Contoso management", 30, now=time.time())


@pytest.fixture
def arm(tmp_path: Path, authority: Any, pair: Any) -> Iterator[ArmDouble]:
    double = ArmDouble(tmp_path, authority, pair.certificate)
    double.dns_proven = True
    yield double
    double.close()
    assert double.problems == []


@pytest.fixture
async def azure(arm: ArmDouble, pair: Any) -> AsyncIterator[AzureProvider]:
    async with AzureProvider(access(arm, pair), open_store=lambda *_: MemoryStore()) as provider:
        yield provider


def _key(arm: ArmDouble, part: str) -> str:
    return next(name for name in arm.things if part in name)


async def test_a_storage_account_that_a_deletion_by_hand_left_is_found_and_removed(azure, arm, authority) -> None:
    await azure.create("cloud1", make_spec(authority))
    del arm.things[_key(arm, "/containerapps/")]
    for name in [name for name in arm.things if "/managedenvironments/" in name]:
        del arm.things[name]
    (found,) = await azure.services()
    assert (found.name, found.point, found.fqdn, found.root) == ("cloud1", POINT, FQDN, ROOT)
    assert (found.state, found.wanted, found.instances) == (RunState.DEGRADED, 0, ())
    assert found.parts == ("resource group entrepot-cloud1", "storage account entrepot0123456789abcdef")
    assert found.place == ""
    with pytest.raises(NotFoundError):
        await azure.status("cloud1")
    assert (await azure.delete("cloud1")).left == ()
    assert await azure.services() == []
    assert arm.things == {}


async def test_whole_services_are_listed_once_and_have_no_parts(azure, arm, authority) -> None:
    await azure.create("cloud1", make_spec(authority))
    (found,) = await azure.services()
    assert (found.parts, found.wanted) == ((), 2)


async def test_what_other_hierarchies_left_is_not_ours_to_list(azure, arm, authority) -> None:
    await azure.create("cloud1", make_spec(authority))
    del arm.things[_key(arm, "/containerapps/")]
    for thing in arm.things.values():
        if "tags" in thing:
            thing["tags"] = {**thing["tags"], "entrepot-root": "ff" * 32}
    assert await azure.services() == []


async def test_a_service_in_a_resource_group_that_was_given_says_where_it_lies(arm, pair, authority) -> None:
    group = f"/subscriptions/{SUBSCRIPTION}/resourcegroups/shared"
    arm.things[group] = {"id": group, "name": "shared", "tags": {"owner": "them"}, "properties": {}}
    shared = access(arm, pair)
    options = msgspec.structs.replace(OPTIONS, authority=arm.url, resource_group="shared")
    shared = msgspec.structs.replace(shared, options=options)
    async with AzureProvider(shared, open_store=lambda *_: MemoryStore()) as provider:
        await provider.create("cloud1", make_spec(authority))
        assert (await provider.status("cloud1")).place == "shared"
    async with AzureProvider(access(arm, pair), open_store=lambda *_: MemoryStore()) as elsewhere:
        (found,) = await elsewhere.services()  # of an account whose cloud points have resource groups of their own
        assert (found.name, found.place, found.parts) == ("cloud1", "shared", ())
    async with AzureProvider(shared, open_store=lambda *_: MemoryStore()) as provider:
        del arm.things[_key(arm, "/containerapps/")]
        (found,) = await provider.services()
        assert found.place == "shared"
        assert "storage account entrepot0123456789abcdef" in found.parts
        assert (await provider.delete("cloud1")).left == ()
    assert set(arm.things) == {group}  # what was there before stays
