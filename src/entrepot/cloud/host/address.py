"""The address of one service: a port that is its own for ever, listened on while the service runs.

Two sockets. The *reservation* is bound and never listens: connections are refused while the service is stopped, and
nobody else's server gets the port. The *listener* exists while instances are wanted; they inherit it, and share one
queue of connections: an instance that ends leaves nobody in a queue of its own.
"""

import contextlib
import socket

from entrepot.core.errors import ConflictError
from entrepot.web.server import open_listener


class ServiceAddress:
    """Holds the port of one service.

    Args:
        host: address of this machine on which services listen.
        port: the service's port; 0 picks a free one.

    Raises:
        ConflictError: another program has the port.
    """

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._reservation = _reserve(host, port)
        self.port: int = self._reservation.getsockname()[1]
        self._listener: socket.socket | None = None

    def listen(self) -> socket.socket:
        """The listener, made when there is none.

        Raises:
            ConflictError: another program has the port.
        """
        if self._listener is None:
            self._listener = open_listener(self._host, self.port, shared=True)
        return self._listener

    def refuse(self) -> None:
        """Stop listening: connections are refused as soon as the instances have let go, too."""
        if self._listener is not None:
            # Connections that wait in the queue, and no instance has taken, are reset now.
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None

    def close(self) -> None:
        """Give the port up."""
        self.refuse()
        self._reservation.close()


def _reserve(host: str, port: int) -> socket.socket:
    reservation = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reservation.bind((host, port))
    except OSError as error:
        reservation.close()
        raise ConflictError(
            f"The service's port {port} on {host} cannot be had: {error.strerror}.",
            next_step="End the program that uses it; the service keeps its port.",
        ) from error
    return reservation
