"""Orders that take over from others, and what orders that failed or gave way leave behind (R12, R27)."""

import asyncio
import contextlib
from collections.abc import Callable

import msgspec
import pytest

from entrepot.core.errors import ConflictError, NotFoundError, QuotaError, RefusedError, UnavailableError
from entrepot.database import tasks
from entrepot.protocol.cloudapi import RenewServiceCertificate
from entrepot.protocol.cloudhost import RunState
from entrepot.protocol.cloudpointapi import CloudPointState
from entrepot.protocol.control import ServiceState
from entrepot.protocol.siteapi import TaskState
from entrepot.site.acting import act_for
from entrepot.site.cloud import charge
from entrepot.site.cloud.states import OFFERED, CloudAction
from entrepot.site.reporting import Reporter

from ..lightpfx import light_service_pfx
from .conftest import FQDN, PASSWORD, Crash, SiteUnderTest


def _renewal(site: SiteUnderTest) -> RenewServiceCertificate:
    pfx = light_service_pfx(site.keys.authority, FQDN, PASSWORD, days=300, now=site.clock())
    return RenewServiceCertificate(service_pfx=pfx, service_password=PASSWORD)


def _once(site: SiteUnderTest, at: str, action: CloudAction, **more: int) -> list[object]:
    """Give an order as soon as the cloud is called so; the task is in the list then."""
    given: list[object] = []

    async def order(name: str) -> None:
        if name == at and not given:
            given.append(None)
            given[0] = await site.services.act(action, "cloud1", **more)

    site.cloud.on_call = order
    return given


async def _assert_stopped(site: SiteUnderTest) -> None:
    assert (await site.services.get("cloud1")).state is CloudPointState.STOPPED
    assert site.state_of() is ServiceState.STOPPED
    assert site.cloud.services["cloud1"].state is RunState.STOPPED


async def _started(site: SiteUnderTest) -> None:
    task = await site.services.act(CloudAction.START, "cloud1")
    await site.settle()
    await site.completed(task)
    point = await site.services.get("cloud1")
    assert (point.state, point.message) == (CloudPointState.READY, "")
    assert site.state_of() is ServiceState.RUNNING


# --- stop


@pytest.mark.parametrize("at", ["check", "create", "put_document"])
async def test_a_stop_takes_over_from_a_renewal_and_the_next_start_brings_the_certificate(site, at: str) -> None:
    await site.make_point()
    if at == "put_document":  # only then is there a new control document to be written
        site.clock.advance(3700)
    renewal = await site.services.renew("cloud1", _renewal(site))
    stops = _once(site, at, CloudAction.STOP)
    await site.settle()
    assert (await site.task(renewal)).state is TaskState.CANCELLED
    await site.completed(stops[0])
    await _assert_stopped(site)
    assert "the next start brings it" in (await site.services.get("cloud1")).message
    await _started(site)
    point = await site.services.get("cloud1")
    assert site.cloud.services["cloud1"].spec.certificate == point.certificate


@pytest.mark.parametrize("step", [1, 5, 9, 13])
async def test_a_renewal_that_was_killed_can_be_stopped_and_comes_with_the_next_start(site, step: int) -> None:
    await site.make_point()
    await site.services.renew("cloud1", _renewal(site))
    site.fuse.arm(step)
    with contextlib.suppress(Crash):
        await site.engine.run_once()
    site.fuse.arm(-1)
    site.boot()
    stop = await site.services.act(CloudAction.STOP, "cloud1")
    await site.settle()
    await site.completed(stop)
    await _assert_stopped(site)
    await _started(site)
    point = await site.services.get("cloud1")
    assert site.cloud.services["cloud1"].spec.certificate == point.certificate


async def _renewal_that_gave_way(site: SiteUnderTest) -> None:
    """A stopped point; its cloud lacks the renewed certificate."""
    await site.make_point()
    await site.services.renew("cloud1", _renewal(site))
    _once(site, "check", CloudAction.STOP)
    await site.settle()
    await _assert_stopped(site)


def _watched(site: SiteUnderTest, since: str) -> list[CloudPointState]:
    """The states of the point at every call to the cloud from this one on."""
    seen: list[CloudPointState] = []

    async def watch(name: str) -> None:
        if seen or name == since:
            seen.append((await site.services.get("cloud1")).state)

    site.cloud.on_call = watch
    return seen


