"""The library's part of a site server: its use cases, its tasks, and what it does by itself.

Tasks run in an engine of their own: a validation may take days at its bounded pace, and nothing else waits for it, nor
do sweeps and repairs for any number of validations.
"""

import asyncio
import contextlib
import threading
from typing import Final

import msgspec
import structlog
from sqlalchemy import Connection

from entrepot.content.checking import recheck
from entrepot.content.ledger import Library
from entrepot.content.sweep import GRACE_SECONDS, count_strays
from entrepot.core.errors import ConflictError, EntrepotError
from entrepot.core.times import DAY, Clock
from entrepot.database import contents, librarychecks, librarystats, librarysweep, pointchecks, points, tasks
from entrepot.database.engine import Database
from entrepot.database.librarychecks import SqlCheckLedger
from entrepot.database.tasks import Task
from entrepot.objects.shelf import Shelf
from entrepot.protocol.libraryapi import (
    ContentLibraryInfo,
    Fault,
    LibraryInfo,
    LibraryRequest,
    PointValidationRequest,
    SetValidation,
    SweepPreview,
    SweepRequest,
)
from entrepot.site.acting import behalf
from entrepot.site.cloudport import HolderSource
from entrepot.site.keys.sitekeys import SiteKeys
from entrepot.site.libraryalert import judge_library
from entrepot.site.libraryjobs import (
    POINT_VALIDATE,
    REPAIR,
    SWEEP,
    VALIDATE,
    WHOLE,
    SweepHandler,
    SweepJob,
    ValidateHandler,
    ValidateJob,
)
from entrepot.site.libraryrepair import RepairHandler, RepairJob
from entrepot.site.librarysalvage import Salvage
from entrepot.site.missingdeltas import DeltaFinder
from entrepot.site.pointvalidation import PointValidateHandler, PointValidateJob
from entrepot.site.settings import Settings
from entrepot.site.staging import RoomyStore, Staging
from entrepot.site.taskinfo import task_info
from entrepot.site.tasks import TaskEngine

EVERY_SECONDS: Final = 300.0
CONCURRENCY: Final = 3
_KINDS: Final = (VALIDATE, REPAIR, SWEEP)

log = structlog.get_logger("site.library")


