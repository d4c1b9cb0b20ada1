"""The embedded HTTP server: Granian inside our own event loop, on a listener of our own.

One process, one loop, one worker. What Granian leaves to us is here: the listener (small send buffers, so that a
client that is cut off reads at most what the kernel holds; no waiting for acknowledgements; dead peers time out), a
bounded drain on SIGTERM, swapped certificates on SIGHUP, and errors that become problem details.
"""

import asyncio
import contextlib
import errno
import os
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

from entrepot.core.encoding import to_json
from entrepot.core.errors import BadInputError, ConflictError
from entrepot.core.loading import all_is_loaded
from entrepot.web.arrivals import AtOnce, Requests
from entrepot.web.asgi import App, Message, Scope
from entrepot.web.crowds import keep_bounded
from entrepot.web.embedded import BACKLOG, Workers, check_tls
from entrepot.web.embedded import TlsFiles as TlsFiles
from entrepot.web.lifespan import lifespan
from entrepot.web.logs import log_json
from entrepot.web.process import keep_freed_memory, raise_descriptor_limit

SEND_BUFFER = 128 * 1024
DEAD_PEER_MILLISECONDS = 60_000
WORKER_THREADS = 64
"""Threads for blocking work, made as they are needed. asyncio's own number, a few more than there are processors, would
be used up by long work (publishing, validation, a store that does not answer), and every request would wait for it."""
RENEW_AGAIN_SECONDS = 60
"""Until certificate files that could not be swapped are read again."""

NewLoop = Callable[[], asyncio.AbstractEventLoop]


def _nothing(_: Scope) -> tuple[Message, ...]:
    """Where every request takes the application's way."""
    return ()


def open_listener(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A listening socket with the options that Granian cannot set.

    Args:
        shared: several processes may listen on the same port (SO_REUSEPORT); the instances of one cloud service do.

    Raises:
        ConflictError: the port is taken, or not ours to take.
        BadInputError: the host is no address of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        # else the end of an answer waits until the client has acknowledged what came before, which it may put off
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if sys.platform == "linux":  # accepted sockets inherit it: peers that stop reading do not stay for ever
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAD_PEER_MILLISECONDS)
        listener.bind((host, port))
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except socket.gaierror:
        listener.close()
        raise BadInputError(f"{host!r} is not an address of this machine.") from None
    except OSError as error:
        listener.close()
        step = "Choose another address: --listen at set-up, `listen` in the settings."
        if error.errno == errno.EADDRINUSE:
            step = f"Stop what has it (`ss -ltnp` names it). {step}"
        if error.errno == errno.EACCES:
            step = "Let this user open it (systemd: AmbientCapabilities=CAP_NET_BIND_SERVICE), or choose another one."
        raise ConflictError(f"Cannot listen on {host}:{port}: {error.strerror}.", next_step=step) from error
    return listener


def listener_url(listener: socket.socket, host: str | None = None, *, scheme: str = "https") -> str:
    """``scheme://host:port`` of a listener; ``host`` replaces the bound address."""
    address, port = listener.getsockname()[:2]
    name = host or address
    return f"{scheme}://[{name}]:{port}" if ":" in name else f"{scheme}://{name}:{port}"


async def serve(
    app: App,
    *,
    listener: socket.socket,
    tls: TlsFiles | None,
    ready: Callable[[], None] = lambda: None,
    at_once: AtOnce | None = None,
    most_of_address: Callable[[], int] = lambda: 0,
    drain_seconds: float = 5.0,
    stop: asyncio.Event | None = None,
    renew: asyncio.Event | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT (or until ``stop`` is set), then drain and return; the listener is closed.

    The application's lifespan brackets it. Requests still running after ``drain_seconds`` are broken off. SIGHUP
    reads the certificate files again; running requests finish on the old ones.

    Args:
        ready: called once when connections are accepted.
        at_once: asked before the application for the whole answer to a request; where it has none (it is empty), the
            application is asked, with the same scope. Such answers cannot be broken off: they take no waiting.
        most_of_address: connections that one address may hold at this moment; 0: any number.
        stop: given by tests and by callers that handle signals themselves; then no handlers are installed.
        renew: set it, and the certificate files are read again, as on SIGHUP.

    Raises:
        BadInputError: the certificate and key cannot be used together, or the key file is readable by others.
        EntrepotError: the application's start-up failed.
    """
    if tls is not None:
        check_tls(tls)
    raise_descriptor_limit()
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(WORKER_THREADS, thread_name_prefix="worker"))
    requests = Requests(app, at_once or _nothing)
    stopping = stop or asyncio.Event()
    renewal = renew or asyncio.Event()
    async with lifespan(app):
        with _signals(stopping, renewal) if stop is None else contextlib.nullcontext():
            workers = Workers(requests, listener, tls)
            bounds = asyncio.create_task(keep_bounded(listener.getsockname()[1], most_of_address))
            try:
                workers.start()
                ready()
                await _until(stopping, renewal, workers)
            finally:
                bounds.cancel()
                listener.close()
                await workers.drain(drain_seconds)
                await requests.cancel_all()


async def _until(stopping: asyncio.Event, renew: asyncio.Event, workers: Workers) -> None:
    """Wait for the end; swap certificates whenever asked."""
    end = asyncio.create_task(stopping.wait())
    try:
        while not stopping.is_set():
            ask = asyncio.create_task(renew.wait())
            await asyncio.wait({end, ask}, return_when=asyncio.FIRST_COMPLETED)
            ask.cancel()
            if renew.is_set():
                renew.clear()
                if not workers.renew():
                    asyncio.get_running_loop().call_later(RENEW_AGAIN_SECONDS, renew.set)
    finally:
        end.cancel()


@contextlib.contextmanager
def _signals(stopping: asyncio.Event, renew: asyncio.Event) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    wanted = {signal.SIGTERM: stopping.set, signal.SIGINT: stopping.set, signal.SIGHUP: renew.set}
    for number, action in wanted.items():
        loop.add_signal_handler(number, action)
    try:
        yield
    finally:
        for number in wanted:
            loop.remove_signal_handler(number)


def announce_ready(role: str, url: str) -> None:
    """The readiness line on standard output: supervisors and scripts wait for it."""
    sys.stdout.write(to_json({"ready": True, "role": role, "url": url}).decode() + "\n")
    sys.stdout.flush()


def run_process(main: Coroutine[Any, Any, None], *, loop: NewLoop | None = None, one_heap: bool = False) -> NoReturn:
    """Run a server process to its end and leave at once: native worker threads must not delay or abort the exit.

    Args:
        loop: makes the event loop; asyncio's own, if it is not given.
        one_heap: see :func:`keep_freed_memory`.

    Logs become JSON lines on standard error.

    Errors of our own propagate to the command line instead, which shows them.
    """
    log_json()
    keep_freed_memory(one_heap=one_heap)
    all_is_loaded()
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(_to_the_end(main))
    raise AssertionError("unreachable")


async def _to_the_end(main: Coroutine[Any, Any, None]) -> NoReturn:
    """Leave from within the loop: its end would wait for threads, and one that asks a silent store has minutes."""
    await main
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
