"""The durable task engine: retries, cancellation, shutdown, and SIGKILL."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from sqlalchemy import Connection, update

from entrepot.core.errors import ConflictError, RefusedError, UnavailableError
from entrepot.database import taskleases, tasks
from entrepot.database.engine import Database, open_database, sqlite_url
from entrepot.database.tables.tasks import task as table
from entrepot.database.tasks import Task
from entrepot.protocol.siteapi import TaskState
from entrepot.site.background import Rest
from entrepot.site.cloud.actions import register_actions
from entrepot.site.cloud.states import CloudAction
from entrepot.site.reporting import Reporter
from entrepot.site.tasks import ALWAYS, TaskEngine

from ..databases import create_tables

NOW = 1_774_267_200.0
Work = Callable[[Task, Reporter], Awaitable[None]]


class Handler:
    """A handler made of a function; counts its runs."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self.runs = 0

    async def run(self, task: Task, report: Reporter) -> None:
        self.runs += 1
        await self._work(task, report)


class Bench:
    """An engine with one kind of task."""

    def __init__(self, database: Database, work: Work, *, max_attempts: int = 3) -> None:
        self.database = database
        self.now = NOW
        self.handler = Handler(work)
        self.engine = TaskEngine(database, site="PS1", holder="test", clock=lambda: self.now)
        self.engine.register("job", self.handler, max_attempts=max_attempts)

    async def add(self, subject: str = "x") -> Task:
        return await self.database.write(
            tasks.create, site="PS1", kind="job", subject=subject, title="A job", now=self.now
        )

    async def get(self, task: Task) -> Task:
        return await self.database.read(tasks.get, task.id)


@pytest.fixture
def empty(tmp_path: Path) -> Database:
    opened = open_database(sqlite_url(tmp_path / "tasks.db"))
    create_tables(opened)
    return opened


async def test_memory_is_given_back_once_when_work_has_ended_and_none_goes_on(empty: Database) -> None:
    given: list[str] = []
    looks: list[bool] = []

    async def work(task: Task, _: Reporter) -> None:
        await rest.run_once()
        looks.append(not given)

    bench = Bench(empty, work)
    rest = Rest(bench.engine, give_back=lambda: given.append("memory"))
    await rest.run_once()
    assert given == []
    for turn in (1, 2):
        await bench.add()
        await bench.engine.run_once()
        for _ in range(3):
            await rest.run_once()
        assert len(given) == turn
    assert looks[0], "while the first task ran"


async def test_memory_is_not_given_back_while_other_work_goes_on(empty: Database) -> None:
    given: list[str] = []
    first_ended = asyncio.Event()

    async def work(task: Task, _: Reporter) -> None:
        if task.subject == "long":
            while not bench.engine.ended:  # noqa: ASYNC110 - the engine tells nobody
                await asyncio.sleep(0.01)
            await rest.run_once()
            assert given == []
            first_ended.set()

    bench = Bench(empty, work)
    rest = Rest(bench.engine, give_back=lambda: given.append("memory"))
    await bench.add("long")
    await bench.add("short")
    await bench.engine.run_once()
    assert first_ended.is_set()
    await rest.run_once()
    assert given == ["memory"]


async def test_a_task_runs_to_its_end_and_keeps_its_last_words(empty: Database) -> None:
    async def work(task: Task, report: Reporter) -> None:
        report.step("Counting", total=3, unit="things")
        report.amount(3)
        report.message("Three things were counted.")

    bench = Bench(empty, work)
    task = await bench.add()
    assert await bench.engine.run_once() == 1
    ended = await bench.get(task)
    assert (ended.state, ended.done, ended.total) == (TaskState.COMPLETED, 3, 3)
    assert (ended.message, ended.finished) == ("Three things were counted.", int(NOW))


async def test_a_passing_failure_is_tried_again_later_and_later(empty: Database) -> None:
    async def work(task: Task, report: Reporter) -> None:
        raise UnavailableError("The cloud does not answer.")

    bench = Bench(empty, work)
    task = await bench.add()
    await bench.engine.run_once()
    assert await bench.engine.run_once() == 0
    waiting = await bench.get(task)
    assert (waiting.state, waiting.error_code) == (TaskState.CREATED, "unavailable")
    assert waiting.run_after > NOW
    bench.now = waiting.run_after
    await bench.engine.run_once()
    assert (await bench.get(task)).run_after - bench.now > waiting.run_after - NOW


