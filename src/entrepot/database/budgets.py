"""Transfer budgets (R23) and what was granted under them.

A grant counts against its budget until its token has expired *and* a collection long enough after that has brought in
what was sent on it: then the figures have it. So what was used plus what is granted is never less than what was, and
may still be, sent.
"""

import secrets
from enum import StrEnum

import msgspec
from sqlalchemy import (
    ColumnElement,
    Connection,
    RowMapping,
    and_,
    case,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    true,
    update,
)

from entrepot.core.encoding import from_json, to_json
from entrepot.core.times import DAY, HOUR
from entrepot.database import usage
from entrepot.database.device_collections import ALL_DEVICES_ID
from entrepot.database.engine import insert_into, mark_changed
from entrepot.database.tables.cloud import cloud_point
from entrepot.database.tables.cost import budget as table
from entrepot.database.tables.cost import budget_change, budget_grant
from entrepot.database.tables.devices import collection_member
from entrepot.database.tables.usage import cloud_usage, transaction_chain, transfer_bucket
from entrepot.rules.allowance import granted
from entrepot.rules.budgets import Shares, bound, period_start, throttled

SETTLED_AFTER = HOUR
REUSE_SECONDS = HOUR // 2


class Scope(StrEnum):
    """What a budget bounds: all that a cloud point sends, or what all cloud points send of a content, or to the members
    of a collection."""

    POINT = "cloud-point"
    CONTENT = "content"
    COLLECTION = "collection"


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes to clients in the period, and the shares of its grades (``rules.budgets``)."""

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

    @property
    def shares(self) -> Shares:
        """As the rules take them."""
        return Shares(**{name: getattr(self, name) for name in Shares.__struct_fields__})


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """The tightest budget has no room. ``peers``: only because neighbours shall be asked first."""

    budget: Budget
    peers: bool = False


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """Who changed a budget, and to what."""

    scope: str
    subject: str
    at: int
    by: str
    what: str


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


def put_budget(connection: Connection, new: Budget) -> None:
    """Set a budget; answers to clients change with it, and tokens without an allowance no longer count."""
    values = msgspec.structs.asdict(new) | {"critical": to_json(new.critical).decode(), "scope": new.scope.value}
    keep = {name: value for name, value in values.items() if name != "stopped"}
    statement = insert_into(connection, table).values(values)
    connection.execute(statement.on_conflict_do_update(index_elements=[table.c.scope, table.c.subject], set_=keep))
    mark_changed(connection)


def delete_budget(connection: Connection, scope: Scope, subject: str) -> bool:
    """Lift a budget; whether there was one."""
    mine = (table.c.scope == scope.value, table.c.subject == subject)
    gone = connection.execute(delete(table).where(*mine).returning(table.c.subject)).first() is not None
    mark_changed(connection)
    return gone


def set_stopped(connection: Connection, one: Budget, stopped: str) -> None:
    """Note that a budget stopped its service, or that somebody started it since."""
    mine = (table.c.scope == one.scope.value, table.c.subject == one.subject)
    connection.execute(update(table).where(*mine).values(stopped=stopped))


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
    return [_budget(row) for row in rows]


def touches(connection: Connection, point: str) -> bool:
    """Whether any budget bounds what this cloud point sends; budgets of contents and collections bound all points."""
    cloud = select(cloud_point.c.point).where(cloud_point.c.point == point)
    if connection.execute(cloud).first() is None:
        return False
    applies = or_(table.c.scope != Scope.POINT.value, table.c.subject == point)
    return connection.execute(select(table.c.subject).where(applies).limit(1)).first() is not None


def standing(connection: Connection, one: Budget, now: float) -> tuple[int, int]:
    """Bytes used in the period, as far as collected, and bytes granted that may not be in those figures yet."""
    start = period_start(one.zone, now)
    collected = func.coalesce(cloud_usage.c.collected, 0)
    grants = (
        select(func.coalesce(func.sum(budget_grant.c.bytes), 0))
        .select_from(budget_grant.outerjoin(cloud_usage, cloud_usage.c.point == budget_grant.c.point))
        .where(budget_grant.c.expires + _settled_after() > collected)
    )
    if one.scope is Scope.POINT:
        used = usage.totals_since(connection, one.subject, start).sent
        return used, int(connection.execute(grants.where(budget_grant.c.point == one.subject)).scalar_one())
    sums = select(func.coalesce(func.sum(transfer_bucket.c.bytes), 0)).where(transfer_bucket.c.hour >= start)
    if one.scope is Scope.CONTENT:
        mine, granted_to = transfer_bucket.c.content == one.subject, budget_grant.c.content == one.subject
    elif one.subject == ALL_DEVICES_ID:
        mine, granted_to = true(), true()
    else:
        members = select(collection_member.c.device).where(collection_member.c.collection == one.subject)
        mine, granted_to = transfer_bucket.c.device.in_(members), budget_grant.c.device.in_(members)
    used = int(connection.execute(sums.where(mine)).scalar_one())
    return used, int(connection.execute(grants.where(granted_to)).scalar_one())


def _settled_after() -> ColumnElement[int]:
    """An hour, but a day where segments of the point are known to be missing: they may come late."""
    chain = transaction_chain.c
    gap = exists().where(chain.point == budget_grant.c.point, chain.collected <= chain.highest)
    return case((gap, DAY), else_=SETTLED_AFTER)


def applying(connection: Connection, wanted: Grant) -> list[Budget]:
    """The budgets that a grant is charged to. Locked: grants of one budget are decided one after the other."""
    member = select(collection_member.c.collection).where(collection_member.c.device == wanted.device)
    applies = or_(
        and_(table.c.scope == Scope.POINT.value, table.c.subject == wanted.point),
        and_(table.c.scope == Scope.CONTENT.value, table.c.subject == wanted.content),
        and_(
            table.c.scope == Scope.COLLECTION.value,
            or_(table.c.subject == ALL_DEVICES_ID, table.c.subject.in_(member)),
        ),
    )
    query = select(table).where(applies).order_by(table.c.scope, table.c.subject).with_for_update()
    return [_budget(row) for row in connection.execute(query).mappings()]


def grant(connection: Connection, wanted: Grant, now: float) -> Grant | Refusal:
    """Grant what a device needs, or say which budget has no room for it. Call it in a write transaction.

    A device that has a grant for the same version, not about to expire, is given that one again: asking often gives
    nobody more. Where no budget applies the grant is noted all the same: it counts as soon as one does.
    """
    charged = applying(connection, wanted)
    found = _existing(connection, wanted, now)
    if found is not None:
        return found
    refusals, rates = [], []
    for one in charged:
        used, outstanding = standing(connection, one, now)
        critical = wanted.content in one.critical
        most = bound(one.shares, one.bytes, critical=critical)
        if not granted(wanted.bytes, budget=most, used=used, outstanding=outstanding):
            peers = bool(one.peers_percent) and not critical and one.peers_percent < one.critical_percent
            beyond = one.bytes * (one.critical_percent or one.grant_percent) // 100
            peers = peers and granted(wanted.bytes, budget=beyond, used=used, outstanding=outstanding) > 0
            refusals.append((most - used - outstanding, Refusal(budget=one, peers=peers)))
        elif one.rate and throttled(one.shares, one.bytes, used + outstanding + wanted.bytes):
            rates.append(one.rate)
    if refusals:
        return min(refusals, key=lambda each: each[0])[1]
    wanted = msgspec.structs.replace(wanted, rate=min(rates, default=0))
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
        .where(grants.c.point == point, grants.c.expires < before, grants.c.expires + DAY <= collected)
        .order_by(grants.c.expires)
        .limit(limit)
    )
    return [Grant(**row) for row in connection.execute(query).mappings()]


def forget_grants(connection: Connection, ids: list[str]) -> None:
    """Their slots are gone from the store."""
    connection.execute(delete(budget_grant).where(budget_grant.c.jti.in_(ids)))


def forget_point(connection: Connection, point: str) -> None:
    """Forget a deleted cloud point's budget and grants; its store went with it."""
    connection.execute(delete(table).where(table.c.scope == Scope.POINT.value, table.c.subject == point))
    connection.execute(delete(budget_grant).where(budget_grant.c.point == point))


def _budget(row: RowMapping) -> Budget:
    values = {name: row[name] for name in Budget.__struct_fields__}
    values["critical"] = from_json(values["critical"], tuple[str, ...], "budget")
    return Budget(**(values | {"scope": Scope(values["scope"])}))