async def test_clients_are_sent_to_a_point_whose_start_still_brings_what_the_stop_kept_from_it(site) -> None:
    await _renewal_that_gave_way(site)
    site.cloud.failures["create"] = [UnavailableError("silent")]
    seen = _watched(site, "create")
    start = await site.services.act(CloudAction.START, "cloud1")
    await site.engine.run_once()
    assert (await site.task(start)).state is TaskState.CREATED  # it waits to be tried again
    assert (await site.services.get("cloud1")).state is CloudPointState.UPGRADING
    await site.settle()
    await site.completed(start)
    assert len(seen) > 2
    assert set(seen) <= OFFERED
    point = await site.services.get("cloud1")
    assert (point.state, point.message) == (CloudPointState.READY, "")


async def test_a_stop_takes_over_from_a_scaling_and_the_next_start_brings_the_instances(site) -> None:
    await site.make_point()
    scaling = await site.services.act(CloudAction.SCALE, "cloud1", instances=4)
    stops = _once(site, "check", CloudAction.STOP)
    await site.settle()
    assert (await site.task(scaling)).state is TaskState.CANCELLED
    await site.completed(stops[0])
    await _assert_stopped(site)
    assert site.cloud.services["cloud1"].wanted == 2
    await _started(site)
    assert site.cloud.services["cloud1"].wanted == 4


async def test_a_stop_can_be_repeated_while_the_first_waits_to_be_tried_again(site) -> None:
    await site.make_point()
    site.cloud.failures["stop"] = [UnavailableError("silent")]
    first = await site.services.act(CloudAction.STOP, "cloud1")
    await site.engine.run_once()
    act_for("Ben")
    second = await site.services.act(CloudAction.STOP, "cloud1")
    await site.engine.run_once()
    await site.completed(second)
    await _assert_stopped(site)
    await site.settle()
    ended = await site.task(first)
    assert (ended.state, ended.cancelled_by) == (TaskState.CANCELLED, "Ben"), "whose order took over"


async def test_changes_of_mind_need_not_wait_for_those_before(site) -> None:
    """Stop, start, stop: the first stop is still at work when the second one is ordered."""
    await site.make_point()
    given = [await site.services.act(CloudAction.STOP, "cloud1")]

    async def change_mind(name: str) -> None:
        if name == "stop" and len(given) == 1:
            given.append(await site.services.act(CloudAction.START, "cloud1"))
            given.append(await site.services.act(CloudAction.STOP, "cloud1"))

    site.cloud.on_call = change_mind
    await site.settle()
    states = [(await site.task(task)).state for task in given]
    assert states == [TaskState.CANCELLED, TaskState.CANCELLED, TaskState.COMPLETED]
    await _assert_stopped(site)


async def _run_by_hand(site: SiteUnderTest) -> None:
    """Somebody started a stopped service at the cloud itself."""
    await site.make_point()
    await site.services.act(CloudAction.STOP, "cloud1")
    await site.settle()
    site.cloud.services["cloud1"].state = RunState.RUNNING
    site.cloud.calls.clear()


async def test_a_service_that_runs_although_it_is_to_be_stopped_is_stopped_by_the_next_look(site) -> None:
    await _run_by_hand(site)
    await site.services.monitor.check((await site.services.get("cloud1")).point)
    assert site.cloud.services["cloud1"].state is RunState.STOPPED


async def test_a_start_is_not_undone_by_a_look_that_began_before_it(site) -> None:
    await _run_by_hand(site)
    starts = _once(site, "check", CloudAction.START)
    await site.services.monitor.check((await site.services.get("cloud1")).point)
    assert "stop" not in site.cloud.calls
    await site.settle()
    await site.completed(starts[0])
    assert site.cloud.services["cloud1"].state is RunState.RUNNING


async def test_a_start_that_comes_while_a_look_stops_the_service_is_carried_out_after_that_stop(site) -> None:
    await _run_by_hand(site)
    started = asyncio.Event()
    running: list[asyncio.Task[None]] = []

    async def order(name: str) -> None:
        if name == "stop" and not running:
            await site.services.act(CloudAction.START, "cloud1")
            running.append(asyncio.create_task(site.settle()))
            with contextlib.suppress(TimeoutError):  # it is not: this stop is on its way to the cloud
                await asyncio.wait_for(started.wait(), 1.0)
        if name == "start":
            started.set()

    site.cloud.on_call = order
    await site.services.monitor.check((await site.services.get("cloud1")).point)
    await running[0]
    assert site.cloud.services["cloud1"].state is RunState.RUNNING
    assert (await site.services.get("cloud1")).state is CloudPointState.READY


