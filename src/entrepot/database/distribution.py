"""Content on distribution points: what is wanted, and who works on it. One row for each content and point
(architecture 4.2).

State machine of a row (``DistributionState``)::

    pending ─► in_progress ─► success          wanted changes: back to pending
                 │  ▲    └──► retrying (next_try) ─► in_progress
                 │  │                 └──► failed (after the last retry; redistribute begins anew)
                 ▼  │
              cancelled
    removing ─► (gone)   or removal_retrying ─► removing …   or removal_failed

A row is worked on under a lease; ``revision`` grows whenever something else is wanted of it, so that a run that has
ended knows whether what it did is still what is wanted. At most one row of a point is worked on at a time: then what
one run deletes is never what another run counts on.
"""

from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Select, and_, delete, func, or_, select, update

from entrepot.core.errors import NotFoundError
from entrepot.database import pointsets
from entrepot.database.engine import insert_into
from entrepot.database.hierarchy import note_change
from entrepot.database.tables.content import content as contents
from entrepot.database.tables.points import distribution as rows
from entrepot.database.tables.points import point as points
from entrepot.protocol.contentapi import DistributionInfo, DistributionState, Priority

_PRIORITIES: Final = {Priority.HIGH: 1, Priority.NORMAL: 2, Priority.LOW: 3}
_NAMES: Final = {number: priority for priority, number in _PRIORITIES.items()}
_DUE: Final = tuple(
    state.value
    for state in (
        DistributionState.PENDING,
        DistributionState.RETRYING,
        DistributionState.REMOVING,
        DistributionState.REMOVAL_RETRYING,
    )
)
_REMOVALS: Final = (
    DistributionState.REMOVING,
    DistributionState.REMOVAL_RETRYING,
    DistributionState.REMOVAL_FAILED,
)
_UNWANTED: Final = (*_REMOVALS, DistributionState.CANCELLED)


class Distribution(msgspec.Struct, frozen=True, kw_only=True):
    """A row. ``version`` is wanted, ``held`` is there whole; ``full`` asks to send even what the point says it has."""

    content: str
    point: str
    state: DistributionState
    priority: int
    version: int
    held: int
    revision: int
    settled: int
    full: bool
    done: int
    total: int
    sent_objects: int
    sent_bytes: int
    objects: int
    attempts: int
    next_try: int
    message: str
    changed: int
    holder: str
    lease_until: int

    @property
    def removal(self) -> bool:
        """Whether the content is to go."""
        return self.state in _REMOVALS


# ------------------------------------------------------------------------------------------------ what is wanted


def want(
    connection: Connection,
    *,
    content: str,
    point: str,
    version: int,
    now: float,
    priority: Priority | None = None,
    full: bool = False,
) -> None:
    """Want a version on a point, from now on."""
    values = _wanted(now) | {"version": version}
    if priority is not None:
        values["priority"] = _PRIORITIES[priority]
    if full:
        values["full"] = True
    zeros = dict.fromkeys(
        ("held", "settled", "done", "total", "sent_objects", "sent_bytes", "objects", "lease_until"), 0
    )
    fresh = zeros | values | {"content": content, "point": point, "holder": "", "revision": 1, "full": full}
    fresh.setdefault("priority", _PRIORITIES[Priority.NORMAL])
    statement = insert_into(connection, rows).values(fresh)
    connection.execute(statement.on_conflict_do_update(index_elements=["content", "point"], set_=values))


def _wanted(now: float) -> dict[str, Any]:
    """What changes of a row, whenever something is wanted of it."""
    return {
        "state": DistributionState.PENDING.value,
        "revision": rows.c.revision + 1,
        "attempts": 0,
        "next_try": 0,
        "message": "",
        "changed": int(now),
    }


def want_everywhere(connection: Connection, content: str, version: int, *, now: float) -> int:
    """Want a version on every point that has, or should have, the content; how many these are.

    Not where an administrator cancelled the distribution, or takes the content away, be it at this moment: only a new
    order revives it.
    """
    unwanted = [state.value for state in _UNWANTED]
    kept = update(rows).where(rows.c.content == content, rows.c.state.not_in(unwanted))
    return connection.execute(kept.values(_wanted(now) | {"version": version})).rowcount


def want_again(connection: Connection, content: str, point: str, *, now: float) -> None:
    """Look at a point again that has what is wanted: there is something to tidy up."""
    mine = rows.c.content == content, rows.c.point == point, rows.c.state == DistributionState.SUCCESS.value
    connection.execute(update(rows).where(*mine).values(_wanted(now)))


