"""Writes a manifest part by part, as references become known. Memory: one part, the references of one big file, and
those of the last :data:`~entrepot.content.repeats.GROUPS` groups.

Parts end after a group or a big file where a keyed hash of its last path says so, so that versions share the parts in
which nothing changed. A part has at most 1 MiB; only a file with more references than that goes on in the next part.
"""

import hashlib
from collections import deque
from collections.abc import Callable
from typing import Final

from entrepot.content.chunking import DomainKeys
from entrepot.content.grouping import ends
from entrepot.content.manifest import MAX_PART, Entry, EntryKind, Extent, join_part
from entrepot.content.repeats import GROUPS
from entrepot.core.encoding import pack
from entrepot.core.sizes import KIB
from entrepot.protocol import SealedRef

PART_MIN: Final = 128 * KIB
PART_SOFT_MAX: Final = 512 * KIB
_MASK: Final = 0b11
_HEAD: Final = 16  # of a part, around its two lists
_EXTENT: Final = 16  # of one extent at most
_ROOM: Final = MAX_PART - _HEAD


class Counts:
    """What a manifest lists. ``folders`` counts all below the root, also those that are only implied; ``repeated`` are
    bytes of small files that lay in it already."""

    def __init__(self) -> None:
        self.files = self.folders = self.links = self.plain_size = self.repeated = self.entries = 0
        self._folder = ""

    def add(self, entry: Entry) -> None:
        """Count an entry."""
        self.entries += 1
        folder = entry.path if entry.kind == EntryKind.FOLDER else entry.path.rpartition("/")[0]
        if folder != self._folder:
            self.folders += _entered(self._folder, folder)
            self._folder = folder
        self.files += entry.kind == EntryKind.FILE
        self.links += entry.kind == EntryKind.LINK
        self.plain_size += entry.size


def _entered(before: str, folder: str) -> int:
    """How many folders one enters on the way from one to another."""
    if not folder:
        return 0
    parts = folder.split("/")
    shared = 0
    for one, other in zip(parts, before.split("/"), strict=False):
        if one != other:
            break
        shared += 1
    return len(parts) - shared


class ManifestWriter:
    """Takes groups and big files in path order; gives finished parts, encoded, to ``keep``."""

    def __init__(self, keys: DomainKeys, keep: Callable[[bytes], None]) -> None:
        self._keys = keys
        self._keep = keep
        self._chunks: dict[bytes, tuple[int, SealedRef]] = {}
        self._entries: list[bytes] = []
        self._size = 0
        self._big: list[SealedRef] = []
        self._groups: deque[SealedRef | None] = deque(maxlen=GROUPS)  # the last one first
        self.counts = Counts()

    def group(self, ref: SealedRef | None, entries: tuple[Entry, ...]) -> None:
        """Add the next group (:class:`~entrepot.content.grouping.Group`), whose files lie in its chunk one after the
        other, but for those that lie in a group before. There is always room for one: its entries are bounded."""
        self._groups.appendleft(ref)
        end = 0
        for entry in entries:
            if not entry.size:
                self._add(entry)
                continue
            if entry.extents:
                (extent,) = entry.extents
                chunk, offset = self._groups[extent.chunk], extent.offset
                self.counts.repeated += entry.size
            else:
                chunk, offset = ref, end
                end += entry.size
            assert chunk is not None
            self._add(_with_extents(entry, 0, (Extent(self._number(chunk), offset, entry.size),)))
        self._maybe_close(entries[-1].path)

    def big_chunk(self, ref: SealedRef) -> None:
        """Add the next chunk of the big file that is under way."""
        self._big.append(ref)

    def big_end(self, entry: Entry) -> None:
        """End the big file that is under way."""
        refs, self._big = self._big, []
        head = len(pack(entry)) + _EXTENT
        cost = len(pack(refs[0])) + _EXTENT
        if self._size + head + cost * len(refs) > _ROOM:
            self._close()
        at = offset = 0
        while at < len(refs):
            room = max(1, (_ROOM - self._size - head) // cost)
            some = refs[at : at + room]
            extents = tuple(Extent(self._number(ref), 0, ref.plain_size) for ref in some)
            self._add(_with_extents(entry, offset, extents))
            offset += sum(ref.plain_size for ref in some)
            at += len(some)
            if at < len(refs):
                self._close()
        self._maybe_close(entry.path)

    def finish(self) -> None:
        """Give the last part."""
        if self._entries:
            self._close()

    def _number(self, ref: SealedRef) -> int:
        """The number of a chunk in this part."""
        found = self._chunks.get(ref.object_id)
        if found is None:
            found = self._chunks[ref.object_id] = (len(self._chunks), ref)
            self._size += len(pack(ref))
        return found[0]

    def _add(self, entry: Entry) -> None:
        packed = pack(entry)
        self._entries.append(packed)
        self._size += len(packed)
        if not entry.offset:
            self.counts.add(entry)

    def _maybe_close(self, path: str) -> None:
        due = self._size >= PART_MIN and ends(self._keys.grouping_key, hashlib.sha256(path.encode()).digest(), _MASK)
        if due or self._size >= PART_SOFT_MAX:
            self._close()

    def _close(self) -> None:
        if not self._entries:
            return
        data = join_part((ref for _, ref in self._chunks.values()), self._entries)
        self._chunks, self._entries, self._size = {}, [], 0
        assert len(data) <= MAX_PART
        self._keep(data)


def _with_extents(entry: Entry, offset: int, extents: tuple[Extent, ...]) -> Entry:
    return Entry(entry.kind, entry.path, entry.mode, entry.size, entry.digest, offset, extents, entry.target)
