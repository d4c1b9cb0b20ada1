"""One gateway instance as the host sees it: a process, its two pipes, and how to end it.

The process is started from the event loop's own thread, which lives as long as the host: the kernel ends the instance
with that thread (PR_SET_PDEATHSIG in the child), so that a killed host leaves none behind.
"""

import asyncio
import contextlib
import socket
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

import structlog

from entrepot.cloud.gateway.config import GatewayConfig, save_config
from entrepot.cloud.gateway.pipes import MAX_LINE, Heartbeat, Order, is_ready_line, parse_heartbeat
from entrepot.cloud.host.plan import Phase, View
from entrepot.web.handover import HANDSHAKE_SECONDS

STOP_SECONDS = 1.0
"""A stopped instance that still runs after this long is killed; its journal is then adopted."""
STEERED_AWAY_SECONDS = HANDSHAKE_SECONDS
"""So long an instance goes on before it drains: connections on their way to it when new ones were steered elsewhere are
still its own, and so are TLS handshakes in progress."""
_KILL_AFTER_DRAIN = 15.0
_log = structlog.get_logger("entrepot.host")


class GatewayInstance:
    """A running instance. All methods belong to the event loop.

    Attributes:
        heartbeat: the last one heard, or None.
        heard: seconds of the loop's clock when it was heard.
        slot: number of the listener that it has.
    """

    def __init__(
        self, process: Process, config: GatewayConfig, file: Path, *, slot: int, revision: int, started_at: float
    ) -> None:
        self.slot = slot
        self.id = config.instance
        self.revision = revision
        self.started_at = started_at
        self.heartbeat: Heartbeat | None = None
        self.heard_at = started_at
        self._process = process
        self._file = file
        self._drain_seconds = config.drain_seconds
        self.phase = Phase.STARTING
        self._loop = asyncio.get_running_loop()
        self.started = self.heard = self._loop.time()
        self._killer: asyncio.TimerHandle | None = None
        self._watch = asyncio.create_task(self._run(), name=f"watch {self.id}")
        self.changed: Callable[[], None] = lambda: None

    @classmethod
    async def start(
        cls,
        command: Sequence[str],
        config: GatewayConfig,
        file: Path,
        *,
        listener: socket.socket,
        slot: int,
        revision: int,
        now: float,
    ) -> Self:
        """Start a process: ``command`` plus the path of its configuration.

        Raises:
            StorageError: the configuration cannot be written.
            OSError: the process cannot be started.
        """
        await asyncio.to_thread(save_config, file, config)
        process = await asyncio.create_subprocess_exec(
            *command,
            str(file),
            stdin=PIPE,
            stdout=PIPE,
            stderr=None,
            pass_fds=(listener.fileno(),),
            limit=MAX_LINE,
            cwd="/",
        )
        return cls(process, config, file, slot=slot, revision=revision, started_at=now)

    @property
    def view(self) -> View:
        """What ``plan`` needs to know."""
        return View(id=self.id, revision=self.revision, phase=self.phase, started=self.started, heard=self.heard)

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def tell(self, order: Order) -> None:
        """Send a line. An instance that is gone does not mind."""
        stdin = self._process.stdin
        assert stdin is not None
        with contextlib.suppress(OSError, RuntimeError):
            stdin.write(f"{order}\n".encode())

    def drain(self) -> None:
        """Let it finish its handshakes and downloads; others take new connections."""
        if self.phase in (Phase.STARTING, Phase.READY):
            self.phase = Phase.DRAINING
            self._loop.call_later(STEERED_AWAY_SECONDS, self._signal_end)
            self._kill_in(STEERED_AWAY_SECONDS + self._drain_seconds + _KILL_AFTER_DRAIN)

    def stop(self) -> None:
        """Cut its clients off at once; kill it if it does not end within a second."""
        if self.phase is not Phase.STOPPING:
            self.phase = Phase.STOPPING
            self.tell(Order.STOP)
            self._kill_in(STOP_SECONDS)

    def kill(self) -> None:
        """End it now."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def ended(self) -> int:
        """Wait until it is gone; gives its exit code (negative: the signal that ended it)."""
        await asyncio.wait([self._watch])
        return await self._process.wait()

    def _signal_end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()

    def _kill_in(self, seconds: float) -> None:
        if self._killer:
            self._killer.cancel()
        self._killer = self._loop.call_later(seconds, self.kill)

    async def _run(self) -> None:
        """Follow what it says until it ends."""
        stdout = self._process.stdout
        assert stdout is not None
        try:
            while True:
                try:
                    line = await stdout.readline()
                except ValueError:  # longer than MAX_LINE: not ours, and forgotten
                    continue
                if not line:
                    break
                self._hear(line)
            await self._process.wait()
        finally:
            if self._killer:
                self._killer.cancel()
            with contextlib.suppress(OSError):
                self._file.unlink()

    def _hear(self, line: bytes) -> None:
        if is_ready_line(line):
            if self.phase is Phase.STARTING:
                self.phase = Phase.READY
            self.heard = self._loop.time()
            self.changed()
            return
        beat = parse_heartbeat(line)
        if beat is None:
            _log.warning("instance.unexpected_line", instance=self.id)
            return
        self.heartbeat, self.heard, self.heard_at = beat, self._loop.time(), beat.beat / 1000
