"""Bounded growth: figures, savings and histories that are older than they are kept, a batch at a time.

Every function deletes at most ``limit`` rows and says how many: fewer than the limit means that none is left.
"""

from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Table, delete, not_, or_, select, tuple_

from entrepot.database.tables.alerts import alert, alert_history
from entrepot.database.tables.cost import budget_hour, saving_day
from entrepot.database.tables.points import point as points
from entrepot.database.tables.usage import transfer_bucket, usage_hour
from entrepot.rules.alerts import AlertState

_OPEN: Final = (AlertState.ACTIVE.value, AlertState.POSTPONED.value)


def prune_transfers(connection: Connection, *, before: int, limit: int) -> int:
    """Forget by device and content what was transferred in hours before that time; sums of the hours stay, and so does
    what a log has still to say."""
    table = transfer_bucket
    left = limit
    for point in connection.scalars(select(usage_hour.c.point).where(usage_hour.c.hour < before).distinct()).all():
        gone = point not in set(connection.scalars(select(points.c.id).where(points.c.id == point)))
        logged: tuple[ColumnElement[bool], ...] = () if gone else (table.c.unlogged.is_(False),)
        left -= _delete(connection, table, left, table.c.point == point, table.c.hour < before, *logged)
        if not left:
            break
    return limit - left


def prune_hours(connection: Connection, *, before: int, limit: int) -> int:
    """Forget the sums of hours before that time."""
    return _delete(connection, usage_hour, limit, usage_hour.c.hour < before)


def prune_budget_hours(connection: Connection, *, before: int, limit: int) -> int:
    """Forget what budgets counted in hours before that time: no period of a budget has them any more."""
    return _delete(connection, budget_hour, limit, budget_hour.c.hour < before)


def prune_savings(connection: Connection, *, before: int, limit: int) -> int:
    """Forget what was saved on days before that time."""
    return _delete(connection, saving_day, limit, saving_day.c.day < before)


def prune_alert_events(connection: Connection, *, before: int, limit: int) -> int:
    """Forget what happened to alerts before that time; the alerts and their counts stay."""
    return _delete(connection, alert_history, limit, alert_history.c.at < before)


def prune_alerts(connection: Connection, *, before: int, limit: int) -> int:
    """Forget closed alerts of what no longer exists, unless something happened to them since that time."""
    ended = (alert.c.subject.not_in(select(points.c.id)), not_(or_(*(alert.c.state == state for state in _OPEN))))
    return _delete(connection, alert, limit, alert.c.changed < before, *ended)


def _delete(connection: Connection, table: Table, limit: int, *conditions: ColumnElement[bool]) -> int:
    key: list[Any] = list(table.primary_key.columns)
    some = select(*key).where(*conditions).limit(limit)
    found = [tuple(row) for row in connection.execute(some)]
    for begin in range(0, len(found), 500):
        connection.execute(delete(table).where(tuple_(*key).in_(found[begin : begin + 500])))
    return len(found)
