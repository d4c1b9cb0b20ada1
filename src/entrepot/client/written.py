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
        self._opened: tuple[int, Part] | None = None

    def note(self, chunk: SealedRef, number: int, part: SealedRef) -> None:
        """All that a part has of a chunk was written. The first that names it has most of it."""
        with self._lock:
            known = self._where.get(chunk.object_id)
            if known is None or number < known[0]:
                self._where[chunk.object_id] = (number, part)
            if len(self._where) > CHUNKS:
                self._where.popitem(last=False)

    def recut(self, chunk: SealedRef) -> bytes | None:
        """The plain bytes of a chunk, verified; None when it was not written, or is not there any more."""
        with self._lock:
            where = self._where.get(chunk.object_id)
            part = self._part(*where) if where else None
        pieces = covering(_pieces(part, chunk.object_id), chunk.plain_size) if part else None
        if not pieces:
            return None
        plain = joined(self._folder, ((piece.path, piece.offset, piece.length) for piece in pieces))
        return plain if plain is not None and matches(chunk.digest, plain) else None

    def _part(self, number: int, ref: SealedRef) -> Part | None:
        if self._opened is None or self._opened[0] != number:
            plain = self._record.part(number, ref)
            try:
                self._opened = None if plain is None else (number, decode_part(plain))
            except FormatError:
                return None
        return self._opened[1] if self._opened else None


def _pieces(part: Part, object_id: bytes) -> list[Piece]:
    """Where bytes of a chunk lie in the files of a part, by their start in the chunk."""
    numbers = {number for number, ref in enumerate(part.chunks) if ref.object_id == object_id}
    found: list[Piece] = []
    for entry in part.entries:
        offset = entry.offset
        for extent in entry.extents:
            if extent.chunk in numbers:
                found.append(Piece(extent.offset, extent.length, entry.path, offset))
            offset += extent.length
    return sorted(found, key=lambda piece: piece.start)
