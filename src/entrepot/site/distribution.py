"""The distribution engine: brings content to points and takes it away (architecture 4.2).

It claims rows that are due, the highest priority first, one for each point at a time, so that what a removal deletes
is never what a transfer counts on. Runs of different points go side by side. Leases are renewed while a run lasts; when
something else is wanted of a row meanwhile (another version, removal, cancellation), its run is broken off and the row
is due again.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

import msgspec
import structlog

from entrepot.core.errors import (
    BadInputError,
    CancelledError,
    EntrepotError,
    ForbiddenError,
    IntegrityError,
    NotFoundError,
    RefusedError,
)
from entrepot.core.times import Clock
from entrepot.database import distribution, points, pointsets
from entrepot.database.distribution import Distribution
from entrepot.database.engine import Database
from entrepot.protocol.contentapi import DistributionState
from entrepot.rules.retry import next_pause
from entrepot.site.cloudport import HolderSource
from entrepot.site.holders import wait_or
from entrepot.site.sending import RETIRED_SECONDS, Amounts, Sender

LEASE_SECONDS: Final = 60.0
BEAT_SECONDS: Final = 0.5
IDLE_SECONDS: Final = 1.0
_HOPELESS: Final = (BadInputError, RefusedError, ForbiddenError, NotFoundError)
"""Errors that trying again does not mend."""
_DAMAGED_ATTEMPTS: Final = 3

log = structlog.get_logger("site.distribution")


class DistributionEngine:
    """Works on the distribution rows of one site.

    Args:
        holders: gives the data plane of each point.
        transfers: points at the same time.
        draw: random numbers from 0 to 1, to spread retries.
        answered: is told the id of a point to which something was done.
    """

    def __init__(
        self,
        database: Database,
        *,
        site: str,
        holder: str,
        sender: Sender,
        holders: HolderSource,
        clock: Clock,
        draw: Callable[[], float],
        transfers: int,
        answered: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._database = database
        self._site = site
        self._holder = holder
        self._sender = sender
        self._holders = holders
        self._clock = clock
        self._draw = draw
        self._transfers = transfers
        self._answered = answered
        self._running: dict[str, asyncio.Task[None]] = {}
        self._wake = asyncio.Event()
        self._stopping = False

    def wake(self) -> None:
        """Look for due rows now; call it from the event loop after something else was wanted."""
        self._wake.set()

    async def recover(self) -> None:
        """Call once at start: on an embedded database no other process can be alive, so its leases are void."""
        if self._database.embedded:
            await self._database.write(distribution.release_foreign, site=self._site, holder=self._holder)

    async def run_once(self) -> int:
        """Work on what is due now, to its end; how many rows that were."""
        started = await self._start_due()
        await asyncio.gather(*self._running.values())
        return started

    async def serve(self) -> None:
        """Work until :meth:`stop`."""
        await self.recover()
        while not self._stopping:
            try:
                await self._start_due()
            except EntrepotError as error:
                log.warning("distribution_not_claimed", error=str(error), code=error.code)
            except Exception:  # a defect here must not end the server's other work
                log.exception("distribution_claim_broke")
            await wait_or(self._wake, IDLE_SECONDS)

    async def stop(self) -> None:
        """Break off what runs; it goes on after the next start."""
        self._stopping = True
        self._wake.set()
        for run in self._running.values():
            run.cancel()
        await asyncio.gather(*self._running.values(), return_exceptions=True)

    async def _start_due(self) -> int:
        free = self._transfers - len(self._running)
        if free <= 0 or self._stopping:
            return 0
        claimed = await self._database.write(
            distribution.claim,
            site=self._site,
            holder=self._holder,
            now=self._clock(),
            lease=LEASE_SECONDS,
            busy=set(self._running),
            limit=free,
        )
        for row in claimed:
            self._running[row.point] = asyncio.create_task(self._work(row), name=f"{row.content}@{row.point}")
        return len(claimed)

    async def _work(self, row: Distribution) -> None:
        amounts = Amounts()
        run = asyncio.create_task(self._run(row, amounts))
        beat = asyncio.create_task(self._beat(row, amounts, run))
        try:
            try:
                error = await self._outcome(run)
            except asyncio.CancelledError:
                run.cancel()
                await self._settle(row, amounts, None, interrupted=True)
                raise
            finally:
                beat.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await beat
            await self._settle(row, amounts, error, interrupted=run.cancelled() or isinstance(error, CancelledError))
        finally:  # until the end is written down the point is busy
            self._running.pop(row.point, None)
            self._wake.set()

    async def _outcome(self, run: "asyncio.Task[None]") -> EntrepotError | None:
        await asyncio.wait({run})
        if run.cancelled():
            return None
        error = run.exception()
        if error is None or isinstance(error, EntrepotError):
            return error
        log.error("distribution_broke", run=run.get_name(), exc_info=error)
        return EntrepotError(f"An internal error ended the transfer ({type(error).__name__}).")

    async def _run(self, row: Distribution, amounts: Amounts) -> None:
        log.info("distribution_started", content=row.content, point=row.point, removal=row.removal, try_=row.attempts)
        holder = await self._holders(row.point)
        if row.removal:
            await self._sender.remove(row, holder)
        else:
            await self._sender.send(row, holder, amounts)

    async def _beat(self, row: Distribution, amounts: Amounts, run: "asyncio.Task[None]") -> None:
        """Renew the lease until the run ends. A run whose lease may have lapsed stops: another process may have it."""
        renewed = self._clock()
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            now = self._clock()
            try:
                progress = msgspec.structs.asdict(amounts)
                ours = await self._database.write(distribution.renew, row, now=now, lease=LEASE_SECONDS, **progress)
            except EntrepotError as error:
                log.warning("lease_not_renewed", content=row.content, point=row.point, error=str(error))
                ours = now - renewed <= LEASE_SECONDS
            except Exception:  # whatever it is: the work goes on while the lease lasts
                log.exception("lease_renewal_broke", content=row.content, point=row.point)
                ours = now - renewed <= LEASE_SECONDS
            else:
                renewed = now
            if not ours:
                run.cancel()
                return

    async def _settle(
        self, row: Distribution, amounts: Amounts, error: EntrepotError | None, *, interrupted: bool
    ) -> None:
        try:
            await self._write_down(row, amounts, error, interrupted=interrupted)
        except EntrepotError as problem:  # the lease runs out and the row is worked on again
            log.warning("distribution_not_settled", content=row.content, point=row.point, error=str(problem))

    async def _write_down(
        self, row: Distribution, amounts: Amounts, error: EntrepotError | None, *, interrupted: bool
    ) -> None:
        now = self._clock()
        if interrupted:
            state = row.state if row.removal else DistributionState.PENDING
            await self._database.write(distribution.settle, row, state=state, now=now, attempts=row.attempts - 1)
            return
        await self._database.write(points.note_problem, row.point, "" if error is None else str(error))
        if error is not None:
            log.warning("distribution_failed", content=row.content, point=row.point, error=str(error), code=error.code)
            state, next_try = self._after(row, error, now)
            await self._database.write(
                distribution.settle, row, state=state, now=now, next_try=next_try, message=str(error)
            )
            return
        log.info("distribution_done", content=row.content, point=row.point, sent=amounts.sent_bytes)
        self._answered(row.point)
        if row.removal:
            await self._database.write(distribution.forget, row)
            return
        await self._database.write(
            distribution.settle,
            row,
            state=DistributionState.SUCCESS,
            now=now,
            message="",
            attempts=0,
            full=False,
            settled=row.revision,
            **msgspec.structs.asdict(amounts),
        )

    def _after(self, row: Distribution, error: EntrepotError, now: float) -> tuple[DistributionState, float]:
        """State after a failed run, and when it is tried again."""
        damaged = isinstance(error, IntegrityError) and row.attempts >= _DAMAGED_ATTEMPTS
        pause = None if isinstance(error, _HOPELESS) or damaged else next_pause(row.attempts, self._draw())
        if row.removal:
            again, given_up = DistributionState.REMOVAL_RETRYING, DistributionState.REMOVAL_FAILED
        else:
            again, given_up = DistributionState.RETRYING, DistributionState.FAILED
        return (given_up, 0.0) if pause is None else (again, now + pause)


async def trim(database: Database, *, site: str, now: float) -> int:
    """Ask for runs where superseded sets may go now, or where a removal of one was interrupted; how many."""

    due = await database.read(pointsets.due_for_removal, site=site, retired_before=now - RETIRED_SECONDS, limit=100)
    for content, point in due:
        await database.write(distribution.want_again, content, point, now=now)
    return len(due)