async def test_a_look_does_not_wait_for_a_cloud_that_takes_no_stop_for_long(site, monkeypatch) -> None:
    await _run_by_hand(site)
    point = (await site.services.get("cloud1")).point
    told: list[str] = []

    class Patience:
        """Between two words of the cloud there is half a minute."""

        @staticmethod
        def monotonic() -> float:
            return 30.0 * len(told)

    async def busy(_: str, progress: Callable[[str], None]) -> None:
        while True:
            told.append("Waiting for the end of Azure's present operation.")
            progress(told[-1])

    with monkeypatch.context() as patch:
        patch.setattr(site.cloud, "stop", busy)
        patch.setattr(charge, "time", Patience)
        await site.services.monitor.check(point)
    assert len(told) == charge.STOP_PATIENCE / 30 + 1
    await site.services.monitor.check(point)
    assert site.cloud.services["cloud1"].state is RunState.STOPPED


async def test_a_look_does_not_wait_for_an_order_that_is_being_carried_out(site) -> None:
    """It began before that, and would stop what the order starts; the order may take half an hour."""
    await _run_by_hand(site)
    begun, over = asyncio.Event(), asyncio.Event()
    running: list[asyncio.Task[None]] = []

    async def order(name: str) -> None:
        if name == "status" and not running:
            await site.services.act(CloudAction.START, "cloud1")
            running.append(asyncio.create_task(site.settle()))
            await begun.wait()
        if name == "start":
            begun.set()
            await over.wait()

    site.cloud.on_call = order
    async with asyncio.timeout(60):
        await site.services.monitor.check((await site.services.get("cloud1")).point)
    over.set()
    await running[0]
    assert "stop" not in site.cloud.calls
    assert (await site.services.get("cloud1")).state is CloudPointState.READY


# --- what failed


async def test_a_renewal_that_fails_takes_the_point_from_no_client_and_is_told_until_it_is_done(site) -> None:
    await site.make_point()
    site.cloud.failures["create"] = [RefusedError("A policy of the cloud forbids it.")]
    seen: set[CloudPointState] = set()

    async def watch(_: str) -> None:
        seen.add((await site.services.get("cloud1")).state)

    site.cloud.on_call = watch
    task = await site.services.renew("cloud1", _renewal(site))
    await site.settle()
    assert (await site.task(task)).error_code == "refused"
    point = await site.services.get("cloud1")
    seen.add(point.state)
    assert seen <= OFFERED
    assert point.state is CloudPointState.DEGRADED
    assert "A policy of the cloud forbids it." in point.message
    assert "entrepot cloud update cloud1" in point.message
    update = await site.services.act(CloudAction.UPDATE, "cloud1")
    await site.settle()
    await site.completed(update)
    point = await site.services.get("cloud1")
    assert (point.state, point.message) == (CloudPointState.READY, "")
    assert site.cloud.services["cloud1"].spec.certificate == point.certificate


async def test_a_start_that_cannot_bring_what_is_missing_takes_the_point_from_no_client_and_says_why(site) -> None:
    await _renewal_that_gave_way(site)
    site.cloud.failures["create"] = [RefusedError("A policy of the cloud forbids it.")]
    seen = _watched(site, "create")
    start = await site.services.act(CloudAction.START, "cloud1")
    await site.settle()
    assert (await site.task(start)).error_code == "refused"
    point = await site.services.get("cloud1")
    assert len(seen) > 1
    assert {*seen, point.state} == {CloudPointState.UPGRADING, CloudPointState.DEGRADED}
    assert "entrepot cloud update cloud1 brings it: A policy of the cloud forbids it." in point.message


async def test_a_failed_update_of_a_service_that_is_gone_is_a_failure(site) -> None:
    await site.make_point()
    site.cloud.services.clear()
    await site.services.act(CloudAction.UPDATE, "cloud1")
    await site.settle()
    point = await site.services.get("cloud1")
    assert point.state is CloudPointState.FAILED
    assert "The cloud no longer has the service" in point.message


