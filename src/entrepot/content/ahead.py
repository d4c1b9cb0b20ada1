"""Reads a source ahead of whoever cuts it: several files at a time, given back in their order.

The unit is a *read*: a run of small files with whatever lies between them, or the next window of a big file, which is
cut into its chunks right there. Memory: :data:`AHEAD`, and one window.
"""

import hashlib
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import Final

import msgspec
from pyfastcdc import FastCDC

from entrepot.content.snapshot import FileItem, Item
from entrepot.content.sources import SourceFile, read_source
from entrepot.core.sizes import KIB, MIB

MIN_CHUNK: Final = 256 * KIB
AVERAGE_CHUNK: Final = MIB
MAX_CHUNK: Final = 4 * MIB
WINDOW: Final = 8 * MIB
AHEAD: Final = 16 * MIB
ITEM: Final = KIB
"""What an item counts beside its bytes, so that empty files, folders and links are bounded, too."""
RUN_BYTES: Final = MIB
RUN_ITEMS: Final = 64
QUICK_FILE: Final = 200e-6
QUICK_BYTES: Final = 200 * MIB
"""Seconds for each small file, and bytes a second, that only what waits for a disk or a network takes longer than."""
RUNS_IN_POOL: Final = 32


class Small(msgspec.Struct, frozen=True, gc=False):
    """A small file with its bytes and their SHA-256; or another item, without."""

    item: Item
    data: bytes = b""
    sha256: bytes = b""


class Chunks(msgspec.Struct, frozen=True, gc=False):
    """The next chunks of a big file.

    Attributes:
        plain: of each chunk, with its SHA-256.
        sha256: of the whole file, at its end; before that empty.
    """

    item: FileItem
    plain: tuple[tuple[memoryview, bytes], ...]
    sha256: bytes


Read = tuple[Small, ...] | Chunks


def read_ahead(items: Iterable[Item], pool: Executor, seed: int) -> Iterator[Read]:
    """All items in order.

    Args:
        seed: FastCDC's gear seed.

    Raises:
        RefusedError: a file changed while it was read, or cannot be read.
    """
    chunker = FastCDC(min_size=MIN_CHUNK, avg_size=AVERAGE_CHUNK, max_size=MAX_CHUNK, seed=seed)
    waiting: deque[tuple[_Run | _Big, Future[Read]]] = deque()
    ahead = 0
    small = _SmallFiles(pool)
    for work in _works(items, chunker):
        waiting.append((work, small.read(work) if isinstance(work, _Run) else pool.submit(work.read)))
        ahead += work.size
        while ahead > AHEAD:
            ahead -= waiting[0][0].size
            yield from _reads(*waiting.popleft(), pool)
    for work, future in waiting:
        yield from _reads(work, future, pool)


def _reads(work: "_Run | _Big", future: "Future[Read]", pool: Executor) -> Iterator[Read]:
    read = future.result()
    while isinstance(read, Chunks) and not read.sha256:
        future = pool.submit(work.read)  # the next window, while this one is being worked on
        yield read
        read = future.result()
    yield read


def _works(items: Iterable[Item], chunker: FastCDC) -> Iterator["_Run | _Big"]:
    run = _Run()
    for item in items:
        size = item.size if isinstance(item, FileItem) else 0
        if size >= MIN_CHUNK:
            if run.items:
                yield run
                run = _Run()
            assert isinstance(item, FileItem)
            yield _Big(item, chunker)
        else:
            run.items.append(item)
            run.size += size + ITEM
            if run.size >= RUN_BYTES or len(run.items) >= RUN_ITEMS:
                yield run
                run = _Run()
    if run.items:
        yield run


class _Run:
    """Small files, read and hashed one after the other."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.size = 0

    def read(self) -> Read:
        return tuple(_read_small(item) for item in self.items)


class _SmallFiles:
    """Reads runs in the pool, many at once, while the source lets one wait; else here and now.

    What the system has in memory is read sooner than it is handed from thread to thread: each of the few calls for a
    file gives up Python's one lock, and several readers would queue for it at each of them.
    """

    def __init__(self, pool: Executor) -> None:
        self._pool = pool
        self._slow = 0  # as many runs are left to the pool before one is tried here again

    def read(self, run: _Run) -> "Future[Read]":
        if self._slow:
            self._slow -= 1
            return self._pool.submit(run.read)
        begun = time.perf_counter()
        done: Future[Read] = Future()
        done.set_result(run.read())
        if time.perf_counter() - begun > QUICK_FILE * len(run.items) + run.size / QUICK_BYTES:
            self._slow = RUNS_IN_POOL
        return done


def _read_small(item: Item) -> Small:
    if not isinstance(item, FileItem):
        return Small(item)
    data = read_source(item)
    return Small(item, data, hashlib.sha256(data).digest())


class _Big:
    """A big file. Used by one thread at a time."""

    def __init__(self, item: FileItem, chunker: FastCDC) -> None:
        self._source = SourceFile(item)
        self._chunker = chunker
        self._rest: memoryview | bytes = b""  # the beginning of a chunk whose end is still to come
        self._begun = False
        self.size = min(item.size, WINDOW)

    def read(self) -> Read:
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
