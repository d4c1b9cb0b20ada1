"""Ends connections whose clients do not take what they were handed.

The server hands bytes to its transport and hears no more of them. The kernel knows: as long as it holds bytes that the
other end has not acknowledged, they were not taken. So whoever is to have taken everything by now is looked up among
this process's sockets, and if the kernel still holds something, the connection is reset. Linux only; elsewhere nobody
is found, and the system's own time-out of dead peers must do.
"""

import contextlib
import errno
import os
import socket
import stat
import struct
import sys
from collections.abc import Set as AbstractSet
from pathlib import Path

_RESET_AT_ONCE = struct.pack("ii", 1, 0)  # SO_LINGER: on, 0 seconds


def end_stalled(peers: AbstractSet[object]) -> int:
    """Reset connections to these peers that have bytes left to take. Call it in a thread.

    Args:
        peers: each (host, port), as ASGI has them; the port may be text.

    Returns:
        how many were reset.
    """
    if sys.platform != "linux":
        return 0
    wanted = {(peer[0], str(peer[1])) for peer in peers if isinstance(peer, tuple) and len(peer) == 2}
    ended = 0
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # closed meanwhile, or not connected
            ended += _end(int(path.name), wanted)
    return ended


def duplicate(descriptor: int) -> socket.socket:
    """Another hold on a connection: whatever becomes of the number meanwhile, this is the one that is judged.

    Files are left alone: to close a duplicate of one would drop the locks that this process holds on it (SQLite's).

    Raises:
        OSError: it is no connection.
    """
    if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
        raise OSError(errno.ENOTSOCK, os.strerror(errno.ENOTSOCK))
    copy = os.dup(descriptor)
    try:
        return socket.socket(fileno=copy)
    except OSError:
        os.close(copy)
        raise


def reset(connection: socket.socket) -> None:
    """End a connection at once, with nothing more sent."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_ONCE)
    connection.shutdown(socket.SHUT_RDWR)


def _end(descriptor: int, wanted: AbstractSet[tuple[str, str]]) -> bool:
    with duplicate(descriptor) as connection:
        if connection.family not in (socket.AF_INET, socket.AF_INET6):
            return False
        host, port = connection.getpeername()[:2]
        if (host, str(port)) not in wanted or not _untaken(connection):
            return False
        reset(connection)
        return True


def _untaken(connection: socket.socket) -> int:
    """Bytes that the kernel holds for the other end."""
    if sys.platform != "linux":
        return 0
    import fcntl  # POSIX only
    import termios

    return int(struct.unpack("i", fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4)))[0])
