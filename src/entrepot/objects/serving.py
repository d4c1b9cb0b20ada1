"""A store as a server shows it to those it serves: what is wrong between the server and its store is not their fault.

A store that refuses *our* credentials must not look as if it refused the caller's; and whoever asks has no use for its
details, which go to the log, once until they change.
"""

import contextlib
import threading
from collections.abc import Iterable, Iterator

import structlog

from entrepot.core.errors import ForbiddenError, TrustError, UnavailableError
from entrepot.objects.store import Fetched, NoUrl, ObjectStore, Page, SignedUrl, Stored, Unchanged
from entrepot.objects.wrapper import StoreWrapper

_log = structlog.get_logger("entrepot.store")


class ServedStore(StoreWrapper):
    """Wraps a store; thread-safe. ``ForbiddenError`` and ``TrustError`` become ``UnavailableError``."""

    def __init__(self, inner: ObjectStore) -> None:
        super().__init__(inner)
        self._lock = threading.Lock()
        self._told = ""

    def put(self, key: str, data: bytes | Iterable[bytes], *, if_absent: bool = False, durable: bool = True) -> bool:
        """See :meth:`ObjectStore.put`."""
        with self._ours():
            return self._inner.put(key, data, if_absent=if_absent, durable=durable)

    def read(self, key: str, *, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """See :meth:`ObjectStore.read`."""
        with self._ours():
            yield from self._inner.read(key, start=start, length=length)

    def fetch(self, key: str, *, known: str = "", limit: int) -> Fetched | Unchanged:
        """See :meth:`ObjectStore.fetch`."""
        with self._ours():
            return self._inner.fetch(key, known=known, limit=limit)

    def stat(self, key: str) -> Stored:
        """See :meth:`ObjectStore.stat`."""
        with self._ours():
            return self._inner.stat(key)

    def delete(self, key: str) -> bool:
        """See :meth:`ObjectStore.delete`."""
        with self._ours():
            return self._inner.delete(key)

    def list(self, prefix: str = "", *, after: str = "", limit: int = 1000) -> Page:
        """See :meth:`ObjectStore.list`."""
        with self._ours():
            return self._inner.list(prefix, after=after, limit=limit)

    def link(self, key: str, *, seconds: int) -> SignedUrl | NoUrl:
        """See :meth:`ObjectStore.link`."""
        with self._ours():
            return self._inner.link(key, seconds=seconds)

    @contextlib.contextmanager
    def _ours(self) -> Iterator[None]:
        try:
            yield
        except (ForbiddenError, TrustError) as error:
            with self._lock:
                told, self._told = self._told, error.message
            if told != error.message:
                _log.error("store.not_usable", problem=str(error))
            raise UnavailableError(
                "This server cannot use its object store now.",
                next_step="Its administrator finds the reason in the server's log.",
            ) from None
