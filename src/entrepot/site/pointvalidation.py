"""The point-validate task: a distribution point reads again what it has, and gets anew what is missing or damaged.

The point does the reading, in portions and at a bounded pace; where a set is looked through stands in the database, so
that a killed run goes on there. Repair sends the object from the library: a holder replaces what is damaged.
"""

from typing import Final

import msgspec

from entrepot.content.checking import Listed
from entrepot.core.errors import EntrepotError, IntegrityError
from entrepot.core.sizes import MIB
from entrepot.core.times import Clock
from entrepot.database import pointchecks, points
from entrepot.database.engine import Database
from entrepot.database.pointsets import PointSet
from entrepot.database.tasks import Task
from entrepot.objects.shelf import Shelf
from entrepot.protocol.dataplane import MAX_VERIFY_IDS
from entrepot.rules.verdicts import Verdict
from entrepot.site.cloudport import HolderSource
from entrepot.site.pacing import TaskPace
from entrepot.site.reporting import Reporter
from entrepot.web.copies import Copies, copies_of
from entrepot.web.dataplane import Holder

PORTION_BYTES: Final = 32 * MIB


class PointValidateJob(msgspec.Struct, frozen=True, kw_only=True):
    """Payload of a point-validate task; no content: all that the point has."""

    point: str
    content: str
    repair: bool
    rate: int
    begun: int


class PointValidateHandler:
    """Does point-validate tasks."""

    def __init__(self, database: Database, *, shelf: Shelf, holders: HolderSource, clock: Clock) -> None:
        self._database = database
        self._shelf = shelf
        self._holders = holders
        self._clock = clock

    async def run(self, task: Task, report: Reporter) -> None:
        """See :class:`entrepot.site.tasks.TaskHandler`."""
        job = task.payload_as(PointValidateJob)
        point = await self._database.read(points.get_point, job.point)
        holder = await self._holders(job.point)
        copies = copies_of(holder)
        report.step(f"{point.name} is reading its objects again", unit="bytes")
        pace = TaskPace(job.rate, report)
        for each in await self._database.read(pointchecks.to_check, job.point, job.content, begun=job.begun):
            await self._validate(job, each, copies, pace, report)
        mended = await self._repair(job, holder, copies, report) if job.repair else 0
        left = await self._database.read(pointchecks.count_faulty, job.point, job.content)
        if not left:
            report.message(f"All sound. {mended} objects were sent again." if mended else "All sound.")
            return
        report.message(f"{left} objects are missing or damaged.")
        if job.repair:
            raise IntegrityError(f"{left} objects on {point.name} could not be repaired.")

    async def _validate(
        self, job: PointValidateJob, each: PointSet, copies: Copies, pace: TaskPace, report: Reporter
    ) -> None:
        after = await self._database.write(pointchecks.begin, each, begun=job.begun)
        while page := await self._database.read(
            pointchecks.objects_due, each, begun=job.begun, after=after, limit=MAX_VERIFY_IDS
        ):
            portion = _portion(page)
            report.check()
            await pace.take(sum(listed.size for listed in portion))
            found = await copies.verify([listed.object_id for listed in portion])
            verdicts = {listed.object_id: verdict for listed, verdict in zip(portion, found, strict=True)}
            if not await self._database.write(pointchecks.note, each, verdicts, now=self._clock()):
                return
            after = portion[-1].object_id
            report.amount(pace.done)
        await self._database.write(pointchecks.finish, each, now=max(self._clock(), job.begun))

    async def _repair(self, job: PointValidateJob, holder: Holder, copies: Copies, report: Reporter) -> int:
        """Send what is missing or damaged; how many objects."""
        report.step("Sending again what is missing or damaged", unit="objects")
        sent = 0
        after = b""
        while page := await self._database.read(pointchecks.faulty, job.point, job.content, after=after):
            for each in page:
                report.check()
                if await self._send(job, each, holder, copies):
                    sent += 1
                    report.amount(sent)
            after = page[-1].object_id
        return sent

    async def _send(self, job: PointValidateJob, each: Listed, holder: Holder, copies: Copies) -> bool:
        try:
            await holder.put(each.object_id, each.size, lambda: self._shelf.read(each.object_id))
        except EntrepotError as error:
            if error.retryable:
                raise
            return False  # the library itself has it no more, or not whole
        if await copies.verify([each.object_id]) != [Verdict.GOOD]:
            return False
        await self._database.write(pointchecks.clear, job.point, [each.object_id])
        return True


def _portion(page: list[Listed]) -> list[Listed]:
    """What the point reads for one request."""
    portion: list[Listed] = []
    size = 0
    for each in page:
        size += each.size
        if portion and size > PORTION_BYTES:
            break
        portion.append(each)
    return portion
