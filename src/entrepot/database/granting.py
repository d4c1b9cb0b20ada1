"""Decides what a token may use of transfer budgets (R23; ADR 0017). A device waits for it, and those of one budget wait
for each other: so there are few statements, and each is built once.
"""

from functools import lru_cache
from typing import Any, Final

import msgspec
from sqlalchemy import (
    ColumnElement,
    Connection,
    ScalarSelect,
    Select,
    and_,
    bindparam,
    func,
    insert,
    or_,
    select,
    tuple_,
    update,
)

from entrepot.core.times import HOUR
from entrepot.database import budgetsums, usage
from entrepot.database.budgets import Budget, Scope, bounded_since, budget_from, note_refusal
from entrepot.database.device_collections import ALL_DEVICES_ID
from entrepot.database.grants import COLUMNS, LAG, Grant
from entrepot.database.tables.cloud import cloud_point
from entrepot.database.tables.cost import REST_OF_GRANTS, budget_hour
from entrepot.database.tables.cost import budget as budgets
from entrepot.database.tables.cost import budget_grant as table
from entrepot.database.tables.devices import collection_member
from entrepot.database.tables.usage import cloud_usage, usage_hour
from entrepot.protocol.cloudpointapi import CloudPointState
from entrepot.rules.allowance import ample, granted
from entrepot.rules.budgets import bound, period_start, throttled
from entrepot.rules.throttle import kept_rate

REUSE_SECONDS: Final = HOUR // 2
_POINT: Final = Scope.POINT.value


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """The tightest budget has no room. ``peers``: only because neighbours shall be asked first. ``early``: what was
    sent before the budget was set is not collected yet."""

    budget: Budget
    peers: bool = False
    early: bool = False


class _Room(msgspec.Struct, frozen=True, kw_only=True):
    """A budget that applies, and how it stands."""

    budget: Budget
    used: int
    outstanding: int


def grant(connection: Connection, wanted: Grant, now: float, *, size: int = 0, lag: int = LAG) -> Grant | Refusal:
    """Grant what a device needs, or say which budget has no room for it. Call it in a write transaction.

    A device that has a grant for the same version, not about to expire, is given that one again: asking often gives
    nobody more. Where no budget applies the grant is noted all the same: it counts as soon as one does.

    Args:
        wanted: with the bytes that are needed at least.
        size: of the download; where there is room, the grant is so large that no instance of the cloud point need
            refuse a part of it (``rules.allowance.ample``).
        lag: see :func:`~entrepot.database.grants.known_after`.
    """
    budgetsums.lock(connection, shared=True)
    charged = _applying(connection, wanted)
    found = connection.execute(_EXISTING, _asked(wanted, now)).mappings().first()
    if found is not None:
        return Grant(**found)
    early, instances, rooms = _look(connection, charged, wanted, now, lag)
    if early is not None:
        return Refusal(budget=early, early=True)
    refusals: list[tuple[int, Refusal]] = []
    for amount in (ample(size, instances), wanted.bytes) if size else (wanted.bytes,):
        wanted = msgspec.structs.replace(wanted, bytes=amount)
        refusals = [refused for room in rooms if (refused := _refusal(room, wanted)) is not None]
        if not refusals:
            return _noted(connection, wanted, rooms)
    tightest = min(refusals, key=lambda each: each[0])[1]
    if not tightest.peers:
        note_refusal(connection, tightest.budget, now)
    return tightest


def _noted(connection: Connection, wanted: Grant, rooms: list[_Room]) -> Grant:
    """The grant, with its rate, written down and charged."""
    rates = [
        one.budget.rate
        for one in rooms
        if one.budget.rate and throttled(one.budget.shares, one.budget.bytes, one.used + one.outstanding + wanted.bytes)
    ]
    wanted = msgspec.structs.replace(wanted, rate=kept_rate(min(rates, default=0)))
    connection.execute(_INSERT, msgspec.structs.asdict(wanted) | {"charged": wanted.bytes, "held": ""})
    mine = [(one.budget.scope.value, one.budget.subject) for one in rooms]
    if mine:
        connection.execute(_CHARGE, {"mine": mine, "more": wanted.bytes})
    return wanted


def _refusal(room: _Room, wanted: Grant) -> tuple[int, Refusal] | None:
    """What the budget has left, and the refusal, where it has no room."""
    one = room.budget
    standing = {"used": room.used, "outstanding": room.outstanding}
    critical = wanted.content in one.critical
    most = bound(one.shares, one.bytes, critical=critical)
    if granted(wanted.bytes, budget=most, **standing):
        return None
    peers = bool(one.peers_percent) and not critical and one.peers_percent < one.critical_percent
    beyond = one.bytes * (one.critical_percent or one.grant_percent) // 100
    peers = peers and granted(wanted.bytes, budget=beyond, **standing) > 0
    return most - room.used - room.outstanding, Refusal(budget=one, peers=peers)


def _applying(connection: Connection, wanted: Grant) -> list[tuple[Budget, int]]:
    """The budgets that a grant is charged to, and what is granted and open of each. Locked: grants of one budget are
    decided one after the other."""
    asked = {"device": wanted.device, "point": wanted.point, "content": wanted.content}
    return [(budget_from(row), row["open_bytes"]) for row in connection.execute(_APPLYING, asked).mappings()]


