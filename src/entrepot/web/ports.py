"""Free ports to keep: the next start of a server must find its port free again.

Ports that the kernel gives out by itself (to whoever asks for port 0, and for every connection out of this machine) are
none to keep: while the server is down, an outgoing connection may get its port, and hold it for minutes. So one is
chosen outside them.
"""

import errno
import secrets
import socket
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Final

USUAL: Final = range(16_384, 32_768)
"""Where ports to keep are looked for first. Windows and macOS give out 49,152 and more by themselves."""
KERNEL: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
"""First and last port that Linux gives out by itself: 32,768 to 60,999, unless somebody changed it."""
_UNPRIVILEGED: Final = range(1_024, 65_536)
_NOT_THIS_ONE: Final = (errno.EADDRINUSE, errno.EACCES)
_TRIES: Final = 512
_ANY: Final = secrets.SystemRandom()


def lasting_ports(kernel: Path = KERNEL) -> Sequence[int]:
    """Ports that the kernel of this machine never gives out by itself; none when it gives out all.

    Args:
        kernel: the file that tells which it gives out; where there is none, the usual ones are good.
    """
    given = _given_out(kernel)
    if not given:
        return USUAL
    return [port for port in USUAL if port not in given] or [port for port in _UNPRIVILEGED if port not in given]


def lasting_port(host: str, among: Sequence[range] = (), *, but: Collection[int] = ()) -> int:
    """A port that nobody has at this address of this machine; 0 when none was found, or the address is not ours.

    Args:
        among: only such ports, though the kernel gave them all out by itself; empty: any that lasts.
        but: none of these.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for port in _candidates(among, but):
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            try:
                probe.bind((host, port))
            except OSError as error:
                if error.errno in _NOT_THIS_ONE:  # somebody has it, or it is forbidden
                    continue
                break
        return port
    return 0


def _candidates(among: Sequence[range], but: Collection[int]) -> Iterator[int]:
    """Ports to try: those that last, then, where only some may be taken, the others of them, privileged ones last."""
    usable = [port for port in lasting_ports() if not among or any(port in one for one in among)]
    lasting = [port for port in usable if port not in but]
    yield from _ANY.sample(lasting, min(len(lasting), _TRIES))
    others = list({port for one in among for port in one}.difference(lasting, but))
    _ANY.shuffle(others)
    given = _given_out(KERNEL)
    yield from sorted(others, key=lambda port: (port not in _UNPRIVILEGED, port in given))[:_TRIES]


def _given_out(kernel: Path) -> range:
    try:
        first, last = map(int, kernel.read_text().split())
    except (OSError, ValueError):
        return range(0)
    return range(first, last + 1)
