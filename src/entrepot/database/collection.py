"""Transaction segments collected once, their chains, and what the log still owes.

Functions take the connection of a transaction: the caller decides what belongs together. A segment's name, its figures
and its place in its instance's chain enter in one transaction, so nothing is counted twice; what the log has already
said stands beside each figure, and a batch of lines is remembered with the file's length before it.
"""

import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import msgspec
from sqlalchemy import Connection, and_, bindparam, case, delete, func, or_, select, update

from entrepot.database import budgetsums, formersets
from entrepot.database.engine import insert_into
from entrepot.database.tables.content import content_delta, content_version
from entrepot.database.tables.usage import log_batch, transaction_chain, transaction_segment, transfer_bucket
from entrepot.database.usage import GRANTED, add_to_hours
from entrepot.protocol.drillapi import is_drill

UNPLACED = -1
_NO_PREDECESSOR = bytes(32)
_SETS_A_QUERY = 500
_KEY = ("point", "hour", "device", "content", "status")


class SegmentRow(msgspec.Struct, frozen=True, kw_only=True):
    """One collected segment; ``damaged`` ones were kept aside and not counted."""

    point: str
    name: str
    instance: str
    sequence: int
    digest: bytes
    previous: bytes
    records: int
    bytes: int
    damaged: bool = False


class BucketRow(msgspec.Struct, frozen=True, kw_only=True):
    """Figures by hour, device, content and class of status: to be added or, from the log, not yet logged."""

    hour: int
    device: str
    content: str
    status: str
    requests: int
    bytes: int


class Gap(msgspec.Struct, frozen=True, kw_only=True):
    """An instance whose chain of segments is not whole: segments missing, links (or segments) broken."""

    instance: str
    missing: int
    broken: int


class LogBatch(msgspec.Struct, frozen=True, kw_only=True):
    """Lines that belong at ``start`` of a log file, whatever happens; ``UNPLACED``: nothing of them was written yet."""

    id: int
    file: str
    start: int
    lines: bytes


def known_segments(connection: Connection, point: str, names: Sequence[str]) -> set[str]:
    """Which of these segments have been collected."""
    table = transaction_segment
    return set(connection.scalars(select(table.c.name).where(table.c.point == point, table.c.name.in_(names))))


def contents_of(connection: Connection, set_ids: Iterable[bytes]) -> dict[bytes, str]:
    """Which content each object set belongs to, versions and deltas alike, also those that
    were deleted since; unknown sets are left out."""
    wanted = sorted({set_id for set_id in set_ids if set_id})
    found: dict[bytes, str] = {}
    for begin in range(0, len(wanted), _SETS_A_QUERY):
        some = wanted[begin : begin + _SETS_A_QUERY]
        found |= formersets.contents_of(connection, some)
        for table in (content_delta, content_version):  # a version's claim to a set counts more than a delta's
            query = select(table.c.set_id, func.min(table.c.content)).where(table.c.set_id.in_(some))
            found.update((bytes(row[0]), row[1]) for row in connection.execute(query.group_by(table.c.set_id)))
    return found


def add_segment(connection: Connection, segment: SegmentRow, buckets: Sequence[BucketRow], now: int) -> bool:
    """Count a segment, once.

    Returns:
        False when it had been collected before, under whatever name; then nothing changes.
    """
    inserted = connection.execute(
        insert_into(connection, transaction_segment)
        .values(**msgspec.structs.asdict(segment), collected=now)
        .on_conflict_do_nothing()
        .returning(transaction_segment.c.name)  # rowcount says nothing of an INSERT on PostgreSQL
    )
    if inserted.first() is None:
        return False
    _extend_chain(connection, segment, now)
    if buckets:
        _add_buckets(connection, segment.point, buckets)
    return True


def _extend_chain(connection: Connection, segment: SegmentRow, now: int) -> None:
    table = transaction_chain
    statement = insert_into(connection, table).values(
        point=segment.point,
        instance=segment.instance,
        highest=segment.sequence,
        collected=1,
        broken=_bad_links(connection, segment),
        seen=now,
    )
    new = statement.excluded
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=[table.c.point, table.c.instance],
            set_={
                "highest": case((table.c.highest > new.highest, table.c.highest), else_=new.highest),
                "collected": table.c.collected + 1,
                "broken": table.c.broken + new.broken,
                "seen": new.seen,
                # all that was missing up to there was accepted: so this is one of them
                "accepted_missing": case(
                    (
                        and_(table.c.accepted_missing > 0, new.highest <= table.c.accepted_through),
                        table.c.accepted_missing - 1,
                    ),
                    else_=table.c.accepted_missing,
                ),
            },
        )
    )


def _bad_links(connection: Connection, segment: SegmentRow) -> int:
    if segment.damaged:
        return 1
    table = transaction_segment
    neighbours = connection.execute(
        select(table.c.sequence, table.c.digest, table.c.previous).where(
            table.c.point == segment.point,
            table.c.instance == segment.instance,
            table.c.sequence.in_([segment.sequence - 1, segment.sequence + 1]),
            table.c.damaged.is_(False),
        )
    )
    bad = int(segment.sequence == 0 and segment.previous != _NO_PREDECESSOR)
    for sequence, digest, previous in neighbours:
        fits = digest == segment.previous if sequence < segment.sequence else previous == segment.digest
        bad += not fits
    return bad