def _look(
    connection: Connection, charged: list[tuple[Budget, int]], wanted: Grant, now: float, lag: int
) -> tuple[Budget | None, int, list[_Room]]:
    """In one statement: the first budget of which nobody knows what it has left, how many instances serve, and how each
    budget stands.

    What was sent on tokens without an allowance may not be collected yet; a budget of a content or collection bounds
    all cloud points, so it needs the figures of all.
    """
    values: dict[str, Any] = {"point": wanted.point, "lag": lag}
    for number, (one, _) in enumerate(charged):
        values |= {f"subject{number}": one.subject, f"since{number}": period_start(one.zone, now)}
    query = _standing(tuple(_kind(one) for one, _ in charged))
    since, collected, instances, late, *figures = connection.execute(query, values).one()
    early = None
    if charged and since is not None and (collected or 0) < since + lag:
        early = charged[0][0]
    elif late:
        early = next((one for one, _ in charged if one.scope is not Scope.POINT), None)
    rooms = [
        _Room(budget=one, used=int(used), outstanding=int(opened) + int(rest))
        for (one, opened), rest, used in zip(charged, figures[::2], figures[1::2], strict=True)
    ]
    return early, int(instances or 1), rooms


def _kind(one: Budget) -> str:
    return "everyone" if one.subject == ALL_DEVICES_ID and one.scope is Scope.COLLECTION else one.scope.value


@lru_cache(maxsize=256)
def _standing(kinds: tuple[str, ...]) -> Select[Any]:
    """Asks how budgets of these kinds stand."""
    parts: list[ScalarSelect[Any] | ColumnElement[Any]] = [_SINCE, _COLLECTED, _INSTANCES, _LATE]
    for number, kind in enumerate(kinds):
        subject: ColumnElement[str] = bindparam(f"subject{number}")
        since: ColumnElement[int] = bindparam(f"since{number}")
        scope = Scope.COLLECTION.value if kind == "everyone" else kind
        mine = budgetsums.charged_to(scope, subject, everyone=kind == "everyone")
        rest = select(func.coalesce(func.sum(table.c.charged), 0)).where(REST_OF_GRANTS).where(mine)
        if kind == _POINT:
            sent = select(func.coalesce(func.sum(usage_hour.c.sent), 0)).where(
                usage_hour.c.point == subject, usage_hour.c.hour >= since
            )
        else:
            mine_by_hour = (budget_hour.c.scope == scope, budget_hour.c.subject == subject, budget_hour.c.hour >= since)
            sent = select(func.coalesce(func.sum(budget_hour.c.bytes), 0)).where(*mine_by_hour)
        parts += [rest.where(table.c.expires >= since).scalar_subquery(), sent.scalar_subquery()]
    return select(*parts)


def _asked(wanted: Grant, now: float) -> dict[str, Any]:
    names = ("device", "point", "content", "version")
    return {name: getattr(wanted, name) for name in names} | {"until": int(now) + REUSE_SECONDS}


def uncollected(connection: Connection, point: str, lag: int) -> bool:
    """Not collected since all its tokens have allowances."""
    since = bounded_since(connection, point)
    return since is not None and usage.stored_usage(connection, point).collected < since + lag


def awaits_figures(connection: Connection, point: str, *, now: float, lag: int = LAG) -> bool:
    """Whether a collection now would tell what the budgets of a cloud point have left, and nothing else does."""
    since = bounded_since(connection, point)
    return since is not None and now >= since + lag and uncollected(connection, point, lag)


_APPLYING: Final = (
    select(budgets)
    .where(
        or_(
            and_(budgets.c.scope == _POINT, budgets.c.subject == bindparam("point")),
            and_(budgets.c.scope == Scope.CONTENT.value, budgets.c.subject == bindparam("content")),
            and_(
                budgets.c.scope == Scope.COLLECTION.value,
                or_(
                    budgets.c.subject == ALL_DEVICES_ID,
                    budgets.c.subject.in_(
                        select(collection_member.c.collection).where(collection_member.c.device == bindparam("device"))
                    ),
                ),
            ),
        )
    )
    .order_by(budgets.c.scope, budgets.c.subject)
    .with_for_update()
)
_EXISTING: Final = (
    select(*COLUMNS)
    .where(*(table.c[name] == bindparam(name) for name in ("device", "point", "content", "version")))
    .where(table.c.expires >= bindparam("until"))
    .order_by(table.c.expires.desc())
    .limit(1)
)
_INSERT: Final = insert(table)
_CHARGE: Final = (
    update(budgets)
    .where(tuple_(budgets.c.scope, budgets.c.subject).in_(bindparam("mine", expanding=True)))
    .values(open_bytes=budgets.c.open_bytes + bindparam("more"))
)
_SINCE: Final = (
    select(func.min(budgets.c.created))
    .where(or_(budgets.c.scope != _POINT, budgets.c.subject == bindparam("point")))
    .scalar_subquery()
)
_COLLECTED: Final = select(cloud_usage.c.collected).where(cloud_usage.c.point == bindparam("point")).scalar_subquery()
_INSTANCES: Final = (
    select(cloud_point.c.instances_wanted).where(cloud_point.c.point == bindparam("point")).scalar_subquery()
)


def _late() -> ColumnElement[bool]:
    """Whether some cloud point served clients before budgets of contents or collections bounded all of them, and was
    not collected since its own tokens have allowances."""
    everywhere, own = budgets.alias(), budgets.alias()
    point, collected = cloud_point.c, func.coalesce(cloud_usage.c.collected, 0)
    first = select(func.min(everywhere.c.created)).where(everywhere.c.scope != _POINT).scalar_subquery()
    bounded = (
        select(func.min(own.c.created))
        .where(or_(own.c.scope != _POINT, own.c.subject == point.point))
        .correlate(cloud_point)
        .scalar_subquery()
    )
    served = (point.ready > 0, point.address != "", point.state != CloudPointState.DELETING.value)
    return (
        select(point.point)
        .join(cloud_usage, cloud_usage.c.point == point.point, isouter=True)
        .where(*served, point.ready < first + bindparam("lag"), collected < bounded + bindparam("lag"))
        .exists()
    )


_LATE: Final = _late()