def unwant(connection: Connection, content: str, point: str, *, now: float) -> Distribution:
    """Want the content gone from a point. Clients are not sent there any more from this transaction on.

    Raises:
        NotFoundError: it is not distributed there.
    """
    row = get(connection, content, point)
    connection.execute(
        update(rows)
        .where(rows.c.content == content, rows.c.point == point)
        .values(
            state=DistributionState.REMOVING.value,
            held=0,
            revision=rows.c.revision + 1,
            attempts=0,
            next_try=0,
            message="",
            changed=int(now),
        )
    )
    pointsets.begin_removals(connection, point, content, now=now)
    return row


def cancel(connection: Connection, content: str, point: str, *, now: float) -> None:
    """Stop a distribution that is waiting, being retried or under way.

    Raises:
        NotFoundError: it is not distributed there.
    """
    get(connection, content, point)
    stoppable = [
        state.value for state in (DistributionState.PENDING, DistributionState.RETRYING, DistributionState.IN_PROGRESS)
    ]
    connection.execute(
        update(rows)
        .where(rows.c.content == content, rows.c.point == point, rows.c.state.in_(stoppable))
        .values(
            state=DistributionState.CANCELLED.value,
            revision=rows.c.revision + 1,
            message="Cancelled by an administrator.",
            changed=int(now),
        )
    )


def get(connection: Connection, content: str, point: str) -> Distribution:
    """One row.

    Raises:
        NotFoundError: the content is not distributed there.
    """
    row = connection.execute(select(rows).where(rows.c.content == content, rows.c.point == point)).mappings().first()
    if row is None:
        raise NotFoundError("The content is not distributed to this point.")
    return _distribution(row)


def described(connection: Connection, *, content: str = "", point: str = "") -> list[DistributionInfo]:
    """Rows with names, for people."""
    query = _named()
    if content:
        query = query.where(rows.c.content == content)
    if point:
        query = query.where(rows.c.point == point)
    return [_info(row) for row in connection.execute(query).mappings()]


def lacking(connection: Connection, content: str, set_ids: list[bytes], *, limit: int) -> list[DistributionInfo]:
    """Rows of a content on points that hold none of these object sets whole, with names, for people."""
    holding = pointsets.holding(set_ids)
    query = _named().where(rows.c.content == content, rows.c.point.not_in(holding)).limit(limit)
    return [_info(row) for row in connection.execute(query).mappings()]


def _named() -> Select[Any]:
    return (
        select(rows, contents.c.name.label("content_name"), points.c.name.label("point_name"))
        .join(contents, contents.c.id == rows.c.content)
        .join(points, points.c.id == rows.c.point)
        .order_by(contents.c.name_key, points.c.name_key)
    )


def point_kinds(connection: Connection, content: str) -> list[str]:
    """Kinds of the points to which a content is distributed."""
    query = (
        select(points.c.kind)
        .join(rows, rows.c.point == points.c.id)
        .where(rows.c.content == content, rows.c.state.not_in([state.value for state in _REMOVALS]))
    )
    return list(connection.scalars(query))


# ---------------------------------------------------------------------------------------------------------- work


def claim(
    connection: Connection, *, site: str, holder: str, now: float, lease: float, busy: set[str], limit: int
) -> list[Distribution]:
    """Take rows that are due, at most one of each point, the highest priority first.

    Args:
        busy: points that this process is working on.
    """
    stale = and_(rows.c.state == DistributionState.IN_PROGRESS.value, rows.c.lease_until < int(now))
    due = or_(and_(rows.c.state.in_(_DUE), rows.c.next_try <= int(now), rows.c.lease_until < int(now)), stale)
    # The first of each point: one with a long backlog must not hide what is due at the others.
    order = (rows.c.priority, rows.c.changed, rows.c.content)
    turn = func.row_number().over(partition_by=rows.c.point, order_by=order).label("turn")
    first = (
        select(rows, turn)
        .join(points, points.c.id == rows.c.point)
        .where(due, points.c.site == site, points.c.state == "active", rows.c.point.not_in(busy))
        .subquery()
    )
    columns = [first.c[column.name] for column in rows.c]
    query = select(*columns).where(first.c.turn == 1).order_by(first.c.priority, first.c.changed, first.c.content)
    taken: list[Distribution] = []
    for candidate in connection.execute(query).mappings().all():
        if len(taken) >= limit:
            break
        row = _distribution(candidate)
        free = _lock_point(connection, row.point, now=now)
        if free and _take(connection, row, holder=holder, now=now, lease=lease):
            taken.append(get(connection, row.content, row.point))
    return taken


