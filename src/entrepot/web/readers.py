"""Reads objects for the event loop: what the page cache holds at once, everything else in worker threads.

A thread for every piece would cost more than the TLS around it. So a piece that is in the page cache is read in the
loop (``preadv2`` with ``RWF_NOWAIT`` reads what is there and never waits), and only the others in a thread. Where the
shelf is not a folder, or the system has no such call, all reading is done in threads.
"""

import asyncio
import ctypes
import os
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Protocol, TypeVar

from entrepot.core.ids import ObjectId
from entrepot.core.times import Clock
from entrepot.durable.files import storage_errors
from entrepot.objects.folder import FolderStore
from entrepot.objects.shelf import Shelf, key_of

THREADS: Final = 16
OPEN_FILES: Final = 512
RECHECK_SECONDS: Final = 2.0
"""How long an open file answers for its object without another look: after that it is noticed that an object was
deleted or replaced meanwhile."""
REOPEN_SECONDS: Final = 60.0
"""After that it is opened by its name again: on a network's file system a file that was deleted may keep a name."""
_CAN_ASK: Final = hasattr(os, "preadv") and hasattr(os, "RWF_NOWAIT")
_OFFSET: Final = 32
"""A large new buffer begins 16 bytes behind the beginning of a page. Copying from the page cache to there takes four
times as long as to elsewhere (seen on AMD EPYC: 430 instead of 105 microseconds a MiB)."""
_buffer: Final = ctypes.pythonapi.PyByteArray_FromStringAndSize
"""A ``bytearray`` of whatever lay in memory: to clear it first takes a fifth as long as to read into it. It must be
filled whole before anyone sees it."""
_buffer.argtypes, _buffer.restype = [ctypes.c_char_p, ctypes.c_ssize_t], ctypes.py_object
T = TypeVar("T")
_InThread = Callable[..., Awaitable[bytes]]


class Reading(Protocol):
    """One object being read by one request.

    Attributes:
        size: of the whole object.
    """

    size: int

    async def read(self, start: int, length: int, most: int) -> bytes | bytearray:
        """The next piece of a span. Spans are read in order, from one beginning to one end.

        Args:
            start, length: what is left of the span.
            most: bytes that the piece may have.

        Returns:
            At least one byte; none when the stored bytes end here.

        Raises:
            EntrepotError: it cannot be read.
        """


class Readers:
    """Opens the objects of one shelf. Use it in one event loop.

    Args:
        clock: seconds, never going back.
    """

    def __init__(self, shelf: Shelf, clock: Clock = time.monotonic) -> None:
        self._shelf = shelf
        self._clock = clock
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="read")
        self._files: OrderedDict[ObjectId, tuple[OpenFile, float]] = OrderedDict()
        self._folder = shelf.store if _CAN_ASK and isinstance(shelf.store, FolderStore) else None

    async def open(self, object_id: ObjectId) -> Reading:
        """Find an object.

        Raises:
            NotFoundError: it is not here.
        """
        if self._folder is None:
            size = await self._in_thread(self._shelf.size, object_id)
            return _Stream(self._shelf, object_id, size, self._in_thread)
        file = self.known(object_id)
        if file is None:
            now = self._clock()
            file = await self._in_thread(OpenFile, self._folder, object_id, self._in_thread, now)
            self.forget(object_id)
            self._files[object_id] = (file, now)
            if len(self._files) > OPEN_FILES:
                self._files.popitem(last=False)
        return file

    def known(self, object_id: ObjectId) -> "OpenFile | None":
        """The object's file, if it is open and still answers for the object."""
        file, checked = self._files.get(object_id) or (None, 0.0)
        if file is None or (now := self._clock()) - checked <= RECHECK_SECONDS:
            return file
        if now - file.opened > REOPEN_SECONDS or not file.named():
            self.forget(object_id)
            return None
        self._files[object_id] = (file, now)
        self._files.move_to_end(object_id)
        return file

    def forget(self, object_id: ObjectId) -> None:
        """The object has just been removed or replaced."""
        self._files.pop(object_id, None)

    def close(self) -> None:
        """Let go of the threads and files."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._files.clear()

    async def _in_thread(self, function: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)


class OpenFile:
    """An open file, shared by all requests for it, closed with its last user."""

    def __init__(self, store: FolderStore, object_id: ObjectId, in_thread: _InThread, opened: float) -> None:
        self._descriptor = store.open_file(key_of(object_id))
        self.opened = opened
        self._in_thread = in_thread
        self.size = os.fstat(self._descriptor).st_size

    def __del__(self) -> None:
        if hasattr(self, "_descriptor"):
            os.close(self._descriptor)

    def named(self) -> bool:
        """Whether it still has its name: it was neither deleted nor replaced. The kernel knows without the disk."""
        try:
            return os.fstat(self._descriptor).st_nlink > 0
        except OSError:  # a network's file system that has forgotten it
            return False

    async def read(self, start: int, length: int, most: int) -> bytes | bytearray:
        """See :class:`Reading`."""
        length = min(length, most)
        return self.cached(start, length) or await self._in_thread(self._read, start, length)

    def cached(self, start: int, length: int) -> bytearray | None:
        """All of this span, if the page cache holds it; else None."""
        piece: bytearray = _buffer(None, length + _OFFSET)  # copied once, into it; bytes would cost a second copy
        del piece[:_OFFSET]  # moves its beginning, copies nothing
        try:
            if os.preadv(self._descriptor, [piece], start, os.RWF_NOWAIT) == length:
                return piece
        except OSError:  # would wait; or this file system cannot tell
            pass
        return None

    def _read(self, start: int, length: int) -> bytes:
        with storage_errors("an object"):
            return os.pread(self._descriptor, length, start)


class _Stream:
    """One request's own way through an object of any store."""

    def __init__(self, shelf: Shelf, object_id: ObjectId, size: int, in_thread: _InThread) -> None:
        self._shelf = shelf
        self._object_id = object_id
        self._in_thread = in_thread
        self._pieces: Iterator[bytes] | None = None
        self._rest = memoryview(b"")
        self.size = size

    async def read(self, start: int, length: int, most: int) -> bytes | bytearray:
        """See :class:`Reading`."""
        if self._pieces is None:
            self._pieces = iter(self._shelf.read(self._object_id, start, length))
        if not self._rest:
            self._rest = memoryview(await self._in_thread(next, self._pieces, b""))
        piece, self._rest = self._rest[:most], self._rest[most:]
        return bytes(piece)
