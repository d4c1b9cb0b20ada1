"""One object on its way in: bytes arrive in the event loop, a worker thread hashes and stores them meanwhile.

At most ``WAITING`` batches lie between the two, so a slow disk slows the sender instead of filling memory. When the
sender leaves or stalls, the thread sees an error in the middle of the object, and the store keeps nothing.
"""

import asyncio
import queue
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Executor
from typing import Any, Final, TypeVar

from entrepot.core.errors import UnavailableError
from entrepot.core.sizes import KIB

T = TypeVar("T")
BATCH: Final = 256 * KIB
WAITING: Final = 4
STALL_SECONDS: Final = 60.0


class _BrokenOffError(UnavailableError):
    """The sender did not finish."""


class _Belt:
    """Batches from the loop to one thread. ``None`` ends it, an exception breaks it."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._slots = asyncio.Semaphore(WAITING)
        self._queue: queue.SimpleQueue[bytes | BaseException | None] = queue.SimpleQueue()

    async def lay(self, batch: bytes) -> None:
        await self._slots.acquire()
        self._queue.put(batch)

    def finish(self, error: BaseException | None = None) -> None:
        self._queue.put(error)

    def take(self) -> Iterator[bytes]:
        """In the thread: batches in order.

        Raises:
            _BrokenOffError: the sender did not finish.
        """
        while True:
            item = self._queue.get()
            if item is None:
                return
            if isinstance(item, BaseException):
                raise _BrokenOffError("The upload was broken off.") from item
            self._loop.call_soon_threadsafe(self._slots.release)
            yield item


async def receive_object(pieces: AsyncIterator[bytes], store: Callable[[Iterator[bytes]], T], executor: Executor) -> T:
    """Feed ``store`` (running in ``executor``) with a request's body.

    ``store`` may return before it has taken everything (the object is here already); the rest is received and
    dropped, so that the connection stays usable.

    Returns:
        what ``store`` returned.

    Raises:
        UnavailableError: nothing came for a minute.
        EntrepotError: what ``store`` raises.
    """
    belt = _Belt()
    storing = asyncio.get_running_loop().run_in_executor(executor, store, belt.take())
    try:
        await _carry(pieces, belt, storing)
    except BaseException as error:
        belt.finish(error)
        if not storing.done():
            await asyncio.wait({storing})  # the thread ends at once: its next batch is the error
        if not storing.cancelled():
            storing.exception()
        raise
    belt.finish()
    return await storing


async def _carry(pieces: AsyncIterator[bytes], belt: _Belt, storing: "asyncio.Future[Any]") -> None:
    batch = bytearray()
    wanted = True
    while True:
        piece = await _next(pieces)
        if piece and wanted:
            batch += piece
        if batch and (piece is None or len(batch) >= BATCH):
            wanted = await _laid(belt, bytes(batch), storing)
            batch.clear()
        if piece is None:
            return


async def _next(pieces: AsyncIterator[bytes]) -> bytes | None:
    try:
        async with asyncio.timeout(STALL_SECONDS):
            return await anext(pieces, None)
    except TimeoutError:
        raise UnavailableError("The upload stalled.", next_step="Check the network to the sender.") from None


async def _laid(belt: _Belt, batch: bytes, storing: "asyncio.Future[Any]") -> bool:
    """Hand one batch over; False when the thread takes no more."""
    laying = asyncio.ensure_future(belt.lay(batch))
    either: set[asyncio.Future[Any]] = {laying, storing}
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    finally:
        laying.cancel()
    if storing.done():
        storing.result()
        return False
    return True
