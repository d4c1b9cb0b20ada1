"""Rehearsing a publish: what a new version would add to the library and cost its clients; nothing of it is kept.

It is the publish itself, over a shelf that keeps nothing for good and a ledger that enters nothing
(``content/quoting.py``), and then the making of the delta from the current version, over what the shelf kept
meanwhile. A durable task with progress; what it found out is the task's result.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec
from sqlalchemy import Connection

from entrepot.content.delta.making import Made, make_delta
from entrepot.content.delta.making import Version as Side
from entrepot.content.ledger import Library
from entrepot.content.patterns import Excludes
from entrepot.content.publish import Published, PublishOptions, publish
from entrepot.content.quoting import QuotedLedger, QuotedShelf
from entrepot.content.reading import open_root
from entrepot.content.scratch import scratch_errors
from entrepot.content.sealing import Purpose, open_sealed
from entrepot.core.errors import NotFoundError
from entrepot.core.ids import ObjectId
from entrepot.core.times import Clock
from entrepot.database import contents, distribution, pointsets, tasks
from entrepot.database.contents import Content, Version
from entrepot.database.engine import Database
from entrepot.database.tasks import Task
from entrepot.objects.shelf import Shelf
from entrepot.protocol import SealedRef, SignedType
from entrepot.protocol.contentapi import ContentType, DeltaOutlook, Rehearsal, RehearsalRequest
from entrepot.site.acting import behalf
from entrepot.site.contents import kept_content
from entrepot.site.keys.sitekeys import SiteKeys, new_id, root_name
from entrepot.site.publishing import compared, told, weighed
from entrepot.site.reporting import Reporter
from entrepot.site.staging import LibraryRoom, Staging, checked_source, packed_remark
from entrepot.trust.signing import sign

REHEARSAL: Final = "rehearsal"


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What would be published: ``content`` as it would be, and its versions in ascending order."""

    content: Content
    number: int
    versions: tuple[Version, ...] = ()
    points: int = 0

    @property
    def current(self) -> Version | None:
        """What clients get now."""
        return next((each for each in self.versions if each.number == self.content.current), None)

    def deltas(self, usual: int) -> int:
        """How many deltas to it would be asked for, where content has ``usual`` ones."""
        return min(self.content.deltas_kept(usual), len(self.versions)) if self.current else 0


class Rehearsals:
    """Asks for rehearsals, and tells what they found out.

    Args:
        site: site code.
        home: the site server's own folder: it is never published.
        work: called after work was added.
    """

    def __init__(self, database: Database, *, site: str, home: Path, clock: Clock, work: Callable[[], None]) -> None:
        self._database = database
        self._site = site
        self._home = home
        self._clock = clock
        self._work = work

    async def ask(self, request: RehearsalRequest) -> Task:
        """Add the task: as the next version if there is a content of this name, else as a new one.

        Raises:
            BadInputError: no proper source or exclude pattern.
            ConflictError: the content is being deleted.
            RefusedError: the source is not to be published, or no archive.
        """
        Excludes(request.excludes or ())
        plan = await self._database.read(planned, request, self._site)
        await asyncio.to_thread(checked_source, request.source, self._home, unpack=plan.content.unpack)
        task = await self._database.write(self._ask, request)
        self._work()
        return task

    def _ask(self, connection: Connection, request: RehearsalRequest) -> Task:
        return tasks.create(
            connection,
            site=self._site,
            kind=REHEARSAL,
            subject=new_id("reh"),
            title=f"Rehearse publishing {request.name}",
            now=self._clock(),
            payload=request,
            by=behalf(),
        )

    async def result(self, task_id: str) -> Rehearsal:
        """What a rehearsal found out.

        Raises:
            NotFoundError: there is no such rehearsal.
            ConflictError: it has not completed.
        """
        task = await self._database.read(tasks.get, task_id)
        if task.kind != REHEARSAL:
            raise NotFoundError(f"The task {task_id!r} is no rehearsal.")
        return task.result_as(Rehearsal)


