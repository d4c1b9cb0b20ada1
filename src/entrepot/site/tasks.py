"""The durable task engine: long work that survives SIGKILL.

A task is a row (``database.tasks``), a handler (:mod:`~entrepot.site.reporting`) is code registered for its kind. The
engine claims due rows under a lease (``database.taskleases``), runs their handlers side by side, renews the leases and
writes progress down twice a second. An error that is ``retryable`` puts the task back with a growing delay; any other
ends it.
"""

import asyncio
import contextlib
import sys
from typing import Final, NamedTuple

import structlog

from entrepot.core.errors import CancelledError, ConflictError, EntrepotError
from entrepot.core.times import Clock
from entrepot.database import taskleases
from entrepot.database.engine import Database
from entrepot.database.tasks import Task
from entrepot.protocol.siteapi import TaskState
from entrepot.site.reporting import Reporter, TaskHandler, TidyHandler

LEASE_SECONDS: Final = 60.0
BEAT_SECONDS: Final = 0.5
IDLE_SECONDS: Final = 1.0
MAX_ATTEMPTS: Final = 10
ALWAYS: Final = sys.maxsize
"""Attempts of what is tried again until it works or is cancelled."""
FIRST_DELAY: Final = 2.0
LONGEST_DELAY: Final = 1800.0
URGENT_A_LOOK: Final = 1000
"""So many urgent tasks are begun at once; the next look follows soon."""

log = structlog.get_logger("site.tasks")


class _Kind(NamedTuple):
    """How tasks of a kind are done."""

    handler: TaskHandler
    max_attempts: int
    longest_delay: float


