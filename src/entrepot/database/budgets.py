"""Transfer budgets (R23) and what was granted under them.

A grant counts against its budget until its token has expired *and* a collection long enough after that has brought in
what was sent on it: then the figures have it. So what was used plus what is granted is never less than what was, and
may still be, sent.
"""

import msgspec
from sqlalchemy import Connection, delete, func, insert, select

from entrepot.core.encoding import from_json, to_json
from entrepot.core.times import HOUR
from entrepot.database import usage
from entrepot.database.engine import insert_into, mark_changed
from entrepot.database.tables.cost import budget as table
from entrepot.database.tables.cost import budget_grant
from entrepot.rules.allowance import granted
from entrepot.rules.thresholds import rolling_start

SETTLED_AFTER = HOUR
REUSE_SECONDS = HOUR // 2


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes to clients in 30 rolling days; from ``critical_percent`` on only the ``critical`` contents are granted."""

    point: str
    bytes: int
    critical_percent: int = 100
    critical: tuple[str, ...] = ()
    created: int = 0
    by: str = ""


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """What a token may use of a budget."""

    jti: str
    point: str
    device: str
    content: str
    version: int
    bytes: int
    expires: int


def put_budget(connection: Connection, new: Budget) -> None:
    """Set a cloud point's budget; answers to clients change with it."""
    values = msgspec.structs.asdict(new) | {"critical": to_json(new.critical).decode()}
    statement = insert_into(connection, table).values(values)
    connection.execute(statement.on_conflict_do_update(index_elements=[table.c.point], set_=values))
    mark_changed(connection)


def delete_budget(connection: Connection, point: str) -> bool:
    """Lift a budget; whether there was one."""
    gone = bool(connection.execute(delete(table).where(table.c.point == point)).rowcount)
    mark_changed(connection)
    return gone


def budgets(connection: Connection) -> dict[str, Budget]:
    """All budgets by cloud point."""
    return {row.point: _budget(row._mapping) for row in connection.execute(select(table))}  # noqa: SLF001  # documented


def standing(connection: Connection, point: str, now: float) -> tuple[int, int]:
    """Bytes used in the 30 days, as far as collected, and bytes granted that may not be in those figures yet."""
    used = usage.totals_since(connection, point, rolling_start(now)).sent
    collected = usage.stored_usage(connection, point).collected
    open_grants = select(func.coalesce(func.sum(budget_grant.c.bytes), 0)).where(
        budget_grant.c.point == point, budget_grant.c.expires + SETTLED_AFTER > collected
    )
    return used, int(connection.execute(open_grants).scalar_one())


def grant(connection: Connection, wanted: Grant, now: float) -> Grant | None:
    """Grant what a device needs, or None when the budget has no room for it. Call it in a write transaction.

    A device that has a grant for the same version, not about to expire, is given that one again: asking often gives
    nobody more.
    """
    row = connection.execute(select(table).where(table.c.point == wanted.point).with_for_update()).mappings().first()
    if row is None:
        return None
    found = _existing(connection, wanted, now)
    if found is not None:
        return found
    limits = _budget(row)
    used, outstanding = standing(connection, wanted.point, now)
    bound = limits.bytes
    if wanted.content not in limits.critical:
        bound = bound * limits.critical_percent // 100
    if not granted(wanted.bytes, budget=bound, used=used, outstanding=outstanding):
        return None
    connection.execute(insert(budget_grant).values(**msgspec.structs.asdict(wanted)))
    return wanted


def _existing(connection: Connection, wanted: Grant, now: float) -> Grant | None:
    grants = budget_grant
    query = (
        select(*(grants.c[name] for name in Grant.__struct_fields__))
        .where(
            grants.c.device == wanted.device,
            grants.c.point == wanted.point,
            grants.c.content == wanted.content,
            grants.c.version == wanted.version,
            grants.c.expires >= int(now) + REUSE_SECONDS,
        )
        .order_by(grants.c.expires.desc())
        .limit(1)
    )
    row = connection.execute(query).mappings().first()
    return None if row is None else Grant(**row)


def expired(connection: Connection, point: str, *, before: int, limit: int) -> list[Grant]:
    """Grants that ended before, no longer count (see :func:`standing`), and whose slots may go from the store."""
    grants = budget_grant
    collected = usage.stored_usage(connection, point).collected
    query = (
        select(*(grants.c[name] for name in Grant.__struct_fields__))
        .where(grants.c.point == point, grants.c.expires < before, grants.c.expires + SETTLED_AFTER <= collected)
        .order_by(grants.c.expires)
        .limit(limit)
    )
    return [Grant(**row) for row in connection.execute(query).mappings()]


def forget_grants(connection: Connection, ids: list[str]) -> None:
    """Their slots are gone from the store."""
    connection.execute(delete(budget_grant).where(budget_grant.c.jti.in_(ids)))


def forget_point(connection: Connection, point: str) -> None:
    """Forget a deleted cloud point's budget and grants; its store went with it."""
    connection.execute(delete(table).where(table.c.point == point))
    connection.execute(delete(budget_grant).where(budget_grant.c.point == point))


def _budget(row: object) -> Budget:
    values = {name: row[name] for name in Budget.__struct_fields__}  # type: ignore[index]  # a row's mapping
    return Budget(**(values | {"critical": from_json(values["critical"], tuple[str, ...], "budget")}))
