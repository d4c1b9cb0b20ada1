"""Reads source files, and notices when one changes meanwhile. Sources are never mapped."""

import os
from typing import Final

from entrepot.content.snapshot import FileItem, identity, unreadable
from entrepot.core.errors import RefusedError

_FLAGS: Final = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


class SourceFile:
    """Reads a file from its beginning to its end, in pieces. It is open only while a piece is read.

    Attributes:
        item: what is read.
        left: bytes that are still to come.
    """

    def __init__(self, item: FileItem) -> None:
        self.item = item
        self.left = item.size

    def read(self, size: int, *, again: int = 0) -> bytes:
        """The next bytes, ``size`` of them or all that are left. Both before and after the file is as it was found.

        Args:
            again: begin with so many that were given before: to copy them from there would move all others, too. They
                may be others now, as nothing tells that a program writes through a map of the file.

        Raises:
            RefusedError: it is gone, cannot be read, or changed.
        """
        at = self.item.size - self.left - again
        data = _read(self.item, at, min(size, self.item.size - at))
        self.left -= len(data) - again
        return data


def read_source(item: FileItem) -> bytes:
    """All bytes of a small file as it was found.

    Raises:
        RefusedError: it is gone, cannot be read, or changed.
    """
    return _read(item, 0, item.size)


def _read(item: FileItem, at: int, size: int) -> bytes:
    """Few calls, as there may be a million files: a change before is seen after reading, too."""
    descriptor = _open(item)
    try:
        if at:
            os.lseek(descriptor, at, os.SEEK_SET)
        data = os.read(descriptor, size)
        while 0 < len(data) < size and (more := os.read(descriptor, size - len(data))):
            data += more
        found = os.fstat(descriptor)
    except OSError as error:
        raise unreadable(item.path, error) from error
    finally:
        os.close(descriptor)
    if len(data) != size or identity(found) != item.identity:
        raise changed(item.path)
    return data


def _open(item: FileItem) -> int:
    try:
        return os.open(item.where, _FLAGS)
    except OSError as error:
        raise unreadable(item.path, error) from None


def changed(path: str) -> RefusedError:
    """The error that names a file which changed while it was read."""
    return RefusedError(
        f"{path!r} changed while it was being read.", next_step="Publish again when nothing writes to the source."
    )
