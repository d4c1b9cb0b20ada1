"""Reads the small files of a source and gathers them into groups, which share a chunk; big files are passed on.

A group ends after a file when it has 256 KiB or more (or 32 KiB of entries) and a keyed hash of that file says so, so
that a changed file moves no later boundary. Memory: :data:`AHEAD`, and one group.
"""

import hashlib
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import Final

import msgspec

from entrepot.content.digests import digest_of
from entrepot.content.manifest import Entry, EntryKind, Extent
from entrepot.content.repeats import Repeats
from entrepot.content.snapshot import FileItem, FolderItem, Item, LinkItem
from entrepot.content.sources import read_source
from entrepot.core.secret import Secret
from entrepot.core.sizes import KIB, MIB

if sys.platform == "linux":
    import resource

BIG: Final = 256 * KIB
"""A file of this size or more is not grouped."""
GROUP_MIN: Final = 256 * KIB
GROUP_MAX: Final = MIB
GROUP_MIN_ENTRY_BYTES: Final = 32 * KIB
GROUP_MAX_ENTRY_BYTES: Final = 128 * KIB
"""The same for what the group's entries take in the manifest: many tiny files make groups, too, and the entries of a
group always fit in one manifest part."""
AHEAD: Final = 8 * MIB
ITEM: Final = KIB
"""What an item counts beside its bytes, so that empty files, folders and links are bounded, too."""
RUN_BYTES: Final = MIB
RUN_ITEMS: Final = 64
QUICK_FILE: Final = 200e-6
QUICK_BYTES: Final = 200 * MIB
"""Seconds for each small file, and bytes a second, that only what waits for a disk or a network takes longer than."""
RUNS_IN_POOL: Final = 32
_ENTRY_BYTES: Final = 80  # of an entry besides its path and target
_LOW_BITS: Final = 0b11


class Small(msgspec.Struct, frozen=True, gc=False):
    """A small file with its bytes and their digest; or another item, without."""

    item: Item
    data: bytes = b""
    digest: bytes = b""


class Group(msgspec.Struct, frozen=True):
    """A run of small files, empty folders and links.

    Attributes:
        plain: the bytes of its files, one after the other; empty when none has any: then there is no chunk.
        entries: without extents, but for files whose bytes lie in a group already: of these the extent's ``chunk``
            says how many groups back, 0 for this one.
    """

    plain: bytes
    entries: tuple[Entry, ...]

    @property
    def weight(self) -> int:
        """Roughly what it takes in memory, in bytes."""
        return len(self.plain) + ITEM * len(self.entries)


Piece = Group | FileItem
"""What a source consists of: groups, and big files."""


def ends(key: Secret, digest: bytes, mask: int) -> bool:
    """Tell whether content with this hash ends a group or a part: true for one in ``mask + 1``."""
    return not hashlib.blake2b(digest, key=key.reveal(), digest_size=8).digest()[0] & mask


def grouped(items: Iterable[Item], key: Secret, pool: Executor, *, once: bool = True) -> Iterator[Piece]:
    """A snapshot's items in order: what is small in groups, what is big as it is.

    Args:
        key: decides where groups end (``DomainKeys.grouping_key``).
        once: files that lie in a group already are not put into another.

    Raises:
        RefusedError: a file changed while it was read, or cannot be read.
    """
    group = _Grouping(key, Repeats() if once else None)
    for read in read_runs(items, pool):
        if isinstance(read, FileItem):
            yield from group.close()
            yield read
        else:
            for small in read:
                yield from group.take(small)
    yield from group.close()


def read_runs(items: Iterable[Item], pool: Executor) -> Iterator[tuple[Small, ...] | FileItem]:
    """All items in order: small ones with their bytes, in runs, and big files."""
    waiting: deque[tuple[_Run, Future[tuple[Small, ...]]] | FileItem] = deque()
    ahead = 0
    runs = _Runs(pool)
    for work in _works(items):
        if isinstance(work, FileItem):
            waiting.append(work)
            ahead += ITEM
        else:
            waiting.append((work, runs.read(work)))
            ahead += work.size
        while waiting:
            first = waiting[0]
            if isinstance(first, FileItem):
                ahead -= ITEM
                yield first
            elif ahead > AHEAD or first[1].done():
                ahead -= first[0].size
                yield first[1].result()
            else:
                break
            waiting.popleft()
    for each in waiting:
        yield each if isinstance(each, FileItem) else each[1].result()


