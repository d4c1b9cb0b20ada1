"""The transaction journal of one instance: records become durable here before they travel (architecture 4.5).

``<state>/<instance>/<sequence>.journal`` is a segment as it will be shipped, growing by whole frames. Rules:

- one process writes one instance's folder, under the folder's lock; an instance id is never used twice;
- a segment is opened by its first record, so an idle instance writes none;
- a segment is closed (never written again) before its successor is opened, which names its SHA-256;
- what a crash leaves is the closed segments and at most one, the last, with a torn tail: :func:`recover` cuts the tail
  off durably, so that whoever ships the file afterwards, and however often, ships the same bytes under the same key;
- damage of any other kind is never taken for a torn tail: it is reported, kept, and seen by the site as a gap.
"""

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import structlog

from entrepot.cloud.gateway.folderlock import FolderLock
from entrepot.core.encoding import unpack
from entrepot.core.errors import ConflictError, FormatError, StorageError
from entrepot.core.sizes import MIB
from entrepot.core.times import hour_of
from entrepot.durable.files import storage_errors, sync_folder, write_private
from entrepot.protocol import transactions
from entrepot.protocol.transactions import Record, SegmentHeader

SUFFIX = ".journal"
DAMAGED_SUFFIX = ".damaged"
LARGEST_SEGMENT = 8 * MIB
"""Segments are closed before they grow beyond this, whatever the settings say; readers accept twice as much."""
BATCH = 1024
"""Records written at once; even the longest ones stay below ``LARGEST_SEGMENT``."""
_FIRST = bytes(32)
_log = structlog.get_logger(__name__)


class UnsyncedError(StorageError):
    """The disk refused to make records durable. Whether they are safe is unknown, and a second try would not tell."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """When a segment is closed: at ``size`` bytes, or ``seconds`` after it was opened."""

    size: int
    seconds: float


def journal_path(folder: Path, sequence: int) -> Path:
    """The file of one segment."""
    return folder / f"{sequence:08d}{SUFFIX}"


def journals(folder: Path, *, below: int | None = None) -> list[Path]:
    """The segments in a folder, oldest first; ``below``: only those with a lower sequence number."""
    limit = None if below is None else journal_path(folder, below)
    return sorted(path for path in folder.glob(f"*{SUFFIX}") if limit is None or path < limit)


def store_key(header: SegmentHeader) -> str:
    """Where a segment belongs in the store: it follows from the segment's own bytes."""
    return transactions.segment_key(hour_of(header.opened / 1000), header.instance, header.sequence)


class Journal:
    """Writes one instance's segments. Not thread-safe: one thread owns it.

    Args:
        folder: ``<state>/<instance>``; created, and locked until :meth:`release`.
        point: distribution point id, for the header.
        instance: this instance's id.

    Raises:
        ConflictError: another process has the folder, or the id was used before.
        StorageError: the disk refuses.
    """

    def __init__(self, folder: Path, *, point: str, instance: str) -> None:
        self._folder = folder
        self._point = point
        self._instance = instance
        self._lock = FolderLock.create(folder)
        if journals(folder):
            self._lock.release()
            raise ConflictError(
                f"The instance id {instance} was used before.", next_step="Start the gateway with a new id."
            )
        self._sequence = 0
        self._previous = _FIRST
        self._open: _Growing | None = None

    @property
    def closed(self) -> int:
        """Segments with a lower sequence number are closed, now and for ever. May be read from any thread."""
        return self._sequence

    @property
    def segments(self) -> int:
        """Segments so far, the open one included."""
        return self._sequence + (self._open is not None)

    @property
    def size(self) -> int:
        """Bytes of the segment that the next record goes into; 0 while none is open."""
        return self._open.size if self._open else 0

    def append(self, records: list[Record], *, now_ms: int, limits: Limits) -> None:
        """Write at most ``BATCH`` records, all or, on an error, none; :meth:`sync` makes them durable.

        Raises:
            StorageError: the disk refuses.
            UnsyncedError: it refuses to make durable what was written before.
        """
        assert len(records) <= BATCH
        with storage_errors("the transaction journal"):
            data = b"".join(encode_frames(records))
            if self._open and self._open.size + len(data) > min(limits.size, LARGEST_SEGMENT):
                self.close_segment()
            if self._open is None:
                self._open = _Growing(journal_path(self._folder, self._sequence), self.next_header(now_ms))
            self._open.write(data)

    def sync(self) -> None:
        """Make everything written so far durable: it survives power loss.

        Raises:
            UnsyncedError: the disk refuses; the caller must stop.
        """
        if self._open:
            with _unsynced():
                self._open.sync()

    def due(self, *, now_ms: int, limits: Limits) -> bool:
        """Tell whether the open segment has reached its age or size."""
        if self._open is None:
            return False
        age = (now_ms - self._open.header.opened) / 1000
        return age >= limits.seconds or age < 0 or self._open.size >= min(limits.size, LARGEST_SEGMENT)

    def close_segment(self) -> None:
        """Close the open segment, if any: from now on it may be shipped.

        Raises:
            UnsyncedError: as for :meth:`sync`.
        """
        if self._open:
            with _unsynced():
                self._previous = self._open.close()
            self._open = None
            self._sequence += 1

    def next_header(self, now_ms: int) -> SegmentHeader:
        """The header of the segment that the next record goes into, or would."""
        return SegmentHeader(self._point, self._instance, self._sequence, self._previous, now_ms)

    def release(self) -> None:
        """Give the folder up, and remove it when everything is shipped: what is left may be adopted."""
        if not journals(self._folder):
            self._lock.remove_folder()
        self._lock.release()


