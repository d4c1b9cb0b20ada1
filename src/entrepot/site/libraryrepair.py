"""The repair task: brings back objects of the library that validation found missing or damaged.

Whatever comes from elsewhere must hash to the object's id, so no source needs to be believed. They are tried in the
order of what they cost: object sets are made again from the database, chunks from the source that they were published
from, everything else is fetched from a point on premises, then from the cloud. What nobody has may still come out when
the source is published again, and deltas are made anew (``librarysalvage``). The rest is told at the end.
"""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec
import structlog
from sqlalchemy import Connection

from entrepot.content.checking import Listed, look
from entrepot.content.manifest import Part
from entrepot.content.objectset import encode_set
from entrepot.content.reading import open_root, parts
from entrepot.content.repairing import rebuilt
from entrepot.core.errors import EntrepotError, IntegrityError
from entrepot.core.ids import ObjectId
from entrepot.core.times import Clock
from entrepot.database import contents, librarychecks, pointsets, retention
from entrepot.database.contents import Version
from entrepot.database.engine import Database
from entrepot.database.librarychecks import SqlCheckLedger
from entrepot.database.tasks import Task
from entrepot.objects.hashing import object_id_of
from entrepot.objects.shelf import Shelf
from entrepot.protocol.dataplane import MAX_OBJECT_BYTES
from entrepot.rules.verdicts import Verdict
from entrepot.site.cloudport import HolderSource
from entrepot.site.keys import SiteKeys, root_name
from entrepot.site.libraryalert import judge_library
from entrepot.site.librarysalvage import ASKED, Salvage, remake_deltas
from entrepot.site.reporting import Reporter
from entrepot.web.copies import copies_of

BATCH: Final = 200
_VERSIONS: Final = 20
"""Of a content, so many versions are looked through for a chunk's place in the source, the newest first."""

log = structlog.get_logger("site.library")


class RepairJob(msgspec.Struct, frozen=True, kw_only=True):
    """Payload of a library-repair task; no content: the whole library."""

    content: str


class Mended(msgspec.Struct, kw_only=True):
    """How many objects came from where."""

    sound: int = 0
    database: int = 0
    source: int = 0
    points: int = 0
    deltas: int = 0
    left: int = 0

    def told(self) -> str:
        """In words."""
        ways = (
            (self.source, "made again from the source"),
            (self.points, "fetched from distribution points"),
            (self.database, "made again from the database"),
            (self.sound, "found sound"),
            (self.deltas, "delta(s) to be made anew"),
        )
        return ", ".join(f"{number} {way}" for number, way in ways if number) or "Nothing to repair"