class LibraryCare:
    """Looks after the library, and after what points have of it.

    Args:
        mending: the library's store, for repairs: they may go nearer to the end of its disk.
        staging: where archives are unpacked when a source is read again.
        deltas: finds those that are missing.
        holder: names this process, for the leases of tasks.
    """

    def __init__(
        self,
        database: Database,
        *,
        settings: Settings,
        shelf: Shelf,
        mending: RoomyStore,
        library: Library,
        keys: SiteKeys,
        holders: HolderSource,
        staging: Staging,
        deltas: DeltaFinder,
        holder: str,
        clock: Clock,
    ) -> None:
        self._database = database
        self._settings = settings
        self._shelf = shelf
        self._clock = clock
        self._site = settings.site
        self.deltas = deltas
        self._counting = asyncio.Lock()
        self.tasks = TaskEngine(database, site=self._site, holder=holder, clock=clock, concurrency=CONCURRENCY)
        self.tasks.register(VALIDATE, ValidateHandler(database, shelf=shelf, clock=clock), waits=True)
        self.tasks.register(SWEEP, SweepHandler(database, shelf=shelf, clock=clock))
        salvage = Salvage(database, shelf=Shelf(mending), library=library, keys=keys, staging=staging)
        repair = RepairHandler(
            database, store=mending, keys=keys, holders=holders, salvage=salvage, deltas=deltas, clock=clock
        )
        self.tasks.register(REPAIR, repair)
        checking = PointValidateHandler(database, shelf=shelf, holders=holders, clock=clock)
        self.tasks.register(POINT_VALIDATE, checking, waits=True)

    # ------------------------------------------------------------------------------------------------- questions

    async def info(self) -> LibraryInfo:
        """Figures, soundness and work of the whole library."""
        return await self._database.read(_info)

    async def of_contents(self, name_or_id: str = "") -> list[ContentLibraryInfo]:
        """The same for each content, or for one.

        Raises:
            NotFoundError: no such content.
        """
        return await self._database.read(_of_contents, name_or_id)

    async def faults(self, name_or_id: str, *, after: str, limit: int) -> list[Fault]:
        """Objects that are missing or damaged, of one content or of all.

        Raises:
            NotFoundError: no such content.
        """
        return await self._database.read(_faults, name_or_id, after, limit)

    async def preview_sweep(self, *, strays: bool) -> SweepPreview:
        """What a sweep would delete.

        Args:
            strays: also look through all files for those that the database does not know.

        Raises:
            ConflictError: somebody else has them looked through at this moment.
        """
        found = await self._database.read(librarysweep.preview, now=self._clock(), grace_seconds=GRACE_SECONDS)
        if not strays:
            return found
        count, size = await self._count_strays()
        return msgspec.structs.replace(found, stray_objects=count, stray_bytes=size)

    async def _count_strays(self) -> tuple[int, int]:
        """One at a time, as long as the request lives: it may take minutes of the disk, and a thread."""
        if self._counting.locked():
            raise ConflictError("The files of the library are being counted already.", next_step="Wait for the answer.")
        gone = threading.Event()
        async with self._counting:
            try:
                ledger = librarysweep.SqlSweepLedger(self._database)
                return await asyncio.to_thread(count_strays, ledger, self._shelf, cancelled=gone.is_set)
            finally:
                gone.set()

    async def on_point(self, point: str, name_or_id: str = "") -> list[SetValidation]:
        """What validation found on a point.

        Raises:
            NotFoundError: no such point or content.
        """
        return await self._database.read(_on_point, point, name_or_id)

    # -------------------------------------------------------------------------------------------------- commands

    async def validate(self, request: LibraryRequest) -> Task:
        """Read every object of a content, or of the library, again.

        Raises:
            NotFoundError: no such content.
            ConflictError: that is under way already.
        """
        return self._woken(await self._database.write(self._validate, request))

    def _validate(self, connection: Connection, request: LibraryRequest) -> Task:
        subject, title = _subject(connection, request.content)
        begun = int(self._clock())
        job = ValidateJob(content="" if subject == WHOLE else subject, rate=self._rate(request.rate), begun=begun)
        return self._create(connection, VALIDATE, subject, f"Validate {title}", job)

    async def repair(self, request: LibraryRequest) -> Task:
        """Bring back what validation found missing or damaged.

        Raises:
            NotFoundError: no such content.
            ConflictError: that is under way already.
        """
        return self._woken(await self._database.write(self._repair, request))

    def _repair(self, connection: Connection, request: LibraryRequest) -> Task:
        subject, title = _subject(connection, request.content)
        job = RepairJob(content="" if subject == WHOLE else subject, rate=self._rate(request.rate))
        return self._create(connection, REPAIR, subject, f"Repair {title}", job)

    async def sweep(self, request: SweepRequest) -> Task:
        """Delete from the library what nothing needs.

        Raises:
            ConflictError: that is under way already.
        """
        job = SweepJob(now=request.now, strays=request.strays)
        return self._woken(await self._database.write(self._create, SWEEP, WHOLE, "Sweep the library", job))

    async def validate_point(self, point: str, request: PointValidationRequest) -> Task:
        """Have a point read again what it has.

        Raises:
            NotFoundError: no such point or content.
            ConflictError: that is under way already, or the point is not in use.
        """
        return self._woken(await self._database.write(self._validate_point, point, request))

    def _validate_point(self, connection: Connection, name: str, request: PointValidationRequest) -> Task:
        point = points.get_point(connection, name)
        if point.state != points.ACTIVE:
            raise ConflictError(f"The distribution point {point.name} is not in use: it is {point.state}.")
        content = contents.get_content(connection, request.content) if request.content else None
        job = PointValidateJob(
            point=point.id,
            content=content.id if content else "",
            repair=request.repair,
            rate=self._rate(request.rate),
            begun=int(self._clock()),
        )
        title = f"Validate {content.name if content else 'everything'} on {point.name}"
        return self._create(connection, POINT_VALIDATE, point.id, title, job)

    def _rate(self, asked: int | None) -> int:
        return self._settings.validation_rate if asked is None else asked

    def _create(self, connection: Connection, kind: str, subject: str, title: str, job: object) -> Task:
        return tasks.create(
            connection,
            site=self._site,
            kind=kind,
            subject=subject,
            title=title,
            now=self._clock(),
            payload=job,
            by=behalf(),
        )

    def _woken(self, task: Task) -> Task:
        self.tasks.wake()
        return task

    # ------------------------------------------------------------------------------------------------ background

    async def run_once(self) -> None:
        """Look again at what was broken (publishing may have stored it anew), and validate when that is due.

        Raises:
            EntrepotError: by the database.
        """
        ledger = SqlCheckLedger(self._database)
        mended = await asyncio.to_thread(recheck, ledger, self._shelf, now=self._clock())
        if mended:
            log.info("objects_sound_again", count=mended)
        await self._database.write(judge_library, self._clock())
        days = self._settings.validation_days
        if days and await self._database.read(_is_due, self._clock() - days * DAY):
            with contextlib.suppress(ConflictError):
                await self.validate(LibraryRequest())

    async def serve(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.tasks.serve())
            group.create_task(self._care())

    async def _care(self) -> None:
        while True:
            await asyncio.sleep(EVERY_SECONDS)
            try:
                await self.run_once()
            except EntrepotError as error:
                log.warning("library_care_failed", error=str(error), code=error.code)
            except Exception:  # a defect here must not end the server's other work
                log.exception("library_care_broke")


