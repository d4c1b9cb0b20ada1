"""Collects the transactions of a cloud point exactly once (R26; architecture 4.5).

For each page of segments in the store: count every segment in one database transaction (name, chain, hourly figures),
bring the log up to what is counted, and only then delete the segments. Killed anywhere, the next run finishes:
a segment that is still there is known by its name and not counted again; a batch of lines whose fate is unknown is
written again where it belongs. The whole listing is looked at every time, not only what follows the last key: a
crashed instance's segments may arrive late, under an hour that has been collected.

Memory: one page of keys, a few segments of at most 16 MiB, one batch of lines.
"""

import asyncio
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import structlog
from sqlalchemy import Connection

from entrepot.core.errors import ConflictError, EntrepotError, FormatError, NotFoundError
from entrepot.core.times import DAY, HOUR, Clock
from entrepot.database import collection, formersets, usage
from entrepot.database.cloud import CloudPoint, service_names
from entrepot.database.collection import BucketRow, LogBatch, SegmentRow
from entrepot.database.engine import Database
from entrepot.protocol.cloudpointapi import CollectSummary
from entrepot.protocol.transactions import TX_PREFIX, decode_segment
from entrepot.site.cloud.damaged import DamagedSegments
from entrepot.site.cloud.logfile import LogFolder, LogOptions
from entrepot.site.cloud.summary import log_name, summary_lines, transaction_lines
from entrepot.site.cloud.tally import SegmentTally, dated, split_key, tally_segment

if TYPE_CHECKING:
    from entrepot.web.dataplane import Holder

PAGE: Final = 500
AT_ONCE: Final = 4
LINES_A_BATCH: Final = 5_000
KEEP_SECONDS: Final = 35 * DAY
"""How long collected names are remembered: longer than any instance keeps what it could not ship."""
KEEP_CHAINS_SECONDS: Final = 400 * DAY
"""How long an instance may serve nobody before its place in its chain is forgotten."""
DEFAULT_LOGS: Final = LogOptions()
_CLAIM_SECONDS: Final = 600

log = structlog.get_logger("site.cloud.collection")


class Counted(msgspec.Struct, kw_only=True):
    """What a run brought in so far."""

    segments: int = 0
    records: int = 0
    bytes: int = 0


