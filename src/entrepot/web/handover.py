"""Takes a listener from a worker that goes on with the connections which it has accepted.

Granian's worker cannot be asked for that: told to end, it drops whoever is in the middle of a TLS handshake. But it
learns of new connections from the kernel's event poll only. Once its listener is taken out of that poll, connections
are left to other workers on the same socket, and handshakes go on. Linux only; elsewhere nothing is taken.
"""

import contextlib
import os
import select
import sys
from pathlib import Path
from typing import Final

from entrepot.web.descriptors import open_descriptors

HANDSHAKE_SECONDS: Final = 12.0
"""After so long nobody is in a handshake any more whose connection was accepted before: the server gives each ten."""
_POLL: Final = "anon_inode:[eventpoll]"


def stop_accepting(listener: int) -> bool:
    """Let nobody in this process hear of new connections by this descriptor; by duplicates of it they still do.

    Returns:
        whether somebody listened by it, and does not now.

    Raises:
        OSError: the kernel does not tell which descriptors there are.
    """
    if sys.platform != "linux":
        return False
    taken = False
    for descriptor in open_descriptors():
        with contextlib.suppress(OSError):  # closed meanwhile, or a second hold on a poll that was seen to already
            if str(Path(f"/proc/self/fd/{descriptor}").readlink()) == _POLL:
                taken |= _take_out(descriptor, listener)
    return taken


def _take_out(poll: int, listener: int) -> bool:
    with select.epoll.fromfd(os.dup(poll)) as held:
        held.unregister(listener)
    return True
