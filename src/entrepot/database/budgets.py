"""Transfer budgets (R23): who set them, and to what. What was granted under them is in ``database.grants``."""

import secrets
from enum import StrEnum
from typing import Final

import msgspec
from sqlalchemy import Connection, RowMapping, delete, func, insert, or_, select, update

from entrepot.core.encoding import from_json, to_json
from entrepot.core.times import MINUTE
from entrepot.database import budgetsums
from entrepot.database.engine import insert_into, mark_changed
from entrepot.database.tables.cloud import cloud_point
from entrepot.database.tables.cost import budget as table
from entrepot.database.tables.cost import budget_change, budget_grant
from entrepot.rules.budgets import Shares


class Scope(StrEnum):
    """What a budget bounds: all that a cloud point sends, or what all cloud points send of a content, or to the members
    of a collection."""

    POINT = "cloud-point"
    CONTENT = "content"
    COLLECTION = "collection"


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes to clients in the period, and the shares of its grades (``rules.budgets``). ``refused``: when it last had
    no room for a download since it was set or changed."""

    scope: Scope = Scope.POINT
    subject: str
    bytes: int
    throttle_percent: int = 0
    peers_percent: int = 0
    critical_percent: int = 100
    grant_percent: int = 100
    stop_percent: int = 0
    rate: int = 0
    critical: tuple[str, ...] = ()
    zone: str = ""
    created: int = 0
    by: str = ""
    stopped: str = ""
    refused: int = 0

    @property
    def shares(self) -> Shares:
        """As the rules take them."""
        return Shares(**{name: getattr(self, name) for name in Shares.__struct_fields__})


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """Who changed a budget, and to what."""

    scope: str
    subject: str
    at: int
    by: str
    what: str


STOPPED: Final = "stopped"
"""A budget stopped its service, and will start it again."""
WAIVED: Final = "waived"
"""A budget stopped its service, and somebody started or stopped it since: they are obeyed."""


def put_budget(connection: Connection, new: Budget) -> None:
    """Set a budget; answers to clients change with it, and tokens without an allowance no longer count.

    One that is there already keeps when it was created: since then all tokens have an allowance.
    """
    budgetsums.lock(connection)
    budgetsums.count_anew(connection, new.scope.value, new.subject)
    values = msgspec.structs.asdict(new) | {"critical": to_json(new.critical).decode(), "scope": new.scope.value}
    keep = {name: value for name, value in values.items() if name not in ("stopped", "created")}
    statement = insert_into(connection, table).values(values)
    connection.execute(statement.on_conflict_do_update(index_elements=[table.c.scope, table.c.subject], set_=keep))
    budgetsums.count_open(connection)
    mark_changed(connection)


def delete_budget(connection: Connection, scope: Scope, subject: str) -> bool:
    """Lift a budget; whether there was one."""
    budgetsums.lock(connection)  # before any row of a budget; what is being added to its sums goes with them
    mine = (table.c.scope == scope.value, table.c.subject == subject)
    gone = connection.execute(delete(table).where(*mine).returning(table.c.subject)).first() is not None
    budgetsums.forget(connection, scope.value, subject)
    mark_changed(connection)
    return gone


def set_stopped(connection: Connection, one: Budget, stopped: str) -> None:
    """Note that a budget stopped its service, or that somebody has decided otherwise since (:data:`WAIVED`)."""
    mine = (table.c.scope == one.scope.value, table.c.subject == one.subject)
    connection.execute(update(table).where(*mine).values(stopped=stopped))


def waive_stop(connection: Connection, point: str, *, at: float, by: str, what: str) -> None:
    """Somebody stops a cloud point: whatever its budget stopped is from now on stopped by them."""
    mine = (table.c.scope == Scope.POINT.value, table.c.subject == point, table.c.stopped == STOPPED)
    waived = update(table).where(*mine).values(stopped=WAIVED).returning(table.c.subject)
    if connection.execute(waived).first() is not None:
        note_change(connection, Scope.POINT, point, at=at, by=by, what=what)


def note_refusal(connection: Connection, one: Budget, now: float) -> None:
    """Note that a budget had no room, to the minute: thousands may ask in it."""
    if now - one.refused >= MINUTE:
        mine = (table.c.scope == one.scope.value, table.c.subject == one.subject)
        connection.execute(update(table).where(*mine).values(refused=int(now)))


def note_change(connection: Connection, scope: Scope, subject: str, *, at: float, by: str, what: str) -> None:
    """Keep in the history who changed a budget."""
    values = {"scope": scope.value, "subject": subject, "at": int(at), "by": by[:128], "what": what}
    connection.execute(insert(budget_change).values(id=secrets.token_hex(16), **values))


def changes(connection: Connection, *, limit: int = 200) -> list[Change]:
    """The latest changes of budgets, newest first."""
    columns = [budget_change.c[name] for name in Change.__struct_fields__]
    rows = connection.execute(select(*columns).order_by(budget_change.c.at.desc(), budget_change.c.id).limit(limit))
    return [Change(**row) for row in rows.mappings()]


def budgets(connection: Connection) -> list[Budget]:
    """All budgets."""
    rows = connection.execute(select(table).order_by(table.c.scope, table.c.subject)).mappings()
    return [budget_from(row) for row in rows]


def find(connection: Connection, scope: Scope, subject: str) -> Budget | None:
    """The budget of a cloud point, content or collection, if it has one."""
    mine = (table.c.scope == scope.value, table.c.subject == subject)
    row = connection.execute(select(table).where(*mine)).mappings().first()
    return None if row is None else budget_from(row)


NEW_POINT: Final = ""
"""Stands for the id of a cloud point that is not there yet: what bounds all points will bound it."""


def touches(connection: Connection, point: str) -> bool:
    """Whether any budget bounds what this cloud point sends; budgets of contents and collections bound all points."""
    cloud = select(cloud_point.c.point).where(cloud_point.c.point == point)
    known = point == NEW_POINT or connection.execute(cloud).first() is not None
    return known and bounded_since(connection, point) is not None


def bounded_since(connection: Connection, point: str) -> int | None:
    """Since when every token for this cloud point has an allowance; None when no budget bounds it."""
    applies = or_(table.c.scope != Scope.POINT.value, table.c.subject == point)
    found = connection.execute(select(func.min(table.c.created)).where(applies)).scalar()
    return None if found is None else int(found)


def forget_point(connection: Connection, point: str) -> None:
    """Forget a deleted cloud point's budget and grants; its store went with it."""
    budgetsums.lock(connection)  # before any row of a budget, as whoever grants does
    connection.execute(delete(table).where(table.c.scope == Scope.POINT.value, table.c.subject == point))
    connection.execute(delete(budget_grant).where(budget_grant.c.point == point))
    budgetsums.count_open(connection)


def budget_from(row: RowMapping) -> Budget:
    """From a row of the table."""
    values = {name: row[name] for name in Budget.__struct_fields__}
    values["critical"] = from_json(values["critical"], tuple[str, ...], "budget")
    return Budget(**(values | {"scope": Scope(values["scope"])}))
