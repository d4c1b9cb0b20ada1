"""What people are told of budgets, and when a budget acts (R23): figures before one is set, no swinging at a share."""

import msgspec
import pytest
from sqlalchemy import insert

from entrepot.core.errors import BadInputError
from entrepot.core.sizes import MIB
from entrepot.core.times import hour_of
from entrepot.database import alerts, contents, usage
from entrepot.database.grants import LAG
from entrepot.database.tables.usage import transfer_bucket
from entrepot.protocol.control import ServiceState
from entrepot.protocol.costapi import BudgetInfo, BudgetPatch, BudgetRequest
from entrepot.rules.alerts import AlertState
from entrepot.rules.throttle import LEAST_RATE
from entrepot.site.cost.budgets import BudgetBook, enforce_stops, history, listed, put
from entrepot.site.cost.changing import change

from .bare import APP
from .conftest import NOW


@pytest.fixture
async def bounded(site):
    return await site.make_point()


def _set(site, amount: int, **more) -> None:
    with site.database.transaction() as connection:
        put(connection, "cloud1", BudgetRequest(bytes=amount, **more), by="anna", now=NOW)


def _use(site, point, used: int) -> None:
    """What was used is so much now."""
    with site.database.transaction() as connection:
        sent = usage.totals_since(connection, point.point, 0).sent
        usage.add_to_hour(connection, point.point, hour_of(NOW), sent=used - sent)


async def test_a_preview_shows_what_was_used_of_a_content_that_has_no_budget_yet(site, bounded):
    with site.database.transaction() as connection:
        contents.add_content(connection, APP)
        usage.add_to_hour(connection, bounded.point, hour_of(NOW), sent=7)
        bucket = {"requests": 1, "bytes": 7, "logged_requests": 0, "logged_bytes": 0, "unlogged": True, "status": "2xx"}
        key = {"point": bounded.point, "hour": hour_of(NOW), "device": "dev-1", "content": APP.id}
        connection.execute(insert(transfer_bucket).values(**key, **bucket))
        preview = put(connection, "app", BudgetRequest(bytes=10, scope="content", dry_run=True), by="anna", now=NOW)
        then = put(connection, "app", BudgetRequest(bytes=10, scope="content"), by="anna", now=NOW)
        again = put(connection, "app", BudgetRequest(bytes=20, scope="content", dry_run=True), by="ben", now=NOW + 9)
    assert (preview.used, preview.left) == (7, 3)
    [info] = await site.database.read(listed, now=site.clock())
    assert preview == then == info
    assert (again.used, again.created) == (7, NOW)


FULL = {
    "throttle_percent": 50,
    "rate": 512_000,
    "peers_percent": 70,
    "critical_percent": 80,
    "stop_percent": 95,
    "critical": ("app",),
    "zone": "Europe/Berlin",
}


def _change(site, **named) -> BudgetInfo:
    with site.database.transaction() as connection:
        return change(connection, "cloud1", BudgetPatch(**named), by="ben", now=NOW)


async def test_what_a_change_of_a_budget_does_not_name_stays(site, bounded):
    with site.database.transaction() as connection:
        contents.add_content(connection, APP)
    _set(site, 2 * 10**12, **FULL)
    [before] = await site.database.read(listed, now=NOW)
    after = _change(site, bytes=3 * 10**12)
    assert after == msgspec.structs.replace(before, bytes=3 * 10**12, left=3 * 10**12, by="ben")
    assert await site.database.read(listed, now=NOW) == [after]
    [told, *_] = [each.what for each in await site.database.read(history) if each.by == "ben"]
    assert "3.0 TB in the month of Europe/Berlin: throttle to 512.0 kB/s at 50 %" in told
    assert told.endswith("critical: app")


async def test_what_is_taken_off_a_budget_is_named(site, bounded):
    with site.database.transaction() as connection:
        contents.add_content(connection, APP)
    _set(site, 2 * 10**12, **FULL)
    after = _change(site, throttle_percent=0, stop_percent=0, critical=(), zone="")
    assert (after.bytes, after.throttle_percent, after.rate, after.stop_percent) == (2 * 10**12, 0, 0, 0)
    assert (after.critical, after.zone, after.peers_percent, after.critical_percent) == ((), "", 70, 80)
    assert _change(site, peers_percent=0, dry_run=True).peers_percent == 0
    assert await site.database.read(listed, now=NOW) == [after], "a dry run sets nothing"


