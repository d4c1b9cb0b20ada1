"""Durable work in the database: claims, leases, retries, cancellation."""

import threading

import pytest

from entrepot.core.errors import ConflictError, NotFoundError
from entrepot.database import taskleases, tasks
from entrepot.database.engine import Database
from entrepot.database.taskleases import Progress
from entrepot.database.tasks import Task
from entrepot.protocol.siteapi import TaskState

NOW = 1_774_267_200.0


def create(database: Database, kind: str = "publish", subject: str = "pkg-1", **more: object) -> Task:
    with database.transaction() as connection:
        return tasks.create(connection, site="PS1", kind=kind, subject=subject, title="Work", now=NOW, **more)  # type: ignore[arg-type]


def claim(database: Database, holder: str = "a", *, now: float = NOW, limit: int = 10) -> list[Task]:
    with database.transaction() as connection:
        return taskleases.claim(
            connection, site="PS1", kinds=["publish", "delta"], holder=holder, now=now, lease=60, limit=limit
        )


def get(database: Database, task: Task) -> Task:
    with database.reading() as connection:
        return tasks.get(connection, task.id)


def test_one_subject_has_one_active_task_of_a_kind(database: Database) -> None:
    first = create(database)
    with pytest.raises(ConflictError, match="under way"):
        create(database)
    create(database, kind="delta")
    create(database, subject="pkg-2")
    claim(database)
    with database.transaction() as connection:
        assert taskleases.finish(connection, task_id=first.id, holder="a", state=TaskState.COMPLETED, now=NOW)
    create(database)


def test_a_task_is_claimed_once_however_many_ask(database: Database) -> None:
    for number in range(40):
        create(database, subject=f"pkg-{number}")
    taken: list[str] = []

    def work(holder: str) -> None:
        while mine := claim(database, holder, limit=3):
            taken.extend(task.id for task in mine)

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 40
    assert len(set(taken)) == 40


def test_a_lapsed_lease_lets_another_take_over_and_the_first_notices(database: Database) -> None:
    task = create(database)
    claim(database, "a")
    assert claim(database, "b", now=NOW + 59) == []
    (again,) = claim(database, "b", now=NOW + 61)
    assert (again.id, again.attempts) == (task.id, 2)
    with database.transaction() as connection:
        lost = taskleases.renew(connection, task_id=task.id, holder="a", now=NOW + 62, lease=60, progress=None)
        assert not lost.held
        assert not taskleases.finish(connection, task_id=task.id, holder="a", state=TaskState.COMPLETED, now=NOW)
        assert not taskleases.put_back(connection, task_id=task.id, holder="a", run_after=NOW)
    assert get(database, task).state is TaskState.IN_PROGRESS


def test_progress_is_written_with_the_lease(database: Database) -> None:
    task = create(database)
    claim(database)
    progress = Progress(step="Sealing", done=3, total=9, unit="bytes", message="three")
    with database.transaction() as connection:
        taskleases.renew(connection, task_id=task.id, holder="a", now=NOW, lease=60, progress=progress)
    seen = get(database, task)
    assert (seen.step, seen.done, seen.total, seen.unit, seen.message) == ("Sealing", 3, 9, "bytes", "three")


def test_a_task_that_is_put_back_waits_until_its_time(database: Database) -> None:
    task = create(database)
    claim(database)
    with database.transaction() as connection:
        taskleases.put_back(
            connection, task_id=task.id, holder="a", run_after=NOW + 30, error="no answer", error_code="x"
        )
    assert claim(database, now=NOW + 29) == []
    (again,) = claim(database, now=NOW + 30)
    assert (again.error, again.attempts) == ("no answer", 2)


def test_cancelling_a_waiting_task_ends_it_and_a_running_one_is_told(database: Database) -> None:
    waiting, running = create(database), create(database, subject="pkg-2")
    with database.transaction() as connection:
        ended = tasks.request_cancel(connection, waiting.id, now=NOW, by="Alice")
        assert (ended.state, ended.cancelled_by) == (TaskState.CANCELLED, "Alice")
    claim(database)
    with database.transaction() as connection:
        asked = tasks.request_cancel(connection, running.id, now=NOW, by="Alice")
        assert (asked.state, asked.cancelled_by) == (TaskState.IN_PROGRESS, "Alice")
        assert tasks.request_cancel(connection, running.id, now=NOW, by="Ben").cancelled_by == "Alice", "the first one"
        told = taskleases.renew(connection, task_id=running.id, holder="a", now=NOW, lease=60, progress=None)
        assert told.cancel_requested
    with pytest.raises(ConflictError, match="ended already"), database.transaction() as connection:
        tasks.request_cancel(connection, waiting.id, now=NOW)


def test_foreign_leases_are_void_after_a_restart(database: Database) -> None:
    task = create(database)
    claim(database, "dead")
    with database.transaction() as connection:
        assert taskleases.release_foreign(connection, site="PS1", holder="alive") == 1
    (again,) = claim(database, "alive")
    assert again.id == task.id


def test_only_tasks_that_ended_are_forgotten(database: Database) -> None:
    old, active = create(database), create(database, subject="pkg-2")
    claim(database, limit=1)
    with database.transaction() as connection:
        taskleases.finish(connection, task_id=old.id, holder="a", state=TaskState.FAILED, now=NOW, error="broken")
        assert tasks.prune(connection, finished_before=NOW + 1) == 1
    with pytest.raises(NotFoundError):
        get(database, old)
    assert get(database, active).state is TaskState.CREATED


def test_listing_is_newest_first_and_filtered(database: Database) -> None:
    create(database)
    create(database, kind="delta", subject="pkg-1/1-2")
    with database.reading() as connection:
        assert {task.kind for task in tasks.listed(connection)} == {"publish", "delta"}
        assert [task.kind for task in tasks.listed(connection, kind="delta")] == ["delta"]
        assert len(tasks.listed(connection, limit=1)) == 1
        assert tasks.listed(connection, kind="publish", subject="pkg-1")
        assert tasks.active(connection, "publish", "pkg-2") is None


def test_a_payload_comes_back_as_it_went_in(database: Database) -> None:
    task = create(database, payload=Progress(step="x", done=1))
    assert get(database, task).payload_as(Progress) == Progress(step="x", done=1)