def _subject(connection: Connection, name_or_id: str | None) -> tuple[str, str]:
    if name_or_id is None:
        return WHOLE, "the library"
    content = contents.get_content(connection, name_or_id)
    return content.id, content.name


def _info(connection: Connection) -> LibraryInfo:
    number, size = librarystats.waiting(connection)
    held_objects, held_bytes = librarystats.held(connection)
    active = [task for kind in _KINDS for task in tasks.listed(connection, kind=kind, only_active=True)]
    return LibraryInfo(
        figures=librarystats.figures(connection),
        validation=librarystats.validation(connection),
        waiting_objects=number,
        waiting_bytes=size,
        open_sessions=librarystats.open_sessions(connection),
        contents=len(contents.list_contents(connection)),
        tasks=tuple(task_info(task) for task in active),
        held_objects=held_objects,
        held_bytes=held_bytes,
    )


def _of_contents(connection: Connection, name_or_id: str) -> list[ContentLibraryInfo]:
    chosen = [contents.get_content(connection, name_or_id)] if name_or_id else contents.list_contents(connection)
    return [
        ContentLibraryInfo(
            content=content.id,
            content_name=content.name,
            figures=librarystats.figures(connection, content.id),
            validation=librarystats.validation(connection, content.id),
        )
        for content in chosen
    ]


def _faults(connection: Connection, name_or_id: str, after: str, limit: int) -> list[Fault]:
    content = contents.get_content(connection, name_or_id).id if name_or_id else ""
    return librarychecks.faults(connection, content, after=after, limit=limit)


def _on_point(connection: Connection, name: str, name_or_id: str) -> list[SetValidation]:
    content = contents.get_content(connection, name_or_id).id if name_or_id else ""
    return pointchecks.described(connection, points.get_point(connection, name).id, content)


def _is_due(connection: Connection, before: float) -> bool:
    oldest = librarychecks.oldest_check(connection)
    return 0 < oldest < before
