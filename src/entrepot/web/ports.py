"""Free ports to keep: the next start of a server must find its port free again.

Ports that the kernel gives out by itself (to whoever asks for port 0, and for every connection out of this machine) are
none to keep: while the server is down, an outgoing connection may get its port, and hold it for minutes. So one is
chosen below them.
"""

import errno
import secrets
import socket
from typing import Final

LASTING: Final = range(16_384, 32_768)
"""Linux gives out 32,768 and more by itself, Windows and macOS 49,152 and more."""
_TRIES: Final = 64


def lasting_port(host: str) -> int:
    """A port that nobody has at this address of this machine; 0 when none was found, or the address is not ours."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for _ in range(_TRIES):
        port = secrets.choice(LASTING)
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            try:
                probe.bind((host, port))
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    continue
                break
        return port
    return 0