class TaskEngine:
    """Runs the tasks of one site in this process.

    Args:
        holder: names this process; unique among all that share the database.
        concurrency: tasks at the same time; urgent ones come on top.

    Attributes:
        ended: how many tasks have run here, so far.
    """

    def __init__(self, database: Database, *, site: str, holder: str, clock: Clock, concurrency: int = 8) -> None:
        self._database = database
        self._site = site
        self._holder = holder
        self._clock = clock
        self._concurrency = concurrency
        self._handlers: dict[str, _Kind] = {}
        self._waiting_kinds: set[str] = set()
        self._urgent_kinds: set[str] = set()
        self._running: dict[str, tuple[asyncio.Task[None], Reporter]] = {}
        self._patient: set[str] = set()  # of those that run: the tasks of kinds that wait for others
        self._urgent: set[str] = set()  # of those that run: the tasks of kinds that wait for nobody
        self._wake = asyncio.Event()
        self._stopping = False
        self.ended = 0

    @property
    def busy(self) -> bool:
        """Whether tasks run now."""
        return bool(self._running)

    def register(
        self,
        kind: str,
        handler: TaskHandler,
        *,
        max_attempts: int = MAX_ATTEMPTS,
        longest_delay: float = LONGEST_DELAY,
        waits: bool = False,
        urgent: bool = False,
    ) -> None:
        """Say who does tasks of this kind, and how often a failing one is tried.

        Args:
            longest_delay: a failing one is tried again after so many seconds at most.
            waits: there may be very many, or they may take days: other kinds come first, and where several tasks run
                at the same time one place is kept free for those.
            urgent: they are begun at once, whatever else runs, each other included, and take nobody's place.
        """
        if kind in self._handlers:
            raise ConflictError(f"Tasks of kind {kind!r} have a handler already.")
        self._handlers[kind] = _Kind(handler, max_attempts, longest_delay)
        if waits:
            self._waiting_kinds.add(kind)
        if urgent:
            self._urgent_kinds.add(kind)

    def wake(self) -> None:
        """Look for due tasks now; call it after the transaction that created one."""
        self._wake.set()

    async def recover(self) -> None:
        """Call once at start: on an embedded database no other process can be alive, so its leases are void."""
        if self._database.embedded:
            freed = await self._database.write(taskleases.release_foreign, site=self._site, holder=self._holder)
            if freed:
                log.info("tasks_resumed", count=freed)

    async def run_once(self) -> int:
        """Run what is due now to its end; how many tasks that were."""
        started = await self._start_due()
        await asyncio.gather(*(work for work, _ in self._running.values()))
        return started

    async def serve(self) -> None:
        """Run tasks until :meth:`stop`."""
        await self.recover()
        while not self._stopping:
            self._wake.clear()
            try:
                await self._start_due()
            except EntrepotError as error:
                log.warning("tasks_not_claimed", error=str(error), code=error.code)
            except Exception:  # a defect here must not end the server's other work
                log.exception("tasks_claim_broke")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), IDLE_SECONDS)

    async def stop(self) -> None:
        """Ask running handlers to stop, wait for them, and put their tasks back."""
        self._stopping = True
        self._wake.set()
        for _, reporter in self._running.values():
            reporter.stop("shutdown")
        await asyncio.gather(*(work for work, _ in self._running.values()))

    def cancel(self, task_id: str) -> None:
        """Pass a cancellation on at once, when the task runs here (the beat would notice it as well)."""
        if task_id in self._running:
            self._running[task_id][1].stop("cancelled")

    async def _start_due(self) -> int:
        if self._stopping:
            return 0
        apart = self._waiting_kinds | self._urgent_kinds
        started = await self._start(sorted(self._urgent_kinds), URGENT_A_LOOK)
        started += await self._start([kind for kind in self._handlers if kind not in apart], self._free())
        room = max(1, self._concurrency - 1) - len(self._patient)
        return started + await self._start(sorted(self._waiting_kinds), min(self._free(), room))

    def _free(self) -> int:
        return self._concurrency - (len(self._running) - len(self._urgent))

    async def _start(self, kinds: list[str], limit: int) -> int:
        """Begin with due tasks of these kinds, so many at most; how many."""
        if limit <= 0 or not kinds:
            return 0
        claimed = await self._database.write(
            taskleases.claim,
            site=self._site,
            kinds=kinds,
            holder=self._holder,
            now=self._clock(),
            lease=LEASE_SECONDS,
            limit=limit,
        )
        for task in claimed:
            reporter = Reporter(task=task.id)
            work = asyncio.create_task(self._work(task, reporter), name=task.id)
            self._running[task.id] = (work, reporter)
            if task.kind in self._waiting_kinds:
                self._patient.add(task.id)
            if task.kind in self._urgent_kinds:
                self._urgent.add(task.id)
        return len(claimed)

    async def _work(self, task: Task, reporter: Reporter) -> None:
        try:
            beat = asyncio.create_task(self._beat(task, reporter))
            try:
                error = await self._handle(task, reporter)
            finally:
                beat.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await beat
            await self._settle(task, reporter, error)
        except EntrepotError as problem:  # the lease runs out and the task is run again
            log.warning("task_not_settled", task=task.id, error=str(problem), code=problem.code)
        finally:
            self._running.pop(task.id, None)
            self._patient.discard(task.id)
            self._urgent.discard(task.id)
            self.ended += 1
            self._wake.set()

    async def _handle(self, task: Task, reporter: Reporter) -> EntrepotError | None:
        """Run the handler; what went wrong, or None."""
        handler, max_attempts, _ = self._handlers[task.kind]
        ended: EntrepotError | None = None
        if task.cancel_requested:
            reporter.stop("cancelled")
            ended = CancelledError("The work was stopped.")
        elif task.attempts > max_attempts:
            ended = EntrepotError(
                f"Given up after {max_attempts} attempts: the server ended in the middle of the last one. {task.error}",
                next_step="Find out what ended it (its log, or the system's: memory, say), then do it again.",
            )
        log.info("task_started", task=task.id, kind=task.kind, subject=task.subject, attempt=task.attempts)
        try:
            if ended is None:
                await handler.run(task, reporter)
            elif isinstance(handler, TidyHandler):
                return await handler.abandoned(task, reporter, ended)
            else:
                return ended
        except EntrepotError as error:
            return error
        except Exception as error:  # a defect in one handler must not end the engine
            log.exception("task_broke", task=task.id, kind=task.kind)
            return EntrepotError(
                f"An internal error ended the work ({type(error).__name__}).",
                next_step="The server's log has the details.",
            )
        return None

    async def _settle(self, task: Task, reporter: Reporter, error: EntrepotError | None) -> None:
        stopped = isinstance(error, CancelledError)
        if stopped and reporter.stop_reason == "lost":
            return
        if stopped and reporter.stop_reason == "shutdown":
            await self._put_back(task, run_after=0, error=None)
            return
        _, max_attempts, longest = self._handlers[task.kind]
        if error is not None and error.retryable and not stopped and task.attempts < max_attempts:
            # the exponent is bounded: a task that is tried for months must not outgrow a number
            delay = min(FIRST_DELAY * 2 ** min(task.attempts - 1, 32), longest)
            log.info("task_retried", task=task.id, kind=task.kind, error=str(error), seconds=delay)
            await self._put_back(task, run_after=self._clock() + delay, error=error)
            return
        failed = TaskState.CANCELLED if stopped else TaskState.FAILED
        state = TaskState.COMPLETED if error is None else failed
        log.info("task_ended", task=task.id, kind=task.kind, state=state.value, error=str(error or ""))
        await self._database.write(
            taskleases.finish,
            task_id=task.id,
            holder=self._holder,
            state=state,
            now=self._clock(),
            progress=reporter.current(),
            error="" if error is None else str(error),
            error_code="" if error is None else error.code,
        )

    async def _put_back(self, task: Task, *, run_after: float, error: EntrepotError | None) -> None:
        await self._database.write(
            taskleases.put_back,
            task_id=task.id,
            holder=self._holder,
            run_after=run_after,
            error="" if error is None else str(error),
            error_code="" if error is None else error.code,
            count_attempt=error is not None,
        )

    async def _beat(self, task: Task, reporter: Reporter) -> None:
        renewed = self._clock()
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            progress = reporter.unwritten()
            try:
                claim = await self._database.write(
                    taskleases.renew,
                    task_id=task.id,
                    holder=self._holder,
                    now=self._clock(),
                    lease=LEASE_SECONDS,
                    progress=progress,
                )
            except EntrepotError as error:
                if self._clock() - renewed > LEASE_SECONDS:
                    reporter.stop("lost")
                log.warning("lease_not_renewed", task=task.id, error=str(error))
                continue
            except Exception:  # whatever it is: the work goes on while the lease lasts
                if self._clock() - renewed > LEASE_SECONDS:
                    reporter.stop("lost")
                log.exception("lease_renewal_broke", task=task.id)
                continue
            renewed = self._clock()
            if not claim.held:
                reporter.stop("lost")
            elif claim.cancel_requested:
                reporter.stop("cancelled")
