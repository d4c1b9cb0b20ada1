"""What a task writes into the rows of its cloud point, as long as it is in charge of it."""

from typing import Any

from sqlalchemy import Connection

from entrepot.core.errors import CancelledError, EntrepotError
from entrepot.database import alerts, budgets, cloud, collection, prices, tasks, usage
from entrepot.database.cloud import CloudPoint
from entrepot.database.tasks import Task
from entrepot.site.cloud.states import MADE
from entrepot.site.cost.charging import keep_for_cost


def note(connection: Connection, task: Task, values: dict[str, Any], now: int) -> CloudPoint:
    """Write down where a point stands; the first time that its service is there, it is ready since now.

    Raises:
        CancelledError: a later task is in charge.
        NotFoundError: the point is gone.
    """
    point = _held(connection, task)
    if not point.ready and values.get("state") in MADE:
        values = {**values, "ready": now}
    return cloud.update_cloud_point(connection, task.subject, **values)


def end(connection: Connection, task: Task, values: dict[str, Any], now: int, error: str) -> CloudPoint:
    """Write down where a point stands at the end of a task, and with it how the task ends: it may be killed just then.

    Args:
        error: why it fails; empty: it does not.

    Raises:
        EntrepotError: as :func:`note`.
    """
    point = note(connection, task, values, now)
    tasks.note_error(connection, task.id, error)
    return point


def forget(connection: Connection, task: Task, now: int) -> None:
    """Forget a cloud point of which nothing is left in the cloud, and all that belongs to it.

    Raises:
        CancelledError: a later task is in charge.
        NotFoundError: the point is gone.
    """
    point = _held(connection, task)
    keep_for_cost(connection, point, now)
    usage.forget_usage(connection, task.subject)  # first, as a collection that is under way does
    collection.forget_segments(connection, task.subject)
    budgets.forget_point(connection, task.subject)
    prices.forget_point(connection, task.subject)
    alerts.end_subject(connection, task.subject, now=now)
    cloud.delete_cloud_point(connection, task.subject)


def forget_failed(connection: Connection, task: Task, now: int, reason: str) -> None:
    """Forget a cloud point whose creation failed; the reason outlives the process that would tell it."""
    forget(connection, task, now)
    tasks.note_error(connection, task.id, reason)


def _held(connection: Connection, task: Task) -> CloudPoint:
    """The task's point, which nobody else changes before the transaction ends."""
    point = cloud.get_cloud_point(connection, task.subject, locked=True)
    if point.task != task.id:
        raise CancelledError("A later request took over.")
    return point


def knowing(error: EntrepotError, more: str = "", *, out: str = "") -> EntrepotError:
    """The same error, knowing more.

    Args:
        more: what else is so.
        out: what else can be done.
    """
    known: EntrepotError = type(error).__new__(type(error))
    EntrepotError.__init__(known, f"{error.message} {more}".strip(), next_step=f"{error.next_step} {out}".strip())
    return known