def _add_buckets(connection: Connection, point: str, buckets: Sequence[BucketRow]) -> None:
    table = transfer_bucket
    statement = insert_into(connection, table)
    new = statement.excluded
    owed = {"point": point, "logged_requests": 0, "logged_bytes": 0, "unlogged": True}
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=[table.c[name] for name in _KEY],
            set_={
                "requests": table.c.requests + new.requests,
                "bytes": table.c.bytes + new.bytes,
                "unlogged": True,
            },
        ),
        [msgspec.structs.asdict(bucket) | owed for bucket in buckets],
    )
    budgetsums.add(connection, buckets)
    hours: dict[int, Counter[str]] = {}
    for bucket in buckets:
        hours.setdefault(bucket.hour, Counter()).update(
            requests=bucket.requests,
            failed=bucket.requests if bucket.status in ("4xx", "5xx") else 0,
            sent=bucket.bytes,
            granted=bucket.bytes if bucket.status == GRANTED else 0,
            drilled=bucket.bytes if is_drill(bucket.device) else 0,
        )
    add_to_hours(connection, point, hours)


def gaps(connection: Connection, point: str) -> list[Gap]:
    """Instances whose segments are not all here, or do not fit together; what was accepted is left out."""
    table = transaction_chain
    missing = table.c.highest + 1 - table.c.collected - table.c.accepted_missing
    broken = table.c.broken - table.c.accepted_broken
    rows = connection.execute(
        select(table.c.instance, missing, broken)
        .where(table.c.point == point, or_(missing > 0, broken > 0))
        .order_by(table.c.instance)
    )
    return [Gap(instance=row[0], missing=row[1], broken=row[2]) for row in rows]


def accept_gaps(connection: Connection, point: str) -> None:
    """An administrator has seen the chains' gaps. What is missing stays missing: nobody knows what it would tell."""
    table = transaction_chain
    seen = {
        "accepted_missing": table.c.highest + 1 - table.c.collected,
        "accepted_broken": table.c.broken,
        "accepted_through": table.c.highest,
    }
    connection.execute(update(table).where(table.c.point == point).values(seen))


def prune_segments(connection: Connection, before: int, *, chains_before: int) -> int:
    """Forget segments collected, and chains last seen, before these times; their figures stay.

    A chain is a row for each instance, and is needed as long as the instance may send its next segment: one that
    was forgotten before would seem to miss all its earlier segments.

    Returns:
        how many segments.
    """
    connection.execute(delete(transaction_chain).where(transaction_chain.c.seen < chains_before))
    return connection.execute(delete(transaction_segment).where(transaction_segment.c.collected < before)).rowcount


def forget_segments(connection: Connection, point: str) -> None:
    """Drop what only a living cloud point needs; what it transferred stays known."""
    for table in (transaction_segment, transaction_chain):
        connection.execute(delete(table).where(table.c.point == point))


def next_log_batch(
    connection: Connection,
    point: str,
    *,
    file: str,
    start: int,
    limit: int,
    write: Callable[[Sequence[BucketRow]], bytes],
) -> LogBatch | None:
    """Turn what the log owes, at most ``limit`` figures, into a batch that belongs at ``start``.

    What the batch says counts as logged from this transaction on. None when the log owes nothing.
    """
    table = transfer_bucket
    owed = select(table).where(table.c.point == point, table.c.unlogged.is_(True)).limit(limit)
    # By the hour only, as the index has it: a finer order would sort all that the hour owes again for every batch.
    rows = connection.execute(owed.order_by(table.c.hour)).mappings().all()
    if not rows:
        return None
    lines = write(
        [
            BucketRow(
                **{name: row[name] for name in _KEY[1:]},
                requests=row["requests"] - row["logged_requests"],
                bytes=row["bytes"] - row["logged_bytes"],
            )
            for row in rows
        ]
    )
    batch = connection.execute(
        log_batch.insert().values(point=point, file=file, start=start, lines=zlib.compress(lines))
    ).inserted_primary_key
    assert batch is not None
    connection.execute(
        update(table)
        .where(and_(*(table.c[name] == bindparam(f"key_{name}") for name in _KEY)))
        .values(logged_requests=table.c.requests, logged_bytes=table.c.bytes, unlogged=False),
        [{f"key_{name}": row[name] for name in _KEY} for row in rows],
    )
    return LogBatch(id=batch[0], file=file, start=start, lines=lines)


def add_log_batch(connection: Connection, point: str, *, file: str, lines: bytes) -> None:
    """Remember lines that the log owes, wherever they will stand."""
    connection.execute(log_batch.insert().values(point=point, file=file, start=UNPLACED, lines=zlib.compress(lines)))


def place_log_batch(connection: Connection, batch: LogBatch, start: int) -> LogBatch:
    """Give lines their place, durably before they are written."""
    connection.execute(update(log_batch).where(log_batch.c.id == batch.id).values(start=start))
    return msgspec.structs.replace(batch, start=start)


def pending_log_batches(connection: Connection, point: str, *, after: int = 0, limit: int = 8) -> list[LogBatch]:
    """Batches that the log may not have yet, oldest first: at most one has a place, the others are ``UNPLACED``."""
    query = select(log_batch).where(log_batch.c.point == point, log_batch.c.id > after)
    rows = connection.execute(query.order_by(log_batch.c.id).limit(limit))
    return [LogBatch(id=row.id, file=row.file, start=row.start, lines=zlib.decompress(row.lines)) for row in rows]


def finish_log_batch(connection: Connection, batch: int) -> None:
    """The log has it, durably."""
    connection.execute(delete(log_batch).where(log_batch.c.id == batch))