async def test_attempts_are_limited(empty: Database) -> None:
    async def work(task: Task, report: Reporter) -> None:
        raise UnavailableError("The cloud does not answer.")

    bench = Bench(empty, work)
    task = await bench.add()
    for _ in range(10):
        await bench.engine.run_once()
        bench.now += 10_000
    ended = await bench.get(task)
    assert (ended.state, bench.handler.runs) == (TaskState.FAILED, 3)
    assert "does not answer" in ended.error


async def test_a_refusal_is_final_and_keeps_the_code(empty: Database) -> None:
    async def work(task: Task, report: Reporter) -> None:
        raise RefusedError("Not this.", next_step="Try that.")

    bench = Bench(empty, work)
    task = await bench.add()
    await bench.engine.run_once()
    ended = await bench.get(task)
    assert (ended.state, ended.error, ended.error_code) == (TaskState.FAILED, "Not this. Try that.", "refused")


async def test_a_defect_in_a_handler_fails_its_task_and_nothing_else(empty: Database) -> None:
    async def work(task: Task, report: Reporter) -> None:
        if task.subject == "bad":
            raise ZeroDivisionError("secret detail")

    bench = Bench(empty, work)
    bad, good = await bench.add("bad"), await bench.add("good")
    await bench.engine.run_once()
    ended = await bench.get(bad)
    assert ended.state is TaskState.FAILED
    assert "secret detail" not in ended.error
    assert (await bench.get(good)).state is TaskState.COMPLETED


async def test_a_running_task_stops_at_its_next_step_when_it_is_cancelled(empty: Database) -> None:
    started = asyncio.Event()

    async def work(task: Task, report: Reporter) -> None:
        started.set()
        while True:
            await asyncio.sleep(0.01)
            report.check()

    bench = Bench(empty, work)
    task = await bench.add()
    running = asyncio.create_task(bench.engine.run_once())
    await started.wait()
    await bench.database.write(tasks.request_cancel, task.id, now=NOW)
    await running
    assert (await bench.get(task)).state is TaskState.CANCELLED


async def test_shutting_down_puts_running_tasks_back_without_counting_the_attempt(empty: Database) -> None:
    started = asyncio.Event()

    async def work(task: Task, report: Reporter) -> None:
        started.set()
        while True:
            await asyncio.sleep(0.01)
            report.check()

    bench = Bench(empty, work)
    task = await bench.add()
    serving = asyncio.create_task(bench.engine.serve())
    await started.wait()
    await bench.engine.stop()
    await serving
    back = await bench.get(task)
    assert (back.state, back.attempts, back.holder) == (TaskState.CREATED, 0, "")


async def test_a_task_that_another_process_took_over_is_left_to_it(empty: Database) -> None:
    async def work(task: Task, report: Reporter) -> None:
        bench.now += 100
        await bench.database.write(
            taskleases.claim, site="PS1", kinds=["job"], holder="other", now=bench.now, lease=60, limit=1
        )
        while True:
            await asyncio.sleep(0.01)
            report.check()

    bench = Bench(empty, work)
    task = await bench.add()
    await bench.engine.run_once()
    assert (await bench.get(task)).holder == "other"


@pytest.mark.parametrize(("places", "at_once"), [(1, 1), (2, 1), (4, 3)])
async def test_kinds_that_wait_leave_a_place_for_the_others(empty: Database, places: int, at_once: int) -> None:
    """Sealing a thousand versions anew must not keep an urgent one from being published for days."""
    done = asyncio.Event()
    running: list[str] = []

    async def work(task: Task, report: Reporter) -> None:
        running.append(task.subject)
        await done.wait()

    engine = TaskEngine(empty, site="PS1", holder="test", clock=lambda: NOW, concurrency=places)
    engine.register("reseal", Handler(work), waits=True)
    engine.register("publish", Handler(work))

    async def add(kind: str, subject: str) -> None:
        await empty.write(tasks.create, site="PS1", kind=kind, subject=subject, title=kind, now=NOW)

    for number in range(6):
        await add("reseal", f"old {number}")
    assert await engine._start_due() == at_once
    await add("publish", "urgent")
    await engine._start_due()
    await asyncio.sleep(0)
    assert ("urgent" in running) == (places > 1)
    done.set()
    for _ in range(7):
        await engine.run_once()
    assert len(running) == 7


async def test_what_need_not_wait_comes_first(empty: Database) -> None:
    order: list[str] = []

    async def work(task: Task, report: Reporter) -> None:
        order.append(task.subject)

    engine = TaskEngine(empty, site="PS1", holder="test", clock=lambda: NOW, concurrency=1)
    engine.register("reseal", Handler(work), waits=True)
    engine.register("publish", Handler(work))
    for kind, subject in (("reseal", "first"), ("reseal", "second"), ("publish", "urgent")):
        await empty.write(tasks.create, site="PS1", kind=kind, subject=subject, title=kind, now=NOW)
    while await engine.run_once():
        pass
    assert order[0] == "urgent"