class Collector:
    """Collects for all cloud points of this site server.

    Args:
        folder: where logs are; damaged segments are kept below it, in ``damaged``.
        holder: names this process among those that share the database.
    """

    def __init__(
        self, database: Database, folder: Path, *, holder: str, clock: Clock, options: LogOptions = DEFAULT_LOGS
    ) -> None:
        self._database = database
        self._logs = LogFolder(folder)
        self._options = options
        self._damaged = DamagedSegments(folder / "damaged")
        self._holder = holder
        self._alone = database.embedded  # no second process can share an embedded database
        self._clock = clock
        self._locks: dict[str, asyncio.Lock] = {}
        self._dropped = -float(HOUR)

    async def drop_left_if_due(self) -> None:
        """Once an hour, drop what is too old: of the logs of cloud points that were deleted, and damaged segments.

        Raises:
            EntrepotError: by the disk or the database; the next run goes on.
        """
        now = self._clock()
        if now - self._dropped >= HOUR:
            living = await self._database.read(_logs_of_all)
            dropped = await asyncio.to_thread(self._logs.drop_left, living, now=now, options=self._options)
            await asyncio.to_thread(self._damaged.drop_old, now - self._options.days * DAY)
            self._dropped = now
            if dropped:
                log.info("logs_of_deleted_points_dropped", files=dropped)

    async def run_once(self, cloud: CloudPoint, store: "Holder") -> CollectSummary:
        """Bring in everything that the store has now. A second call waits for the first.

        Raises:
            ConflictError: another process of this site is collecting.
            EntrepotError: the store or the database does not answer; nothing is lost, run it again.
        """
        async with self._locks.setdefault(cloud.point, asyncio.Lock()):
            await self._claim(cloud)
            try:
                counted = await self._collect(cloud, store)
            except EntrepotError as error:
                await self._database.write(usage.set_collect_error, cloud.point, str(error))
                raise
            finally:
                await self._database.write(usage.release_collection, cloud.point, holder=self._holder)
        return await self._summary(cloud, counted)

    async def _claim(self, cloud: CloudPoint) -> None:
        await self._database.write(self._hold, cloud)

    def _hold(self, connection: Connection, cloud: CloudPoint) -> None:
        """Be the process that collects, for some minutes more; in each transaction that relies on it, so that one that
        was slow or stopped for longer cannot write into the log beside its successor.

        Raises:
            ConflictError: another process is.
        """
        now = int(self._clock())
        if not usage.claim_collection(
            connection, cloud.point, holder=self._holder, now=now, until=now + _CLAIM_SECONDS, alone=self._alone
        ):
            raise ConflictError(
                f"The transactions of {cloud.name} are being collected already.", next_step="Wait a moment."
            )

    async def _collect(self, cloud: CloudPoint, store: "Holder") -> Counted:
        counted = Counted()
        began = int(
            self._clock()
        )  # what reaches the store from here on may be in a part of the listing that has passed
        await asyncio.to_thread(self._bring_log_up, cloud)
        after, more = "", True
        while more:
            page = await store.list_documents(TX_PREFIX, after=after, limit=PAGE)
            keys = [key for key in page.keys if _is_segment(key)]
            known = await self._database.read(collection.known_segments, cloud.point, keys)
            fresh = [key for key in keys if key not in known]
            for begin in range(0, len(fresh), AT_ONCE):
                await self._take_some(cloud, store, fresh[begin : begin + AT_ONCE], counted)
            await asyncio.to_thread(self._bring_log_up, cloud)
            for begin in range(0, len(keys), AT_ONCE):
                await asyncio.gather(*(store.delete_document(key) for key in keys[begin : begin + AT_ONCE]))
            more = page.more and bool(page.keys)
            after = page.keys[-1] if page.keys else ""
        await self._database.write(_finish, cloud.point, began)
        return counted

    async def _take_some(self, cloud: CloudPoint, store: "Holder", keys: Sequence[str], counted: Counted) -> None:
        segments = await asyncio.gather(*(_fetch(store, key) for key in keys))
        for key, data in zip(keys, segments, strict=True):
            if data is not None:
                await asyncio.to_thread(self._take, cloud, key, data, counted)

    def _take(self, cloud: CloudPoint, key: str, data: bytes, counted: Counted) -> None:
        now = self._clock()
        try:
            tally = tally_segment(key, data, point=cloud.point, now=now)
        except FormatError as error:
            log.warning("segment_damaged", point=cloud.point, key=key, error=str(error))
            self._damaged.keep(cloud.point, key, data)
            segment, figures = _damaged_row(cloud.point, key, data), []
        else:
            segment, figures = _row(cloud.point, key, tally), list(tally.figures.items())
        with self._database.transaction() as connection:
            self._hold(connection, cloud)
            contents = collection.contents_of(connection, (figure.set_id for figure, _ in figures))
            buckets = [
                BucketRow(
                    hour=figure.hour,
                    device=figure.device,
                    content=_content_name(figure.set_id, contents),
                    status=figure.status,
                    requests=sums.requests,
                    bytes=sums.bytes,
                )
                for figure, sums in figures
            ]
            new = collection.add_segment(connection, segment, _merged(buckets), int(now))
            if new and self._options.verbose and not segment.damaged:
                self._owe_transactions(connection, cloud, data, contents, now)
        if new and not segment.damaged:
            counted.segments += 1
            counted.records += segment.records
            counted.bytes += segment.bytes

    def _owe_transactions(
        self, connection: Connection, cloud: CloudPoint, data: bytes, contents: dict[bytes, str], now: float
    ) -> None:
        """A line for each transaction, in the database transaction that counts them: written once, like the sums."""
        for records in decode_segment(data)[1]:
            sound = [dated(one, now) for one in records]
            lines = transaction_lines(sound, lambda set_id: _content_name(set_id, contents))
            collection.add_log_batch(connection, cloud.point, file=log_name(cloud.service), lines=lines)

    def _bring_log_up(self, cloud: CloudPoint) -> None:
        """Write what the log owes. Each batch is durable in the database before it is in the file."""
        name = log_name(cloud.service)
        self._write_pending(cloud)
        self._logs.rotate(name, now=self._clock(), options=self._options)
        while True:
            start = self._logs.length(name)
            with self._database.transaction() as connection:
                self._hold(connection, cloud)
                batch_or_none = collection.next_log_batch(
                    connection,
                    cloud.point,
                    file=name,
                    start=start,
                    limit=LINES_A_BATCH,
                    write=lambda rows: summary_lines(rows, now=self._clock()),
                )
            if batch_or_none is None:
                return
            self._write(batch_or_none)

    def _write_pending(self, cloud: CloudPoint) -> None:
        while True:
            with self._database.reading() as connection:
                pending = collection.pending_log_batches(connection, cloud.point)
            if not pending:
                return
            for batch in sorted(
                pending, key=lambda one: one.start == collection.UNPLACED
            ):  # the one with a place first
                if batch.start == collection.UNPLACED:
                    with self._database.transaction() as connection:
                        self._hold(connection, cloud)
                        batch = collection.place_log_batch(connection, batch, self._logs.length(batch.file))
                self._write(batch)

    def _write(self, batch: LogBatch) -> None:
        self._logs.write(batch.file, batch.start, batch.lines)
        with self._database.transaction() as connection:
            collection.finish_log_batch(connection, batch.id)

    async def _summary(self, cloud: CloudPoint, counted: Counted) -> CollectSummary:
        gaps = await self._database.read(collection.gaps, cloud.point)
        return CollectSummary(
            segments=counted.segments,
            records=counted.records,
            bytes=counted.bytes,
            gaps=tuple(gap.instance for gap in gaps),
            log=str(self._logs.path(log_name(cloud.service))),
            collected=int(self._clock()),
        )


