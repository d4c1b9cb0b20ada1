"""Where in a plain tree each chunk's bytes lie, on disk, so that a later version can be recut from it.

One file, written once and searched by halving; building it needs bounded memory however many files there are::

    MAGIC, then three u64: pieces, files, plain size of the version
    pieces   object id (32) ‖ start in chunk u32 ‖ length u32 ‖ offset in file u64 ‖ path u64     ascending
    files    position in the version's plaintext u64 ‖ path u64                                    ascending
    paths    u16 length ‖ UTF-8; ``path`` above counts from the first of them

All integers are big-endian, so that sorting records as bytes sorts them by object id, then by start. The second table
turns positions of the plaintext (which deltas refer to) into files. The index is a pure function of the manifest; it
is trusted for nothing: whoever reads by it checks the hash of what came out.
"""

import heapq
import mmap
import shutil
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Final, Self

import msgspec

from entrepot.client.folders import folder_errors
from entrepot.content.manifest import EntryKind, Part
from entrepot.core.errors import FormatError
from entrepot.core.paths import check_path
from entrepot.durable.files import replacing

MAGIC: Final = b"ENTIDX\x00\x01"
RUN: Final = 64 * 1024
"""Pieces sorted in memory at a time (3.5 MiB)."""

MAX_SIZE: Final = 2**62
"""What a version may say that it holds; no file offset within it overflows."""

_HEAD: Final = struct.Struct(">8sQQQ")
_PIECE: Final = struct.Struct(">32sIIQQ")
_FILE: Final = struct.Struct(">QQ")
_LENGTH: Final = struct.Struct(">H")


class Piece(msgspec.Struct, frozen=True):
    """``length`` bytes of a chunk, from ``start`` in it, lie in the file ``path`` from ``offset``."""

    start: int
    length: int
    path: str
    offset: int


def covering(pieces: Iterable[Piece], size: int) -> list[Piece] | None:
    """Pieces that together are the whole chunk of ``size`` bytes, in order and without overlap; None when they lack
    some.

    Args:
        pieces: in order of their start in the chunk.
    """
    chosen: list[Piece] = []
    at = 0
    for piece in pieces:
        if piece.start > at:
            return None
        skip = at - piece.start
        if piece.length > skip:
            chosen.append(Piece(at, piece.length - skip, piece.path, piece.offset + skip))
            at += piece.length - skip
        if at >= size:
            break
    return chosen if at == size else None


class FileRange(msgspec.Struct, frozen=True):
    """``length`` bytes of the file ``path`` from ``offset``."""

    path: str
    offset: int
    length: int


class _Builder:
    """Collects the three tables beside the final file."""

    def __init__(self, scratch: Path, run: int) -> None:
        self._scratch = scratch
        self._run = run
        self._records: list[bytes] = []
        self._runs: list[Path] = []
        self._files = (scratch / "files").open("w+b")
        self._paths = (scratch / "paths").open("w+b")
        self._path_end = 0
        self.pieces = 0
        self.files = 0
        self.size = 0

    def add(self, part: Part) -> None:
        for entry in part.entries:
            if entry.kind != EntryKind.FILE or not entry.size:
                continue
            # A file that goes on from the part before is listed once more under its name: 4 KiB at most per part.
            at = self._path_end
            encoded = entry.path.encode()
            self._path_end += self._paths.write(_LENGTH.pack(len(encoded)) + encoded)
            if entry.offset == 0:
                self._files.write(_FILE.pack(self.size, at))
                self.files += 1
            offset = entry.offset
            for extent in entry.extents:
                object_id = part.chunks[extent.chunk].object_id
                self._records.append(_PIECE.pack(object_id, extent.offset, extent.length, offset, at))
                offset += extent.length
                self.size += extent.length
            if len(self._records) >= self._run:
                self._spill()

    def _spill(self) -> None:
        self._records.sort()
        path = self._scratch / f"run-{len(self._runs)}"
        path.write_bytes(b"".join(self._records))
        self._runs.append(path)
        self.pieces += len(self._records)
        self._records = []

    def write(self, out: IO[bytes]) -> None:
        if self._records:
            self._spill()
        out.write(_HEAD.pack(MAGIC, self.pieces, self.files, self.size))
        for record in heapq.merge(*(_records(path) for path in self._runs)):
            out.write(record)
        for table in (self._files, self._paths):
            table.seek(0)
            shutil.copyfileobj(table, out, 1024 * 1024)

    def close(self) -> None:
        self._files.close()
        self._paths.close()


