"""Says in the store up to when this instance has accounted for what it sent under allowances (R23; ADR 0017).

One small document for each instance, ``marks/<instance>``, written again while tokens on which something was debited
may still be open, at most every ``MARK_SECONDS``; once more when the instance ends. A killed instance's mark is
written by whoever adopts its journal (``shipping``). An idle instance, and one that serves no token with an allowance,
writes none.
"""

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from entrepot.core.errors import EntrepotError
from entrepot.core.times import MINUTE, Clock
from entrepot.objects.store import ObjectStore
from entrepot.protocol.allowances import ALL_SEGMENTS, Mark, encode_mark, mark_key

MARK_SECONDS: Final = 5.0 * MINUTE
_log = structlog.get_logger("entrepot.gateway")


class Marker:
    """Keeps one instance's mark. Use it in the event loop that serves.

    Args:
        latest: when the last token ends on which something was debited; 0: nothing was.
        settled_before: until when what was sent has been recorded, at this moment.
        noted: makes that durable, and says in how many segments it is.
    """

    def __init__(
        self,
        store: ObjectStore,
        *,
        instance: str,
        latest: Callable[[], int],
        settled_before: Callable[[float], int],
        noted: Callable[[], Awaitable[int]],
        clock: Clock,
    ) -> None:
        self._store, self._instance, self._clock = store, instance, clock
        self._latest, self._settled_before, self._noted = latest, settled_before, noted
        self._before = 0
        self._ended = False
        self._writing = threading.Lock()

    async def run(self, seconds: float = MARK_SECONDS) -> None:
        """Until cancelled; a store that does not answer is asked again the next time."""
        while True:
            await asyncio.sleep(seconds)
            with contextlib.suppress(EntrepotError):
                await self.run_once()

    async def run_once(self) -> None:
        """Write the mark, if that settles something.

        Raises:
            UnavailableError: the store, or the disk, does not answer.
        """
        if self._latest() < self._before or not self._latest():
            return
        now = self._clock()
        before = self._settled_before(now)
        segments = await self._noted()
        await asyncio.to_thread(self._put, Mark(before=before, segments=segments, at=int(now)))
        self._before = before

    def end(self, segments: int) -> None:
        """Write the last mark: nothing more is sent, and all records are in so many segments.

        Blocks. Without it (the store does not answer now) what this instance won counts whole.
        """
        if self._latest():
            try:
                self._put(last_mark(self._latest() + 1, segments=segments, now=self._clock()))
            except EntrepotError as error:
                _log.warning("mark_not_written", error=str(error))

    def _put(self, mark: Mark) -> None:
        """Write a mark, one at a time, and none after the last: who cancels :meth:`run` does not stop its thread."""
        with self._writing:
            if not self._ended:
                self._ended = mark.ended
                self._store.put(mark_key(self._instance), encode_mark(mark))


def last_mark(before: int, *, segments: int, now: float) -> Mark:
    """The mark of an instance that ended."""
    return Mark(before=before, segments=segments, at=int(now), ended=True)


def mark_dead(store: ObjectStore, instance: str, *, now: float) -> None:
    """Write the mark of an instance that died, when all that it left has been shipped.

    Raises:
        UnavailableError: the store does not answer.
    """
    forever = int(now) + 100 * 365 * 86_400
    store.put(mark_key(instance), encode_mark(last_mark(forever, segments=ALL_SEGMENTS, now=now)))
