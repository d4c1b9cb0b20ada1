"""Durable work in the database: who does what, how far it is, what became of it.

``created`` → ``in_progress`` → ``completed``, ``failed`` or ``cancelled``; a retry goes back to ``created`` with a
later ``run_after``. Who works on it, and how it ends, is in :mod:`~entrepot.database.taskleases`. At most one task per
(kind, subject) is active: a unique partial index sees to it.
"""

import secrets
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import msgspec
from sqlalchemy import Connection, Row, and_, delete, exists, func, or_, select, update

from entrepot.core.encoding import from_json, to_json
from entrepot.core.errors import CancelledError, ConflictError, NotFoundError
from entrepot.core.ids import prefixed_id
from entrepot.database.engine import insert_if_free
from entrepot.database.tables.tasks import task as table
from entrepot.protocol.siteapi import TaskState
from entrepot.rules.alerts import SYSTEM

T = TypeVar("T")

ACTIVE: Final = (TaskState.CREATED.value, TaskState.IN_PROGRESS.value)


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """One piece of durable work."""

    id: str
    site: str
    kind: str
    subject: str
    title: str
    state: TaskState
    step: str
    done: int
    total: int
    unit: str
    message: str
    error: str
    error_code: str
    payload: str
    attempts: int
    run_after: int
    created: int
    started: int
    finished: int
    holder: str
    lease_until: int
    cancel_requested: bool
    result: str = ""
    rate: int = 0
    by: str = ""
    cancelled_by: str = ""

    def payload_as(self, kind: type[T]) -> T:
        """The payload, decoded."""
        return from_json(self.payload, kind, f"payload of task {self.kind}")

    def result_as(self, kind: type[T]) -> T:
        """What the task found out, decoded.

        Raises:
            ConflictError: it has not found out anything yet.
        """
        if not self.result:
            raise ConflictError(f"{self.title} has no result: {self.error or 'it has not ended yet.'}")
        return from_json(self.result, kind, f"result of task {self.kind}")


def create(
    connection: Connection,
    *,
    site: str,
    kind: str,
    subject: str,
    title: str,
    now: float,
    payload: object = None,
    run_after: float = 0,
    message: str = "",
    by: str = SYSTEM,
) -> Task:
    """Add a task, in the caller's transaction: it exists if and only if what it belongs to does.

    Args:
        payload: encoded as JSON; it must hold no secret.
        message: a sentence for whoever gave the order, until the work has one of its own.
        by: name of the administrator who ordered it.

    Raises:
        ConflictError: a task of this kind is active for the subject.
    """
    values = dict.fromkeys(("step", "unit", "error", "error_code", "holder"), "") | dict.fromkeys(
        ("done", "total", "attempts", "started", "finished", "lease_until"), 0
    )
    values |= {
        "id": prefixed_id("task", secrets.token_bytes(8)),
        "site": site,
        "kind": kind,
        "subject": subject,
        "title": title,
        "state": TaskState.CREATED.value,
        "payload": to_json(payload).decode(),
        "message": message,
        "run_after": int(run_after),
        "created": int(now),
        "by": by,
        "cancel_requested": False,
    }
    if not insert_if_free(connection, table, values):
        raise ConflictError(
            f"{title} is already under way.", next_step=_wait_or_cancel(active(connection, kind, subject))
        )
    return get(connection, str(values["id"]))


def _wait_or_cancel(task: Task | None) -> str:
    if task is None:  # it has just ended
        return "Do it again."
    return f"Wait for it: entrepot task show {task.id} --wait; or end it first: entrepot task cancel {task.id}"


def get(connection: Connection, task_id: str) -> Task:
    """One task.

    Raises:
        NotFoundError: there is none with this id.
    """
    row = connection.execute(select(table).where(table.c.id == task_id)).first()
    if row is None:
        raise NotFoundError(f"There is no task {task_id!r}.")
    return _task(row)


def active(connection: Connection, kind: str, subject: str) -> Task | None:
    """The active task of a kind for a subject, if there is one."""
    row = connection.execute(
        select(table).where(table.c.kind == kind, table.c.subject == subject, table.c.state.in_(ACTIVE))
    ).first()
    return None if row is None else _task(row)


def active_below(connection: Connection, kinds: Sequence[str], prefix: str) -> list[Task]:
    """Active tasks of some kinds whose subjects begin with ``prefix``, oldest first."""
    query = select(table).where(
        table.c.kind.in_(kinds), table.c.subject.startswith(prefix, autoescape=True), table.c.state.in_(ACTIVE)
    )
    return [_task(row) for row in connection.execute(query.order_by(table.c.created, table.c.id))]


