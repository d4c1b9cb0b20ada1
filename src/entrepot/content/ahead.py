"""Reads big files ahead of whoever keeps them: several at a time, given back in their order, cut into chunks right
there, a window at a time. Groups of small files come read already, are hashed and looked at meanwhile, and keep their
places.

Memory: :data:`AHEAD`, and :data:`WINDOWS` and one windows.
"""

import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import Final

import msgspec
from pyfastcdc import FastCDC

from entrepot.content.digests import Digester, digest_of
from entrepot.content.grouping import BIG, Group, Piece
from entrepot.content.snapshot import FileItem
from entrepot.content.sources import SourceFile
from entrepot.content.surprises import Surprise, surprises_of
from entrepot.core.sizes import MIB

MIN_CHUNK: Final = BIG
AVERAGE_CHUNK: Final = MIB
MAX_CHUNK: Final = 4 * MIB
WINDOW: Final = 8 * MIB
WINDOWS: Final = 2
"""So many of the file whose turn it is are read ahead: with one, its readers and those who seal wait for each other."""
AHEAD: Final = 16 * MIB
AHEAD_FIRST: Final = MIB
"""What is read ahead at the beginning, when whoever seals has nothing to do yet; it grows with what was given."""
TOGETHER: Final = MIB


class Hashed(msgspec.Struct, frozen=True, gc=False):
    """A group, the digest of its bytes, and what surprises in it."""

    group: Group
    digest: bytes
    surprises: tuple[Surprise, ...]


class Chunks(msgspec.Struct, frozen=True, gc=False):
    """The next chunks of a big file.

    Attributes:
        plain: of each chunk, with its digest.
        digest: of the whole file, at its end; before that empty.
    """

    item: FileItem
    plain: tuple[tuple[memoryview, bytes], ...]
    digest: bytes


def read_ahead(pieces: Iterable[Piece], pool: Executor, seed: int) -> Iterator[Hashed | Chunks]:
    """All pieces in order, groups hashed, big files cut.

    Args:
        seed: FastCDC's gear seed.

    Raises:
        RefusedError: a file changed while it was read, or cannot be read.
    """
    chunker = FastCDC(min_size=MIN_CHUNK, avg_size=AVERAGE_CHUNK, max_size=MAX_CHUNK, seed=seed)
    waiting: deque[tuple[int, Future[list[Hashed]] | _Big]] = deque()
    ahead, most = 0, AHEAD_FIRST
    for piece in _together(pieces):
        if isinstance(piece, FileItem):
            size = min(piece.size, WINDOW)
            waiting.append((size, _Big(piece, chunker, pool)))
        else:
            size = sum(group.weight for group in piece)
            waiting.append((size, pool.submit(_hash, piece)))
        ahead += size
        while ahead > most:
            size, first = waiting.popleft()
            ahead -= size
            most = min(AHEAD, most + size)
            yield from _given(first)
    for _, each in waiting:
        yield from _given(each)


def _together(pieces: Iterable[Piece]) -> Iterator[list[Group] | FileItem]:
    """Groups that follow each other, about :data:`TOGETHER` at once, so that each task is worth handing over."""
    groups: list[Group] = []
    size = 0
    for piece in pieces:
        if isinstance(piece, Group):
            groups.append(piece)
            size += piece.weight
        if groups and (size >= TOGETHER or not isinstance(piece, Group)):
            yield groups
            groups, size = [], 0
        if not isinstance(piece, Group):
            yield piece
    if groups:
        yield groups


def _given(piece: "Future[list[Hashed]] | _Big") -> Iterator[Hashed | Chunks]:
    if isinstance(piece, _Big):
        yield from piece.chunks()
    else:
        yield from piece.result()


def _hash(groups: list[Group]) -> list[Hashed]:
    return [Hashed(group, digest_of(group.plain), surprises_of(group)) for group in groups]


class _Big:
    """A big file, whose first window is being read from now on. Used by one thread; its windows are read in the pool,
    one after the other, for each begins where a cut of the one before is."""

    def __init__(self, item: FileItem, chunker: FastCDC, pool: Executor) -> None:
        self._source = SourceFile(item)
        self._chunker = chunker
        self._pool = pool
        self._rest = 0  # bytes of a chunk whose end is still to come
        self._whole = Digester()
        self._begun = False
        self._windows: deque[Future[Chunks]] = deque()
        self._changed = threading.Condition()
        self._room = 1
        self._reading = True
        self._ended = False
        pool.submit(self._read_on)

    def chunks(self) -> Iterator[Chunks]:
        """All of it; the next windows are read while one is being worked on."""
        self._room = WINDOWS
        at_end = False
        while not at_end:
            with self._changed:
                self._changed.wait_for(lambda: self._windows)
                window = self._windows.popleft()
                if not (self._reading or self._ended):
                    self._reading = True
                    self._pool.submit(self._read_on)
            read = window.result()
            yield read
            at_end = bool(read.digest)

    def _read_on(self) -> None:
        """Read windows until the file ends or no more may wait."""
        go_on = True
        while go_on:
            window: Future[Chunks] = Future()
            try:
                read = self._read()
            except BaseException as error:  # noqa: BLE001 - raised where the window is taken
                window.set_exception(error)
                ended = True
            else:
                window.set_result(read)
                ended = bool(read.digest)
            with self._changed:
                self._windows.append(window)
                self._ended = ended
                self._reading = go_on = not ended and len(self._windows) < self._room
                self._changed.notify()

    def _read(self) -> Chunks:
        """Cut the next window. Chunks are views of it.

        A cut depends on nothing that follows it, so only the last chunk has to wait for the next window, unless it is
        as large as can be. The file's hash is that of the chunks as they are given.
        """
        window = memoryview(self._source.read(WINDOW, again=self._rest))
        plain = [chunk.data for chunk in self._chunker.cut_buf(window)]
        self._rest = 0
        if self._source.left and len(plain[-1]) < MAX_CHUNK:
            self._rest = len(plain.pop())
        self._whole.update(window[: len(window) - self._rest])
        if self._source.left:
            self._begun = True
            return Chunks(self._source.item, _hashed(plain), b"")
        whole = self._whole.digest()
        only = not self._begun and len(plain) == 1
        return Chunks(self._source.item, ((plain[0], whole),) if only else _hashed(plain), whole)


def _hashed(plain: list[memoryview]) -> tuple[tuple[memoryview, bytes], ...]:
    return tuple((each, digest_of(each)) for each in plain)
