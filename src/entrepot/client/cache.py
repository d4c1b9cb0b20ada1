"""The sealed-object cache: a shelf bounded by bytes; what was used longest ago goes first.

When an object was used last is its file's time of modification, which survives a crash and needs no ledger beside
the objects that could disagree with them. Objects are verified whenever they are read, so losing or damaging one
costs a download and nothing else; therefore they are stored without waiting for the disk.
"""

import contextlib
import heapq
import os
import shutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from entrepot.client.home import native
from entrepot.core.errors import IntegrityError, LimitedError, NotFoundError, StorageError
from entrepot.core.ids import ObjectId, object_id_from_hex
from entrepot.core.sizes import MIB
from entrepot.objects.folder import FolderStore
from entrepot.objects.shelf import PREFIX, Shelf, key_of
from entrepot.objects.store import Stored

FLUSH: Final = 64 * MIB
"""Bytes that may wait in memory of the file system before they get their names."""


class Cache:
    """Sealed objects that were downloaded once. Thread-safe; one process at a time (``durable.locks``).

    Args:
        root: its folder.
        limit: bytes that it may hold; 0 keeps nothing.
    """

    def __init__(self, root: Path, limit: int) -> None:
        self._root = root
        self._limit = limit
        self._shelf = Shelf(FolderStore(root))
        self._lock = threading.Lock()
        self._waiting = 0
        self._held: int | None = None
        self._left = 0

    @property
    def limit(self) -> int:
        """Bytes that it may hold."""
        return self._limit

    def read(self, object_id: bytes, size: int) -> bytes | None:
        """A verified object, or None. A damaged one is removed, as if it had never been here.

        Args:
            size: of the sealed object, from its reference.
        """
        name = ObjectId(object_id)
        try:
            data = self._shelf.read_whole(name, size)
        except NotFoundError:
            return None
        except (IntegrityError, LimitedError, StorageError):  # other bytes, more of them, or none that the disk gives
            self.discard(object_id)
            return None
        with contextlib.suppress(OSError):  # it may wait for the flush, or be evicted just now
            os.utime(self._root.joinpath(*key_of(name).split("/")))
        return data

    def has(self, object_id: bytes) -> bool:
        """Whether it is here (unverified)."""
        return self._shelf.has([ObjectId(object_id)])[0]

    def keep(self, object_id: bytes, data: bytes) -> bool:
        """Keep a verified object if there is room for it; False when there is none, on the disk or by the limit."""
        if len(data) > self._limit or (self._left and self._free() < self._left + len(data)):
            return False
        try:
            new = self._shelf.put_sealed(ObjectId(object_id), data, durable=False)
            if new:
                self._grow(len(data))
        except StorageError:
            return False
        return True

    def _grow(self, size: int) -> None:
        with self._lock:
            if self._held is not None:
                self._held += size
            self._waiting += size
            flush = self._waiting >= FLUSH
            if flush:
                self._waiting = 0
            too_much = self._count() > self._limit
        if flush:
            self._shelf.flush()
        if too_much:
            self.trim(self._limit - self._limit // 10)

    def leave(self, room: int) -> None:
        """Leave so many bytes of the disk to the files that are being fetched: what was used longest ago goes where
        they have less, and nothing is kept that would take of it. Called again as they take it.

        Raises:
            StorageError: the disk refuses.
        """
        before, self._left = self._left, room
        if room > before and (short := room - self._free()) > 0:
            self.trim(max(0, self.held() - short))

    def shares_disk(self, folder: Path) -> bool:
        """Whether files in a folder, which need not be there yet, take of the room that this has, too. By the size of
        the disk: parts of one may have device numbers of their own. Two of one size count as one."""
        return _disk_size(folder) == _disk_size(self._root)

    def _free(self) -> int:
        """Bytes that are free on its disk; as many as there can be where the system does not tell."""
        with contextlib.suppress(OSError):
            return shutil.disk_usage(self._root.parent).free
        return sys.maxsize

    def discard(self, object_id: bytes) -> None:
        """Remove an object, if it is here."""
        with contextlib.suppress(NotFoundError, StorageError):
            size = self._shelf.size(ObjectId(object_id))
            if self._shelf.delete(ObjectId(object_id)):
                with self._lock:
                    self._held = None if self._held is None else max(0, self._held - size)

    def held(self) -> int:
        """Bytes held now."""
        with self._lock:
            return self._count()

    def inventory(self) -> tuple[int, int]:
        """How many objects are here, and their bytes; nothing is changed."""
        sizes = [entry.size for entry in self._entries()]
        return len(sizes), sum(sizes)

    def _count(self) -> int:
        """Bytes held; counted by listing once, then kept up to date. Call under the lock."""
        if self._held is None:
            self._held = sum(entry.size for entry in self._entries())
        return self._held

    def _entries(self) -> Iterator[Stored]:
        after, more = "", True
        while more:
            page = self._shelf.store.list(PREFIX, after=after, limit=4096)
            yield from page.entries
            more = page.more and bool(page.entries)
            after = page.entries[-1].key if page.entries else after

    def trim(self, limit: int) -> int:
        """Remove what was used longest ago until at most ``limit`` bytes are held; returns the bytes freed.

        Memory: one entry per object removed.

        Raises:
            StorageError: the disk refuses.
        """
        with self._lock:
            excess = sum(entry.size for entry in self._entries()) - limit
        if excess <= 0:
            return 0
        oldest: list[tuple[float, int, str]] = []  # the newest victim on top, so that it can be spared
        total = 0
        for entry in self._entries():
            heapq.heappush(oldest, (-entry.modified, entry.size, entry.key))
            total += entry.size
            while total - oldest[0][1] >= excess:
                total -= heapq.heappop(oldest)[1]
        for _, _, key in oldest:
            self.discard(object_id_from_hex(key.rpartition("/")[2]))
        return total

    def flush(self) -> None:
        """Give everything kept so far its name, so that the next process finds it.

        Raises:
            StorageError: the disk refuses.
        """
        self._shelf.flush()

    def clear(self) -> int:
        """Remove everything; returns the bytes freed.

        Raises:
            StorageError: the disk refuses.
        """
        freed = self.trim(0)
        self.flush()
        return freed


def _disk_size(folder: Path) -> int:
    for each in (folder, *folder.absolute().parents):
        with contextlib.suppress(OSError):
            return shutil.disk_usage(native(each)).total
    return 0
