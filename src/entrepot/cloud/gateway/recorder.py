"""Takes the records of finished requests: durable within a second, shipped in segments (architecture 4.5).

Two threads: the *committer* writes and syncs, at most ``COMMIT_SECONDS`` after a record came in (many records share
one sync), and notes every ``NOTE_SECONDS`` what the running downloads have sent so far; the *shipper* brings closed
segments to the store, so that a slow store never delays a commit. While the disk refuses,
:attr:`TransactionRecorder.healthy` is False and the gateway answers 503: what cannot be recorded is not served.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

import structlog

from entrepot.cloud.gateway.journal import BATCH, Journal, Limits, UnsyncedError
from entrepot.cloud.gateway.running import without, write_note
from entrepot.cloud.gateway.shipping import adopt_leftovers, ship_closed
from entrepot.core.errors import EntrepotError, UnavailableError
from entrepot.core.times import Clock
from entrepot.objects.store import ObjectStore
from entrepot.protocol.transactions import Record

COMMIT_SECONDS = 0.25
NOTE_SECONDS = 0.5
LOOK_SECONDS = 10.0
"""So often an idle instance looks whether another one has died and left records."""
_RETRY_SECONDS = 1.0
_log = structlog.get_logger(__name__)


class TransactionRecorder:
    """Thread-safe front of one instance's :class:`Journal`.

    Args:
        journal: owned from now on.
        state: the folder of all instances' journals; ``folder`` is this instance's own.
        limits: asked at each commit, since the control document may change them.
        running: gives, to any thread, a record of each download under way, with what it has sent so far. A download
            leaves it before it comes to :meth:`record`.
        on_failure: called once, from the committer, when records may have been lost: the process must end.
    """

    def __init__(
        self,
        journal: Journal,
        *,
        state: Path,
        folder: Path,
        store: ObjectStore,
        clock: Clock,
        limits: Callable[[], Limits],
        running: Callable[[], list[Record]],
        on_failure: Callable[[], None],
    ) -> None:
        self._journal = journal
        self._state, self._folder, self._store = state, folder, store
        self._clock, self._limits, self._running, self._on_failure = clock, limits, running, on_failure
        self._noted_at = 0
        self._noted = False
        self._shippable = 0
        self._pending: deque[Record] = deque()
        self._waiting: list[Future[int]] = []
        self._changed = threading.Condition()
        self._ship = threading.Event()
        self._hurried = threading.Event()
        self._stopping = threading.Event()
        self.healthy = True
        self._committer = threading.Thread(target=self._commit_loop, name="journal-commit", daemon=True)
        self._shipper = threading.Thread(target=self._ship_loop, name="journal-ship", daemon=True)

    def start(self) -> None:
        """Begin to commit and ship; adopts what dead instances left."""
        self._committer.start()
        self._ship.set()
        self._shipper.start()

    @property
    def segments(self) -> int:
        """Segments so far, the open one included."""
        return self._journal.segments

    def record(self, record: Record) -> None:
        """Take one record. Never blocks on the disk."""
        self._pending.append(record)
        if len(self._pending) == 1:
            with self._changed:
                self._changed.notify()

    def ship_soon(self) -> None:
        """Hand over what is recorded, with the next commit, however young the segment; and what the dead left."""
        self._hurried.set()
        with self._changed:
            self._changed.notify()

    async def noted(self) -> int:
        """Wait until what is running and what has ended by now is durable, without delay.

        Returns:
            number of segments that hold, or will hold, all that has ended by now.

        Raises:
            UnavailableError: it cannot be made durable now.
        """
        waiting: Future[int] = Future()
        with self._changed:
            if self._stopping.is_set():
                raise UnavailableError("This instance is ending.", next_step="Try again.")
            self._waiting.append(waiting)
            self._changed.notify()
        return await asyncio.wrap_future(waiting)

    def close(self, *, ship_seconds: float) -> None:
        """Commit everything, close the segment, ship it if the store answers in time; else it is adopted later.

        Raises:
            StorageError: records could not be made durable.
        """
        with self._changed:
            self._stopping.set()
            self._changed.notify()
        if self._committer.is_alive():
            self._committer.join()
        self._pending.extend(self._running())  # whoever is still under way now is not waited for
        self._running = list  # they are records now: the last note has none
        self._hurried.set()
        self.run_once()
        self._ship.set()
        if self._shipper.is_alive():
            self._shipper.join(ship_seconds)
        self._journal.release()

    def run_once(self) -> None:
        """Commit what is pending and close the segment if it is due.

        Raises:
            StorageError: the disk refuses; nothing that was not written is forgotten.
        """
        with self._changed:
            waiting, self._waiting = self._waiting, []
        waiting = [one for one in waiting if one.set_running_or_notify_cancel()]
        try:
            segments = self._run(noting=bool(waiting))
        except BaseException as error:
            if isinstance(error, UnsyncedError):
                # After a failed sync nobody knows what is on the disk, and a second sync would lie.
                _log.critical("journal.sync_failed")
                self._on_failure()
            for one in waiting:
                one.set_exception(UnavailableError("Records cannot be kept now.", next_step="Try again in a moment."))
            raise
        for one in waiting:
            one.set_result(segments)

    def _run(self, *, noting: bool) -> int:
        now_ms = int(self._clock() * 1000)
        limits = self._limits()
        before = len(self._pending)  # these are not among the running any more
        running = self._running()  # first: what ends from now on comes to us as a record
        ended = self._commit(now_ms, limits)[before:]
        hurried = self._hurried.is_set()
        self._hurried.clear()
        if hurried or self._journal.due(now_ms=now_ms, limits=limits):
            self._journal.close_segment()
        closed = self._journal.closed > self._shippable
        if closed or noting or not 0 <= now_ms - self._noted_at < NOTE_SECONDS * 1000:
            self._note(without(running, ended), now_ms)
        self._shippable = self._journal.closed  # only now: the note must not need a segment that is gone
        if closed or hurried:
            self._ship.set()
        return self._journal.segments

    def _commit(self, now_ms: int, limits: Limits) -> list[Record]:
        """Write what is pending, and return it."""
        ended: list[Record] = []
        while self._pending:
            batch = [self._pending[index] for index in range(min(BATCH, len(self._pending)))]
            self._journal.append(batch, now_ms=now_ms, limits=limits)
            for _ in batch:
                self._pending.popleft()
            ended += batch
        if ended:
            self._journal.sync()
        return ended

    def _note(self, running: list[Record], now_ms: int) -> None:
        if running or self._noted:
            write_note(self._folder, self._journal.next_header(now_ms), self._journal.size, running)
        self._noted, self._noted_at = bool(running), now_ms

    def _wanted(self) -> bool:
        return bool(self._pending) or bool(self._waiting) or self._hurried.is_set() or self._stopping.is_set()

    def _urgent(self) -> bool:
        return bool(self._waiting) or self._stopping.is_set()

    def _commit_loop(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(self._wanted, timeout=NOTE_SECONDS)
                self._changed.wait_for(self._urgent, timeout=COMMIT_SECONDS)
            if self._stopping.is_set():
                return  # close() commits the rest
            try:
                self.run_once()
                self.healthy = True
            except EntrepotError as error:
                self.healthy = False
                _log.error("journal.refused", error=str(error))
                self._stopping.wait(_RETRY_SECONDS)
            except OSError as error:  # nothing that an administrator could mend while we run
                _log.critical("journal.failed", error=str(error))
                self.healthy = False
                self._on_failure()
                return

    def _ship_loop(self) -> None:
        while True:
            self._ship.wait(LOOK_SECONDS)
            self._ship.clear()
            stopping = self._stopping.is_set()
            try:
                ship_closed(self._folder, self._store, below=self._shippable)
                if not stopping:
                    adopt_leftovers(self._state, self._store)
            except (EntrepotError, OSError) as error:  # whatever it is: without this thread nothing would ever travel
                _log.warning("journal.not_shipped", error=str(error))
                if not stopping:
                    self._stopping.wait(_RETRY_SECONDS)
                    self._ship.set()
            if stopping:
                return
