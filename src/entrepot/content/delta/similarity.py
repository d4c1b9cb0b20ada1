"""Finds where old plaintext resembles new bytes, whatever the files are called.

Both sides are cut into tiny pieces by content (a fast rolling hash, 256 bytes on average); the hash of one piece in
four is remembered with its position, of fewer where there is more than a gigabyte. Pieces that new bytes share with the
old version point to the region that they came from: several of them that agree make a reference.

Only old chunks that the new version no longer has are looked through: what was renamed, moved, merged or swapped, or
pushed far along within its file, left such chunks behind. The index lies on disk, so memory stays bounded.
"""

import hashlib
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec
from pyfastcdc import FastCDC

from entrepot.content.delta.format import MAX_RANGES, MAX_REFERENCE, PlainRange
from entrepot.content.delta.plaintext import OldPlaintext
from entrepot.core.errors import CancelledError
from entrepot.core.sizes import GIB, KIB, MIB

_CUTTER: Final = FastCDC(256, min_size=64, max_size=1024)
_SAMPLED: Final = 0b11
_PLENTY: Final = GIB
"""With more to look through than this, a smaller share of the pieces is remembered: a million at most, up to 64 GiB."""
_LEAST: Final = 0xFF
_STEP: Final = 4 * MIB
_CLUSTER_GAP: Final = 256 * KIB
_MIN_HITS: Final = 2
_TELLING: Final = 16
"""A region with fewer than one of so many of the best one's hits is chance."""
_INSERT: Final = "INSERT OR IGNORE INTO feature VALUES (?, ?)"


class _Hit(msgspec.Struct, frozen=True):
    """The same piece: where it is in the new bytes and in the old plaintext."""

    offset: int
    position: int


def features(data: bytes, mask: int = _SAMPLED) -> Iterator[tuple[int, int]]:
    """Hash and offset of a sample of the pieces of some bytes; equal content gives equal hashes, wherever it lies.

    Args:
        mask: one of ``mask + 1`` pieces is taken; runs of few different bytes never, for they are everywhere.
    """
    for piece in _CUTTER.cut_buf(data):
        digest = hashlib.blake2b(piece.data, digest_size=8).digest()
        if not digest[7] & mask and len(set(piece.data)) > 3:
            yield int.from_bytes(digest, "big", signed=True), piece.offset


def sampling(size: int) -> int:
    """The mask for :func:`features` where there are so many bytes to look through."""
    mask = _SAMPLED
    while size > _PLENTY and mask < _LEAST:
        mask = mask << 1 | 1
        size //= 2
    return mask


class Similarity:
    """The index over one old version; built when it is first asked. Safe to use from several threads.

    Args:
        old: the old version, told of all chunks of the new one.
        scratch: folder for the index.
        cancelled: asked while the index is built.
    """

    def __init__(self, old: OldPlaintext, scratch: Path, cancelled: Callable[[], bool]) -> None:
        self._old = old
        self._path = scratch / "similarity.sqlite"
        self._cancelled = cancelled
        self._lock = threading.Lock()
        self._db: sqlite3.Connection | None = None
        self._mask: Final = sampling(old.gone_bytes())

    def close(self) -> None:
        """Release the index; the caller removes the scratch folder."""
        with self._lock:
            if self._db is not None:
                self._db.close()

    def find(self, new: bytes) -> list[PlainRange]:
        """Regions of the old plaintext that resemble ``new``, the likeliest first.

        Raises:
            CancelledError: the caller wants to stop.
            EntrepotError: the old version cannot be read.
        """
        wanted = list(features(new, self._mask))
        hits = []
        with self._lock:
            index = self._index()
            for value, offset in wanted:
                row = index.execute("SELECT position FROM feature WHERE hash = ?", (value,)).fetchone()
                if row is not None:
                    hits.append(_Hit(offset, row[0]))
        return regions(hits, len(new), self._old.size)

    def _index(self) -> sqlite3.Connection:
        if self._db is None:
            self._db = sqlite3.connect(self._path, check_same_thread=False, isolation_level=None)
            self._db.executescript(
                "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-32000;"
                "CREATE TABLE feature (hash INTEGER PRIMARY KEY, position INTEGER NOT NULL) WITHOUT ROWID;"
            )
            self._db.execute("BEGIN")
            for position, length in self._old.gone():
                self._add(self._db, position, length)
            self._db.execute("COMMIT")
        return self._db

    def _add(self, index: sqlite3.Connection, position: int, length: int) -> None:
        for start in range(position, position + length, _STEP):
            if self._cancelled():
                raise CancelledError("Making the delta was cancelled.")
            data = self._old.read(start, min(_STEP, position + length - start))
            index.executemany(_INSERT, ((value, start + offset) for value, offset in features(data, self._mask)))


def regions(hits: list[_Hit], new_size: int, old_size: int) -> list[PlainRange]:
    """The regions that hits point to: neighbours together, as wide as the new bytes around them, most hits first. All
    together they end at what a patch may refer to: of the last one the middle of its hits is kept."""
    clusters: list[list[_Hit]] = []
    for hit in sorted(hits, key=lambda hit: hit.position):
        if clusters and hit.position - clusters[-1][-1].position <= _CLUSTER_GAP:
            clusters[-1].append(hit)
        else:
            clusters.append([hit])
    ranked = sorted(clusters, key=_weight, reverse=True)
    least = max([_MIN_HITS, *(_weight(best) // _TELLING for best in ranked[:1])])
    chosen: list[PlainRange] = []
    room = MAX_REFERENCE
    for found in ranked[:MAX_RANGES]:
        if _weight(found) < least or not room:
            break
        region = _around(found, new_size, old_size, room)
        chosen.append(region)
        room -= region.length
    return chosen


def _weight(cluster: list[_Hit]) -> int:
    """How many different places agree."""
    return len({hit.position for hit in cluster})


def _around(cluster: list[_Hit], new_size: int, old_size: int, room: int) -> PlainRange:
    """The cluster, and what lies before and after it as far as the new bytes reach, at most their size each way, and
    at most ``room`` bytes: hits in another order than the new bytes' ask for more on both sides than there is."""
    first, last = cluster[0], cluster[-1]
    low = max(0, first.position - first.offset)
    high = min(old_size, max(last.position + KIB, last.position + new_size - last.offset))
    length = max(1, min(high - low, room))
    middle = (first.position + last.position) // 2
    return PlainRange(max(low, min(middle - length // 2, high - length)), length)
