"""The address of one service: a port that is its own for ever, listened on while the service runs.

The *reservation* is bound and never listens: connections are refused while the service is stopped, and nobody else's
server gets the port. While it runs there is one *listener* a slot, all on the same port; each instance inherits the one
of its slot. The host keeps them open: when an instance ends, connections that wait in its slot's queue are taken by the
next instance there, and new ones are steered to the others at once. So neither a crash nor a drain refuses anybody.
"""

import contextlib
import errno
import socket
import time
from collections.abc import Iterable
from typing import Final

import structlog

from entrepot.cloud.host.steering import steer
from entrepot.core.errors import ConflictError
from entrepot.web.ports import lasting_port
from entrepot.web.server import open_listener

_FREE_SECONDS: Final = 5.0
_log = structlog.get_logger("entrepot.host")


class ServiceAddress:
    """Holds the port of one service. Making one may wait a moment: call it in a worker thread.

    Args:
        host: address of this machine on which services listen.
        port: the service's port; 0 picks a free one that can be kept.

    Raises:
        ConflictError: another program has the port, or the host may not open it.
    """

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._reservation = _reserve(host, port or lasting_port(host))
        self.port: int = self._reservation.getsockname()[1]
        self._slots: list[socket.socket] = []
        self._chosen: tuple[int, ...] = ()

    def slot(self, taken: Iterable[int]) -> tuple[int, socket.socket]:
        """A slot for a new instance, and its listener: the first that is not taken, else a new one.

        Raises:
            ConflictError: the port cannot be listened on.
        """
        used = set(taken)
        number = next((one for one in range(len(self._slots)) if one not in used), len(self._slots))
        if number == len(self._slots):
            self._slots.append(open_listener(self._host, self.port, shared=True))
            self._chosen = ()
        return number, self._slots[number]

    def choose(self, slots: Iterable[int]) -> None:
        """Let these slots get new connections, and no others. Connections that wait elsewhere stay where they are."""
        chosen = tuple(sorted(slots))
        if not chosen or chosen == self._chosen:
            return
        self._chosen = chosen
        if not steer(self._slots[0], chosen):
            _log.warning("address.not_steered", port=self.port)

    def refuse(self) -> None:
        """Stop listening: new connections are refused, and those that no instance has taken are reset."""
        for listener in self._slots:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # for the instances that share it, too
            listener.close()
        self._slots.clear()
        self._chosen = ()

    def close(self) -> None:
        """Give the port up."""
        self.refuse()
        self._reservation.close()


def try_port(host: str, port: int) -> None:
    """See that a service could have this port. May wait a moment: call it in a worker thread.

    Raises:
        ConflictError: another program has the port, or the host may not open it.
    """
    _reserve(host, port).close()


def _reserve(host: str, port: int) -> socket.socket:
    """Bind the port, once nobody else has it.

    SO_REUSEPORT alone would share it with any program of ours that still listens, such as the instances of a host
    that was killed a moment ago: so it is first bound alone.
    """
    deadline = time.monotonic() + _FREE_SECONDS
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    while port:
        try:
            with socket.socket(family, socket.SOCK_STREAM) as alone:
                alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                alone.bind((host, port))
                break
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                raise _taken(host, port, error) from error
            time.sleep(0.05)
    reservation = socket.socket(family, socket.SOCK_STREAM)
    try:
        reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reservation.bind((host, port))
    except OSError as error:
        reservation.close()
        raise _taken(host, port, error) from error
    return reservation


def _taken(host: str, port: int, error: OSError) -> ConflictError:
    if error.errno == errno.EACCES:
        step = "Let the host's user open it (systemd: AmbientCapabilities=CAP_NET_BIND_SERVICE), or choose another one."
    else:
        step = "End the program that uses it: the service keeps its port. For a new service, choose another one."
    return ConflictError(f"The service's port {port} on {host} cannot be had: {error.strerror}.", next_step=step)
