"""Starts gathering processes (``content/gatherer.py``). A server keeps one spare, which has started already and waits
for its orders: until the first group of a large source has come nobody has anything to do, and Python's own start is
most of that time.

The spare costs some 20 MiB while nothing is published. Its orders come through its standard input: when the server
ends, however it ends, so does the spare.
"""

import contextlib
import subprocess
import sys
import threading
from typing import Final

from entrepot.core.errors import UnavailableError

Process = subprocess.Popen[bytes]
RESPITE_SECONDS: Final = 1.0
"""After a publish: to start a process holds every thread of this one up for some milliseconds, and whoever asked for
the publish waits for its last transaction."""


class Spare:
    """At most one process that nobody uses yet. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: Process | None = None
        self._wanted = False

    def keep(self) -> None:
        """From now on there is always one; call it once a server begins to serve."""
        self._wanted = True
        self.replenish()

    def replenish(self) -> None:
        """Start another if the one that was kept is used. That this fails harms nobody yet."""
        with self._lock:
            if self._wanted and self._alive() is None:
                with contextlib.suppress(UnavailableError):
                    self._kept = _start()

    def replenish_soon(self) -> None:
        """The same in a second, without waiting for it."""
        if self._wanted:
            timer = threading.Timer(RESPITE_SECONDS, self.replenish)
            timer.daemon = True
            timer.start()

    def take(self) -> Process:
        """The one that was kept, or one that starts now.

        Raises:
            UnavailableError: it cannot be started.
        """
        with self._lock:
            kept, self._kept = self._alive(), None
        return kept or _start()

    def _alive(self) -> Process | None:
        """The one that is kept, unless it was ended meanwhile."""
        if self._kept is not None and self._kept.poll() is not None:
            _dismiss(self._kept)
            self._kept = None
        return self._kept


def _dismiss(process: Process) -> None:
    """Close its pipes, which ends it, and wait until it has."""
    with process:
        pass


def _start() -> Process:
    try:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "entrepot.content.gatherer"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the server, which then ends this one
        )
    except OSError as error:
        raise UnavailableError(
            f"The process that reads the source could not be started: {error.strerror}.",
            next_step="Check that the server may start processes, and has memory for them.",
        ) from error


SPARE = Spare()
"""This process's."""
