"""The connections that this process has open, found by their numbers: the server keeps its own to itself.

A look at them must succeed when it matters most, when no descriptor is left: whoever took them all would be safe from
being looked at. So it does without a descriptor where it gets none. Linux only.
"""

import contextlib
import errno
import os
import socket
import stat
import struct
from collections.abc import Iterator, Sequence
from typing import Final

from entrepot.web.process import most_descriptors

BOUND: Final = 2**20
"""No number beyond it is looked for where the kernel does not list them: a limit may be absent, or beyond all use."""
_NONE_LEFT: Final = (errno.EMFILE, errno.ENFILE)
_RESET_AT_ONCE: Final = struct.pack("ii", 1, 0)  # SO_LINGER: on, 0 seconds


def open_descriptors() -> Sequence[int]:
    """Numbers that were open a moment ago.

    Raises:
        OSError: the kernel does not tell.
    """
    try:
        return [int(name) for name in os.listdir("/proc/self/fd")]  # noqa: PTH208  # numbers, not paths
    except OSError as error:
        if error.errno not in _NONE_LEFT:
            raise
        # The system's are all taken, or this process's: then nearly each is open.
        return range(min(most_descriptors() or BOUND, BOUND))


@contextlib.contextmanager
def held(descriptor: int) -> Iterator[socket.socket]:
    """A connection, by its number. It is a hold of our own: whatever becomes of the number meanwhile, this is the
    connection that is judged. Only where no descriptor is left for that, it is the number itself.

    Files are left alone: to close a duplicate of one would drop the locks that this process holds on it (SQLite's).

    Raises:
        OSError: it is no connection.
    """
    _check_socket(descriptor)
    try:
        copy = os.dup(descriptor)
    except OSError as error:
        if error.errno not in _NONE_LEFT:
            raise
        with socket.socket(fileno=descriptor) as connection:
            try:
                yield connection
            finally:
                connection.detach()  # it is the server's, not ours to close
        return
    _check_socket(copy)  # the number may have become a file's meanwhile; then the copy stays open for ever
    with _adopted(copy) as connection:
        yield connection


def _check_socket(descriptor: int) -> None:
    if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
        raise OSError(errno.ENOTSOCK, os.strerror(errno.ENOTSOCK))


def _adopted(descriptor: int) -> socket.socket:
    try:
        return socket.socket(fileno=descriptor)
    except OSError:
        os.close(descriptor)
        raise


def reset(connection: socket.socket) -> bool:
    """End a connection at once, with nothing more sent. False: that was done before, and the server will close it."""
    if connection.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, len(_RESET_AT_ONCE)) == _RESET_AT_ONCE:
        return False
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_ONCE)
    connection.shutdown(socket.SHUT_RDWR)
    return True