def _take(connection: Connection, row: Distribution, *, holder: str, now: float, lease: float) -> bool:
    """Take a row as it was read a moment ago; False when something else is wanted of it since."""
    same = and_(rows.c.revision == row.revision, rows.c.state == row.state.value)
    taken = update(rows).where(rows.c.content == row.content, rows.c.point == row.point, same)
    state = row.state if row.removal else DistributionState.IN_PROGRESS
    values = {"state": state.value, "holder": holder, "lease_until": int(now + lease), "changed": int(now)}
    return connection.execute(taken.values(attempts=rows.c.attempts + 1, **values)).rowcount == 1


def _lock_point(connection: Connection, point: str, *, now: float) -> bool:
    """Whether nobody works on the point; its row stays locked until the transaction ends."""
    free = select(points.c.id).where(points.c.id == point).with_for_update(skip_locked=True, key_share=True)
    if connection.execute(free).first() is None:
        return False
    working = select(rows.c.content).where(rows.c.point == point, rows.c.lease_until >= int(now))
    return connection.execute(working.limit(1)).first() is None


def renew(connection: Connection, row: Distribution, /, *, now: float, lease: float, **progress: int) -> bool:
    """Renew the lease and note progress. False when the row is no longer ours, or something else is wanted of it."""
    changed = update(rows).where(_ours(row), rows.c.revision == row.revision)
    return connection.execute(changed.values(lease_until=int(now + lease), **progress)).rowcount == 1


def is_ours(connection: Connection, row: Distribution) -> bool:
    """Whether a run's work is still wanted, and its own; nothing else is wanted until the transaction ends."""
    mine = select(rows.c.point).where(_ours(row), rows.c.revision == row.revision)
    return connection.execute(mine.with_for_update()).first() is not None


def note_held(connection: Connection, row: Distribution, version: int) -> None:
    """The point has the version whole, unless the content is to go meanwhile."""
    connection.execute(
        update(rows)
        .where(rows.c.content == row.content, rows.c.point == row.point)
        .where(rows.c.state.not_in([state.value for state in _REMOVALS]))
        .values(held=version)
    )


def settle(
    connection: Connection,
    row: Distribution,
    /,
    *,
    state: DistributionState,
    now: float,
    next_try: float = 0,
    **values: Any,
) -> bool:
    """End a run. False when something else is wanted meanwhile: then the row is due again, as it is wanted now; or
    when another process has taken the row over: then it is left alone."""
    changed = update(rows).where(_ours(row), rows.c.revision == row.revision)
    values |= {"state": state.value, "next_try": int(next_try), "changed": int(now), "holder": "", "lease_until": 0}
    settled = connection.execute(changed.values(values)).rowcount == 1
    if not settled:
        connection.execute(update(rows).where(_ours(row)).values(holder="", lease_until=0))
    note_change(connection)
    return settled


def forget(connection: Connection, row: Distribution) -> bool:
    """Remove a row whose content has left the point. False when it is wanted again meanwhile, or no longer ours."""
    forgotten = connection.execute(delete(rows).where(_ours(row), rows.c.revision == row.revision)).rowcount == 1
    if not forgotten:
        connection.execute(update(rows).where(_ours(row)).values(holder="", lease_until=0))
    note_change(connection)
    return forgotten


def release_foreign(connection: Connection, *, site: str, holder: str) -> int:
    """Free what earlier processes held; only where no other process of the site can be alive (embedded database)."""
    mine = select(points.c.id).where(points.c.site == site)
    return connection.execute(
        update(rows)
        .where(rows.c.point.in_(mine), rows.c.holder != holder, rows.c.lease_until > 0)
        .values(lease_until=0)
    ).rowcount


def _ours(row: Distribution) -> Any:
    return and_(rows.c.content == row.content, rows.c.point == row.point, rows.c.holder == row.holder)


def _distribution(row: Any) -> Distribution:
    return Distribution(**(dict(row) | {"state": DistributionState(row["state"])}))


def _info(row: Any) -> DistributionInfo:
    names = DistributionInfo.__struct_fields__
    values = {name: row[name] for name in names if name in row}
    return DistributionInfo(
        **(values | {"state": DistributionState(row["state"]), "priority": _NAMES[row["priority"]]})
    )