def _works(items: Iterable[Item]) -> Iterator["_Run | FileItem"]:
    run = _Run()
    for item in items:
        size = item.size if isinstance(item, FileItem) else 0
        if size >= BIG:
            if run.items:
                yield run
                run = _Run()
            assert isinstance(item, FileItem)
            yield item
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

    def read(self) -> tuple[Small, ...]:
        return tuple(_read_small(item) for item in self.items)


def _read_small(item: Item) -> Small:
    if not isinstance(item, FileItem):
        return Small(item)
    data = read_source(item)
    return Small(item, data, digest_of(data))


class _Runs:
    """Reads runs in the pool, many at once, while the source lets one wait; else here and now.

    What the system has in memory is read sooner than it is handed from thread to thread: each of the few calls for a
    file gives up Python's one lock, and several readers would queue for it at each of them.
    """

    def __init__(self, pool: Executor) -> None:
        self._pool = pool
        self._slow = 0  # as many runs are left to the pool before one is tried here again

    def read(self, run: _Run) -> "Future[tuple[Small, ...]]":
        if self._slow:
            self._slow -= 1
            return self._pool.submit(run.read)
        begun, waits = time.perf_counter(), _waits()
        done: Future[tuple[Small, ...]] = Future()
        done.set_result(run.read())
        took = time.perf_counter() - begun
        if took > QUICK_FILE * len(run.items) + run.size / QUICK_BYTES and _waits() - waits >= len(run.items) / 8:
            self._slow = RUNS_IN_POOL
        return done


def _waits() -> float:
    """How often this thread has waited for something, so that a busy processor is not taken for a slow disk."""
    if sys.platform == "linux":
        waits: float = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
    else:
        waits = time.perf_counter() * 1e6  # not known: every microsecond may have been one
    return waits


class _Grouping:
    """Collects runs of small files. Where they end does not depend on what lies in a group already."""

    def __init__(self, key: Secret, repeats: Repeats | None) -> None:
        self._key = key
        self._repeats = repeats
        self._items: list[Small] = []
        self._size = 0
        self._entry_bytes = 0

    def take(self, small: Small) -> Iterator[Group]:
        """Add an item; give the group when it ends with it."""
        item = small.item
        self._items.append(small)
        self._size += len(small.data)
        target = item.target if isinstance(item, LinkItem) else ""
        self._entry_bytes += _ENTRY_BYTES + len(item.path.encode()) + len(target.encode())
        large = self._size >= GROUP_MIN or self._entry_bytes >= GROUP_MIN_ENTRY_BYTES
        too_large = self._size >= GROUP_MAX or self._entry_bytes >= GROUP_MAX_ENTRY_BYTES
        if too_large or (large and small.digest and ends(self._key, small.digest, _LOW_BITS)):
            yield from self.close()

    def close(self) -> Iterator[Group]:
        """Give what was collected, if anything."""
        items, self._items = self._items, []
        self._size = self._entry_bytes = 0
        if items:
            yield _group(items, self._repeats)


def _group(items: list[Small], repeats: Repeats | None) -> Group:
    files = [small for small in items if small.data]
    placed = repeats.place([(small.digest, len(small.data)) for small in files]) if repeats else [None] * len(files)
    plain = [small.data for small, extent in zip(files, placed, strict=True) if extent is None]
    extents = iter(placed)
    entries = [_entry(small, next(extents) if small.data else None) for small in items]
    return Group(b"".join(plain), tuple(entries))


def _entry(small: Small, extent: Extent | None) -> Entry:
    item = small.item
    if isinstance(item, FileItem):
        extents = () if extent is None else (extent,)
        return Entry(EntryKind.FILE, item.path, item.mode, item.size, small.digest, 0, extents)
    if isinstance(item, FolderItem):
        return Entry(EntryKind.FOLDER, item.path, item.mode)
    return Entry(EntryKind.LINK, item.path, target=item.target)
