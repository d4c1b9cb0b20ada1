"""Budgets that stop a service (R23): whatever its point is doing, and wherever the site is killed."""

import pytest

from entrepot.core.times import hour_of
from entrepot.database import budgets, usage
from entrepot.database.grants import LAG
from entrepot.protocol.cloudapi import RenewServiceCertificate
from entrepot.protocol.cloudhost import RunState
from entrepot.protocol.cloudpointapi import CloudPointState
from entrepot.protocol.control import ServiceState
from entrepot.protocol.costapi import BudgetRequest
from entrepot.protocol.siteapi import TaskState
from entrepot.site.cloud.states import CloudAction
from entrepot.site.cost.budgets import enforce_stops, put

from ..lightpfx import light_service_pfx
from .conftest import FQDN, NOW, PASSWORD, Crash, SiteUnderTest


@pytest.fixture
async def spent(site) -> None:
    """A point of whose budget nothing is left; it is not stopped yet."""
    point = await site.make_point()
    with site.database.transaction() as connection:
        usage.set_collected(connection, point.point, now=NOW + LAG)
        usage.add_to_hour(connection, point.point, hour_of(NOW), sent=95)
    _budget(site, 100)


def _budget(site: SiteUnderTest, amount: int) -> None:
    with site.database.transaction() as connection:
        put(connection, "cloud1", BudgetRequest(bytes=amount, stop_percent=90), by="anna", now=NOW)


async def _assert_stopped(site: SiteUnderTest) -> None:
    assert (await site.services.get("cloud1")).state is CloudPointState.STOPPED
    assert site.state_of() is ServiceState.STOPPED
    assert site.cloud.services["cloud1"].state is RunState.STOPPED


async def _assert_started(site: SiteUnderTest) -> None:
    point = await site.services.get("cloud1")
    assert (point.state, point.message) == (CloudPointState.READY, "")
    assert site.state_of() is ServiceState.RUNNING
    assert site.cloud.services["cloud1"].state is RunState.RUNNING


@pytest.mark.parametrize("at", ["check", "status", "create", "put_document"])
async def test_a_point_that_is_being_upgraded_is_stopped_and_brought_up_to_date_when_it_may_run_again(
    site, spent, at: str
) -> None:
    site.clock.advance(3700)  # a new control document is due, too
    pfx = light_service_pfx(site.keys.authority, FQDN, PASSWORD, days=300, now=site.clock())
    renewal = await site.services.renew("cloud1", RenewServiceCertificate(service_pfx=pfx, service_password=PASSWORD))
    states = []

    async def enforce(name: str) -> None:
        if name == at and not states:
            states.append((await site.services.get("cloud1")).state)
            await enforce_stops(site.database, site.services)

    site.cloud.on_call = enforce
    await site.settle()
    assert states == [CloudPointState.UPGRADING]
    assert (await site.task(renewal)).state is TaskState.CANCELLED
    await _assert_stopped(site)
    site.cloud.on_call = None
    _budget(site, 1000)
    await enforce_stops(site.database, site.services)
    await site.settle()
    await _assert_started(site)
    assert site.cloud.services["cloud1"].spec.certificate == (await site.services.get("cloud1")).certificate


async def test_an_update_of_a_service_that_a_budget_stopped_does_not_start_it(site, spent) -> None:
    await enforce_stops(site.database, site.services)
    await site.settle()
    update = await site.services.act(CloudAction.UPDATE, "cloud1")
    await enforce_stops(site.database, site.services)
    await site.settle()
    await site.completed(update)
    await _assert_stopped(site)


async def test_a_budget_that_may_run_again_waits_for_an_update_that_is_under_way(site, spent) -> None:
    await enforce_stops(site.database, site.services)
    await site.settle()
    await site.services.act(CloudAction.UPDATE, "cloud1")
    _budget(site, 1000)
    await enforce_stops(site.database, site.services)  # not in a state for it
    await site.settle()
    await _assert_stopped(site)
    await enforce_stops(site.database, site.services)
    await site.settle()
    await _assert_started(site)


async def test_whoever_is_killed_when_a_budget_stops_or_starts_a_service_forgets_neither(site, spent) -> None:
    for amount, done in ((100, _assert_stopped), (1000, _assert_started)):
        for step in range(4):  # an order is one transaction: before it, and after it
            _budget(site, 1100 - amount)
            await enforce_stops(site.database, site.services)
            await site.settle()
            _budget(site, amount)
            site.fuse.arm(step)
            try:
                await enforce_stops(site.database, site.services)
            except Crash:
                site.boot()
            site.fuse.arm(-1)
            await enforce_stops(site.database, site.services)
            await site.settle()
            await done(site)
            (kept,) = await site.database.read(budgets.budgets)
            assert kept.stopped == ("stopped" if done is _assert_stopped else "")


async def test_whoever_stops_by_hand_what_a_budget_stopped_is_obeyed_when_the_budget_is_raised(site, spent) -> None:
    await enforce_stops(site.database, site.services)
    await site.settle()
    await site.services.act(CloudAction.STOP, "cloud1")
    _budget(site, 1000)
    for _ in range(2):
        await enforce_stops(site.database, site.services)
        await site.settle()
        await _assert_stopped(site)
    told = [each.what for each in await site.database.read(budgets.changes)]
    assert {"cloud1 was stopped by hand", "cloud1 may run again"} <= set(told)
    (kept,) = await site.database.read(budgets.budgets)
    assert kept.stopped == ""


@pytest.mark.parametrize("spending", [True, False])
async def test_a_stop_by_hand_between_a_budgets_look_and_its_order_wins(site, spent, monkeypatch, spending) -> None:
    """Whether the budget was about to stop the service, or to start it again."""
    if not spending:
        await enforce_stops(site.database, site.services)
        await site.settle()
        _budget(site, 1000)
    act, stopped = site.services.orders.act, []

    async def late(*args: object, **more: object) -> object:
        if not stopped:
            stopped.append(await act(CloudAction.STOP, "cloud1"))
            await site.settle()
        return await act(*args, **more)

    monkeypatch.setattr(site.services.orders, "act", late)
    for amount in (100 if spending else 1000, 1000):
        _budget(site, amount)
        await enforce_stops(site.database, site.services)
        await site.settle()
        await _assert_stopped(site)
    assert stopped
