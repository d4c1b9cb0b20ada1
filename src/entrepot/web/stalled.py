"""Ends connections whose clients do not take what they were handed, or shall not.

The server hands bytes to its transport and hears no more of them. The kernel knows: as long as it holds bytes that the
other end has not acknowledged, they were not taken. So whoever is to have taken everything by now is looked up among
this process's sockets, and if the kernel still holds something, the connection is reset. Linux only; elsewhere nobody
is found, and the system's own time-out of dead peers must do.
"""

import contextlib
import socket
import struct
import sys
from collections.abc import Set as AbstractSet

from entrepot.web.descriptors import held, open_descriptors, reset


def end_stalled(peers: AbstractSet[object]) -> int:
    """Reset connections to these peers that have bytes left to take. Call it in a thread.

    Args:
        peers: each (host, port), as ASGI has them; the port may be text.

    Returns:
        how many were reset.
    """
    return _end_all(peers, stalled=True)


def end_connections(peers: AbstractSet[object]) -> int:
    """Reset connections to these peers, whatever they have taken. Call it in a thread.

    Returns:
        of how many something was left to take.
    """
    return _end_all(peers, stalled=False)


def _end_all(peers: AbstractSet[object], *, stalled: bool) -> int:
    if sys.platform != "linux":
        return 0
    wanted = {(peer[0], str(peer[1])) for peer in peers if isinstance(peer, tuple) and len(peer) == 2}
    ended = 0
    for descriptor in open_descriptors():
        with contextlib.suppress(OSError):  # closed meanwhile, or not connected
            ended += _end(descriptor, wanted, stalled=stalled)
    return ended


def _end(descriptor: int, wanted: AbstractSet[tuple[str, str]], *, stalled: bool) -> bool:
    with held(descriptor) as connection:
        if connection.family not in (socket.AF_INET, socket.AF_INET6):
            return False
        host, port = connection.getpeername()[:2]
        if (host, str(port)) not in wanted:
            return False
        left = _untaken(connection) > 0
        return (left or not stalled) and reset(connection) and left


def _untaken(connection: socket.socket) -> int:
    """Bytes that the kernel holds for the other end."""
    if sys.platform != "linux":
        return 0
    import fcntl  # POSIX only
    import termios

    return int(struct.unpack("i", fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4)))[0])