@contextlib.contextmanager
def _unsynced() -> Iterator[None]:
    try:
        with storage_errors("the transaction journal"):
            yield
    except StorageError as error:
        raise UnsyncedError(error.message, next_step=error.next_step) from error


class _Growing:
    """A segment that grows by whole frames; a failed write is undone."""

    def __init__(self, path: Path, header: SegmentHeader) -> None:
        self.path = path
        self.header = header
        self._digest = hashlib.sha256()
        self.size = 0
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            self.write(transactions.encode_header(header))
            sync_folder(path.parent)
        except BaseException:
            os.close(self._descriptor)
            path.unlink()
            raise

    def write(self, data: bytes) -> None:
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError:
            os.ftruncate(self._descriptor, self.size)
            os.lseek(self._descriptor, self.size, os.SEEK_SET)
            raise
        self.size += len(data)
        self._digest.update(data)

    def sync(self) -> None:
        os.fdatasync(self._descriptor)

    def close(self) -> bytes:
        self.sync()
        os.close(self._descriptor)
        return self._digest.digest()


def encode_frames(records: list[Record]) -> list[bytes]:
    """Frames of at most 1 MiB."""
    if not records:
        return []
    frame = transactions.encode_records(records)
    if len(frame) <= transactions.MAX_FRAME_BYTES or len(records) == 1:
        return [frame]
    middle = len(records) // 2
    return encode_frames(records[:middle]) + encode_frames(records[middle:])


class Recovered(NamedTuple):
    """A segment that may travel.

    Attributes:
        data: its whole frames.
        digest: what its successor names, or would: SHA-256 of the segment as its instance knew it.
    """

    header: SegmentHeader
    data: bytes
    digest: bytes


def recover(path: Path, *, closed: bool = False) -> Recovered | None:
    """Make a dead or closed segment ready to ship; None when it holds no record that can be read.

    A torn tail is cut off durably: only the last segment of an instance, the one that was open, can have one. Damage
    anywhere else is reported, the file as it was found is kept beside it, and what stands before the damage travels.
    Its successor names the whole, so the site sees that the chain is broken there.

    Args:
        closed: it was closed before its instance ended.

    The caller holds the folder's lock. May be repeated.

    Raises:
        StorageError: the disk refuses.
    """
    with storage_errors(str(path)):
        data = path.read_bytes()
        try:
            ends = [end for end, _ in transactions.frames(data, torn_tail=True)]
        except FormatError:
            ends = []  # not even the magic is there
        whole = data[: ends[-1]] if ends else b""
        damaged = len(whole) != len(data) and (closed or transactions.goes_on(data, len(whole)))
        if damaged:
            _keep_damaged(path, data, len(whole))
        if len(ends) < 2:
            return None
        if len(whole) != len(data):
            with path.open("r+b") as file:
                file.truncate(len(whole))
                os.fsync(file.fileno())
    _, first = next(transactions.frames(whole))
    header = unpack(first, SegmentHeader, "transaction segment header")
    return Recovered(header, whole, hashlib.sha256(data if damaged else whole).digest())


def _keep_damaged(path: Path, data: bytes, good: int) -> None:
    kept = path.with_suffix(DAMAGED_SUFFIX)
    write_private(kept, data)
    _log.error("journal.damaged", instance=path.parent.name, journal=str(kept), at=good, lost=len(data) - good)
