"""What cloud points transfer and store, hour by hour, and who collects the figures."""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from sqlalchemy import Connection, Row, case, delete, func, select, update

from entrepot.core.encoding import from_json, to_json
from entrepot.core.times import hour_of
from entrepot.database import pointsets
from entrepot.database.engine import insert_into
from entrepot.database.tables.cloud import cloud_point
from entrepot.database.tables.hierarchy import counter
from entrepot.database.tables.usage import cloud_usage, transfer_bucket, usage_hour
from entrepot.protocol.cloudapi import Comparison

GRANTED = "3xx"
"""Class of status whose bytes were granted: a redirect sends none itself."""
_FIGURES = ("requests", "failed", "sent", "uploaded", "granted", "drilled", "fetched")
_ADDED = (*_FIGURES, "site_writes", "site_reads")


class StoredUsage(msgspec.Struct, frozen=True, kw_only=True):
    """Last measurement and last collection of a cloud point; times are 0 when there was none.

    ``stored_…`` is what the provider says, as of when it measured it, and by how much that was more than the site's
    books of then (``stored_difference``), ``counted_bytes`` what the site's books say,
    ``listed_bytes`` the sum of the last full listing, and ``listed_difference`` by how many bytes its objects were more
    than the books said just then.
    """

    stored_bytes: int = 0
    stored_objects: int = 0
    stored_at: int = 0
    stored_difference: int = 0
    listed_bytes: int = 0
    listed_at: int = 0
    listed_difference: int = 0
    counted_bytes: int = 0
    counted_at: int = 0
    collected: int = 0
    error: str = ""

    def present(self) -> tuple[int, int]:
        """Bytes stored as far as is known, and as of when (0: nothing is known).

        That is what the provider measured last, and what the books say has come and gone since: some clouds measure
        once a day, and hold more than objects. So the figure does not swing with which of them is newer.
        """
        if self.counted_at > self.stored_at:
            return max(0, self.counted_bytes + self.stored_difference), self.counted_at
        return self.stored_bytes, self.stored_at


class HourRow(msgspec.Struct, frozen=True, kw_only=True):
    """Requests and bytes of one hour; ``subject`` is a device or content id, or empty for the whole point.

    ``sent`` is all that clients were charged with; ``granted`` is the part of it that they were given links for,
    ``drilled`` the part that went to load drills, told of the whole point only. ``uploaded`` and ``fetched`` are the
    site's own, to the point and from it.
    """

    hour: int
    subject: str = ""
    requests: int
    failed: int
    sent: int
    uploaded: int
    granted: int = 0
    drilled: int = 0
    fetched: int = 0


def add_to_hour(connection: Connection, point: str, hour: int, **figures: int) -> None:
    """Add to an hour's figures, named as in :func:`add_to_hours`."""
    add_to_hours(connection, point, {hour: figures})


def add_to_hours(connection: Connection, point: str, hours: Mapping[int, Mapping[str, int]]) -> None:
    """Add to the figures of hours, in one statement.

    Args:
        hours: by the hour's start, what to add: ``requests``, ``failed`` and ``sent`` of clients, ``granted`` and
            ``drilled`` of what was ``sent``, bytes that the site ``uploaded`` (R25) and ``fetched``, and its requests
            ``site_writes`` and ``site_reads``. What is not named stays.
    """
    table = usage_hour
    statement = insert_into(connection, table)
    fresh = {"point": point, "stored": -1, "counted": -1} | dict.fromkeys(_ADDED, 0)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=[table.c.point, table.c.hour],
            set_={name: table.c[name] + statement.excluded[name] for name in _ADDED},
        ),
        [fresh | {"hour": hour, **hours[hour]} for hour in sorted(hours)],
    )


def tallied(connection: Connection, site: str, folder: str) -> int:
    """Below which number the tallies in a folder are counted (``site.cloud.tallies``); of one that has no number yet,
    those of earlier versions count, which numbered by the site alone."""
    names = (f"tallies/{site}/{folder}", f"tallies/{site}")
    rows = connection.execute(select(counter.c.name, counter.c.value).where(counter.c.name.in_(names)))
    found = {row.name: int(row.value) for row in rows}
    return next((found[name] for name in names if name in found), 0)


def set_tallied(connection: Connection, site: str, folder: str, below: int) -> None:
    """Note below which number the tallies in a folder are counted, in the transaction that counts them."""
    statement = insert_into(connection, counter).values(name=f"tallies/{site}/{folder}", value=below)
    connection.execute(statement.on_conflict_do_update(index_elements=["name"], set_={"value": below}))


def stored_usage(connection: Connection, point: str) -> StoredUsage:
    """Last measurement and collection."""
    names = StoredUsage.__struct_fields__
    query = select(*(cloud_usage.c[name] for name in names)).where(cloud_usage.c.point == point)
    row = connection.execute(query).mappings().one_or_none()
    return StoredUsage() if row is None else StoredUsage(**row)


