"""Tasks under a lease: taken by a process, held, and brought to an end or given back.

Whoever holds a task renews its lease; when that runs out, any process of the same site may take the task over, and
what the former holder says no longer counts.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, and_, or_, select, update

from entrepot.database.tables.tasks import task as table
from entrepot.database.tasks import Task, get
from entrepot.protocol.siteapi import TaskState


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


def _held(task_id: str, holder: str) -> Any:
    return and_(table.c.id == task_id, table.c.holder == holder, table.c.state == TaskState.IN_PROGRESS.value)