def _finish(connection: Connection, point: str, now: int) -> None:
    usage.set_collected(connection, point, now=now)  # first: whoever forgets the point begins there, too
    collection.prune_segments(connection, now - KEEP_SECONDS, chains_before=now - KEEP_CHAINS_SECONDS)
    formersets.prune(connection, now, before=now - KEEP_SECONDS)


def _logs_of_all(connection: Connection) -> set[str]:
    return {log_name(service) for service in service_names(connection)}


def _is_segment(key: str) -> bool:
    try:
        split_key(key)
    except FormatError:
        log.warning("foreign_key_among_segments", key=key[:200])
        return False
    return True


async def _fetch(store: "Holder", key: str) -> bytes | None:
    """The segment; None when it has gone since it was listed."""
    try:
        return await store.get_document(key)
    except NotFoundError:
        return None


def _row(point: str, key: str, tally: SegmentTally) -> SegmentRow:
    return SegmentRow(
        point=point,
        name=key,
        instance=tally.header.instance,
        sequence=tally.header.sequence,
        digest=tally.digest,
        previous=tally.header.previous,
        records=tally.records,
        bytes=tally.sent,
    )


def _damaged_row(point: str, key: str, data: bytes) -> SegmentRow:
    _, instance, sequence = split_key(key)
    return SegmentRow(
        point=point,
        name=key,
        instance=instance,
        sequence=sequence,
        digest=hashlib.sha256(data).digest(),
        previous=b"",
        records=0,
        bytes=0,
        damaged=True,
    )


def _content_name(set_id: bytes, contents: dict[bytes, str]) -> str:
    """The content that a set belongs to; a set that no content has any more keeps a name of its own."""
    return contents.get(set_id) or (f"set-{set_id.hex()[:16]}" if set_id else "")


def _merged(buckets: Sequence[BucketRow]) -> list[BucketRow]:
    """One row a key: two sets of one content (two versions, or a delta) count together."""
    sums: dict[tuple[int, str, str, str], BucketRow] = {}
    for bucket in buckets:
        key = (bucket.hour, bucket.device, bucket.content, bucket.status)
        before = sums.get(key)
        sums[key] = (
            bucket
            if before is None
            else msgspec.structs.replace(
                bucket, requests=before.requests + bucket.requests, bytes=before.bytes + bucket.bytes
            )
        )
    return list(sums.values())