# --- a creation that was never finished


async def _half_made(site: SiteUnderTest) -> None:
    """A creation failed, and so did its cleaning up: the service is there, the point was never ready."""
    site.import_certificate()
    site.cloud.broken_from_start = 2
    site.cloud.left = ["disk of cloud1"]
    await site.services.create(site.request())
    await site.settle()
    point = await site.services.get("cloud1")
    assert (point.state, point.ready) == (CloudPointState.FAILED, 0)
    site.cloud.left = []
    site.cloud.services["cloud1"].broken = 0
    site.cloud.calls.clear()


@pytest.mark.parametrize("action", [CloudAction.START, CloudAction.UPDATE])
async def test_a_point_whose_creation_is_finished_later_is_ready_whole_and_looked_after(site, action) -> None:
    await _half_made(site)
    order = await site.services.act(action, "cloud1")
    await site.settle()
    await site.completed(order)
    assert "create" in site.cloud.calls, "what the creation did not come to is made"
    point = await site.services.get("cloud1")
    assert (point.state, point.message, point.ready) == (CloudPointState.READY, "", int(site.clock()))
    site.cloud.services["cloud1"].broken = 1
    await site.services.monitor.check(point.point)
    assert (await site.services.get("cloud1")).state is CloudPointState.DEGRADED, "its health is looked at"


async def test_a_half_made_point_that_was_stopped_first_is_finished_by_the_next_start(site) -> None:
    await _half_made(site)
    await site.services.act(CloudAction.STOP, "cloud1")
    await site.settle()
    point = await site.services.get("cloud1")
    assert (point.state, point.ready) == (CloudPointState.STOPPED, int(site.clock())), "what is stored costs"
    assert "The creation was not finished." in point.message
    assert "create" not in site.cloud.calls
    await _started(site)
    assert "create" in site.cloud.calls


# --- scaling and the quota


async def _assert_taken_back(site: SiteUnderTest, scaling, reason: str) -> None:
    ended = await site.task(scaling)
    assert (ended.state, ended.error_code, ended.attempts) == (TaskState.FAILED, "quota", 1)
    assert reason in ended.error
    point = await site.services.get("cloud1")
    assert (point.state, point.instances_wanted) == (CloudPointState.READY, 2)
    renewal = await site.services.renew("cloud1", _renewal(site))
    await site.settle()
    await site.completed(renewal)


async def test_more_instances_than_the_quota_are_refused_at_once_and_as_many_wanted_as_before(site) -> None:
    await site.make_point()
    site.cloud.instance_quota = 3
    scaling = await site.services.act(CloudAction.SCALE, "cloud1", instances=4)
    await site.settle()
    assert "scale" not in site.cloud.calls
    await _assert_taken_back(site, scaling, "allows 3 instances; 4 are asked for")


async def test_more_instances_than_other_services_left_are_refused_by_the_cloud_with_the_same_end(site) -> None:
    await site.make_point()
    site.cloud.failures["scale"] = [QuotaError("Its other services have 14.")]
    scaling = await site.services.act(CloudAction.SCALE, "cloud1", instances=4)
    await site.settle()
    await _assert_taken_back(site, scaling, "Its other services have 14.")


async def test_a_scaling_can_be_corrected_while_it_is_under_way(site) -> None:
    await site.make_point()
    first = await site.services.act(CloudAction.SCALE, "cloud1", instances=9)
    others = _once(site, "scale", CloudAction.SCALE, instances=3)
    await site.settle()
    assert (await site.task(first)).state is TaskState.CANCELLED
    await site.completed(others[0])
    point = await site.services.get("cloud1")
    assert (point.state, point.instances_wanted) == (CloudPointState.READY, 3)
    assert site.cloud.services["cloud1"].wanted == 3


async def test_a_refused_scaling_killed_at_every_third_step_fails_all_the_same(tmp_path) -> None:
    reached, step = True, 0
    while reached:
        folder = tmp_path / str(step)
        folder.mkdir()
        site = SiteUnderTest(folder)
        await site.make_point()
        site.cloud.instance_quota = 3
        scaling = await site.services.act(CloudAction.SCALE, "cloud1", instances=4)
        site.fuse.arm(step)
        try:
            await site.engine.run_once()
            reached = False
        except Crash:
            site.boot()
            await site.settle()
        site.fuse.arm(-1)
        ended = await site.task(scaling)
        assert ended.state is TaskState.FAILED, step
        assert "4 are asked for" in ended.error
        assert (await site.services.get("cloud1")).instances_wanted == 2
        site.database.close()
        step += 3
    assert step > 6