def _usage(connection: Connection, point: str, **values: int | str) -> Any:
    """An INSERT of a point's row, of which nothing is known but these values."""
    fresh: dict[str, int | str] = {**msgspec.structs.asdict(StoredUsage()), "holder": "", "holder_until": 0}
    return insert_into(connection, cloud_usage).values(point=point, **(fresh | values))


def _set_usage(connection: Connection, point: str, **values: int | str) -> None:
    statement = _usage(connection, point, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=[cloud_usage.c.point], set_=values))


def _lock_usage(connection: Connection, point: str) -> Row[Any, Any]:
    """Lock a point's row until the transaction ends, and say who collects. Whoever writes hours as well comes here
    first: so two never wait for each other, and no figure is reckoned from one that is being replaced."""
    # of several processes that are the first for this point, one makes the row and the others wait for it
    connection.execute(_usage(connection, point).on_conflict_do_nothing())
    columns = (cloud_usage.c.holder, cloud_usage.c.holder_until)
    return connection.execute(select(*columns).where(cloud_usage.c.point == point).with_for_update()).one()


def set_stored(
    connection: Connection, point: str, *, stored: int | None, objects: int, now: int, at: int = 0, instances: int = 0
) -> None:
    """Note what the cloud point holds (None: not told), when its cloud measured that (0: now), and how many instances
    run now. A figure belongs to the hour in which it was measured; an hour that nothing else is known of stays so.

    The earlier hour is written first, as whoever counts transfers does (``site.cloud.metering``)."""
    table = usage_hour
    present: dict[str, Any] = {"instances": case((table.c.instances < instances, instances), else_=table.c.instances)}
    if stored is not None:
        _lock_usage(connection, point)
        measured = min(at or now, now)  # a cloud whose clock is ahead has not measured the future
        kept = stored_usage(connection, point)
        values = {"stored_bytes": stored, "stored_objects": objects, "stored_at": measured}
        if kept.counted_at > measured and (kept.stored_at, kept.stored_bytes) != (measured, stored):  # told late
            values["stored_difference"] = _beyond_books(connection, point, stored, hour_of(measured))
        _set_usage(connection, point, **values)
        if hour_of(measured) < hour_of(now):
            _set_hour(connection, point, hour_of(measured), stored=stored)
        else:
            present["stored"] = stored
    add_to_hour(connection, point, hour_of(now))
    _set_hour(connection, point, hour_of(now), **present)


def _beyond_books(connection: Connection, point: str, stored: int, hour: int) -> int:
    """By how much a measurement is more than the books said before its hour, in it, and when they were counted next.
    Nothing where it is less (the books count what is on its way as well), or where that is not known any more."""
    table = usage_hour
    counted = select(table.c.counted).where(table.c.point == point, table.c.counted >= 0)
    since = connection.scalars(counted.where(table.c.hour >= hour).order_by(table.c.hour).limit(2)).all()
    before = counted.where(table.c.hour < hour).order_by(table.c.hour.desc()).limit(1)
    known = [int(count) for count in (*since, *connection.scalars(before))]
    return max(0, stored - max(known)) if known else 0


def _set_hour(connection: Connection, point: str, hour: int, **values: Any) -> None:
    table = usage_hour
    connection.execute(update(table).where(table.c.point == point, table.c.hour == hour).values(values))


def count_stored(connection: Connection, point: str, *, now: int) -> int:
    """Add up what the site's books say the point holds: the distinct objects of the sets that it has or is sent. In an
    hour for which its cloud has not told what it stores, that counts, with what it measured beyond the books before."""
    _lock_usage(connection, point)
    _, counted = pointsets.held_on(connection, point)
    kept = stored_usage(connection, point)
    values = {"counted_bytes": counted, "counted_at": now}
    if kept.counted_at <= kept.stored_at:  # the first count after a measurement: what came before it is in one of them
        values["stored_difference"] = max(0, kept.stored_bytes - max(kept.counted_bytes, counted))
    _set_usage(connection, point, **values)
    add_to_hour(connection, point, hour_of(now))
    _set_hour(connection, point, hour_of(now), counted=counted)
    table = usage_hour
    here = update(table).where(table.c.point == point, table.c.hour == hour_of(now))
    present, _ = stored_usage(connection, point).present()
    connection.execute(here.where(table.c.stored < 0).values(stored=present))
    return counted


def set_listed(connection: Connection, point: str, *, objects: int, documents: int, now: int) -> int:
    """Note the sum of a full listing, and compare its objects with the site's books of the same moment: a later count
    would be of what was sent since. The difference."""
    difference = objects - count_stored(connection, point, now=now)
    _set_usage(connection, point, listed_bytes=objects + documents, listed_difference=difference, listed_at=now)
    return difference


def comparison(connection: Connection, point: str) -> Comparison:
    """What the last daily comparison with the cloud's own figures found."""
    kept = connection.execute(select(cloud_usage.c.comparison).where(cloud_usage.c.point == point)).scalar()
    return from_json(kept, Comparison, "comparison") if kept else Comparison()


