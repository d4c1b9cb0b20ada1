"""Orders that meet an operation of Azure's on the same resource (409): they wait for its end, and can be stopped."""

import asyncio
import copy
import re
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from entrepot.cloud.providers.azure import account
from entrepot.cloud.providers.azure.errors import AzureBusyError
from entrepot.cloud.providers.azure.provider import LOOKS, AzureProvider
from entrepot.core.errors import CancelledError
from entrepot.objects.memory import MemoryStore
from entrepot.protocol.cloudhost import RunState
from entrepot.trust.authority import create_authority

from ..lightpfx import light_management
from .arm_double import ArmDouble, Refusal
from .test_azure_provider import access, make_spec

LONG = 10
"""So many orders are refused while another operation lasts: more than a task has attempts."""
PATIENCE = 600
"""Seconds until what would never end is given up; nothing here takes long, however busy the machine is."""
WAITING = "Waiting for the end of Azure's present operation."


@pytest.fixture(scope="module")
def authority() -> Any:
    return create_authority("Contoso", now=time.time())


@pytest.fixture(scope="module")
def pair() -> Any:
    return light_management("Contoso management", 30, now=time.time())


@pytest.fixture(scope="module")
def double(tmp_path_factory: pytest.TempPathFactory, authority: Any, pair: Any) -> Iterator[ArmDouble]:
    double = ArmDouble(tmp_path_factory.mktemp("arm"), authority, pair.certificate)
    double.dns_proven = True
    double.unknown_principals = 0
    yield double
    double.close()
    assert double.problems == []


@pytest.fixture(scope="module")
def made(double: ArmDouble, pair: Any, authority: Any) -> dict[str, Any]:
    """What there is where the service runs."""

    async def make() -> None:
        async with AzureProvider(access(double, pair), open_store=lambda *_: MemoryStore()) as provider:
            await provider.create("cloud1", make_spec(authority))

    asyncio.run(make())
    return copy.deepcopy(double.things)


@pytest.fixture
def arm(double: ArmDouble, made: dict[str, Any]) -> ArmDouble:
    """Azure as it is then."""
    double.forget()
    double.things.update(copy.deepcopy(made))
    double.lasting = 0
    double.refusals.clear()
    double.log.clear()
    return double


@pytest.fixture
async def azure(arm: ArmDouble, pair: Any) -> AsyncIterator[AzureProvider]:
    """A subscription in which the service runs."""
    async with AzureProvider(access(arm, pair), open_store=lambda *_: MemoryStore()) as provider:
        yield provider


async def begun(azure: AzureProvider, order: Callable[..., Any]) -> None:
    """An order that gave way when Azure was at work on it: Azure goes on."""

    def gave_way(text: str) -> None:
        if text.startswith("Waiting for Azure"):
            raise CancelledError("A later request took over.")

    with pytest.raises(CancelledError):
        await order(gave_way)


async def under_way(azure: AzureProvider, arm: ArmDouble) -> None:
    """A scaling that goes on in Azure for long."""
    arm.lasting = LONG
    await begun(azure, lambda told: azure.scale("cloud1", 4, told))
    arm.lasting = 0


async def test_a_stop_waits_for_the_end_of_what_azure_does_and_tells_what_it_waits_for(azure, arm) -> None:
    await under_way(azure, arm)
    told: list[str] = []
    status = await azure.stop("cloud1", told.append)
    assert (status.state, status.wanted) == (RunState.STOPPED, 4)
    refused = sum(method == "POST" and path.endswith("/stop") for method, path in arm.log)
    assert refused > LONG
    waiting = {text for text in told if text.startswith(WAITING)}
    assert any("ContainerAppOperationInProgress" in text and "the container app cloud1" in text for text in waiting)


async def test_a_start_is_not_taken_for_done_while_a_stop_is_under_way_in_azure(azure, arm) -> None:
    arm.lasting = LONG
    await begun(azure, lambda told: azure.stop("cloud1", told))
    arm.lasting = 0
    assert (await azure.start("cloud1")).state is RunState.RUNNING


async def test_a_stop_is_not_taken_for_done_while_a_start_is_under_way_in_azure(azure, arm) -> None:
    await azure.stop("cloud1")
    arm.lasting = LONG
    await begun(azure, lambda told: azure.start("cloud1", told))
    arm.lasting = 0
    assert (await azure.stop("cloud1")).state is RunState.STOPPED


async def test_a_deletion_waits_and_leaves_nothing(azure, arm) -> None:
    await under_way(azure, arm)
    assert (await azure.delete("cloud1")).left == ()
    assert arm.things == {}


async def test_a_deletion_of_what_an_earlier_one_is_deleting_waits_for_that(azure, arm) -> None:
    arm.lasting = LONG
    await begun(azure, lambda told: azure.delete("cloud1", told))
    arm.lasting = 0
    assert (await azure.delete("cloud1")).left == ()
    assert arm.things == {}


