"""What was granted under transfer budgets, and what of it may not be in the figures yet (R23; ADR 0017).

A grant counts whole until its token has ended. Then the slots that instances won tell how much can have been sent on
it, and that counts until each of these instances has accounted for what it sent and its segments have been collected.
So what the figures say and what is charged here are together never less than what was sent, and may still be.
"""

from collections.abc import Iterable, Mapping
from math import ceil
from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, Connection, Select, and_, delete, func, or_, select, update

from entrepot.core.encoding import from_json, to_json
from entrepot.database import budgetsums
from entrepot.database.budgets import Budget, Scope
from entrepot.database.tables.cost import OPEN_GRANTS, REST_OF_GRANTS
from entrepot.database.tables.cost import budget as budgets
from entrepot.database.tables.cost import budget_grant as table
from entrepot.database.tables.usage import transaction_chain, usage_hour
from entrepot.protocol.control import GatewaySettings
from entrepot.rules.budgets import period_start

OBEYED_SECONDS: Final = 30
"""After this time every gateway asks for allowances."""


def known_after(segment_seconds: float) -> int:
    """Seconds from a budget's beginning to when the store has the records of all that was sent without an allowance.

    What a gateway cuts off is recorded after it obeyed, and a young segment waits ``segment_seconds`` for its way. What
    is fetched by links needs no time more: it is recorded when the link is given.
    """
    return OBEYED_SECONDS + ceil(segment_seconds)


LAG: Final = known_after(GatewaySettings().segment_seconds)


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """What a token may use of a budget."""

    jti: str
    point: str
    device: str
    content: str
    version: int
    bytes: int
    expires: int
    rate: int = 0


class Closed(msgspec.Struct, frozen=True, kw_only=True):
    """A grant whose token has ended: bytes that its instances won and have not accounted for."""

    jti: str
    expires: int
    held: Mapping[str, int]


class Chain(msgspec.Struct, frozen=True, kw_only=True):
    """An instance's segments: how many were collected, and whether none is missing or broken among them."""

    collected: int
    whole: bool


COLUMNS = tuple(table.c[name] for name in Grant.__struct_fields__)


def standing(connection: Connection, one: Budget, now: float) -> tuple[int, int]:
    """Bytes used in the period, as far as collected, and bytes granted that may not be in those figures yet."""
    since = period_start(one.zone, now)
    mine = (budgets.c.scope == one.scope.value, budgets.c.subject == one.subject)
    if one.scope is Scope.POINT:
        hours = usage_hour.c
        sent = select(func.coalesce(func.sum(hours.sent), 0)).where(hours.point == one.subject, hours.hour >= since)
    else:
        sent = budgetsums.used(one.scope.value, one.subject, since=since)
    parts = (
        select(budgets.c.open_bytes).where(*mine),
        _rest(connection, one, table.c.expires >= since),
        sent,
    )
    # in one statement: a device waits for it
    row: tuple[Any, ...] = tuple(connection.execute(select(*(part.scalar_subquery() for part in parts))).one())
    opened, rest, used = row
    if opened is None:  # there is no such budget: somebody asks what it would do
        opened = _open(connection, one)
        if one.scope is not Scope.POINT:
            used = budgetsums.used_without(connection, one.scope.value, one.subject, since=since)
    return int(used), int(opened) + int(rest)


def unaccounted(connection: Connection, one: Budget, now: float, *, ended: int) -> int:
    """Of what is charged: bytes that instances won on tokens which ended before, and have not accounted for."""
    since = period_start(one.zone, now)
    rest = _rest(connection, one, table.c.expires >= since, table.c.expires < ended)
    return int(connection.execute(rest).scalar_one())


def _rest(connection: Connection, one: Budget, *conditions: ColumnElement[bool]) -> Select[Any]:
    """What is charged of grants whose slots were looked at."""
    mine = budgetsums.granted_to(connection, one.scope.value, one.subject)
    return select(func.coalesce(func.sum(table.c.charged), 0)).where(REST_OF_GRANTS).where(mine, *conditions)


