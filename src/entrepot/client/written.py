"""Chunks that an earlier part of the same manifest named, too: they are recut from the files that were written then.

Versions hold the same bytes more than once: a large file in two folders, small ones in many. The own cache may be small
or switched off, and keeps nothing of what a delta made.
"""

import threading
from collections import OrderedDict
from pathlib import Path
from typing import Final

from entrepot.client.records import Record
from entrepot.client.treeindex import Piece, covering
from entrepot.client.trees import joined
from entrepot.content.digests import matches
from entrepot.content.manifest import Part, decode_part
from entrepot.core.errors import FormatError
from entrepot.protocol import SealedRef

CHUNKS: Final = 16_384
"""So many, the last ones, are remembered (4 MiB)."""
OPENED: Final = 4
"""Parts of the manifest at hand: what repeats itself refers to few at a time."""
OPENINGS: Final = 8
"""So often a part may be opened, for each part so far: to fetch a chunk costs less than to search on and on for it."""
PIECES: Final = 4096
"""A chunk that lies in more pieces is fetched sooner than put together; a group has fewer files."""

Places = dict[bytes, dict[int, Piece]]
"""Where the chunks of a part lie, by object id and start in the chunk."""


class Written:
    """Threads may use it at the same time.

    Args:
        folder: where the tree grows.
        record: keeps the parts.
    """

    def __init__(self, folder: Path, record: Record) -> None:
        self._folder = folder
        self._record = record
        self._lock = threading.Lock()
        self._where: OrderedDict[bytes, tuple[int, SealedRef]] = OrderedDict()
        self._opened: OrderedDict[int, Places] = OrderedDict()
        self._openings = 0
        self._parts = 0

    def note(self, chunk: SealedRef, number: int, part: SealedRef) -> None:
        """All that a part has of a chunk was written. The first that names it has most of it."""
        with self._lock:
            self._parts = max(self._parts, number + 1)
            known = self._where.get(chunk.object_id)
            if known is None or number < known[0]:
                self._where[chunk.object_id] = (number, part)
            if len(self._where) > CHUNKS:
                self._where.popitem(last=False)

    def recut(self, chunk: SealedRef) -> bytes | None:
        """The plain bytes of a chunk, verified; None when it was not written, or is not there any more."""
        with self._lock:
            where = self._where.get(chunk.object_id)
            found = self._places(*where).get(chunk.object_id, {}) if where else {}
        if len(found) > PIECES:
            return None
        pieces = covering((found[start] for start in sorted(found)), chunk.plain_size)
        if not pieces:
            return None
        plain = joined(self._folder, ((piece.path, piece.offset, piece.length) for piece in pieces))
        return plain if plain is not None and matches(chunk.digest, plain) else None

    def _places(self, number: int, ref: SealedRef) -> Places:
        places = self._opened.pop(number, None)
        if places is None:
            if self._openings >= OPENINGS * self._parts:
                return {}
            self._openings += 1
            places = _places(self._record.part(number, ref))
        self._opened[number] = places
        if len(self._opened) > OPENED:
            self._opened.popitem(last=False)
        return places


def _places(plain: bytes | None) -> Places:
    """Where the chunks of a part lie in its files; nowhere where it is lost or damaged."""
    try:
        part = Part(0, (), ()) if plain is None else decode_part(plain)
    except FormatError:
        part = Part(0, (), ())
    places: Places = {}
    for entry in part.entries:
        offset = entry.offset
        for extent in entry.extents:
            found = places.setdefault(part.chunks[extent.chunk].object_id, {})
            known = found.get(extent.offset)
            if known is None or known.length < extent.length:
                found[extent.offset] = Piece(extent.offset, extent.length, entry.path, offset)
            offset += extent.length
    return places
