"""The address of one service: a port that is its own for ever, listened on while the service runs.

The *reservation* is bound and never listens: connections are refused while the service is stopped, and nobody else's
server gets the port. While it runs there is one *listener* a slot, all on the same port; each instance inherits the one
of its slot. The host keeps them open: when an instance ends, connections that wait in its slot's queue are taken by the
next instance there, and new ones are steered to the others at once. So neither a crash nor a drain refuses anybody.
"""

import contextlib
import errno
import socket
from collections.abc import Collection, Iterable, Sequence
from typing import Final

import structlog

from entrepot.cloud.host.steering import steer
from entrepot.core.addresses import MAX_PORT
from entrepot.core.errors import ConflictError
from entrepot.web.ports import lasting_port
from entrepot.web.server import open_listener

ALL: Final = range(1, MAX_PORT + 1)
_log = structlog.get_logger("entrepot.host")


class ServiceAddress:
    """Holds the port of one service.

    Args:
        host: address of this machine on which services listen.
        port: the service's port; 0 picks a free one that can be kept.
        among: ports of which one is picked.
        but: ports of other services, which are not picked, though nobody should listen there now.

    Raises:
        PortBusyError: another program has the port.
        ConflictError: the host may not open it, or there is no free one.
    """

    def __init__(self, host: str, port: int, *, among: Sequence[range] = (ALL,), but: Collection[int] = ()) -> None:
        self._host = host
        self._reservation = _reserve(host, port or _choose(host, among, but))
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


class PortBusyError(ConflictError):
    """Another program has the port; perhaps only for a moment more."""


def try_port(host: str, port: int) -> None:
    """See that a service could have this port.

    Raises:
        ConflictError: another program has the port, or the host may not open it.
    """
    _reserve(host, port).close()


def _choose(host: str, among: Sequence[range], but: Collection[int]) -> int:
    port = lasting_port(host, among, but=but)
    if not port:
        _reserve(host, 0).close()  # tells what is wrong with the address
        raise ConflictError(
            "None of the ports that services of this cloud host may have is free.",
            next_step="Let its administrator name more of them: service_ports in host.toml; then restart the host.",
        )
    return port


def _reserve(host: str, port: int) -> socket.socket:
    """Bind the port, once nobody listens there.

    SO_REUSEPORT alone would share it with any program of ours that still listens, such as the instances of a host
    that was killed a moment ago: so it is first bound alone. Another reservation does not listen: that no two services
    have one port, ``services`` sees to.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as alone:
            alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            alone.bind((host, port))
    except OSError as error:
        raise _taken(host, port, error) from error
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
    kind = PortBusyError if error.errno == errno.EADDRINUSE else ConflictError
    return kind(f"The service's port {port} on {host} cannot be had: {error.strerror}.", next_step=step)
