"""The library's tasks: validate, sweep. (Repair: ``libraryrepair``; points: ``pointvalidation``.)

All are durable: how far they are stands in the database, object by object, so that after SIGKILL they go on where they
were.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final

import msgspec
from sqlalchemy import Connection

from entrepot.content.checking import Checked, validate
from entrepot.content.sweep import GRACE_SECONDS, sweep, sweep_strays
from entrepot.core.sizes import format_size
from entrepot.core.times import Clock
from entrepot.database import retention, tasks
from entrepot.database.engine import Database
from entrepot.database.librarychecks import SqlCheckLedger
from entrepot.database.librarysweep import Begun, SqlSweepLedger, preview
from entrepot.database.tasks import Task
from entrepot.objects.shelf import Shelf
from entrepot.objects.throttling import Pace, ThrottledStore, unlimited
from entrepot.site.libraryalert import judge_library
from entrepot.site.reporting import Reporter

VALIDATE: Final = "library-validate"
REPAIR: Final = "library-repair"
SWEEP: Final = "library-sweep"
POINT_VALIDATE: Final = "point-validate"
WHOLE: Final = "library"
"""Subject of tasks about the whole library."""


class ValidateJob(msgspec.Struct, frozen=True, kw_only=True):
    """Payload of a library-validate task: objects that were looked at since ``begun`` are done."""

    content: str
    rate: int
    begun: int


class SweepJob(msgspec.Struct, frozen=True, kw_only=True):
    """Payload of a library-sweep task; ``begun`` grows with what it deletes, over all attempts."""

    now: bool
    strays: bool
    begun: Begun = Begun()


class ValidateHandler:
    """Does library-validate tasks."""

    def __init__(self, database: Database, *, shelf: Shelf, clock: Clock) -> None:
        self._database = database
        self._shelf = shelf
        self._clock = clock

    async def run(self, task: Task, report: Reporter) -> None:
        """See :class:`entrepot.site.tasks.TaskHandler`."""
        job = task.payload_as(ValidateJob)
        try:
            await asyncio.to_thread(self._validate, job, report)
        finally:  # cancelled, too: what was found is known
            await self._database.write(judge_library, self._clock())

    def _validate(self, job: ValidateJob, report: Reporter) -> None:
        ledger = SqlCheckLedger(self._database, job.content)
        _, size = ledger.amount(job.begun)
        report.step("Reading every object again", total=size, unit="bytes")

        told = 0

        def note(done: Checked) -> None:
            nonlocal told
            report.amount(done.size)
            if done.missing + done.damaged > told:
                if not told:  # a validation may take days: its first find is told at once
                    with self._database.transaction() as connection:
                        judge_library(connection, self._clock())
                told = done.missing + done.damaged
                report.message(f"{done.missing} objects are missing, {done.damaged} are damaged")

        done = validate(
            ledger,
            self._shelf,
            paced=self._paced(job.rate, report),
            before=job.begun,
            clock=self._clock,
            progress=note,
            cancelled=lambda: report.cancelled,
        )
        report.message(_told(done))

    def _paced(self, rate: int, report: Reporter) -> Shelf:
        """The library, read at ``rate`` bytes a second at most; who waits for that can be stopped."""

        def sleep(seconds: float) -> None:
            report.check()
            time.sleep(seconds)

        pace = Pace(lambda: float(rate), sleep=sleep)
        return Shelf(ThrottledStore(self._shelf.store, up=Pace(unlimited), down=pace))


def _told(done: Checked) -> str:
    amount = f"{done.objects} objects, {format_size(done.size)}"
    if not done.missing and not done.damaged:
        return f"All sound: {amount}."
    return f"{done.missing} missing and {done.damaged} damaged of {amount}. Next: entrepot library repair"


class SweepHandler:
    """Does library-sweep tasks."""

    def __init__(self, database: Database, *, shelf: Shelf, clock: Clock) -> None:
        self._database = database
        self._shelf = shelf
        self._clock = clock

    async def run(self, task: Task, report: Reporter) -> None:
        """See :class:`entrepot.site.tasks.TaskHandler`."""
        job = task.payload_as(SweepJob)
        report.step("Dropping what nobody needs", unit="objects", done=job.begun.objects)
        await self._database.write(retention.drop_old_deltas)
        while await self._database.write(retention.drop_unused_sets):
            report.check()
        await asyncio.to_thread(self._sweep, task, job, report)
        if job.strays:
            report.step("Looking for files that nobody knows", unit="files", done=job.begun.strays)
            await asyncio.to_thread(self._strays, task, report)
        report.message(await self._database.read(_told_of, task, now=self._clock()))

    def _sweep(self, task: Task, job: SweepJob, report: Reporter) -> None:
        ledger = self._ledger(task, lambda begun: report.amount(begun.objects))
        sweep(ledger, self._shelf, now=self._clock(), grace_seconds=GRACE_SECONDS)
        if job.now:
            report.check()
            sweep(ledger, self._shelf, now=self._clock(), grace_seconds=-1)

    def _strays(self, task: Task, report: Reporter) -> None:
        ledger = self._ledger(task, lambda begun: report.amount(begun.strays))
        sweep_strays(ledger, self._shelf, now=self._clock(), cancelled=lambda: report.cancelled)

    def _ledger(self, task: Task, done: Callable[[Begun], None]) -> SqlSweepLedger:
        """A ledger that counts in the task what is deleted, in the transactions that do it."""

        def note(connection: Connection, more: Begun) -> None:
            done(tasks.amend(connection, task.id, SweepJob, lambda job: _with(job, more)).begun)

        return SqlSweepLedger(self._database, note)


def _with(job: SweepJob, more: Begun) -> SweepJob:
    begun = Begun(objects=job.begun.objects + more.objects, strays=job.begun.strays + more.strays)
    return msgspec.structs.replace(job, begun=begun)


def _told_of(connection: Connection, task: Task, *, now: float) -> str:
    """What a sweep has deleted, in all its attempts, and what is left for later ones."""
    job = tasks.get(connection, task.id).payload_as(SweepJob)
    found = f"{job.begun.objects} objects deleted"
    if not job.now:
        later = preview(connection, now=now, grace_seconds=GRACE_SECONDS).later_objects
        found += f", {later} more will be in an hour"
    return f"{found}, {job.begun.strays} stray files deleted." if job.strays else f"{found}."
