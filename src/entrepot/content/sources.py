"""Reads one source file, and notices when it changes meanwhile. Sources are never mapped."""

import contextlib
import hashlib
import io
import os
from collections.abc import Callable, Iterator
from typing import Final

from entrepot.content.snapshot import FileItem, identity
from entrepot.core.errors import CancelledError, RefusedError

_FLAGS: Final = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


class SourceFile:
    """An open big file that hashes what is read. ``readinto`` is what pyfastcdc asks for."""

    def __init__(self, item: FileItem, descriptor: int, cancelled: Callable[[], bool]) -> None:
        self._item = item
        self._file = io.FileIO(descriptor, closefd=False)
        self._cancelled = cancelled
        self._hasher = hashlib.sha256()
        self._size = 0
        self._failure: Exception | None = None

    def readinto(self, buffer: bytearray | memoryview) -> int:
        """Fill a part of ``buffer``; 0 at the end. It never gives more than the file had when it was found.

        Raises:
            RefusedError: it changed, or cannot be read.
            CancelledError: the caller wants to stop.
        """
        try:
            return self._readinto(memoryview(buffer))
        except Exception as error:
            self._failure = error  # whatever reads through us must not take it for the end
            raise

    def _readinto(self, view: memoryview) -> int:
        if self._cancelled():
            raise CancelledError("Publishing was cancelled.")
        try:
            taken = self._file.readinto(view[: self._item.size - self._size]) or 0
        except OSError as error:
            raise unreadable(self._item.path, error) from error
        self._hasher.update(view[:taken])
        self._size += taken
        return taken

    def finish(self) -> bytes:
        """SHA-256 of the whole file.

        Raises:
            RefusedError: it changed since it was found.
        """
        if self._failure is not None:
            raise self._failure
        if self._size != self._item.size or identity(os.fstat(self._file.fileno())) != self._item.identity:
            raise changed(self._item.path)
        return self._hasher.digest()


@contextlib.contextmanager
def open_source(item: FileItem, cancelled: Callable[[], bool]) -> Iterator[SourceFile]:
    """Open a big file as it was found.

    Raises:
        RefusedError: it is gone, cannot be read, or is another file now.
    """
    descriptor = _open(item)
    try:
        if identity(os.fstat(descriptor)) != item.identity:
            raise changed(item.path)
        yield SourceFile(item, descriptor, cancelled)
    finally:
        os.close(descriptor)


def read_source(item: FileItem) -> bytes:
    """All bytes of a small file as it was found. Few calls, as there may be a million of them.

    Raises:
        RefusedError: it is gone, cannot be read, or changed.
    """
    descriptor = _open(item)
    try:
        data = os.read(descriptor, item.size)
        while 0 < len(data) < item.size and (more := os.read(descriptor, item.size - len(data))):
            data += more
        found = os.fstat(descriptor)
    except OSError as error:
        raise unreadable(item.path, error) from error
    finally:
        os.close(descriptor)
    if len(data) != item.size or identity(found) != item.identity:
        raise changed(item.path)
    return data


def _open(item: FileItem) -> int:
    try:
        return os.open(item.where, _FLAGS)
    except FileNotFoundError:
        raise changed(item.path) from None
    except OSError as error:
        raise unreadable(item.path, error) from None


def changed(path: str) -> RefusedError:
    """The error that names a file which changed while it was read."""
    return RefusedError(
        f"{path!r} changed while it was being read.", next_step="Publish again when nothing writes to the source."
    )


def unreadable(path: str, error: OSError) -> RefusedError:
    """The error that names a file which cannot be read."""
    return RefusedError(f"{path!r} cannot be read: {error.strerror}.", next_step="Check its disk and permissions.")
