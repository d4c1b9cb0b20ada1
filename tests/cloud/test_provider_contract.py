"""One contract for every kind of cloud: what ``site.cloudport`` promises, asked of ``host`` and of ``azure``."""

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives import hashes

from entrepot.cloud.providers.azure.account import AzureAccess
from entrepot.cloud.providers.azure.provider import AzureProvider
from entrepot.core.errors import ConflictError, NotFoundError
from entrepot.objects.memory import MemoryStore
from entrepot.protocol.cloudapi import AzureOptions
from entrepot.protocol.cloudhost import RunState
from entrepot.trust.inspection import key_pem, load_cer

from ..lightpfx import light_management
from .arm_double import APPLICATION, SUBSCRIPTION, TENANT, ArmDouble

pytestmark = pytest.mark.process


@pytest.fixture
async def azure(tmp_path: Path, site: Any) -> AsyncIterator[Any]:
    """A provider of Azure, with an empty subscription."""
    pair = light_management("Contoso", 30, now=time.time())
    arm = ArmDouble(tmp_path, site.authority, pair.certificate)
    arm.dns_proven = True
    access = AzureAccess(
        subscription=SUBSCRIPTION,
        options=AzureOptions(tenant=TENANT, application=APPLICATION, image="registry/gateway", authority=arm.url),
        certificate=pair.cer,
        private_key=key_pem(pair.key),
        region="westeurope",
        arm=arm.url,
        mark=site.root.public,
        ca=arm.ca,
        polling=0.01,
    )
    store = MemoryStore()
    async with AzureProvider(access, open_store=lambda *_: store) as provider:
        yield provider
    arm.close()
    assert arm.problems == []


async def test_the_cloud_host_keeps_what_the_port_promises(provider: Any, site: Any) -> None:
    await _contract(provider, site)


async def test_a_plan_on_a_host_names_its_machine_once_and_says_what_stays_after_a_stop(provider: Any) -> None:
    parts = await provider.plan("cloud1", "", 3)
    staying = [(one.kind, one.meter) for one in parts if one.stays and one.meter]
    assert staying == [("the host's machine", "machine"), ("stored content", "storage_gb_month")]
    assert [one.name for one in parts if one.meter == "machine"] == ["127.0.0.1"]


async def test_azure_keeps_what_the_port_promises(azure: Any, site: Any) -> None:
    await _contract(azure, site)


async def _contract(cloud: Any, site: Any) -> None:
    spec = site.spec(2)
    subscription = await cloud.check()
    assert subscription.state == "active"
    assert abs(subscription.time - time.time()) < 60
    with pytest.raises(NotFoundError):
        await cloud.status("cloud1")
    assert await cloud.services() == []
    assert (await cloud.delete("cloud1")).left == ()

    told: list[str] = []
    created = await cloud.create("cloud1", spec, told.append)
    assert told
    assert (created.point, created.fqdn, created.root, created.wanted) == (spec.point, spec.fqdn, spec.root, 2)
    assert created.address
    assert await cloud.create("cloud1", spec) is not None  # again: nothing more happens
    assert [one.name for one in await cloud.services()] == ["cloud1"]

    fetched: list[int] = []
    holder = cloud.holder("cloud1", fetched=fetched.append)
    await holder.put_document("note", b"kept")
    assert sum(fetched) == 0, "what is sent there does not leave the cloud"
    assert (await cloud.stop("cloud1")).state is RunState.STOPPED
    assert (await cloud.stop("cloud1")).state is RunState.STOPPED
    assert await holder.get_document("note") == b"kept"  # the store outlives a stop (R27)
    assert sum(fetched) == len(b"kept")
    assert (await holder.list_documents()).keys
    assert sum(fetched) > len(b"kept"), "lists are downloads, too"
    assert (await cloud.create("cloud1", spec)).state is RunState.STOPPED  # stopped stays stopped
    assert (await cloud.start("cloud1")).state is not RunState.STOPPED
    assert (await cloud.scale("cloud1", 1)).wanted == 1

    renewed = site.spec(1)
    changed = await cloud.create("cloud1", renewed)
    assert changed.certificate_expires >= created.certificate_expires
    digest = {40: hashes.SHA1(), 64: hashes.SHA256()}[len(changed.certificate_thumbprint)]
    assert changed.certificate_thumbprint == load_cer(renewed.certificate.encode()).fingerprint(digest).hex()

    with pytest.raises(ConflictError):
        await cloud.create("cloud1", msgspec.structs.replace(spec, point="pt-fedcba9876543210"))
    with pytest.raises(ConflictError):
        await cloud.plan("cloud1", "", 1)
    parts = await cloud.plan("cloud1", spec.point, 1)
    assert {one.stays for one in parts if one.meter} == {True, False}
    assert (await cloud.metrics("cloud1", int(time.time()) - 3600, int(time.time()))).stored_bytes is not None

    assert (await cloud.delete("cloud1")).left == ()
    assert (await cloud.delete("cloud1")).left == ()
    with pytest.raises(NotFoundError):
        await cloud.status("cloud1")