def _records(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while data := file.read(_PIECE.size * 256):
            for at in range(0, len(data), _PIECE.size):
                yield data[at : at + _PIECE.size]


def build_index(parts: Iterable[Part], path: Path, *, run: int = RUN) -> None:
    """Write the index of a version, whole or not at all.

    Args:
        parts: the checked parts of its manifest, in order.
        path: of the index; scratch files stand beside it meanwhile.
        run: pieces to sort in memory at a time.

    Raises:
        StorageError: the disk refuses.
        FormatError: a part is damaged.
    """
    scratch = path.with_name(f".{path.name}.scratch")
    with folder_errors(str(path)):
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        try:
            builder = _Builder(scratch, run)
            try:
                for part in parts:
                    builder.add(part)
                with replacing(path, mode=0o600) as out:
                    builder.write(out)
            finally:
                builder.close()
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


class TreeIndex:
    """Reads an index. A context manager; safe to use from several threads.

    Raises:
        FormatError: not an index, or cut short.
        StorageError: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        with folder_errors(str(path)), path.open("rb") as file:
            try:
                self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            except ValueError:
                raise FormatError(f"The index {path} is empty.") from None
        if len(self._data) < _HEAD.size:
            raise FormatError(f"The index {path} is cut short.")
        magic, self._pieces, self._files, self.plain_size = _HEAD.unpack_from(self._data, 0)
        self._files_at = _HEAD.size + self._pieces * _PIECE.size
        self._paths_at = self._files_at + self._files * _FILE.size
        if magic != MAGIC or self._paths_at > len(self._data) or self.plain_size > MAX_SIZE:
            raise FormatError(f"The index {path} is damaged.")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the map (Windows removes no mapped file)."""
        self._data.close()

    def pieces(self, object_id: bytes) -> Iterator[Piece]:
        """Every place where bytes of this chunk lie, in order of their start in the chunk.

        Raises:
            FormatError: the index is damaged.
        """
        low, high = 0, self._pieces
        while low < high:
            middle = (low + high) // 2
            at = _HEAD.size + middle * _PIECE.size
            if self._data[at : at + 32] < object_id:
                low = middle + 1
            else:
                high = middle
        while low < self._pieces:
            found, start, length, offset, path = _PIECE.unpack_from(self._data, _HEAD.size + low * _PIECE.size)
            if found != object_id:
                return
            if offset + length > self.plain_size:
                raise FormatError("The index is damaged: a piece reaches beyond the end.")
            yield Piece(start, length, self._path(path), offset)
            low += 1

    def covering(self, object_id: bytes, size: int) -> list[Piece] | None:
        """Pieces that together are the whole chunk, in order and without overlap; None when the tree lacks some.

        Raises:
            FormatError: the index is damaged.
        """
        return covering(self.pieces(object_id), size)

    def ranges(self, position: int, length: int) -> list[FileRange]:
        """The files that make up a range of the version's plaintext.

        Raises:
            FormatError: the range reaches beyond the end, or the index is damaged.
        """
        if position < 0 or length < 0 or position + length > self.plain_size:
            raise FormatError("A range reaches beyond the end of the version.")
        found: list[FileRange] = []
        number = self._file_at(position)
        while length:
            if number >= self._files:
                raise FormatError("The index is damaged: it lists too few files.")
            begin, path = self._file(number)
            end = self._file(number + 1)[0] if number + 1 < self._files else self.plain_size
            take = min(length, end - position)
            if begin > position or take <= 0:
                raise FormatError("The index is damaged: its files are in disorder.")
            found.append(FileRange(self._path(path), position - begin, take))
            position += take
            length -= take
            number += 1
        return found

    def _file_at(self, position: int) -> int:
        """Number of the last file that begins at or before a position."""
        low, high = 0, self._files
        while high - low > 1:
            middle = (low + high) // 2
            if self._file(middle)[0] <= position:
                low = middle
            else:
                high = middle
        return low

    def _file(self, number: int) -> tuple[int, int]:
        position, path = _FILE.unpack_from(self._data, self._files_at + number * _FILE.size)
        return position, path

    def _path(self, at: int) -> str:
        begin = self._paths_at + at + _LENGTH.size
        end = begin + int.from_bytes(self._data[begin - _LENGTH.size : begin])
        try:
            return check_path(self._data[begin:end].decode())
        except UnicodeDecodeError:
            raise FormatError("The index is damaged: a path is not UTF-8.") from None
