"""Counts what goes to and from a store: requests and bytes cost money, and somebody wants to know (R25).

Put the meter right around the store itself, below retries: every try is a request that is paid for. One operation of
the port is one request of the service, except that a ``list`` reads at least one page of the service (1,000 keys) and
a ``delete`` on S3 asks first whether the key is there.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import msgspec

from entrepot.core.errors import EntrepotError, NotFoundError
from entrepot.objects.store import Fetched, ObjectStore, Page, Stored, Unchanged
from entrepot.objects.wrapper import StoreWrapper

T = TypeVar("T")
OPERATIONS = ("put", "read", "fetch", "stat", "delete", "list")


class Count(msgspec.Struct, frozen=True, kw_only=True):
    """Of one operation: ``requests`` made, those that ``failed``, bytes ``sent`` to the store and ``received``."""

    requests: int = 0
    failed: int = 0
    sent: int = 0
    received: int = 0


class Meter:
    """Counts per operation since it was made. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = dict.fromkeys(OPERATIONS, Count())

    def add(self, operation: str, count: Count) -> None:
        """Add to one operation's."""
        with self._lock:
            held = self._counts[operation]
            self._counts[operation] = Count(
                requests=held.requests + count.requests,
                failed=held.failed + count.failed,
                sent=held.sent + count.sent,
                received=held.received + count.received,
            )

    @property
    def counts(self) -> dict[str, Count]:
        """All operations' counts now."""
        with self._lock:
            return dict(self._counts)

    @property
    def total(self) -> Count:
        """The sum over all operations."""
        counts = self.counts.values()
        return Count(
            requests=sum(one.requests for one in counts),
            failed=sum(one.failed for one in counts),
            sent=sum(one.sent for one in counts),
            received=sum(one.received for one in counts),
        )


class MeteredStore(StoreWrapper):
    """Wraps a store; thread-safe. A key that is not there is an answer, not a failure."""

    def __init__(self, inner: ObjectStore, meter: Meter) -> None:
        super().__init__(inner)
        self.meter = meter

    def put(self, key: str, data: bytes | Iterable[bytes], *, if_absent: bool = False, durable: bool = True) -> bool:
        """See :meth:`ObjectStore.put`. Bytes of a try that failed count, too."""
        counted = data if isinstance(data, bytes) else self._passing(data)
        if isinstance(data, bytes):
            self.meter.add("put", Count(sent=len(data)))
        return self._noted("put", lambda: self._inner.put(key, counted, if_absent=if_absent, durable=durable))

    def read(self, key: str, *, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """See :meth:`ObjectStore.read`."""
        self.meter.add("read", Count(requests=1))
        try:
            for piece in self._inner.read(key, start=start, length=length):
                self.meter.add("read", Count(received=len(piece)))
                yield piece
        except NotFoundError:
            raise
        except EntrepotError:
            self.meter.add("read", Count(failed=1))
            raise

    def fetch(self, key: str, *, known: str = "", limit: int) -> Fetched | Unchanged:
        """See :meth:`ObjectStore.fetch`."""
        found = self._noted("fetch", lambda: self._inner.fetch(key, known=known, limit=limit))
        if isinstance(found, Fetched):
            self.meter.add("fetch", Count(received=len(found.data)))
        return found

    def stat(self, key: str) -> Stored:
        """See :meth:`ObjectStore.stat`."""
        return self._noted("stat", lambda: self._inner.stat(key))

    def delete(self, key: str) -> bool:
        """See :meth:`ObjectStore.delete`."""
        return self._noted("delete", lambda: self._inner.delete(key))

    def list(self, prefix: str = "", *, after: str = "", limit: int = 1000) -> Page:
        """See :meth:`ObjectStore.list`."""
        return self._noted("list", lambda: self._inner.list(prefix, after=after, limit=limit))

    def _passing(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            self.meter.add("put", Count(sent=len(piece)))
            yield piece

    def _noted(self, operation: str, work: Callable[[], T]) -> T:
        self.meter.add(operation, Count(requests=1))
        try:
            return work()
        except NotFoundError:
            raise
        except EntrepotError:
            self.meter.add(operation, Count(failed=1))
            raise
