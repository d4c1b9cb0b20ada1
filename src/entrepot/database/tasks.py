"""Durable work in the database: who does what, how far it is, what became of it.

``created`` → ``in_progress`` → ``completed``, ``failed`` or ``cancelled``; a retry goes back to ``created`` with a
later ``run_after``. A process holds a task under a lease that it renews; when the lease runs out, any process of
the same site may take the task over. At most one task per (kind, subject) is active: a unique partial index sees to it.
"""

import secrets
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import msgspec
from sqlalchemy import Connection, Row, and_, delete, func, or_, select, update

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


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a task is; ``rate``: units a second, lately."""

    step: str = ""
    done: int = 0
    total: int = 0
    unit: str = ""
    message: str = ""
    result: str = ""
    rate: int = 0


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """What a renewed lease says: whether the task is still ours, and whether it should stop."""

    held: bool
    cancel_requested: bool


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
        raise ConflictError(f"{title} is already under way.", next_step="Wait for it, or cancel it first.")
    return get(connection, str(values["id"]))


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


def count(connection: Connection, kind: str, states: Sequence[TaskState]) -> int:
    """How many tasks of a kind are in one of these states."""
    wanted = table.c.kind == kind, table.c.state.in_([state.value for state in states])
    return int(connection.execute(select(func.count()).select_from(table).where(*wanted)).scalar_one())


def claim(
    connection: Connection, *, site: str, kinds: Sequence[str], holder: str, now: float, lease: float, limit: int
) -> list[Task]:
    """Take tasks that are due, oldest first: new ones, and those whose holder's lease ran out."""
    due = or_(
        and_(table.c.state == TaskState.CREATED.value, table.c.run_after <= int(now)),
        and_(table.c.state == TaskState.IN_PROGRESS.value, table.c.lease_until < int(now)),
    )
    query = (
        select(table.c.id, table.c.started)
        .where(due, table.c.site == site, table.c.kind.in_(kinds))
        .order_by(table.c.run_after, table.c.created)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    taken = []
    for task_id, started in connection.execute(query).all():
        connection.execute(
            update(table)
            .where(table.c.id == task_id)
            .values(
                state=TaskState.IN_PROGRESS.value,
                holder=holder,
                lease_until=int(now + lease),
                attempts=table.c.attempts + 1,
                started=started or int(now),
            )
        )
        taken.append(get(connection, task_id))
    return taken


def renew(
    connection: Connection, *, task_id: str, holder: str, now: float, lease: float, progress: Progress | None
) -> Claim:
    """Renew the lease and write the progress down."""
    values: dict[str, Any] = {"lease_until": int(now + lease)}
    if progress is not None:
        values |= msgspec.structs.asdict(progress)
    renewed = connection.execute(update(table).where(_held(task_id, holder)).values(values))
    if renewed.rowcount != 1:
        return Claim(held=False, cancel_requested=False)
    wanted = connection.execute(select(table.c.cancel_requested).where(table.c.id == task_id)).scalar_one()
    return Claim(held=True, cancel_requested=bool(wanted))


def finish(
    connection: Connection,
    *,
    task_id: str,
    holder: str,
    state: TaskState,
    now: float,
    progress: Progress | None = None,
    error: str = "",
    error_code: str = "",
) -> bool:
    """Bring a task that we hold to a final state. False when it was no longer ours."""
    values: dict[str, Any] = {
        "state": state.value,
        "finished": int(now),
        "holder": "",
        "lease_until": 0,
        "error": error,
        "error_code": error_code,
    }
    if progress is not None:
        values |= msgspec.structs.asdict(progress)
    return connection.execute(update(table).where(_held(task_id, holder)).values(values)).rowcount == 1


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


def put_back(
    connection: Connection,
    *,
    task_id: str,
    holder: str,
    run_after: float,
    error: str = "",
    error_code: str = "",
    count_attempt: bool = True,
) -> bool:
    """Give a task back to be run again, not before ``run_after``."""
    values: dict[str, Any] = {
        "state": TaskState.CREATED.value,
        "holder": "",
        "lease_until": 0,
        "run_after": int(run_after),
        "error": error,
        "error_code": error_code,
    }
    if not count_attempt:
        values["attempts"] = table.c.attempts - 1
    return connection.execute(update(table).where(_held(task_id, holder)).values(values)).rowcount == 1


def release_foreign(connection: Connection, *, site: str, holder: str) -> int:
    """Free what earlier processes held; only where no other process of the site can be alive (embedded database)."""
    return connection.execute(
        update(table)
        .where(
            table.c.site == site,
            table.c.state == TaskState.IN_PROGRESS.value,
            table.c.holder != holder,
        )
        .values(lease_until=0)
    ).rowcount


def request_cancel(connection: Connection, task_id: str, *, now: float, tidy: bool = False) -> Task:
    """Ask a task to stop: at once when nobody works on it, else at its next step.

    Args:
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
    connection.execute(update(table).where(table.c.id == task_id, table.c.state.in_(ACTIVE)).values(values))
    return get(connection, task_id)


def supersede(connection: Connection, task_id: str, *, now: float) -> None:
    """End an active task for the next one of its kind. Whoever works on it loses it and learns of that in time: its
    handler looks for itself whether it may still change anything."""
    values = {
        "state": TaskState.CANCELLED.value,
        "finished": int(now),
        "holder": "",
        "lease_until": 0,
        "error": "A later request took over.",
        "error_code": CancelledError.code,
    }
    connection.execute(update(table).where(table.c.id == task_id, table.c.state.in_(ACTIVE)).values(values))


def prune(connection: Connection, *, finished_before: float) -> int:
    """Forget tasks that ended long ago."""
    ended = and_(table.c.state.not_in(ACTIVE), table.c.finished < int(finished_before))
    return connection.execute(delete(table).where(ended)).rowcount


def _held(task_id: str, holder: str) -> Any:
    return and_(table.c.id == task_id, table.c.holder == holder, table.c.state == TaskState.IN_PROGRESS.value)


def _task(row: Row[Any]) -> Task:
    return Task(**(row._asdict() | {"state": TaskState(row.state)}))
