"""What the handler of a task is, and how it tells its progress.

A handler may be interrupted anywhere, in the worst case by SIGKILL, and is then run again from the start: so it must be
idempotent, looking at what is there before it acts. The engine that runs it is in :mod:`~entrepot.site.tasks`.
"""

import threading
import time
from collections.abc import Callable
from typing import Final, Protocol, runtime_checkable

import msgspec

from entrepot.core.encoding import to_json
from entrepot.core.errors import CancelledError, EntrepotError
from entrepot.database.taskleases import Progress
from entrepot.database.tasks import Task
from entrepot.rules.pace import Pace


class Reporter:
    """Takes a handler's progress, from any thread; tells it when to stop.

    What is reported is kept here and written down by the engine, so reporting is cheap.

    Args:
        clock: seconds that only grow, for the pace.
        task: the task's id.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, *, task: str = "") -> None:
        self.task: Final = task
        self._clock = clock
        self._pace = Pace()
        self._lock = threading.Lock()
        self._progress = Progress()
        self._written = Progress()
        self._stop = threading.Event()
        self.stop_reason = ""

    def step(self, text: str, *, total: int = 0, unit: str = "", done: int = 0) -> None:
        """Begin a step; forget the amounts of the one before.

        Raises:
            CancelledError: the work is to stop here.
        """
        with self._lock:
            changes = {"step": text, "done": done, "total": total, "unit": unit, "rate": 0}
            self._progress = msgspec.structs.replace(self._progress, **changes)
            self._pace = Pace()
            self._pace.note(self._clock(), done)
        self.check()

    def amount(self, done: int, total: int | None = None) -> None:
        """How much of the step is done."""
        with self._lock:
            new_total = self._progress.total if total is None else total
            self._progress = msgspec.structs.replace(self._progress, done=done, total=new_total)

    def message(self, text: str) -> None:
        """A sentence for the administrator that stays when the task has ended."""
        with self._lock:
            self._progress = msgspec.structs.replace(self._progress, message=text)

    def result(self, value: object) -> None:
        """What the task was to find out; kept as JSON."""
        with self._lock:
            self._progress = msgspec.structs.replace(self._progress, result=to_json(value).decode())

    @property
    def cancelled(self) -> bool:
        """Whether the work is to stop; poll it in loops of worker threads."""
        return self._stop.is_set()

    def check(self) -> None:
        """Stop here if the work is to stop.

        Raises:
            CancelledError: an administrator cancelled it, the server is shutting down, or another process took over.
        """
        if self._stop.is_set():
            raise CancelledError("The work was stopped.")

    def stop(self, reason: str) -> None:
        """Ask the handler to stop; the first reason counts, but for the end of this process's part in it."""
        if not self.stop_reason or reason in ("shutdown", "lost"):
            self.stop_reason = reason
        self._stop.set()

    def current(self) -> Progress:
        """The progress as it is now."""
        with self._lock:
            return self._progress

    def unwritten(self) -> Progress | None:
        """The progress, if it or its pace changed since the last call."""
        with self._lock:
            rate = self._pace.note(self._clock(), self._progress.done)
            self._progress = now = msgspec.structs.replace(self._progress, rate=rate)
        if now == self._written:
            return None
        self._written = now
        return now


class TaskHandler(Protocol):
    """Does the work of one kind of task."""

    async def run(self, task: Task, report: Reporter) -> None:
        """Do it, or what is left of it: idempotent, may be interrupted anywhere and run again.

        Long loops call ``report.check()`` or poll ``report.cancelled``. No database transaction is held across
        network input or output.

        Raises:
            EntrepotError: it did not work; tried again later when ``retryable``.
        """


@runtime_checkable
class TidyHandler(TaskHandler, Protocol):
    """A handler whose work leaves something behind that must not stay when it is never run again."""

    async def abandoned(self, task: Task, report: Reporter, error: EntrepotError) -> EntrepotError:
        """The task ends without another run: it was cancelled while it waited for one, or was begun too often.

        Idempotent, as ``run``.

        Returns:
            the error to report instead, knowing what remains.

        Raises:
            EntrepotError: as ``run``.
        """