# --- a cloud that is gone for good


async def test_a_point_whose_cloud_is_gone_for_good_can_be_forgotten_after_a_failed_deletion(site) -> None:
    point = await site.make_point()
    site.cloud.failures = {name: [UnavailableError("The cloud does not answer.")] * 99 for name in ("status", "delete")}
    deletion = await site.services.act(CloudAction.DELETE, "cloud1")
    await site.settle(tries=20)
    ended = await site.task(deletion)
    assert ended.state is TaskState.FAILED
    assert "entrepot cloud delete cloud1 --forget" in ended.error
    assert "--forget" in (await site.services.get("cloud1")).message
    task = await site.services.act(CloudAction.FORGET, "cloud1")
    await site.settle()
    message = (await site.completed(task)).message
    assert "What may be left was not checked: the service cloud1" in message
    assert "https://127.0.0.1:9, subscription sub-1" in message
    assert "Keep the management certificate management" in message
    account = f"--host https://127.0.0.1:9 --host-pin {'ab' * 32} --subscription sub-1 --certificate management"
    assert f"entrepot cloud orphans {account} finds it." in message
    assert f"Remove its DNS record {FQDN}." in message
    with pytest.raises(NotFoundError):
        await site.services.get(point.point)
    site.services.certificates.delete_management("management")
    site.cloud.failures = {}
    site.cloud.services.clear()
    assert (await site.make_point()).state is CloudPointState.READY  # the name is free again


async def test_a_cloud_that_answers_again_is_cleaned_up_before_its_point_is_forgotten(site) -> None:
    await site.make_point()
    await _undeleted(site)
    task = await site.services.act(CloudAction.FORGET, "cloud1")
    await site.settle()
    assert "Nothing is left in the cloud." in (await site.completed(task)).message
    assert site.cloud.services == {}


async def test_what_remains_is_named_when_a_point_is_forgotten(site) -> None:
    await site.make_point()
    site.cloud.left = ["disk of cloud1"]
    await _undeleted(site)
    task = await site.services.act(CloudAction.FORGET, "cloud1")
    await site.settle()
    assert "This remains in the cloud: disk of cloud1." in (await site.completed(task)).message


async def _undeleted(site: SiteUnderTest) -> None:
    """A deletion that was cancelled before it began."""
    deletion = await site.services.act(CloudAction.DELETE, "cloud1")
    await site.database.write(tasks.request_cancel, deletion.id, now=site.clock(), tidy=True)
    await site.settle()
    assert (await site.task(deletion)).state is TaskState.CANCELLED


async def test_only_a_point_whose_deletion_failed_can_be_forgotten(site) -> None:
    await site.make_point()
    with pytest.raises(ConflictError, match="only one whose deletion failed") as refused:
        await site.services.act(CloudAction.FORGET, "cloud1")
    assert "entrepot cloud delete cloud1" in refused.value.next_step
    await site.services.act(CloudAction.DELETE, "cloud1")
    with pytest.raises(ConflictError, match="being deleted already"):
        await site.services.act(CloudAction.FORGET, "cloud1")


# --- progress


async def test_of_a_renewal_no_more_instances_are_told_than_are_wanted(site, monkeypatch) -> None:
    """While they are replaced, the old ones run beside the new."""
    await site.make_point()
    create = site.cloud.create

    async def replacing(*args: object) -> object:
        status = await create(*args)
        return msgspec.structs.replace(status, instances=status.instances * 2)

    monkeypatch.setattr(site.cloud, "create", replacing)
    amounts: list[tuple[int, int | None]] = []
    amount = Reporter.amount
    monkeypatch.setattr(
        Reporter, "amount", lambda self, done, total=None: (amounts.append((done, total)), amount(self, done, total))
    )
    task = await site.services.renew("cloud1", _renewal(site))
    await site.settle()
    await site.completed(task)
    assert set(amounts) == {(2, 2)}