class RepairHandler:
    """Does library-repair tasks."""

    def __init__(
        self,
        database: Database,
        *,
        shelf: Shelf,
        keys: SiteKeys,
        holders: HolderSource,
        salvage: Salvage,
        clock: Clock,
    ) -> None:
        self._database = database
        self._shelf = shelf
        self._keys = keys
        self._holders = holders
        self._salvage = salvage
        self._clock = clock

    async def run(self, task: Task, report: Reporter) -> None:
        """See :class:`entrepot.site.tasks.TaskHandler`."""
        content = task.payload_as(RepairJob).content
        ledger = SqlCheckLedger(self._database, content)
        mended = Mended()
        report.step("Repairing", unit="objects")
        after: ObjectId | None = None
        while page := await asyncio.to_thread(ledger.faulty, after, BATCH):
            await self._repair(page, ledger, mended, report)
            after = page[-1].object_id
        if mended.left:
            await self._last_resorts(ledger, content, mended, report)
        await self._database.write(judge_library, self._clock())
        report.message(f"{mended.told()}.")
        if mended.left:
            raise IntegrityError(
                f"{mended.left} objects could not be repaired: neither the source nor any point has them. "
                f"{mended.told()}.",
                next_step="See `entrepot library faults`; publish the content again from the same files.",
            )

    async def _last_resorts(self, ledger: SqlCheckLedger, content: str, mended: Mended, report: Reporter) -> None:
        """What only the whole source gives, and deltas, which need not be mended."""
        mended.source += await asyncio.to_thread(
            self._salvage.find, _faulty(ledger), report, lambda found: self._note(ledger, found)
        )
        mended.deltas = await self._database.write(remake_deltas, content, now=self._clock())
        while await self._database.write(retention.drop_unused_sets):
            report.check()
        mended.left = sum((await self._database.read(librarychecks.verdicts, content)).values())

    def _note(self, ledger: SqlCheckLedger, found: list[ObjectId]) -> None:
        ledger.note(found, [], self._clock(), lambda each: look(self._shelf, each))

    async def _repair(self, page: list[Listed], ledger: SqlCheckLedger, mended: Mended, report: Reporter) -> None:
        left = {each.object_id: each for each in page}
        for way in (self._look_again, self._from_database, self._from_source, self._from_points):
            for object_id in await way(list(left.values()), mended, report):
                del left[object_id]
            if not left:
                break
        sound = [each.object_id for each in page if each.object_id not in left]
        await asyncio.to_thread(self._note, ledger, sound)
        mended.left += len(left)
        report.amount(mended.sound + mended.database + mended.source + mended.points + mended.left)

    async def _look_again(self, page: list[Listed], mended: Mended, report: Reporter) -> list[ObjectId]:
        found = []
        for each in page:
            report.check()
            if await asyncio.to_thread(look, self._shelf, each.object_id) is Verdict.GOOD:
                found.append(each.object_id)
        mended.sound += len(found)
        return found

    async def _from_database(self, page: list[Listed], mended: Mended, report: Reporter) -> list[ObjectId]:
        """Object sets: the database knows their members."""
        found = []
        for each in page:
            report.check()
            members = await self._database.read(_members_exist, each.object_id)
            if members and await asyncio.to_thread(self._make_set, each.object_id):
                found.append(each.object_id)
        mended.database += len(found)
        return found

    def _make_set(self, set_id: ObjectId) -> bool:
        try:
            self._shelf.put(set_id, encode_set(self._members(set_id)), replace=True)
        except IntegrityError:
            return False
        return True

    def _members(self, set_id: ObjectId) -> Iterator[bytes]:
        after = b""
        while True:
            with self._database.reading() as connection:
                page = pointsets.objects_of(connection, set_id, after=after)
            if not page:
                return
            yield from (member.object_id for member in page)
            after = page[-1].object_id

    async def _from_source(self, page: list[Listed], mended: Mended, report: Reporter) -> list[ObjectId]:
        """Chunks, from where they were published: the files may be the same still, at least in part."""
        wanted = {each.object_id for each in page}
        found: list[ObjectId] = []
        for version, source in await self._database.read(_published_with, sorted(wanted)):
            report.check()
            left = wanted.difference(found)
            if not left:
                break
            found += await asyncio.to_thread(self._rebuild, version, Path(source), left)
        mended.source += len(found)
        return found

    def _rebuild(self, version: Version, source: Path, wanted: set[ObjectId]) -> list[ObjectId]:
        found = []
        try:
            for object_id, data in rebuilt(self._parts(version), wanted, source):
                self._shelf.put(object_id, data, replace=True)
                found.append(object_id)
        except EntrepotError as error:  # a part of the manifest is damaged itself: points may have it
            log.info("manifest_not_readable", content=version.content, version=version.number, error=str(error))
        return found

    def _parts(self, version: Version) -> Iterator[Part]:
        ref = self._keys.open_ref(root_name(version.content, version.number), version.root)
        root = open_root(self._shelf.read_whole(ObjectId(ref.object_id)), ref, self._keys.verify_manifest)
        return parts(root, lambda wanted: self._shelf.read_whole(ObjectId(wanted.object_id)))

    async def _from_points(self, page: list[Listed], mended: Mended, report: Reporter) -> list[ObjectId]:
        found = []
        for each in page:
            report.check()
            for point in await self._database.read(librarychecks.holders_of, each.object_id):
                if await self._fetch(point, each):
                    found.append(each.object_id)
                    break
        mended.points += len(found)
        return found

    async def _fetch(self, point: str, each: Listed) -> bool:
        try:
            copies = copies_of(await self._holders(point))
            data = await copies.get(each.object_id, min(each.size, MAX_OBJECT_BYTES))
            if object_id_of(data) != each.object_id:
                raise IntegrityError("Other bytes came.")
            await asyncio.to_thread(self._shelf.put, each.object_id, data, replace=True)
        except EntrepotError as error:
            log.info("copy_not_usable", point=point, object=each.object_id.hex(), error=str(error))
            return False
        return True


def _faulty(ledger: SqlCheckLedger) -> Iterator[list[ObjectId]]:
    """All that is not sound, by the page."""
    after: ObjectId | None = None
    while page := ledger.faulty(after, ASKED):
        yield [each.object_id for each in page]
        after = page[-1].object_id


def _members_exist(connection: Connection, set_id: bytes) -> bool:
    return bool(pointsets.objects_of(connection, set_id, limit=1))


def _published_with(connection: Connection, wanted: list[ObjectId]) -> list[tuple[Version, str]]:
    """Versions that need some of these objects, the newest of each content first, with the content's source."""
    return [
        (version, contents.get_content(connection, version.content).source)
        for version in librarychecks.versions_with(connection, wanted, each=_VERSIONS)
    ]
