"""Decompressed byte streams of tar archives and Debian packages, bounded in memory whatever their bytes say."""

import bz2
import contextlib
import gzip
import io
import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, Protocol

import zstandard

from entrepot.core.errors import RefusedError
from entrepot.core.sizes import KIB, MIB

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MAX_HEADER: Final = 4 * MIB
"""No single read is larger: tarfile reads whole extended headers at once."""
MAX_MEMORY: Final = 128 * MIB
"""For a decompressor's window or dictionary."""
_PIECE: Final = 64 * KIB

DAMAGES: Final = (
    *(tarfile.TarError, zipfile.BadZipFile, zipfile.LargeZipFile),
    *(zlib.error, lzma.LZMAError, zstandard.ZstdError, gzip.BadGzipFile, struct.error, EOFError),
    *(NotImplementedError, ValueError, OverflowError, LookupError, MemoryError),
)
"""What the readers of foreign archives raise about their bytes; ``NotImplementedError`` is how ``zipfile`` says that it
does not know a member's compression or a newer version of the format."""


class Readable(Protocol):
    """A stream that goes forward."""

    def read(self, size: int = -1, /) -> bytes:
        """At most ``size`` bytes; none at the end."""


class Forward:
    """What tarfile needs of a file, over a stream that only goes forward (one byte back is possible)."""

    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        self._at = 0
        self._last = b""
        self._back = b""

    def read(self, size: int = -1) -> bytes:
        """At most ``size`` bytes, less only at the end.

        Raises:
            tarfile.ReadError: the archive wants more at once than is reasonable.
        """
        if not 0 <= size <= MAX_HEADER:
            raise tarfile.ReadError("a header is too large")
        data, self._back = self._back[:size], self._back[size:]
        while len(data) < size and (more := self._stream.read(size - len(data))):
            data += more
        self._at += len(data)
        self._last = data[-1:] or self._last
        return data

    def tell(self) -> int:
        """How much was read."""
        return self._at

    def seek(self, to: int, whence: int = io.SEEK_SET) -> int:
        """Read on to there.

        Raises:
            tarfile.ReadError: it is behind us: only a damaged archive leads there.
        """
        if to == self._at - 1 and whence == io.SEEK_SET and not self._back and self._last:
            self._at, self._back = to, self._last
        if whence != io.SEEK_SET or to < self._at:
            raise tarfile.ReadError("it leads back to what was read before")
        while self._at < to and self.read(min(_PIECE, to - self._at)):
            pass
        return self._at


class _Streams(io.RawIOBase):
    """One or more compressed streams, one after the other. Unlike the standard library's files, a damaged one is not
    taken for a failure of the disk, and memory can be bounded."""

    def __init__(self, raw: Readable, decoder: Callable[[], "lzma.LZMADecompressor | bz2.BZ2Decompressor"]) -> None:
        self._raw = raw
        self._new_decoder = decoder
        self._decoder = decoder()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        target = memoryview(buffer).cast("B")
        data = b""
        while not data:
            if self._decoder.eof:
                rest = (self._decoder.unused_data or self._raw.read(_PIECE)).lstrip(b"\0")  # padding between streams
                if not rest:
                    return 0
                self._decoder = self._new_decoder()
            else:
                rest = self._raw.read(_PIECE) if self._decoder.needs_input else b""
                if self._decoder.needs_input and not rest:
                    raise EOFError("it ends too early")
            data = self._decompress(rest, len(target))
        target[: len(data)] = data
        return len(data)

    def _decompress(self, data: bytes, size: int) -> bytes:
        try:
            return self._decoder.decompress(data, size)
        except OSError as error:
            raise tarfile.ReadError(str(error)) from None


def _decompressed(raw: IO[bytes], name: str) -> Readable:
    """Through the decompressor that a tar's name asks for."""
    if name.endswith((".gz", ".tgz")):
        return gzip.GzipFile(fileobj=raw, mode="rb")
    if name.endswith((".bz2", ".tbz2")):
        return io.BufferedReader(_Streams(raw, bz2.BZ2Decompressor), _PIECE)
    if name.endswith((".xz", ".txz")):
        return io.BufferedReader(_Streams(raw, lambda: lzma.LZMADecompressor(memlimit=MAX_MEMORY)), _PIECE)
    if name.endswith((".zst", ".tzst")):
        decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_MEMORY)
        return decompressor.stream_reader(raw, read_across_frames=True)
    return raw


@contextlib.contextmanager
def open_tar(path: Path) -> Iterator[Forward]:
    """The bytes of a tar archive, decompressed."""
    with path.open("rb") as raw:
        yield Forward(_decompressed(raw, path.name.lower()))


@contextlib.contextmanager
def open_deb(path: Path) -> Iterator[Forward]:
    """The bytes of the tar archive in a Debian package that holds its files (deb(5)).

    Raises:
        RefusedError: it is no Debian package.
    """
    with path.open("rb") as raw:
        if raw.read(8) != b"!<arch>\n":
            raise RefusedError(f"{path.name!r} is no Debian package.", next_step="Get it again.")
        while len(header := raw.read(60)) == 60 and header[58:] == b"`\n":
            name, size = header[:16].decode("ascii").strip().rstrip("/"), int(header[48:58])
            if name.startswith("data.tar"):
                yield Forward(_decompressed(io.BufferedReader(_Part(raw, size), _PIECE), name))
                return
            if size < 0:
                break
            raw.seek(size + size % 2, io.SEEK_CUR)
    raise RefusedError(f"{path.name!r} holds no files of a Debian package.", next_step="Get it again.")


class _Part(io.RawIOBase):
    """A part of a file, to be read once."""

    def __init__(self, raw: Readable, size: int) -> None:
        self._raw = raw
        self._left = size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        target = memoryview(buffer).cast("B")
        data = self._raw.read(max(0, min(self._left, len(target))))
        target[: len(data)] = data
        self._left -= len(data)
        return len(data)
