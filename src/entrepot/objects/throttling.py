"""Keeps a store's traffic below a rate that may change at any time, as a schedule says.

Validation reads the library through it, so that its days of reading leave the disk to others; ADR 0009 tells where
else our servers keep to a rate, and why there.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from entrepot.objects.store import Fetched, ObjectStore, Unchanged
from entrepot.objects.wrapper import StoreWrapper

Rate = Callable[[], float]
"""Bytes a second allowed now; 0 or less: no limit. Asked again at least every ``SLICE`` seconds of traffic."""
SLICE: Final = 0.25
LEAST_WAIT: Final = 0.01
"""Waits are at least so long (seconds): each lasts a little longer than asked for, and that is not made up for."""
PIECE: Final = 256 * 1024


def unlimited() -> float:
    """No limit."""
    return 0.0


class Pace:
    """Lets bytes pass at a rate; thread-safe, in the order of asking. What was not used is not saved up.

    Args:
        clock: seconds that only grow.
        sleep: waits some seconds, less than ``SLICE + LEAST_WAIT``; it may raise to end the wait.
    """

    def __init__(
        self, rate: Rate, *, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._rate, self._clock, self._sleep = rate, clock, sleep
        self._turn = threading.Lock()
        self._free = 0.0

    def take(self, size: int) -> None:
        """Wait until ``size`` bytes may pass."""
        left = float(size)
        while left > 0:
            with self._turn:
                rate = self._rate()
                if rate <= 0:
                    return
                step = min(left, rate * SLICE)
                now = self._clock()
                self._free = max(now, self._free) + step / rate
                left -= step
                if self._free - now >= LEAST_WAIT:
                    self._sleep(self._free - now)


class ThrottledStore(StoreWrapper):
    """Wraps a store; thread-safe. Values count when they enter (put) or leave (read, fetch).

    A value that must be stored in one request is paced while it is gathered, then sent at once: the average holds.

    Args:
        up: for bytes put.
        down: for bytes read.
    """

    def __init__(self, inner: ObjectStore, *, up: Pace, down: Pace) -> None:
        super().__init__(inner)
        self._up, self._down = up, down

    def put(self, key: str, data: bytes | Iterable[bytes], *, if_absent: bool = False, durable: bool = True) -> bool:
        """See :meth:`ObjectStore.put`."""
        if isinstance(data, bytes):
            self._up.take(len(data))
            return self._inner.put(key, data, if_absent=if_absent, durable=durable)
        return self._inner.put(key, self._paced(data), if_absent=if_absent, durable=durable)

    def read(self, key: str, *, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """See :meth:`ObjectStore.read`."""
        for piece in self._inner.read(key, start=start, length=length):
            self._down.take(len(piece))
            yield piece

    def fetch(self, key: str, *, known: str = "", limit: int) -> Fetched | Unchanged:
        """See :meth:`ObjectStore.fetch`."""
        found = self._inner.fetch(key, known=known, limit=limit)
        if isinstance(found, Fetched):
            self._down.take(len(found.data))
        return found

    def _paced(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            self._up.take(len(piece))
            yield piece
