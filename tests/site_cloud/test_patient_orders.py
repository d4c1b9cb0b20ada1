"""Orders that a cloud does not take at once: what they wait for is shown, and a stop is never given up."""

import pytest

from entrepot.core.errors import UnavailableError
from entrepot.database import tasks
from entrepot.protocol.cloudhost import RunState
from entrepot.protocol.cloudpointapi import CloudPointState
from entrepot.protocol.siteapi import TaskState
from entrepot.site.cloud.actions import MAX_ATTEMPTS, STOP_DELAY
from entrepot.site.cloud.states import CloudAction

SILENT = "The cloud does not answer."


async def test_a_stop_is_tried_again_each_minute_until_the_cloud_takes_it(site) -> None:
    await site.make_point()
    site.cloud.failures["stop"] = [UnavailableError(SILENT)] * (3 * MAX_ATTEMPTS)
    task = await site.services.act(CloudAction.STOP, "cloud1")
    while site.cloud.failures["stop"]:
        await site.engine.run_once()
        waiting, point = await site.task(task), await site.services.get("cloud1")
        assert waiting.run_after - site.clock() <= STOP_DELAY
        assert point.state is CloudPointState.STOPPING
        assert SILENT in point.message
        site.clock.advance(STOP_DELAY)
    await site.engine.run_once()
    await site.completed(task)
    point = await site.services.get("cloud1")
    assert (point.state, point.message) == (CloudPointState.STOPPED, "")
    assert site.cloud.services["cloud1"].state is RunState.STOPPED


async def test_who_cancels_a_stop_that_waits_is_told_that_the_service_is_stopped_all_the_same(site) -> None:
    await site.make_point()
    site.cloud.failures["stop"] = [UnavailableError(SILENT)]
    task = await site.services.act(CloudAction.STOP, "cloud1")
    await site.engine.run_once()
    assert site.cloud.services["cloud1"].state is RunState.RUNNING
    await site.database.write(tasks.request_cancel, task.id, now=site.clock(), tidy=True)
    await site.engine.run_once()
    ended = await site.task(task)
    assert ended.state is TaskState.CANCELLED
    assert "entrepot cloud start cloud1" in ended.error
    await site.services.monitor.check((await site.services.get("cloud1")).point)
    assert site.cloud.services["cloud1"].state is RunState.STOPPED


@pytest.mark.parametrize(
    ("action", "call"),
    [
        (CloudAction.START, "start"),
        (CloudAction.SCALE, "scale"),
        (CloudAction.UPDATE, "create"),
        (CloudAction.DELETE, "delete"),
    ],
)
async def test_a_point_says_why_its_order_waits_to_be_tried_again(site, action: CloudAction, call: str) -> None:
    await site.make_point()
    site.cloud.failures[call] = [UnavailableError(SILENT)]
    more = {"instances": 3} if action is CloudAction.SCALE else {}
    task = await site.services.act(action, "cloud1", **more)
    assert (await site.services.get("cloud1")).message == ""
    await site.engine.run_once()
    assert (await site.services.get("cloud1")).message == f"It is tried again: {SILENT}"
    await site.settle()
    await site.completed(task)
    if action is not CloudAction.DELETE:
        assert (await site.services.get("cloud1")).message == ""
