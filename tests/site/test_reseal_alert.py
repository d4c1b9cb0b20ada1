"""Versions that wait to be sealed anew after a compromise are an alert, until none waits any more."""

from pathlib import Path
from typing import Any

import pytest

from entrepot.core.times import DAY, HOUR
from entrepot.database import alerts
from entrepot.database.alerts import StoredAlert
from entrepot.protocol.keysapi import RotationInfo, RotationRequest
from entrepot.protocol.siteapi import TaskInfo
from entrepot.rules.alerts import AlertState, Condition
from entrepot.rules.alerttypes import RESEAL_LATE
from entrepot.site.keys.resealalert import NAMED, Waiting, finding_of
from entrepot.site.settings import Settings
from entrepot.site.staging import LIBRARY_KEPT_FREE

NOW = 1_800_000_000


@pytest.mark.parametrize(
    ("hours", "failed", "condition"),
    [(23, "", Condition.GOOD), (24, "", Condition.BAD), (0, "It is damaged.", Condition.BAD)],
)
def test_a_version_is_late_after_a_day_and_at_once_when_it_was_given_up(hours, failed, condition) -> None:
    found = finding_of([Waiting(name="App", number=3, since=NOW - hours * HOUR, failed=failed)], 24, NOW)
    assert found.condition is condition
    assert ("App 3" in found.message) is (condition is Condition.BAD)
    assert failed in found.message


def test_where_nothing_waits_nothing_is_wrong() -> None:
    found = finding_of([], 24, NOW)
    assert (found.condition, found.near) == (Condition.GOOD, False)


def test_of_very_many_the_first_are_named_and_all_are_counted() -> None:
    waiting = [Waiting(name="App", number=number, since=NOW - 2 * DAY) for number in range(1, NAMED + 2)]
    message = finding_of(waiting, 24, NOW).message
    assert f"({NAMED + 1})" in message
    assert f"App {NAMED}, …" in message
    assert f"App {NAMED + 1}" not in message


async def looked_at(site: Any) -> StoredAlert:
    await site.server.upkeep.run_once()
    [found] = [
        one for one in await site.database.read(alerts.listed, subject="library") if one.alert.type == RESEAL_LATE
    ]
    return found


async def test_what_waits_for_too_long_is_named_until_it_is_sealed_anew(site: Any, source: Path) -> None:
    await site.publish("App", source)
    assert (await looked_at(site)).alert.state is AlertState.NEVER_TRIGGERED
    await site.call("POST", "/keys/rotate", RotationInfo, RotationRequest(compromised=True))
    [task] = await site.call("GET", "/tasks", list[TaskInfo], query="kind=reseal")
    await site.call("POST", f"/tasks/{task.id}/cancel", TaskInfo)
    assert (await looked_at(site)).alert.state is AlertState.NEVER_TRIGGERED, "there is time yet"
    site.clock.advance(Settings(site="", url="", listen="").reseal_hours * HOUR)
    late = await looked_at(site)
    assert late.alert.state is AlertState.ACTIVE
    assert "App 1" in late.alert.message
    await site.server.rotation.reseal()  # the administrator's session has ended meanwhile
    assert (await looked_at(site)).alert.state is AlertState.ACTIVE, "to ask again is not to have it"
    await site.run_tasks()
    done = await looked_at(site)
    assert (done.alert.state, done.alert.message) == (AlertState.CANCELED, "No version waits to be sealed anew.")


async def test_what_was_given_up_is_told_at_once_with_the_reason_and_closes_when_it_is_done(
    site: Any, source: Path
) -> None:
    await site.publish("App", source)
    await site.call("POST", "/keys/rotate", RotationInfo, RotationRequest(compromised=True))
    site.free = LIBRARY_KEPT_FREE - 1000
    await site.run_tasks()
    given_up = await looked_at(site)
    assert given_up.alert.state is AlertState.ACTIVE
    assert "App 1" in given_up.alert.message
    assert "kept for the database" in given_up.alert.message
    assert "then: entrepot key reseal" in given_up.alert.message
    site.free = None
    site.clock.advance(60)
    await site.call("POST", "/keys/reseal", RotationInfo)
    tried_again = await looked_at(site)
    assert tried_again.alert.state is AlertState.ACTIVE
    assert "being sealed anew" in tried_again.alert.message
    await site.run_tasks()
    assert (await looked_at(site)).alert.state is AlertState.CANCELED