async def test_an_update_and_a_scaling_wait_too(azure, arm, authority) -> None:
    await under_way(azure, arm)
    spec = make_spec(authority, instances=3)
    assert (await azure.create("cloud1", spec)).wanted == 3
    await under_way(azure, arm)
    assert (await azure.scale("cloud1", 2)).wanted == 2


@pytest.mark.parametrize(
    "part",
    ["PUT .*/certificates/", "PUT .*containerApps/", "DELETE .*/certificates/", "PUT .*/containers/"],
)
async def test_every_part_that_is_busy_is_waited_for(azure, arm, authority, part) -> None:
    arm.things.pop(next(name for name in arm.things if "/containers/" in name))
    arm.refusals += [(part, Refusal(409, "OperationInProgress"))] * 10
    status = await azure.create("cloud1", make_spec(authority, days=90))
    assert (status.state, arm.refusals) == (RunState.RUNNING, [])


@pytest.mark.parametrize("part", ["storageAccounts/", "managedEnvironments/", "containerApps/", "resourcegroups/"])
async def test_a_deletion_waits_for_every_part_that_is_busy(azure, arm, part) -> None:
    arm.refusals += [(re.compile(f"DELETE .*{part}[^/]*$", re.IGNORECASE), Refusal(409, "ConflictingOperation"))] * 10
    assert (await azure.delete("cloud1")).left == ()
    assert (arm.things, arm.refusals) == ({}, [])


async def test_whoever_waits_for_another_operation_can_be_stopped(azure, arm) -> None:
    arm.refusals += [("POST .*/stop$", Refusal(409, "ContainerAppOperationInProgress"))] * 1000

    def stopped(text: str) -> None:
        if text.startswith(WAITING):
            raise CancelledError("The work was stopped.")

    with pytest.raises(CancelledError):
        await azure.stop("cloud1", stopped)


async def test_however_many_orders_wait_the_service_is_looked_at_and_another_order_is_begun(azure, arm) -> None:
    many = LOOKS + 4
    arm.refusals += [("POST .*/stop$", Refusal(409, "ContainerAppOperationInProgress"))] * many
    over, there, loop = threading.Event(), asyncio.Semaphore(0), asyncio.get_running_loop()

    def waits(text: str) -> None:
        """Each in its thread, from its first pause on: none asks again and again, which would keep the processor."""
        if text.startswith(WAITING):
            loop.call_soon_threadsafe(there.release)
            over.wait()
            raise CancelledError("The work was stopped.")

    waiting = [asyncio.create_task(azure.stop("cloud1", waits)) for _ in range(many)]
    try:
        async with asyncio.timeout(PATIENCE):
            for _ in waiting:
                await there.acquire()
            assert (await azure.status("cloud1")).state is RunState.RUNNING
            assert (await azure.scale("cloud1", 4)).wanted == 4
    finally:
        over.set()
        ended = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(each, CancelledError) for each in ended)


async def test_a_pause_that_azure_asks_for_can_be_stopped(azure, arm) -> None:
    """Azure says when to come again; the SDK sleeps so long, an hour here."""
    later = Refusal(409, "ContainerAppOperationInProgress", headers={"Retry-After": "3600"})
    arm.refusals += [("POST .*/stop$", later)]

    def stopped(text: str) -> None:
        if text == "Waiting until Azure takes the next request":
            raise CancelledError("The work was stopped.")

    with pytest.raises(CancelledError):
        await azure.stop("cloud1", stopped)


async def test_what_is_busy_for_longer_than_any_operation_takes_is_an_error_that_is_tried_again(
    azure, arm, monkeypatch
) -> None:
    monkeypatch.setattr(account, "LONGEST_OPERATION", 0.0)
    arm.refusals += [("POST .*/stop$", Refusal(409, "ContainerAppOperationInProgress"))] * 1000
    with pytest.raises(AzureBusyError, match="ContainerAppOperationInProgress") as caught:
        await azure.stop("cloud1")
    assert caught.value.retryable
    arm.refusals.clear()


def test_pauses_grow_to_a_minute_at_most(arm, pair, monkeypatch) -> None:
    paused: list[float] = []
    plain = account.AzureAccount(access(arm, pair, polling=10.0))
    monkeypatch.setattr(plain, "pause", lambda seconds, *_: paused.append(seconds))
    left = iter(range(12))

    def busy() -> str:
        if next(left, None) is None:
            return "done"
        raise AzureBusyError("Busy.")

    assert plain.patiently(busy, "the container app", lambda _: None) == "done"
    plain.close()
    assert (paused[0], paused[-1], paused) == (10.0, 60.0, sorted(paused))
