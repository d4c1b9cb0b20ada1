"""Downloads under way, noted about once a second, so that a killed instance's bytes are counted, too (R26).

A request is recorded when it ends. An instance that is killed meanwhile leaves ``<instance>/running``: what each
running download had sent when the note was written, and where the journal stood. Whoever adopts the folder makes one
last segment of it. Rules:

- the note is replaced whole, and before any segment that it does not name any more may leave the folder: so every
  record that could be of a noted download is still in the folder when :func:`restore` looks for it;
- a noted download that has a record is dropped, so restoring may be repeated, and nothing is counted twice.
"""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec
import structlog

from entrepot.cloud.gateway.journal import DAMAGED_SUFFIX, encode_frames, journal_path, journals, recover
from entrepot.core.encoding import pack, unpack
from entrepot.core.errors import FormatError
from entrepot.durable.files import storage_errors, sweep_temporary, sync_folder, write_private
from entrepot.protocol import transactions
from entrepot.protocol.transactions import MAX_SEGMENT_BYTES, Record, SegmentHeader

NAME: Final = "running"
_log = structlog.get_logger(__name__)
Key = tuple[int, str, bytes, str]


class Note(msgspec.Struct, frozen=True, array_like=True):
    """``header`` is that of the segment that the next record goes into; its time is that of the note."""

    header: SegmentHeader
    records: tuple[Record, ...]


def without(running: Iterable[Record], ended: Iterable[Record]) -> list[Record]:
    """The running downloads that are not among those which have ended."""
    gone = Counter(_key(record) for record in ended)
    left = []
    for record in running:
        if gone[_key(record)] > 0:
            gone[_key(record)] -= 1
        else:
            left.append(record)
    return left


def _key(record: Record) -> Key:
    """What a download's note and its record have in common."""
    return record.time, record.device, record.object_id, record.method


def write_note(folder: Path, header: SegmentHeader, running: list[Record]) -> None:
    """Replace an instance's note; without running downloads there is none.

    Raises:
        StorageError: the disk refuses; the note before is still there.
    """
    path = folder / NAME
    if running:
        write_private(path, pack(Note(header, tuple(running))))
    else:
        with storage_errors("the note of running downloads"):
            path.unlink(missing_ok=True)


def restore(folder: Path) -> int:
    """Make a last segment of what a dead instance noted; returns the number of downloads in it.

    The caller holds the folder's lock. May be repeated after a crash anywhere.

    Raises:
        StorageError: the disk refuses.
    """
    sweep_temporary(folder)
    note = _read(folder / NAME)
    if note is None:
        return 0
    header = note.header
    sequence, previous = header.sequence, header.previous
    ended: list[Record] = []
    paths = [path for path in journals(folder) if path >= journal_path(folder, header.sequence)]
    for path in paths:  # those before were closed before the note
        found = recover(path, closed=path != paths[-1])
        if found is None:
            continue  # without a record: then its place is taken
        sequence, previous = found.header.sequence + 1, found.digest
        ended += [record for batch in transactions.decode_segment(found.data)[1] for record in batch]
    lost = without(note.records, ended)
    if lost:
        last = msgspec.structs.replace(header, sequence=sequence, previous=previous)
        data = transactions.encode_header(last) + b"".join(encode_frames(lost))
        write_private(journal_path(folder, sequence), data)
        _log.info("journal.running_restored", instance=header.instance, downloads=len(lost))
    with storage_errors("the note of running downloads"):
        (folder / NAME).unlink()
        sync_folder(folder)
    return len(lost)


def _read(path: Path) -> Note | None:
    with storage_errors(str(path)):
        try:
            with path.open("rb") as file:
                data = file.read(MAX_SEGMENT_BYTES + 1)
        except FileNotFoundError:
            return None
    try:
        if len(data) > MAX_SEGMENT_BYTES:
            raise FormatError("The note of running downloads is too large.")
        return unpack(data, Note, "note of running downloads")
    except FormatError as error:
        _log.error("journal.note_damaged", note=str(path), problem=str(error))
        path.replace(path.with_suffix(DAMAGED_SUFFIX))  # kept: what the instance sent is not known to be all recorded
        return None
