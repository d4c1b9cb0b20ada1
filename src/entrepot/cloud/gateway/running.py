"""Downloads under way, noted about once a second, so that a killed instance's bytes are counted, too (R26).

A request is recorded when it ends. An instance that is killed meanwhile leaves ``<instance>/running``: what each
running download had sent when the note was written, and where the journal stood. Whoever adopts the folder makes one
last segment of it. Rules:

- the note is replaced whole, and before any segment that it does not name any more may leave the folder: so every
  record that could be of a noted download is still in the folder when :func:`restore` looks for it;
- a noted download that got a record after the note was made is dropped, so restoring may be repeated, and nothing is
  counted twice. A record from before is another download's, even where a device asked for one object twice at once.
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
    """``header`` is that of the segment that the next record goes into; its time is that of the note. ``size`` is what
    that segment had in bytes: what is behind came after the note."""

    header: SegmentHeader
    records: tuple[Record, ...]
    size: int = 0


def without(running: Iterable[Record], ended: Iterable[Record]) -> list[Record]:
    """The running downloads that are not among those which have ended. Of twins the one that sent least is left out:
    which of them ended is not known, and no byte may go uncounted."""
    gone = Counter(_key(record) for record in ended)
    left = []
    for record in sorted(running, key=lambda one: one.sent):
        if gone[_key(record)] > 0:
            gone[_key(record)] -= 1
        else:
            left.append(record)
    return left


def _key(record: Record) -> Key:
    """What a download's note and its record have in common."""
    return record.time, record.device, record.object_id, record.method


def write_note(folder: Path, header: SegmentHeader, size: int, running: list[Record]) -> None:
    """Replace an instance's note; without running downloads there is none.

    Args:
        header, size: where the next record goes; see :class:`Note`.

    Raises:
        StorageError: the disk refuses; the note before is still there.
    """
    path = folder / NAME
    if running:
        write_private(path, pack(Note(header, tuple(running), size)))
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
        here = note.size if path == journal_path(folder, header.sequence) else 0
        if found is None:
            sequence += bool(here)  # damaged: a gap, for the site to see; without a record its place is taken
            continue
        sequence, previous = found.header.sequence + 1, found.digest
        ended += transactions.records_behind(found.data, here)
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
