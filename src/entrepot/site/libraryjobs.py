"""The library's tasks: validate, sweep. (Repair: ``libraryrepair``; points: ``pointvalidation``.)

All are durable: how far they are stands in the database, object by object, so that after SIGKILL they go on where they
were.
"""

import asyncio
import time
from typing import Final

import msgspec

from entrepot.content.checking import Checked, Pace, validate
from entrepot.content.sweep import GRACE_SECONDS, Swept, sweep, sweep_strays
from entrepot.core.sizes import format_size
from entrepot.core.times import Clock
from entrepot.database import retention
from entrepot.database.engine import Database
from entrepot.database.librarychecks import SqlCheckLedger
from entrepot.database.librarysweep import SqlSweepLedger
from entrepot.database.tasks import Task
from entrepot.objects.shelf import Shelf
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
    """Payload of a library-sweep task."""

    now: bool
    strays: bool


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
            before=job.begun,
            clock=self._clock,
            pace=Pace(job.rate, clock=time.monotonic, sleep=time.sleep),
            progress=note,
            cancelled=lambda: report.cancelled,
        )
        report.message(_told(done))


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
        report.step("Dropping what nobody needs", unit="objects")
        await self._database.write(retention.drop_old_deltas)
        while await self._database.write(retention.drop_unused_sets):
            report.check()
        swept = await asyncio.to_thread(self._sweep, job, report)
        found = f"{swept.deleted} objects deleted, {swept.condemned} more will be in an hour"
        if job.now:
            found = f"{swept.deleted} objects deleted"
        if job.strays:
            report.step("Looking for files that nobody knows", unit="objects")
            strays = await asyncio.to_thread(self._strays, report)
            found += f", {strays} stray files deleted"
        report.message(f"{found}.")

    def _sweep(self, job: SweepJob, report: Reporter) -> Swept:
        ledger = SqlSweepLedger(self._database)
        first = sweep(ledger, self._shelf, now=self._clock(), grace_seconds=GRACE_SECONDS)
        report.amount(first.deleted)
        if not job.now:
            return first
        report.check()
        second = sweep(ledger, self._shelf, now=self._clock(), grace_seconds=-1)
        return msgspec.structs.replace(second, deleted=first.deleted + second.deleted)

    def _strays(self, report: Reporter) -> int:
        ledger = SqlSweepLedger(self._database)
        return sweep_strays(ledger, self._shelf, now=self._clock(), cancelled=lambda: report.cancelled)