def _open(connection: Connection, one: Budget) -> int:
    mine = budgetsums.granted_to(connection, one.scope.value, one.subject)
    total = select(func.coalesce(func.sum(table.c.bytes), 0)).where(OPEN_GRANTS).where(mine)
    return int(connection.execute(total).scalar_one())


def ended(connection: Connection, point: str, *, before: int, limit: int) -> list[Grant]:
    """Grants whose tokens ended before, and whose slots were not looked at yet."""
    query = select(*COLUMNS).where(table.c.point == point, table.c.expires < before).where(OPEN_GRANTS)
    return [Grant(**row) for row in connection.execute(query.order_by(table.c.expires).limit(limit)).mappings()]


def close(connection: Connection, held: Mapping[str, Mapping[str, int]]) -> None:
    """Note what instances won of grants whose tokens have ended (by grant, then instance): that is charged now."""
    budgetsums.lock(connection)
    set_held(connection, held)
    budgetsums.count_open(connection)


def set_held(connection: Connection, held: Mapping[str, Mapping[str, int]]) -> None:
    """Note what of closed grants is not accounted for yet (by grant, then instance): that is charged now."""
    for jti, parts in held.items():
        values = {"held": to_json(dict(parts)).decode(), "charged": sum(parts.values())}
        connection.execute(update(table).where(table.c.jti == jti).values(values))


def closed(connection: Connection, point: str, *, after: str, limit: int) -> list[Closed]:
    """Ended grants of which something is not accounted for, by id."""
    query = (
        select(table.c.jti, table.c.expires, table.c.held)
        .where(REST_OF_GRANTS)
        .where(table.c.point == point, table.c.jti > after)
        .order_by(table.c.jti)
        .limit(limit)
    )
    return [
        Closed(jti=row.jti, expires=row.expires, held=from_json(row.held, dict[str, int], "grant"))
        for row in connection.execute(query)
    ]


def chains(connection: Connection, point: str, instances: Iterable[str]) -> dict[str, Chain]:
    """The chains of these instances, of those that have one."""
    chain = transaction_chain
    wanted = sorted(set(instances))
    query = select(chain.c.instance, chain.c.collected, chain.c.highest, chain.c.broken)
    found = {}
    for begin in range(0, len(wanted), 500):
        some = (chain.c.point == point, chain.c.instance.in_(wanted[begin : begin + 500]))
        for row in connection.execute(query.where(*some)):
            whole = row.collected == row.highest + 1 and not row.broken
            found[row.instance] = Chain(collected=row.collected, whole=whole)
    return found


def oldest_waiting(connection: Connection, point: str) -> int | None:
    """When the token of the oldest grant ends of which something is not accounted for, or may not be."""
    ends = [
        connection.execute(select(func.min(table.c.expires)).where(table.c.point == point).where(which)).scalar()
        for which in (OPEN_GRANTS, REST_OF_GRANTS)
    ]
    return min((int(end) for end in ends if end is not None), default=None)


def done(connection: Connection, point: str, *, before: int, unaccounted_before: int, limit: int) -> list[Grant]:
    """Grants whose slots may go from the store: ended before and accounted for, or ended so long before that no period
    of a budget has them any more."""
    accounted = and_(table.c.held != "", table.c.charged == 0, table.c.expires < before)
    query = select(*COLUMNS).where(table.c.point == point, or_(accounted, table.c.expires < unaccounted_before))
    return [Grant(**row) for row in connection.execute(query.order_by(table.c.expires).limit(limit)).mappings()]


def forget_grants(connection: Connection, ids: list[str]) -> None:
    """Their slots are gone from the store."""
    connection.execute(delete(table).where(table.c.jti.in_(ids)))
    budgetsums.count_open(connection)  # some may never have been closed: their store did not answer for weeks
