"""A store in memory: for tests, and the plainest statement of what the port means."""

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from entrepot.core.errors import NotFoundError
from entrepot.objects.keys import check_key, check_range, check_seconds, check_size
from entrepot.objects.store import Fetched, NoUrl, Page, Stored, Unchanged

PIECE: Final = 256 * 1024


class MemoryStore:
    """An :class:`~entrepot.objects.store.ObjectStore` that lives as long as the process.

    Args:
        now: seconds since 1970, for ``Stored.modified``.
    """

    def __init__(self, now: Callable[[], float] = lambda: 0.0) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._held: dict[str, tuple[bytes, float, int]] = {}
        self._puts = 0

    def put(self, key: str, data: bytes | Iterable[bytes], *, if_absent: bool = False, durable: bool = True) -> bool:
        """See :meth:`ObjectStore.put`."""
        del durable  # memory survives nothing
        check_key(key)
        whole = data if isinstance(data, bytes) else b"".join(data)
        with self._lock:
            if if_absent and key in self._held:
                return False
            self._puts += 1
            self._held[key] = (whole, self._now(), self._puts)
            return True

    def flush(self) -> None:
        """See :meth:`ObjectStore.flush`."""

    def read(self, key: str, *, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """See :meth:`ObjectStore.read`."""
        check_key(key)
        check_range(start, length)
        whole, _, _ = self._get(key)
        end = len(whole) if length is None else min(len(whole), start + length)
        for at in range(start, end, PIECE):
            yield whole[at : min(end, at + PIECE)]

    def fetch(self, key: str, *, known: str = "", limit: int) -> Fetched | Unchanged:
        """See :meth:`ObjectStore.fetch`."""
        check_key(key)
        whole, _, version = self._get(key)
        if known == str(version):
            return Unchanged()
        check_size(key, len(whole), limit)
        return Fetched(data=whole, version=str(version))

    def stat(self, key: str) -> Stored:
        """See :meth:`ObjectStore.stat`."""
        check_key(key)
        whole, modified, _ = self._get(key)
        return Stored(key=key, size=len(whole), modified=modified)

    def delete(self, key: str) -> bool:
        """See :meth:`ObjectStore.delete`."""
        check_key(key)
        with self._lock:
            return self._held.pop(key, None) is not None

    def list(self, prefix: str = "", *, after: str = "", limit: int = 1000) -> Page:
        """See :meth:`ObjectStore.list`."""
        with self._lock:
            keys = sorted(key for key in self._held if key.startswith(prefix) and key > after)
            entries = tuple(Stored(key, len(self._held[key][0]), self._held[key][1]) for key in keys[:limit])
        return Page(entries=entries, more=len(keys) > limit)

    def link(self, key: str, *, seconds: int) -> NoUrl:
        """See :meth:`ObjectStore.link`."""
        check_key(key)
        check_seconds(seconds)
        return NoUrl()

    def _get(self, key: str) -> tuple[bytes, float, int]:
        with self._lock:
            found = self._held.get(key)
        if found is None:
            raise NotFoundError(f"The store has no {key}.")
        return found