async def test_a_stop_of_a_cloud_point_is_begun_at_once_however_many_others_wait(empty: Database) -> None:
    """Each of them may wait three quarters of an hour for its cloud, stops as well, and publications take all places
    that are left."""
    over = asyncio.Event()
    begun: list[CloudAction] = []

    class Cycle:
        async def run(self, action: CloudAction, _task: Task, _report: Reporter) -> None:
            begun.append(action)
            await over.wait()

    async def settled(_: str) -> None:
        """Nobody looks."""

    async def publish(_task: Task, _report: Reporter) -> None:
        await over.wait()

    engine = TaskEngine(empty, site="PS1", holder="test", clock=lambda: NOW, concurrency=4)
    register_actions(engine, Cycle(), settled)  # type: ignore[arg-type]  # all that is asked of it
    engine.register("publish", Handler(publish))

    async def add(kind: str, subject: str) -> None:
        await empty.write(tasks.create, site="PS1", kind=kind, subject=subject, title="An order", now=NOW)

    for number in range(9):
        await add(CloudAction.UPDATE.value, f"cloud{number}")
        await add(CloudAction.STOP.value, f"other{number}")
        await add("publish", f"content{number}")
    assert await engine._start_due() == 9 + 4
    await add(CloudAction.STOP.value, "one more")
    assert await engine._start_due() == 1
    await asyncio.sleep(0)
    assert begun == [CloudAction.STOP] * 10
    over.set()
    await engine.stop()


async def test_what_is_tried_again_for_ever_is_tried_after_no_longer_than_it_was_registered_for(empty) -> None:
    async def work(task: Task, report: Reporter) -> None:
        raise UnavailableError("The cloud does not answer.")

    engine = TaskEngine(empty, site="PS1", holder="test", clock=lambda: NOW)
    engine.register("job", Handler(work), max_attempts=ALWAYS, longest_delay=60)
    task = await empty.write(tasks.create, site="PS1", kind="job", subject="x", title="A job", now=NOW)
    await empty.write(_tried, task.id, 5000)
    await engine.run_once()
    waiting = await empty.read(tasks.get, task.id)
    assert (waiting.state, waiting.run_after - NOW) == (TaskState.CREATED, 60)


def _tried(connection: Connection, task: str, times: int) -> None:
    connection.execute(update(table).where(table.c.id == task).values(attempts=times))


async def test_a_kind_has_one_handler(empty: Database) -> None:
    async def work(task: Task, report: Reporter) -> None:
        """Nothing to do."""

    bench = Bench(empty, work)
    with pytest.raises(ConflictError):
        bench.engine.register("job", bench.handler)


CHILD = """
import asyncio, sys, time
from pathlib import Path
from entrepot.database.engine import open_database
from entrepot.site.tasks import ALWAYS, TaskEngine

class Handler:
    async def run(self, task, report):
        done = Path(sys.argv[2])
        for number in range(6):
            step = done / str(number)
            if step.exists():
                continue
            step.touch()
            print(number, flush=True)
            if number == int(sys.argv[3]):
                time.sleep(600)
            await asyncio.sleep(0)

async def main():
    engine = TaskEngine(open_database(sys.argv[1]), site="PS1", holder=f"child-{sys.argv[3]}", clock=time.time)
    engine.register("job", Handler())
    await engine.recover()
    while await engine.run_once():
        pass

asyncio.run(main())
"""


@pytest.mark.process
def test_a_task_is_finished_by_the_next_process_however_often_one_is_killed(empty: Database, tmp_path: Path) -> None:
    done = tmp_path / "done"
    done.mkdir()
    with empty.transaction() as connection:
        task = tasks.create(connection, site="PS1", kind="job", subject="x", title="A job", now=NOW)

    def now() -> Task:
        with empty.reading() as connection:
            return tasks.get(connection, task.id)

    for step in ("1", "3", "5"):
        arguments = [sys.executable, "-c", CHILD, sqlite_url(tmp_path / "tasks.db"), str(done), step]
        child = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        while child.stdout.readline().strip() != step:
            assert child.poll() is None
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        child.stdout.close()
        assert now().state is TaskState.IN_PROGRESS
    arguments = [sys.executable, "-c", CHILD, sqlite_url(tmp_path / "tasks.db"), str(done), "-1"]
    subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL)
    ended = now()
    assert (ended.state, ended.attempts) == (TaskState.COMPLETED, 4)
    assert sorted(path.name for path in done.iterdir()) == list("012345")
    empty.close()