class RehearsalHandler:
    """Does rehearsals.

    Args:
        staging: where archives are unpacked, and what is new is kept meanwhile.
        room: how much the library may still grow.
        deltas_kept: for how many earlier versions a delta to a new one is asked for.
    """

    def __init__(
        self,
        database: Database,
        *,
        shelf: Shelf,
        library: Library,
        keys: SiteKeys,
        clock: Clock,
        staging: Staging,
        room: LibraryRoom,
        deltas_kept: int,
    ) -> None:
        self._database = database
        self._shelf = shelf
        self._library = library
        self._keys = keys
        self._clock = clock
        self._staging = staging
        self._room = room
        self._deltas_kept = deltas_kept

    async def run(self, task: Task, report: Reporter) -> None:
        """See :class:`entrepot.site.tasks.TaskHandler`."""
        request = task.payload_as(RehearsalRequest)
        plan = await self._database.read(planned, request, task.site)
        said = await asyncio.to_thread(self._rehearse, request, plan, report)
        report.result(said)
        report.message(f"Version {said.number} would add {said.new_objects} objects.")

    def _rehearse(self, request: RehearsalRequest, plan: Plan, report: Reporter) -> Rehearsal:
        unpacked = plan.content.unpack
        if unpacked:
            report.step("Unpacking", unit="bytes")
        staged = self._staging.source(
            Path(plan.content.source), unpacked=unpacked, progress=report.amount, cancelled=lambda: report.cancelled
        )
        with staged as source, self._staging.folder() as kept:
            total = weighed(source, plan.content.excludes, report)
            report.step("Reading and sealing", total=total, unit="bytes")
            deltas = plan.deltas(self._deltas_kept)
            shelf = QuotedShelf(self._shelf.store, keep=kept if deltas else None, room=self._staging.room)
            session = self._library.open_session(
                f"rehearsal of {request.name}", owner=report.task
            )  # nothing renewed its lease before
            try:
                with scratch_errors(), contextlib.closing(shelf), QuotedLedger(session) as ledger:
                    return self._publish(request, plan, source, shelf, ledger, report)
            finally:
                self._library.close_session(session.session)

    def _publish(
        self,
        request: RehearsalRequest,
        plan: Plan,
        source: Path,
        shelf: QuotedShelf,
        ledger: QuotedLedger,
        report: Reporter,
    ) -> Rehearsal:
        current = plan.current
        deltas = plan.deltas(self._deltas_kept)
        said = self._dry(plan, source, shelf, ledger, report)
        first = ledger.everything()
        update = ledger.lacking(self._members(current.set_id)) if current else first
        made = self._delta(plan, said.root, shelf, report) if shelf.complete else None
        outlook = DeltaOutlook.MADE if made else DeltaOutlook.NONE
        if deltas and not shelf.complete:
            outlook = DeltaOutlook.UNKNOWN
        fresh, with_delta = ledger.fresh(Purpose.CHUNK), update - made.saved if made else update
        same = ("files", "folders", "links", "plain_size", "objects", "stored_size", "new_objects", "new_bytes")
        return Rehearsal(
            name=request.name,
            number=plan.number,
            current=plan.content.current,
            chunks=said.chunks,
            new_chunks=fresh.objects,
            new_chunk_bytes=fresh.size,
            delta=outlook,
            delta_size=made.size if made else 0,
            deltas=deltas,
            points=plan.points,
            clients=request.clients,
            first_fetch=first,
            update_fetch=update,
            delta_fetch=with_delta,
            all_first_fetch=first * request.clients,
            all_update_fetch=update * request.clients,
            all_delta_fetch=with_delta * request.clients,
            warnings=(*filter(None, (self._room.remark(said.new_bytes),)), *_remarks(plan, said)),
            **{name: getattr(said, name) for name in same},
        )

    def _dry(self, plan: Plan, source: Path, shelf: QuotedShelf, ledger: QuotedLedger, report: Reporter) -> Published:
        """Publish into nothing."""
        content, signer = plan.content, self._keys.manifest
        return publish(
            source,
            content=content.id,
            number=plan.number,
            shelf=shelf,
            ledger=ledger,
            keys=self._keys.domain(content.id, isolated=content.isolated),
            sign=lambda payload: sign(payload, typ=SignedType.MANIFEST, key=signer),
            options=PublishOptions(excludes=content.excludes, for_windows=content.for_windows),
            progress=lambda progress: told(progress, report),
            cancelled=lambda: report.cancelled,
        )

    def _delta(self, plan: Plan, root: SealedRef, shelf: QuotedShelf, report: Reporter) -> Made | None:
        """The delta from the current version; of what it consists of, nothing is kept."""
        current, new = plan.current, self._side(root, shelf)
        if current is None:
            return None
        report.step(f"Comparing with version {current.number}", unit="bytes")
        with self._staging.folder() as scratch:
            return make_delta(
                self._side(self._keys.open_ref(root_name(current.content, current.number), current.root), shelf),
                new,
                scratch=scratch,
                generation=self._keys.domain(current.content, isolated=plan.content.isolated).generation,
                sign=self._keys.sign_delta,
                store=lambda _sealed: None,
                cancelled=lambda: report.cancelled,
                progress=report.amount,
            )

    def _side(self, ref: SealedRef, shelf: Shelf) -> Side:
        def read(wanted: SealedRef) -> bytes:
            return open_sealed(shelf.read_whole(ObjectId(wanted.object_id)), wanted)

        root = open_root(shelf.read_whole(ObjectId(ref.object_id)), ref, self._keys.verify_manifest)
        return Side(root, ref, read)

    def _members(self, set_id: bytes) -> Iterator[ObjectId]:
        after = b""
        while True:
            with self._database.reading() as connection:
                page = pointsets.objects_of(connection, set_id, after=after)
            if not page:
                return
            yield from (ObjectId(member.object_id) for member in page)
            after = page[-1].object_id


def _remarks(plan: Plan, said: Published) -> tuple[str, ...]:
    packed = packed_remark(Path(plan.content.source), unpacked=plan.content.unpack)
    remarks = compared(plan.versions[-1] if plan.versions else None, said)
    return tuple(text for text in (packed, *remarks, *said.warnings) if text)


def planned(connection: Connection, request: RehearsalRequest, site: str) -> Plan:
    """What a request would publish.

    Raises:
        ConflictError: the content is being deleted.
    """
    given = {"excludes": request.excludes, "unpack": request.unpack, "delta_versions": request.delta_versions}
    changes = {name: value for name, value in given.items() if value is not None} | {"source": request.source}
    try:
        content = kept_content(connection, request.name)
    except NotFoundError:
        return Plan(content=msgspec.structs.replace(_unheard_of(request, site), **changes), number=1)
    return Plan(
        content=msgspec.structs.replace(content, **changes),
        number=contents.next_number(connection, content.id),
        versions=tuple(contents.list_versions(connection, content.id)),
        points=len(distribution.described(connection, content=content.id)),
    )


def _unheard_of(request: RehearsalRequest, site: str) -> Content:
    return Content(
        id=new_id("pkg"),
        name=request.name,
        type=ContentType.PACKAGE,
        source=request.source,
        excludes=(),
        for_windows=request.for_windows,
        isolated=request.isolated,
        current=0,
        pointer_counter=0,
        deleting=False,
        site=site,
        created=0,
    )
