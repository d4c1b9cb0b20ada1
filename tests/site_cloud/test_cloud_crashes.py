"""Whatever step a cloud task is killed at, the next process finishes it."""

import contextlib
from pathlib import Path

import pytest

from entrepot.core.errors import NotFoundError
from entrepot.database import controldocuments, tasks
from entrepot.protocol.cloudhost import RunState
from entrepot.protocol.cloudpointapi import CloudPointState
from entrepot.protocol.control import ServiceState
from entrepot.site.cloud.states import GOING, CloudAction

from .conftest import Crash, Gateway, SiteUnderTest, record


async def _killed_at(site: SiteUnderTest, step: int) -> bool:
    """Run tasks, killed at that step; whether the step was reached."""
    site.fuse.arm(step)
    crashed = False
    with contextlib.suppress(Crash):
        try:
            await site.engine.run_once()
        except Crash:
            crashed = True
            raise
    site.fuse.arm(-1)
    site.boot()
    await site.settle()
    return crashed


async def _steps(tmp_path: Path, action: CloudAction) -> int:
    """How many durable steps an undisturbed run has."""
    folder = tmp_path / f"count-{action.value}"
    folder.mkdir()
    site = SiteUnderTest(folder)
    await _prepare(site, action)
    before = site.fuse.passed
    await site.engine.run_once()
    site.database.close()
    return site.fuse.passed - before


async def _prepare(site: SiteUnderTest, action: CloudAction) -> None:
    if action is CloudAction.CREATE:
        site.import_certificate()
        await site.services.create(site.request())
        return
    point = await site.make_point()
    if action is CloudAction.START:
        await site.services.act(CloudAction.STOP, "cloud1")
        await site.settle()
    key, data = Gateway(point.point).segment([record(700)])
    await site.cloud.services["cloud1"].holder.put_document(key, data)
    if action is CloudAction.FORGET:
        deletion = await site.services.act(CloudAction.DELETE, "cloud1")
        await site.database.write(tasks.request_cancel, deletion.id, now=site.clock(), tidy=True)
        await site.settle()
    await site.services.act(action, "cloud1", instances=3)


async def _assert_done(site: SiteUnderTest, action: CloudAction) -> None:
    if action in GOING:
        assert site.cloud.services == {}
        with pytest.raises(NotFoundError):
            await site.services.get("cloud1")
        if action is CloudAction.DELETE:
            log = (site.folder / "logs" / "CloudDP-cloud1.log").read_text()
            assert log.count("bytes=700") == 1
        return
    point = await site.services.get("cloud1")
    stopped = action is CloudAction.STOP
    assert point.state is (CloudPointState.STOPPED if stopped else CloudPointState.READY)
    assert site.state_of() is (ServiceState.STOPPED if stopped else ServiceState.RUNNING)
    service = site.cloud.services["cloud1"]
    assert service.state is (RunState.STOPPED if stopped else RunState.RUNNING)
    assert service.wanted == (3 if action is CloudAction.SCALE else 2)
    row = await site.database.read(_control, point.point)
    assert row.pushed == row.counter == site.control_of().fresh.counter


def _control(connection, point: str):
    return controldocuments.control(connection, point)


@pytest.mark.long
@pytest.mark.parametrize("action", list(CloudAction))
async def test_a_task_killed_at_any_step_is_finished_by_the_next_process(tmp_path, action) -> None:
    total = await _steps(tmp_path, action)
    assert total >= 8
    for step in range(total):
        folder = tmp_path / f"{action.value}-{step}"
        folder.mkdir()
        site = SiteUnderTest(folder)
        await _prepare(site, action)
        assert await _killed_at(site, step), step
        await _assert_done(site, action)
        site.database.close()


async def test_a_creation_killed_again_and_again_is_finished(site) -> None:
    site.import_certificate()
    await site.services.create(site.request())
    for step in (3, 6, 9):
        site.fuse.arm(step)
        with pytest.raises(Crash):
            await site.engine.run_once()
        site.boot()
        await site.engine.recover()
    await site.settle()
    assert (await site.services.get("cloud1")).state is CloudPointState.READY


async def test_control_counters_never_repeat_across_crashes(site) -> None:
    await site.make_point()
    seen = [site.control_of().fresh.counter]
    for step in range(6):
        site.fuse.arm(step)
        point = await site.services.get("cloud1")
        store = await site.services.providers.store_of(point)
        with contextlib.suppress(Crash):
            await site.services.control.publish(point.point, store, always=True)
        site.fuse.arm(-1)
        site.boot()
        store = await site.services.providers.store_of(point)
        await site.services.control.publish(point.point, store, always=True)
        seen.append(site.control_of().fresh.counter)
    assert seen == sorted(set(seen))