def active_of(connection: Connection, subject: str) -> list[Task]:
    """Active tasks for a subject or for a part of it (``subject/…``), oldest first."""
    below = table.c.subject.startswith(subject + "/", autoescape=True)
    query = select(table).where(or_(table.c.subject == subject, below), table.c.state.in_(ACTIVE))
    return [_task(row) for row in connection.execute(query.order_by(table.c.created, table.c.id))]


def listed(
    connection: Connection, *, limit: int = 100, only_active: bool = False, kind: str = "", subject: str = ""
) -> list[Task]:
    """Tasks, newest first."""
    query = select(table).order_by(table.c.created.desc(), table.c.id.desc()).limit(limit)
    if only_active:
        query = query.where(table.c.state.in_(ACTIVE))
    if kind:
        query = query.where(table.c.kind == kind)
    if subject:
        query = query.where(table.c.subject == subject)
    return [_task(row) for row in connection.execute(query)]


def failed_last(connection: Connection, kind: str) -> list[Task]:
    """Tasks of a kind that failed, where no later one was for the same subject."""
    later = table.alias("later")
    again = exists().where(
        later.c.kind == table.c.kind, later.c.subject == table.c.subject, later.c.created > table.c.created
    )
    query = select(table).where(table.c.kind == kind, table.c.state == TaskState.FAILED.value, ~again)
    return [_task(row) for row in connection.execute(query.order_by(table.c.created, table.c.id))]


def count(connection: Connection, kind: str, states: Sequence[TaskState]) -> int:
    """How many tasks of a kind are in one of these states."""
    wanted = table.c.kind == kind, table.c.state.in_([state.value for state in states])
    return int(connection.execute(select(func.count()).select_from(table).where(*wanted)).scalar_one())


def note_error(connection: Connection, task_id: str, error: str) -> None:
    """Write down why a task will fail, in the transaction that ends what it was about: it may be killed just then."""
    connection.execute(update(table).where(table.c.id == task_id).values(error=error))


def amend(connection: Connection, task_id: str, kind: type[T], change: Callable[[T], T]) -> T:
    """Note in a task's payload what it has done, in the transaction that does it: it may be killed just then.

    Raises:
        NotFoundError: there is no such task any more.
    """
    connection.execute(select(table.c.id).where(table.c.id == task_id).with_for_update())
    changed = change(get(connection, task_id).payload_as(kind))
    connection.execute(update(table).where(table.c.id == task_id).values(payload=to_json(changed).decode()))
    return changed


def request_cancel(connection: Connection, task_id: str, *, now: float, tidy: bool = False, by: str = SYSTEM) -> Task:
    """Ask a task to stop: at once when nobody works on it, else at its next step.

    Args:
        by: name of the administrator who wants it, or whose later order takes over; the first one is kept.
        tidy: one that was begun and waits to be tried again is given to its handler at once, so that nothing stays
            of what it made; whoever sees to that otherwise leaves it out.

    Raises:
        NotFoundError: there is none with this id.
        ConflictError: it has ended already.
    """
    connection.execute(select(table.c.id).where(table.c.id == task_id).with_for_update())
    found = get(connection, task_id)
    if found.state.final:
        raise ConflictError(f"The task has ended already: it {found.state.value}.")
    values: dict[str, Any]
    if found.state is TaskState.CREATED and found.started and tidy:
        values = {"cancel_requested": True, "run_after": 0}
    elif found.state is TaskState.CREATED:
        values = {"state": TaskState.CANCELLED.value, "finished": int(now)}
    else:
        values = {"cancel_requested": True}
    values["cancelled_by"] = found.cancelled_by or by
    connection.execute(update(table).where(table.c.id == task_id, table.c.state.in_(ACTIVE)).values(values))
    return get(connection, task_id)


def supersede(connection: Connection, task_id: str, *, now: float, by: str = SYSTEM) -> None:
    """End an active task for the next one of its kind. Whoever works on it loses it and learns of that in time: its
    handler looks for itself whether it may still change anything.

    Args:
        by: name of the administrator who ordered the next one.
    """
    values = {
        "state": TaskState.CANCELLED.value,
        "finished": int(now),
        "holder": "",
        "lease_until": 0,
        "error": "A later request took over.",
        "error_code": CancelledError.code,
        "cancelled_by": by,
    }
    connection.execute(update(table).where(table.c.id == task_id, table.c.state.in_(ACTIVE)).values(values))


def prune(connection: Connection, *, finished_before: float) -> int:
    """Forget tasks that ended long ago."""
    ended = and_(table.c.state.not_in(ACTIVE), table.c.finished < int(finished_before))
    return connection.execute(delete(table).where(ended)).rowcount


def _task(row: Row[Any]) -> Task:
    return Task(**(row._asdict() | {"state": TaskState(row.state)}))
