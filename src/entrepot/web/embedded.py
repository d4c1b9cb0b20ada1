"""Granian's building blocks, used below its public ``serve`` (it is pinned for that): one worker in our event loop.

Its own loop would install logging handlers, wait without limit for running requests, and open the listener itself.
"""

import asyncio
import contextlib
import itertools
import os
import socket
import ssl
import stat
import sys
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog
from granian import _granian, net
from granian.constants import HTTPModes, Interfaces, SSLProtocols
from granian.http import HTTP1Settings
from granian.server.embed import Server

from entrepot.core.errors import BadInputError, EntrepotError
from entrepot.web.arrivals import Requests, scheduler
from entrepot.web.handover import HANDSHAKE_SECONDS, stop_accepting

BACKLOG = 1024
HEADER_SECONDS = 30
"""So long a connection may be silent before a request and between two, and so long a request's head may take, from its
first byte to its last, however busily it drips. Clients of ours close idle connections after 15 s, so none is closed
under a request."""
MAX_BUFFER = 16 * 1024
"""Bytes of a request's head: more is answered 431. The longest token has 6 KiB."""
SPARE: Final = 32
"""Descriptors that must be left for another worker: one that gets none dies when it starts (it takes five)."""
MAX_CONNECTIONS = 10_000
"""Beyond it a client would get silence; an idle connection costs about 14 KiB."""

_log = structlog.get_logger("entrepot.web")
# Granian configures logging on its own; this leaves everyone's handlers alone and adds none.
_QUIET: dict[str, Any] = {"incremental": True, "formatters": {}, "handlers": {}, "loggers": {}}
_holder: Any = vars(net)["SocketHolder"]  # its stub hides the constructor
_worker: Any = vars(_granian)["ASGIWorker"]  # so it does here
_NO_METRICS = (None, None)


class TlsFiles(msgspec.Struct, frozen=True, kw_only=True):
    """PEM files: certificate chain and unencrypted private key (mode 0600). ``minimum`` is ``1.2`` or ``1.3``."""

    cert: Path
    key: Path
    minimum: str = "1.2"


class Workers:
    """The Granian worker that accepts, and older ones that still finish their requests."""

    def __init__(self, requests: Requests, listener: socket.socket, tls: TlsFiles | None) -> None:
        self._requests = requests
        self._listener = listener
        self._tls = tls
        self._running: dict[int, Any] = {}  # by number: granian.server.embed.AsyncWorker, which has no types
        self._numbers = itertools.count(1)
        self._accepting: tuple[Any, int] | None = None  # the newest worker, and its descriptor of the listener

    def start(self) -> None:
        """Accept connections from now on."""
        host, port = self._listener.getsockname()[:2]
        server: Any = Server(
            self._requests,
            address=host,
            port=port,
            interface=Interfaces.ASGINL,
            http=HTTPModes.http1,
            http1_settings=HTTP1Settings(max_buffer_size=MAX_BUFFER, header_read_timeout=HEADER_SECONDS * 1000),
            websockets=False,
            backlog=BACKLOG,
            backpressure=MAX_CONNECTIONS,
            **self._ssl(),
            log_enabled=False,
            log_dictconfig=_QUIET,
        )
        # Granian closes the descriptor that it is given, and dies of a double close.
        descriptor = os.dup(self._listener.fileno())
        server._shd = _holder(descriptor, False, BACKLOG)  # noqa: SLF001  # the listener is ours
        number = next(self._numbers)
        worker = server._spawn_worker(number - 1, self._work, self._requests)  # noqa: SLF001  # instead of its own loop
        self._running[number] = worker
        self._accepting = worker, descriptor
        worker.start()

    def _ssl(self) -> dict[str, Any]:
        """Nothing where a front of the cloud ends TLS."""
        if self._tls is None:
            return {}
        minimum = SSLProtocols.tls13 if self._tls.minimum == "1.3" else SSLProtocols.tls12
        return {"ssl_cert": self._tls.cert, "ssl_key": self._tls.key, "ssl_protocol_min": minimum}

    def renew(self) -> bool:
        """Start a worker on the new certificate, let the old one finish. A bad certificate changes nothing.

        Whoever is just shaking hands with the old one goes on, and is answered. (Where the system cannot take the
        listener from it, they are broken off, and try again.)

        Returns:
            False: it was not done for want of descriptors, and should be tried again.
        """
        if self._tls is None:
            return True
        old = self._accepting
        try:
            _check_spare(self._listener.fileno())
            check_tls(self._tls)
            self.start()
        except EntrepotError as error:
            _log.error("certificate_not_swapped", problem=str(error))
            return True
        except OSError as error:
            _log.error("certificate_not_swapped", problem=str(error))
            return False
        if old is not None:
            worker, descriptor = old
            asyncio.get_running_loop().call_later(_handshakes(descriptor), _let_finish, worker)
        _log.info("certificate_swapped", certificate=str(self._tls.cert))
        return True

    async def drain(self, seconds: float) -> None:
        """Stop accepting; wait until running requests end, or the time is over."""
        running = list(self._running.values())
        for worker in running:
            _let_finish(worker)
        deadline = asyncio.get_running_loop().time() + seconds
        for worker in running:
            with contextlib.suppress(TimeoutError, asyncio.CancelledError):
                await worker.join(max(0.0, deadline - asyncio.get_running_loop().time()))

    async def _work(self, number: int, signal: Any, requests: Requests, sock: Any, *settings: Any) -> None:
        """What Granian's own ``_spawn_asgi_worker`` does, but that requests come to ours; its settings, in its order.
        It ends with the worker's last request."""
        *threads, _, mode, http1, http2, websockets, static, _, tls, _ = settings
        worker = _worker(number, sock, None, *threads, mode, http1, http2, websockets, static, *tls, _NO_METRICS)
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        signal.add_cb(lambda: loop.call_soon_threadsafe(ended.set))
        worker.serve_async(scheduler(requests, loop), loop, signal)
        try:
            await ended.wait()
        finally:
            del self._running[number]


def _let_finish(worker: Any) -> None:
    """No further requests. A worker is told once: a second time could wait for ever."""
    if worker.is_alive():
        worker.terminate()


def _check_spare(descriptor: int) -> None:
    """Try whether there are enough descriptors for another worker.

    Raises:
        OSError: there are not.
    """
    with contextlib.ExitStack() as taken:
        for _ in range(SPARE):
            taken.callback(os.close, os.dup(descriptor))


def _handshakes(descriptor: int) -> float:
    """Let no more connections be accepted by a listener; seconds for which handshakes go on there."""
    with contextlib.suppress(OSError):
        if stop_accepting(descriptor):
            return HANDSHAKE_SECONDS
    return 0.0


def check_tls(tls: TlsFiles) -> None:
    """Refuse what would make the server panic, ask for a passphrase, or share its key.

    Raises:
        BadInputError: unreadable, encrypted, not matching, or a key that others may read.
    """
    try:
        mode = stat.S_IMODE(tls.key.stat().st_mode)
        if sys.platform != "win32" and mode & 0o077:
            raise BadInputError(
                f"The private key {tls.key} may be read by others (mode {mode:o}).", next_step=f"chmod 600 {tls.key}"
            )
        if b"ENCRYPTED" in tls.key.read_bytes():
            raise BadInputError(f"The private key {tls.key} is encrypted.", next_step="Store it without a passphrase.")
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(tls.cert, tls.key)
    except (ssl.SSLError, OSError) as error:
        raise BadInputError(f"The certificate {tls.cert} and its key cannot be used: {error}.") from None