async def test_a_critical_content_that_was_deleted_holds_no_change_up(site, bounded):
    with site.database.transaction() as connection:
        contents.add_content(connection, APP)
    _set(site, 2 * 10**12, **FULL)
    with site.database.transaction() as connection:
        contents.remove_content(connection, APP.id)
    assert _change(site, bytes=10**12).critical == ()


async def test_a_budget_that_is_new_needs_its_bytes_and_begins_with_the_defaults(site, bounded):
    with pytest.raises(BadInputError, match="no budget yet"):
        _change(site, peers_percent=70)
    assert await site.database.read(listed, now=NOW) == []
    info = _change(site, bytes=10**12, peers_percent=70)
    assert (info.peers_percent, info.grant_percent, info.critical_percent, info.zone) == (70, 100, 100, "")


async def test_a_budget_tells_how_old_its_figures_are(site, bounded):
    with site.database.transaction() as connection:
        contents.add_content(connection, APP)
        put(connection, "cloud1", BudgetRequest(bytes=10), by="anna", now=NOW)
        put(connection, "app", BudgetRequest(bytes=10, scope="content"), by="anna", now=NOW)
    assert [(one.collected, one.age_seconds) for one in await site.database.read(listed, now=NOW)] == [(0, 0)] * 2
    with site.database.transaction() as connection:
        usage.set_collected(connection, bounded.point, now=NOW - 90)
    figures = [(one.collected, one.age_seconds) for one in await site.database.read(listed, now=NOW)]
    assert figures == [(NOW - 90, 90)] * 2
    await site.make_point("cloud2", fqdn="cloud2.contoso.com")
    told = {one.scope: one.collected for one in await site.database.read(listed, now=NOW)}
    assert told == {"cloud-point": NOW - 90, "content": 0}, "of all cloud points one was never collected"


async def test_a_budget_too_small_for_a_download_says_so_although_little_is_used(site, bounded):
    with site.database.transaction() as connection:
        usage.set_collected(connection, bounded.point, now=NOW + LAG)
    _set(site, 10 * MIB)
    book = BudgetBook(site.database, clock=site.clock)
    assert "no room" in book.grant(bounded.point, device="dev-1", content="pkg-1", version=1, size=20 * MIB).reason
    at = int(site.clock())
    [info] = await site.database.read(listed, now=site.clock())
    assert (info.grade, info.used, at - info.refused <= 1) == ("open", 0, True)
    await site.services.monitor.evaluate(bounded.point)
    alert = (await site.database.read(alerts.find, type_="budget_used_up", subject=bounded.point)).alert
    assert alert.state is AlertState.ACTIVE
    assert "needs more than is left" in alert.message
    _set(site, 100 * MIB)
    await site.services.monitor.evaluate(bounded.point)
    alert = (await site.database.read(alerts.find, type_="budget_used_up", subject=bounded.point)).alert
    assert alert.state is AlertState.CANCELED


async def test_a_service_that_a_budget_stopped_stays_so_while_what_was_used_is_near_the_share(site, bounded):
    """Days roll: what was used falls below the share and comes back to it."""
    _use(site, bounded, 900)
    _set(site, 1000, stop_percent=90)
    await enforce_stops(site.database, site.services)
    await site.settle()
    for used, wanted in ((899, ServiceState.STOPPED), (883, ServiceState.STOPPED), (881, ServiceState.RUNNING)):
        _use(site, bounded, used)
        await enforce_stops(site.database, site.services)
        await site.settle()
        assert (await site.services.get("cloud1")).wanted is wanted, used


async def test_alerts_of_a_budget_name_it_and_do_not_flap_around_its_shares(site, bounded):
    _set(site, 1000, throttle_percent=50, rate=LEAST_RATE)
    states = []
    for used in (499, 500, 499, 500, 490, 489, 1000, 999, 981, 979):
        _use(site, bounded, used)
        await site.services.monitor.evaluate(bounded.point)
        step, end = [
            (await site.database.read(alerts.find, type_=type_, subject=bounded.point)).alert
            for type_ in ("budget_step", "budget_used_up")
        ]
        states.append((step.state is AlertState.ACTIVE, end.state is AlertState.ACTIVE))
        if used == 500:
            assert "cloud point cloud1: throttled (500 B used" in step.message
    open_, step_, both = (False, False), (True, False), (True, True)
    assert states == [open_, step_, step_, step_, step_, open_, both, both, both, step_]
    assert (step.occurrences, end.occurrences) == (2, 1)