def set_comparison(connection: Connection, point: str, found: Comparison) -> None:
    """Keep it."""
    _set_usage(connection, point, comparison=to_json(found).decode())


def set_collected(connection: Connection, point: str, *, now: int) -> None:
    """A collection has brought in everything that there was."""
    _set_usage(connection, point, collected=now, error="")


def collections(connection: Connection) -> dict[str, int]:
    """When each cloud point was collected last; 0: never. One that never served has nothing to collect, and is not in
    it."""
    told = func.coalesce(cloud_usage.c.collected, 0)
    both = cloud_point.outerjoin(cloud_usage, cloud_usage.c.point == cloud_point.c.point)
    query = select(cloud_point.c.point, told).select_from(both).where(cloud_point.c.ready > 0)
    return {point: int(at) for point, at in connection.execute(query)}


def set_collect_error(connection: Connection, point: str, error: str) -> None:
    """A collection failed."""
    _set_usage(connection, point, error=error)


def claim_collection(
    connection: Connection, point: str, *, holder: str, now: int, until: int, alone: bool = False
) -> bool:
    """Become the process that collects from this point; renew by calling again.

    Args:
        alone: no other process can be alive (embedded database), so what an earlier one claimed is void.
    """
    row = _lock_usage(connection, point)
    if not alone and row.holder not in ("", holder) and row.holder_until > now:
        return False
    _set_usage(connection, point, holder=holder, holder_until=until)
    return True


def release_collection(connection: Connection, point: str, *, holder: str) -> None:
    """Let another process collect."""
    connection.execute(
        update(cloud_usage)
        .where(cloud_usage.c.point == point, cloud_usage.c.holder == holder)
        .values(holder="", holder_until=0)
    )


def totals_since(connection: Connection, point: str, since: int) -> HourRow:
    """Sums over the hours that begin at ``since`` or later."""
    table = usage_hour
    sums = [func.coalesce(func.sum(table.c[name]), 0).label(name) for name in _FIGURES]
    row = connection.execute(select(*sums).where(table.c.point == point, table.c.hour >= since)).mappings().one()
    return HourRow(hour=since, **{name: int(row[name]) for name in _FIGURES})  # type: ignore[arg-type]  # all are int


def hours(connection: Connection, point: str, *, since: int, until: int, limit: int) -> list[HourRow]:
    """Hourly figures of the whole point in ``since <= hour < until``, oldest first, at most ``limit``."""
    table = usage_hour
    rows = connection.execute(
        select(table.c.hour, *(table.c[name] for name in _FIGURES))
        .where(table.c.point == point, table.c.hour >= since, table.c.hour < until)
        .order_by(table.c.hour)
        .limit(limit)
    )
    return [HourRow(**row) for row in rows.mappings()]


class Course(msgspec.Struct, frozen=True, kw_only=True):
    """What a cloud point did by the hour: bytes sent to clients, the part of them that went to load drills where one
    ran, and bytes stored in the hours that had a measurement."""

    sent: dict[int, int]
    drilled: dict[int, int]
    stored: dict[int, int]


def course(connection: Connection, point: str, *, since: int) -> Course:
    """From ``since`` on."""
    table = usage_hour
    columns = (table.c.hour, table.c.sent, table.c.drilled, table.c.stored)
    query = select(*columns).where(table.c.point == point, table.c.hour >= since)
    rows = connection.execute(query).all()  # plain tuples: all thresholds are judged every minute
    return Course(
        sent={hour: count for hour, count, _, _ in rows},
        drilled={hour: count for hour, _, count, _ in rows if count},
        stored={hour: count for hour, _, _, count in rows if count >= 0},
    )


def hours_by(
    connection: Connection,
    point: str,
    *,
    since: int,
    until: int,
    by: Literal["device", "content"],
    limit: int,
) -> list[HourRow]:
    """Hourly figures for each device or content, oldest first, at most ``limit``."""
    table = transfer_bucket
    subject = table.c[by]
    failed = func.sum(case((table.c.status.in_(["4xx", "5xx"]), table.c.requests), else_=0))
    granted = func.sum(case((table.c.status == GRANTED, table.c.bytes), else_=0))
    rows = connection.execute(
        select(table.c.hour, subject, func.sum(table.c.requests), failed, func.sum(table.c.bytes), granted)
        .where(table.c.point == point, table.c.hour >= since, table.c.hour < until)
        .group_by(table.c.hour, subject)
        .order_by(table.c.hour, subject)
        .limit(limit)
    )
    return [
        HourRow(
            hour=row[0],
            subject=row[1],
            requests=int(row[2]),
            failed=int(row[3]),
            sent=int(row[4]),
            uploaded=0,
            granted=int(row[5]),
        )
        for row in rows
    ]


def forget_usage(connection: Connection, point: str) -> None:
    """Drop what is known of a cloud point's present; its hours stay."""
    connection.execute(delete(cloud_usage).where(cloud_usage.c.point == point))
