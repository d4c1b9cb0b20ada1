"""The old version as one plaintext: positions → bytes, paths → positions, in a temporary database on disk.

Memory stays bounded however many files and chunks the version has.
"""

import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from entrepot.content.delta.folding import fold
from entrepot.content.manifest import EntryKind, Part
from entrepot.core.encoding import pack, unpack
from entrepot.core.errors import IntegrityError
from entrepot.core.sizes import MIB
from entrepot.protocol import SealedRef

_CACHE_BYTES: Final = 48 * MIB
_SETTINGS: Final = "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-16000;"
_SCHEMA: Final = """
CREATE TABLE chunk (no INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, ref BLOB NOT NULL);
CREATE TABLE extent (position INTEGER PRIMARY KEY, length INTEGER NOT NULL, chunk INTEGER NOT NULL,
                     skip INTEGER NOT NULL);
CREATE INDEX extent_chunk ON extent (chunk);
CREATE TABLE file (path TEXT PRIMARY KEY, position INTEGER NOT NULL, size INTEGER NOT NULL, folded TEXT NOT NULL,
                   name TEXT NOT NULL, folded_name TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX file_folded ON file (folded, size, path);
CREATE INDEX file_name ON file (name, size, path);
CREATE INDEX file_folded_name ON file (folded_name, size, path);
CREATE TABLE done (id BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE wanted (id BLOB PRIMARY KEY) WITHOUT ROWID;
"""
_EXTENTS: Final = """
SELECT position, length, ref, skip FROM extent JOIN chunk ON chunk.no = extent.chunk
WHERE position < ? AND position >= coalesce((SELECT max(position) FROM extent WHERE position <= ?), 0)
ORDER BY position
"""


_GONE: Final = "extent JOIN chunk ON chunk.no = extent.chunk WHERE chunk.id NOT IN (SELECT id FROM wanted)"


class OldFile(msgspec.Struct, frozen=True):
    """A file of the old version: where it begins in the plaintext, and its size."""

    position: int
    size: int


