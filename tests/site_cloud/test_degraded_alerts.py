"""A service that runs, but not as wanted, is an alert: opened and closed by what two looks in a row find (R37)."""

import pytest

from entrepot.core.errors import UnavailableError
from entrepot.database import alerts
from entrepot.protocol.cloudhost import RunState
from entrepot.protocol.cloudpointapi import CloudPointState
from entrepot.rules.alerts import Alert, AlertState
from entrepot.site.cloud.info import alert_events
from entrepot.site.cloud.states import CloudAction

from .conftest import SiteUnderTest

RECORDS = "Azure does not serve cloud1.contoso.com yet: create the records …, then update the cloud point."
NEVER, ACTIVE, CLOSED = AlertState.NEVER_TRIGGERED, AlertState.ACTIVE, AlertState.CANCELED


async def _alert(site: SiteUnderTest, kind: str = "service_degraded") -> Alert:
    point = await site.services.get("cloud1")
    return (await site.database.read(alerts.find, type_=kind, subject=point.point)).alert


async def _look(site: SiteUnderTest, *, broken: int) -> AlertState:
    """The periodic look finds that so many instances do not run."""
    site.cloud.services["cloud1"].broken = broken
    site.clock.advance(120)
    await site.services.monitor.check((await site.services.get("cloud1")).point)
    return (await _alert(site)).state


async def test_missing_instances_open_it_and_it_closes_by_itself(site) -> None:
    await site.make_point()
    assert [await _look(site, broken=1) for _ in range(3)] == [NEVER, ACTIVE, ACTIVE]
    seen = await site.services.get("cloud1")
    assert (seen.state, seen.message) == (CloudPointState.DEGRADED, "1 of 2 instances run.")
    assert (await _alert(site)).message == "1 of 2 instances run."
    assert (await _alert(site, "service_not_active")).state is NEVER
    assert [await _look(site, broken=0) for _ in range(3)] == [ACTIVE, CLOSED, CLOSED]
    alert = await _alert(site)
    assert (alert.closed_by, alert.occurrences) == ("SYSTEM", 1)


@pytest.mark.parametrize(
    ("broken", "states", "occurrences"),
    [
        ([1, 0, 1, 0, 1, 0, 0], [NEVER] * 7, 0),
        ([1, 1, 0, 1, 0, 1, 0, 0], [NEVER, *[ACTIVE] * 6, CLOSED], 1),
        ([1, 1, 0, 0, 1, 1], [NEVER, ACTIVE, ACTIVE, CLOSED, CLOSED, ACTIVE], 2),
    ],
)
async def test_an_instance_that_comes_and_goes_does_not_flap(site, broken, states, occurrences) -> None:
    await site.make_point()
    assert [await _look(site, broken=count) for count in broken] == states
    assert (await _alert(site)).occurrences == occurrences


async def test_a_name_that_azure_does_not_serve_yet_is_told_after_the_creation_and_closes_with_the_update(site) -> None:
    site.cloud.notes = [RECORDS]
    await site.make_point()
    assert (await site.services.get("cloud1")).state is CloudPointState.DEGRADED
    await _look(site, broken=0)
    alert = await _alert(site)
    assert (alert.state, alert.message) == (ACTIVE, RECORDS)
    site.cloud.notes = []
    task = await site.services.act(CloudAction.UPDATE, "cloud1")
    await site.settle()
    await site.completed(task)
    await site.services.monitor.check((await site.services.get("cloud1")).point)
    assert (await _alert(site)).state is CLOSED


async def test_where_none_runs_or_nobody_tells_the_critical_alert_speaks_and_this_one_waits(site) -> None:
    await site.make_point()
    assert [await _look(site, broken=2) for _ in range(2)] == [NEVER, NEVER]
    assert (await _alert(site, "service_not_active")).state is ACTIVE
    assert [await _look(site, broken=1) for _ in range(2)] == [NEVER, ACTIVE]
    assert await _look(site, broken=2) is ACTIVE
    site.cloud.failures = {"status": [UnavailableError("No route.")] * 3}
    assert await _look(site, broken=1) is ACTIVE


async def test_a_service_that_an_administrator_stops_is_as_wanted(site) -> None:
    point = await site.make_point()
    assert [await _look(site, broken=1) for _ in range(2)] == [NEVER, ACTIVE]
    await site.services.act(CloudAction.STOP, "cloud1")
    await site.settle()
    await site.services.monitor.check(point.point)
    assert site.cloud.services["cloud1"].state is RunState.STOPPED
    assert (await _alert(site)).state is CLOSED


async def test_its_history_tells_when_it_opened_and_closed_and_why(site) -> None:
    point = await site.make_point()
    for broken in (1, 1, 0, 0):
        await _look(site, broken=broken)
    stored = await site.database.read(alerts.find, type_="service_degraded", subject=point.point)
    told = [(one.event, one.message, one.by) for one in await site.database.read(alert_events, stored.id)]
    assert told == [("opened", "1 of 2 instances run.", "SYSTEM"), ("closed", "", "SYSTEM")]
