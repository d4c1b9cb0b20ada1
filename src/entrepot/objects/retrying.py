"""Tries again what a store could not do now, with growing, random pauses.

What is tried again: only :class:`UnavailableError`, that is no answer, a broken connection, an early end, throttling
(429, 503 SlowDown) and faults of the service (5xx). Refusals (credentials, a missing bucket, a bad key) are final.

Why it may be: every method is idempotent. Two answers need care, because a try may have worked although its answer was
lost: a conditional put that finds the key taken compares what is there with what it sent; a deletion that finds nothing
counts as done. A read goes on where it was broken off, but only of an object, whose bytes never change; a
document could have been replaced meanwhile, and two halves of two documents must not become one.
"""

import random
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeVar

import msgspec
import structlog

from entrepot.core.errors import NotFoundError, UnavailableError
from entrepot.objects.gathering import gathered
from entrepot.objects.keys import OBJECTS
from entrepot.objects.store import Fetched, ObjectStore, Page, Stored, Unchanged
from entrepot.objects.wrapper import StoreWrapper

T = TypeVar("T")
_log = structlog.get_logger(__name__)


class Backoff(msgspec.Struct, frozen=True, kw_only=True):
    """``attempts`` in all; before the n-th further one a random pause of up to ``first`` · 2ⁿ⁻¹ seconds, at most
    ``longest``.
    """

    attempts: int = 5
    first: float = 0.2
    longest: float = 10.0

    def pause(self, failed: int, draw: float) -> float:
        """Seconds to wait after that many failures in a row; ``draw`` is a random number, 0 ≤ draw < 1."""
        return draw * min(self.longest, self.first * 2.0 ** min(failed - 1, 30))


DEFAULT: Final = Backoff()


class RetryingStore(StoreWrapper):
    """Wraps a store; thread-safe.

    Args:
        sleep, draw: waiting and chance, for tests.
    """

    def __init__(
        self,
        inner: ObjectStore,
        backoff: Backoff = DEFAULT,
        *,
        sleep: Callable[[float], None] = time.sleep,
        draw: Callable[[], float] = random.random,
    ) -> None:
        super().__init__(inner)
        self._backoff, self._sleep, self._draw = backoff, sleep, draw

    def put(self, key: str, data: bytes | Iterable[bytes], *, if_absent: bool = False, durable: bool = True) -> bool:
        """See :meth:`ObjectStore.put`. Gathers the value first: a failing *source* is not tried again."""
        with gathered(data) as whole:

            def attempt(failed: int) -> bool:
                if self._inner.put(key, whole, if_absent=if_absent, durable=durable):
                    return True
                return bool(failed) and self._holds(key, whole)

            return self._tried("put", attempt)

    def flush(self) -> None:
        """See :meth:`ObjectStore.flush`."""
        self._tried("flush", lambda _: self._inner.flush())

    def read(self, key: str, *, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """See :meth:`ObjectStore.read`. The tries are counted anew after each piece that came."""
        done = failed = 0
        while True:
            try:
                rest = None if length is None else length - done
                for piece in self._inner.read(key, start=start + done, length=rest):
                    done += len(piece)
                    failed = 0
                    yield piece
                    if length is not None and done >= length:
                        return
            except UnavailableError as error:
                if done and not key.startswith(OBJECTS):
                    raise
                failed += 1
                self._wait("read", failed, error)
            else:
                return

    def fetch(self, key: str, *, known: str = "", limit: int) -> Fetched | Unchanged:
        """See :meth:`ObjectStore.fetch`."""
        return self._tried("fetch", lambda _: self._inner.fetch(key, known=known, limit=limit))

    def stat(self, key: str) -> Stored:
        """See :meth:`ObjectStore.stat`."""
        return self._tried("stat", lambda _: self._inner.stat(key))

    def delete(self, key: str) -> bool:
        """See :meth:`ObjectStore.delete`."""
        return self._tried("delete", lambda failed: self._inner.delete(key) or bool(failed))

    def list(self, prefix: str = "", *, after: str = "", limit: int = 1000) -> Page:
        """See :meth:`ObjectStore.list`."""
        return self._tried("list", lambda _: self._inner.list(prefix, after=after, limit=limit))

    def _tried(self, operation: str, attempt: Callable[[int], T]) -> T:
        failed = 0
        while True:
            try:
                return attempt(failed)
            except UnavailableError as error:
                failed += 1
                self._wait(operation, failed, error)

    def _wait(self, operation: str, failed: int, error: UnavailableError) -> None:
        """Pause before the next try; raise when there is none."""
        if failed >= self._backoff.attempts:
            raise error
        _log.debug("store.tried_again", operation=operation, failed=failed, problem=error.message)
        self._sleep(self._backoff.pause(failed, self._draw()))

    def _holds(self, key: str, value: bytes) -> bool:
        """Whether the key's value is this one."""
        at = 0
        try:
            for piece in self._inner.read(key):
                if value[at : at + len(piece)] != piece:
                    return False
                at += len(piece)
        except NotFoundError:
            return False
        return at == len(value)