class OldPlaintext:
    """Random access to the old version. Safe to use from several threads.

    Args:
        parts: its manifest parts in order.
        read_chunk: opens a chunk's object.
        scratch: a folder for the temporary database.
    """

    def __init__(self, parts: Iterable[Part], read_chunk: Callable[[SealedRef], bytes], scratch: Path) -> None:
        self._read_chunk = read_chunk
        self._lock = threading.Lock()
        self._opened: OrderedDict[bytes, bytes] = OrderedDict()
        self._opened_bytes = 0
        self._db = sqlite3.connect(scratch / "plaintext.sqlite", check_same_thread=False, isolation_level=None)
        try:
            self._db.executescript(_SETTINGS + _SCHEMA)
            self._db.execute("BEGIN")
            position = 0
            for part in parts:
                position = self._load(part, position)
            self._db.execute("COMMIT")
            self.size: Final = position
        except BaseException:
            self._db.close()  # the caller removes the folder, and gets no object to close
            raise

    def close(self) -> None:
        """Release the database; the caller removes the scratch folder."""
        self._db.close()

    def _load(self, part: Part, position: int) -> int:
        numbers = [self._chunk_number(ref) for ref in part.chunks]
        for entry in part.entries:
            if entry.kind != EntryKind.FILE:
                continue
            if entry.offset == 0:
                name = entry.path.rsplit("/", 1)[-1]
                row = (entry.path, position, entry.size, fold(entry.path), name, fold(name))
                self._db.execute("INSERT INTO file VALUES (?, ?, ?, ?, ?, ?)", row)
            for extent in entry.extents:
                values = (position, extent.length, numbers[extent.chunk], extent.offset)
                self._db.execute("INSERT INTO extent VALUES (?, ?, ?, ?)", values)
                position += extent.length
        return position

    def _chunk_number(self, ref: SealedRef) -> int:
        self._db.execute("INSERT OR IGNORE INTO chunk (id, ref) VALUES (?, ?)", (ref.object_id, pack(ref)))
        row = self._db.execute("SELECT no FROM chunk WHERE id = ?", (ref.object_id,)).fetchone()
        return int(row[0])

    def has_chunk(self, object_id: bytes) -> bool:
        """Whether the old version holds this chunk as it is."""
        with self._lock:
            return self._db.execute("SELECT 1 FROM chunk WHERE id = ?", (object_id,)).fetchone() is not None

    def first_time(self, object_id: bytes) -> bool:
        """Remember a chunk of the new version; False when it was seen before."""
        with self._lock:
            return self._db.execute("INSERT OR IGNORE INTO done VALUES (?)", (object_id,)).rowcount == 1

    def want(self, refs: Iterable[SealedRef]) -> int:
        """Note chunks of the new version; plain bytes of those that were not noted before and are not held."""
        lacking = 0
        for ref in refs:
            with self._lock:
                new = self._db.execute("INSERT OR IGNORE INTO wanted VALUES (?)", (ref.object_id,)).rowcount == 1
            if new and not self.has_chunk(ref.object_id):
                lacking += ref.plain_size
        return lacking

    def gone(self) -> Iterator[tuple[int, int]]:
        """Position and length of every run of old bytes whose chunks the new version does not have, ascending."""
        query = f"SELECT position, length FROM {_GONE} AND position >= ? ORDER BY position LIMIT 1000"  # noqa: S608 (a constant)
        begin = end = 0
        while True:
            with self._lock:
                rows = self._db.execute(query, (end,)).fetchall()
            for position, length in rows:
                if position > end:
                    if end > begin:
                        yield begin, end - begin
                    begin = position
                end = position + length
            if not rows:
                break
        if end > begin:
            yield begin, end - begin

    def gone_bytes(self) -> int:
        """How much :meth:`gone` gives in all."""
        with self._lock:
            query = f"SELECT coalesce(sum(length), 0) FROM {_GONE}"  # noqa: S608 (a constant)
            return int(self._db.execute(query).fetchone()[0])

    def find_in(self, file: OldFile, object_id: bytes) -> int | None:
        """Offset in ``file`` at which this chunk begins there, if it does."""
        with self._lock:
            row = self._db.execute(
                "SELECT position - skip FROM extent JOIN chunk ON chunk.no = extent.chunk"
                " WHERE chunk.id = ? AND position >= ? AND position < ? LIMIT 1",
                (object_id, file.position, file.position + file.size),
            ).fetchone()
        return None if row is None else max(0, int(row[0]) - file.position)

    def find_file(self, path: str, size: int) -> OldFile | None:
        """The old file that a new one most likely grew from.

        Tried in this order: same path, same path but for numbers, moved, moved and renumbered; among several the one
        of the nearest size.
        """
        name = path.rsplit("/", 1)[-1]
        tries = (("path", path), ("folded", fold(path)), ("name", name), ("folded_name", fold(name)))
        with self._lock:
            for column, value in tries:
                found = [self._nearest(column, value, near) for near in self._near_sizes(column, value, size)]
                if found:
                    return min(found)[1]
        return None

    def _near_sizes(self, column: str, value: str, size: int) -> list[int]:
        """The sizes next to one, above and below, or the nearer of them: two steps into an index, however many files
        share a name."""
        sides = f"SELECT (SELECT min(size) FROM file WHERE {column} = ? AND size >= ? AND size > 0),"  # noqa: S608 (the column is one of four constants)
        sides += f" (SELECT max(size) FROM file WHERE {column} = ? AND size < ? AND size > 0)"  # noqa: S608 (as above)
        row = self._db.execute(sides, (value, size, value, size)).fetchone()
        near = [int(each) for each in row if each is not None]
        least = min((abs(each - size) for each in near), default=0)
        return [each for each in near if abs(each - size) == least]

    def _nearest(self, column: str, value: str, size: int) -> tuple[str, OldFile]:
        """Of the files of a size the first by path."""
        query = f"SELECT path, position FROM file WHERE {column} = ? AND size = ? ORDER BY path LIMIT 1"  # noqa: S608 (as above)
        path, position = self._db.execute(query, (value, size)).fetchone()
        return path, OldFile(position=int(position), size=size)

    def read(self, position: int, length: int) -> bytes:
        """Bytes of the plaintext.

        Raises:
            IntegrityError: the range reaches beyond the end.
        """
        pieces = []
        at, left = position, length
        for start, size, ref, skip in self._extents(position, length):
            plain = self._chunk(ref)
            begin = skip + (at - start)
            piece = plain[begin : begin + min(left, size - (at - start))]
            pieces.append(piece)
            at += len(piece)
            left -= len(piece)
        if left:
            raise IntegrityError("A range reaches beyond the end of the old version.")
        return b"".join(pieces)

    def _extents(self, position: int, length: int) -> list[tuple[int, int, SealedRef, int]]:
        with self._lock:
            rows = self._db.execute(_EXTENTS, (position + length, position)).fetchall()
        return [(row[0], row[1], unpack(row[2], SealedRef, "chunk reference"), row[3]) for row in rows]

    def _chunk(self, ref: SealedRef) -> bytes:
        with self._lock:
            plain = self._opened.get(ref.object_id)
            if plain is not None:
                self._opened.move_to_end(ref.object_id)
                return plain
        plain = self._read_chunk(ref)
        with self._lock:
            if ref.object_id not in self._opened:
                self._opened[ref.object_id] = plain
                self._opened_bytes += len(plain)
            while self._opened_bytes > _CACHE_BYTES and len(self._opened) > 1:
                self._opened_bytes -= len(self._opened.popitem(last=False)[1])
        return plain
