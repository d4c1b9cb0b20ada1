"""Children that surely end: each dies with its parent, whatever ends the parent, and takes its own children along.

On Linux the kernel kills a child when the thread that started it ends (PR_SET_PDEATHSIG), so start them from the main
thread. Every child leads a process group of its own, which is signalled as a whole.
"""

import contextlib
import ctypes
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Self

import msgspec

from entrepot.core.errors import EntrepotError, UnavailableError

PR_SET_PDEATHSIG = 1
READY_SECONDS = 180.0
STOP_SECONDS = 8.0
TAIL_LINES = 12


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """The line that a server prints on standard output when it accepts connections."""

    ready: bool
    role: str
    url: str


class StepFailedError(EntrepotError):
    """A step of the demonstration did not come out as it must."""

    code = "demo_failed"


def entrepot(*arguments: str) -> list[str]:
    """The ``entrepot`` command of this very installation."""
    return [sys.executable, "-m", "entrepot", *arguments]


def _with_parent() -> Callable[[], None] | None:
    """What a new child does first: ask the kernel to be killed with its parent."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl  # looked up before the fork: after it only async-signal-safe work is sound

    def die_with_parent() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

    return die_with_parent


class Server:
    """One server process with its log file."""

    def __init__(self, name: str, arguments: Sequence[str], *, log: Path, environment: Mapping[str, str]) -> None:
        self.name = name
        self.log = log
        self.url = ""
        self._arguments = list(arguments)
        self._environment = dict(environment)
        self._process: subprocess.Popen[bytes] | None = None

    def launch(self) -> None:
        """Start it, without waiting. From the main thread only."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own command line
                entrepot(*self._arguments),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env=self._environment,
                start_new_session=True,
                preexec_fn=_with_parent(),  # noqa: PLW1509 - one libc call; see the file header
            )

    def await_ready(self) -> str:
        """Wait until it accepts connections; gives its URL.

        Raises:
            UnavailableError: it ended, or was not ready in time; names its log.
        """
        assert self._process is not None
        assert self._process.stdout is not None
        line = _read_line(self._process.stdout, READY_SECONDS)
        try:
            self.url = msgspec.json.decode(line, type=Ready).url
        except msgspec.DecodeError:
            raise UnavailableError(
                f"The {self.name} did not start:\n{self.tail()}", next_step=f"Read its log: {self.log}"
            ) from None
        return self.url

    @property
    def pid(self) -> int:
        """Process id, 0 when it is not running."""
        return self._process.pid if self._process is not None and self._process.poll() is None else 0

    def tail(self) -> str:
        """The last lines of its log."""
        with contextlib.suppress(OSError):
            return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL_LINES:])
        return ""

    def ask_to_end(self) -> None:
        """SIGTERM to the server, which ends its own children."""
        if self.pid:
            _signal_process(self.pid, signal.SIGTERM)

    def end(self) -> None:
        """Wait until it has ended; kill the whole group if it does not, or leaves something behind."""
        process = self._process
        if process is None:
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
        _signal_group(process.pid)
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _signal_process(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _signal_group(pid: int) -> None:
    if sys.platform != "win32":
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
    else:
        _signal_process(pid, signal.SIGTERM)


def _read_line(pipe: IO[bytes], seconds: float) -> bytes:
    """One line from a pipe, or what came before it closed or the time was over."""
    deadline = time.monotonic() + seconds
    line = b""
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while not line.endswith(b"\n") and selector.select(max(0.0, deadline - time.monotonic())):
            piece = os.read(pipe.fileno(), 4096)
            if not piece:
                break
            line += piece
    return line


class Servers:
    """All servers of the demonstration, ended together. Use as a context manager."""

    def __init__(self, logs: Path, environment: Mapping[str, str]) -> None:
        self._logs = logs
        self._environment = dict(environment)
        self._started: list[Server] = []

    def launch(self, name: str, *arguments: str) -> Server:
        """Start ``entrepot ARGUMENTS``, without waiting."""
        server = Server(name, arguments, log=self._logs / f"{name}.log", environment=self._environment)
        self._started.append(server)
        server.launch()
        return server

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for server in reversed(self._started):
            server.ask_to_end()
        for server in reversed(self._started):
            server.end()

    @property
    def all(self) -> tuple[Server, ...]:
        """In the order in which they were started."""
        return tuple(self._started)


def run_command(
    arguments: Sequence[str], *, environment: Mapping[str, str], log: Path, stdin: str = "", check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run ``entrepot ARGUMENTS`` to its end; its messages are appended to a log.

    Raises:
        StepFailedError: it failed (unless ``check`` is false); with its own message.
    """
    begun = time.monotonic()
    done = subprocess.run(  # noqa: S603 - our own command line
        entrepot(*arguments),
        input=stdin,
        capture_output=True,
        text=True,
        env=dict(environment),
        check=False,
        timeout=300,
        preexec_fn=_with_parent(),
    )
    with log.open("a", encoding="utf-8") as file:
        seconds = time.monotonic() - begun
        file.write(f"$ entrepot {' '.join(arguments)}   # {seconds:.2f} s\n{done.stderr}\n")
    if check and done.returncode != 0:
        raise StepFailedError(
            f"`entrepot {' '.join(arguments)}` ended with {done.returncode}:\n{done.stderr.strip()}",
            next_step=f"Read {log} and the logs beside it.",
        )
    return done


def command_in_background(arguments: Sequence[str], *, environment: Mapping[str, str]) -> subprocess.Popen[str]:
    """Start ``entrepot ARGUMENTS``; the caller waits for it."""
    return subprocess.Popen(  # noqa: S603 - our own command line
        entrepot(*arguments),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(environment),
        preexec_fn=_with_parent(),  # noqa: PLW1509 - one libc call; see the file header
    )
