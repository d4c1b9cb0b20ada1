"""Reads big files ahead of whoever keeps them: several at a time, given back in their order, cut into chunks right
there, a window at a time. Groups of small files come read already, are hashed and looked at meanwhile, and keep their
places.

Memory: :data:`AHEAD`, and one window.
"""

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import Final

import msgspec
from pyfastcdc import FastCDC

from entrepot.content.grouping import BIG, ITEM, Group, Piece
from entrepot.content.snapshot import FileItem
from entrepot.content.sources import SourceFile
from entrepot.content.surprises import Surprise, surprises_of
from entrepot.core.sizes import MIB

MIN_CHUNK: Final = BIG
AVERAGE_CHUNK: Final = MIB
MAX_CHUNK: Final = 4 * MIB
WINDOW: Final = 8 * MIB
AHEAD: Final = 16 * MIB


class Hashed(msgspec.Struct, frozen=True, gc=False):
    """A group, the SHA-256 of its bytes, and what surprises in it."""

    group: Group
    sha256: bytes
    surprises: tuple[Surprise, ...]


class Chunks(msgspec.Struct, frozen=True, gc=False):
    """The next chunks of a big file.

    Attributes:
        plain: of each chunk, with its SHA-256.
        sha256: of the whole file, at its end; before that empty.
    """

    item: FileItem
    plain: tuple[tuple[memoryview, bytes], ...]
    sha256: bytes


def read_ahead(pieces: Iterable[Piece], pool: Executor, seed: int) -> Iterator[Hashed | Chunks]:
    """All pieces in order, groups hashed, big files cut.

    Args:
        seed: FastCDC's gear seed.

    Raises:
        RefusedError: a file changed while it was read, or cannot be read.
    """
    chunker = FastCDC(min_size=MIN_CHUNK, avg_size=AVERAGE_CHUNK, max_size=MAX_CHUNK, seed=seed)
    waiting: deque[tuple[int, Future[Hashed] | _Big]] = deque()
    ahead = 0
    for piece in pieces:
        if isinstance(piece, Group):
            size = len(piece.plain) + ITEM * len(piece.entries)
            waiting.append((size, pool.submit(_hash, piece)))
        else:
            size = min(piece.size, WINDOW)
            waiting.append((size, _Big(piece, chunker, pool)))
        ahead += size
        while ahead > AHEAD:
            size, first = waiting.popleft()
            ahead -= size
            yield from _given(first)
    for _, each in waiting:
        yield from _given(each)


def _given(piece: "Future[Hashed] | _Big") -> Iterator[Hashed | Chunks]:
    if isinstance(piece, _Big):
        yield from piece.chunks()
    else:
        yield piece.result()


def _hash(group: Group) -> Hashed:
    return Hashed(group, hashlib.sha256(group.plain).digest(), surprises_of(group))


class _Big:
    """A big file, whose first window is being read from now on. Used by one thread at a time."""

    def __init__(self, item: FileItem, chunker: FastCDC, pool: Executor) -> None:
        self._source = SourceFile(item)
        self._chunker = chunker
        self._pool = pool
        self._rest: memoryview | bytes = b""  # the beginning of a chunk whose end is still to come
        self._begun = False
        self._reading: Future[Chunks] = pool.submit(self._read)

    def chunks(self) -> Iterator[Chunks]:
        """All of it; the next window is read while one is being worked on."""
        read = self._reading.result()
        while not read.sha256:
            self._reading = self._pool.submit(self._read)
            yield read
            read = self._reading.result()
        yield read

    def _read(self) -> Chunks:
        """Cut the next window: the rest of the one before, and new bytes. Chunks are views of it.

        A cut depends on nothing that follows it, so only the last chunk has to wait for the next window, unless it is
        as large as can be.
        """
        data = self._source.read(WINDOW - len(self._rest))
        window = memoryview(b"".join((self._rest, data)) if self._rest else data)
        plain = [chunk.data for chunk in self._chunker.cut_buf(window)]
        self._rest = b""
        if self._source.left:
            if len(plain[-1]) < MAX_CHUNK:
                self._rest = plain.pop()
            self._begun = True
            return Chunks(self._source.item, _hashed(plain), b"")
        whole = self._source.sha256()
        only = not self._begun and len(plain) == 1
        return Chunks(self._source.item, ((plain[0], whole),) if only else _hashed(plain), whole)


def _hashed(plain: list[memoryview]) -> tuple[tuple[memoryview, bytes], ...]:
    return tuple((each, hashlib.sha256(each).digest()) for each in plain)
