"""The repair task: brings back objects of the library that validation found missing or damaged.

Whatever comes from elsewhere must hash to the object's id, so no source needs to be believed. They are tried in the
order of what they cost: object sets are made again from the database, chunks from the source that they were published
from, everything else is fetched from a point on premises, then from the cloud. What nobody has may still come out when
the source is published again, and deltas are made anew (``librarysalvage``). The rest is told at the end.
"""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, TypeVar

import msgspec
import structlog
from sqlalchemy import Connection

from entrepot.content.checking import Listed, look
from entrepot.content.manifest import Part
from entrepot.content.objectset import encode_set
from entrepot.content.reading import open_root, parts
from entrepot.content.repairing import rebuilt
from entrepot.core.errors import EntrepotError, IntegrityError, NotFoundError, StorageError
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
from entrepot.site.keys.sitekeys import SiteKeys, root_name
from entrepot.site.libraryalert import judge_library
from entrepot.site.librarysalvage import ASKED, NOTED, Salvage, origins, remake_deltas
from entrepot.site.missingdeltas import DeltaFinder
from entrepot.site.pacing import TaskPace
from entrepot.site.reporting import Reporter
from entrepot.site.staging import RoomyStore
from entrepot.web.copies import copies_of

_VERSIONS: Final = 20
"""Of a content, so many versions are looked through for a chunk's place in the source, the newest first."""

T = TypeVar("T")

log = structlog.get_logger("site.library")


class RepairJob(msgspec.Struct, frozen=True, kw_only=True):
    """Payload of a library-repair task; no content: the whole library. ``rate``: bytes a second at most that points and
    clouds are asked for; 0: no limit."""

    content: str
    rate: int = 0


class Mended(msgspec.Struct, kw_only=True):
    """How many objects came from where. ``refused``: what the library's disk said last when it took one not."""

    sound: int = 0
    database: int = 0
    source: int = 0
    points: int = 0
    deltas: int = 0
    left: int = 0
    refused: str = ""

    def told(self) -> str:
        """In words; empty where nothing came of it."""
        ways = (
            (self.source, "made again from the source"),
            (self.points, "fetched from distribution points"),
            (self.database, "made again from the database"),
            (self.sound, "found sound"),
            (self.deltas, "delta(s) to be made anew"),
        )
        return ", ".join(f"{number} {way}" for number, way in ways if number)

    @property
    def done(self) -> int:
        """Objects that were tried."""
        return self.sound + self.database + self.source + self.points + self.left


Left = dict[ObjectId, Listed]
"""What is still to be mended; who goes through a way takes out what came."""
Found = AsyncGenerator[list[ObjectId], None]
"""What came, by the batch, some of them empty."""


class RepairHandler:
    """Does library-repair tasks."""

    def __init__(
        self,
        database: Database,
        *,
        store: RoomyStore,
        keys: SiteKeys,
        holders: HolderSource,
        salvage: Salvage,
        deltas: DeltaFinder,
        clock: Clock,
    ) -> None:
        self._database = database
        self._shelf = Shelf(store)
        self._room = store.room
        self._keys = keys
        self._holders = holders
        self._salvage = salvage
        self._deltas = deltas
        self._clock = clock

    async def run(self, task: Task, report: Reporter) -> None:
        """See :class:`entrepot.site.tasks.TaskHandler`."""
        job = task.payload_as(RepairJob)
        content = job.content
        ledger = SqlCheckLedger(self._database, content)
        mended = Mended()
        bad = sum((await self._database.read(librarychecks.verdicts, content)).values())
        report.step("Repairing", total=bad, unit="objects")
        pace = TaskPace(job.rate, report)
        after: ObjectId | None = None
        while page := await asyncio.to_thread(ledger.faulty, after, ASKED):
            await self._repair(content, page, ledger, mended, pace, report)
            after = page[-1].object_id
        if mended.left:
            await self._last_resorts(ledger, content, mended, report)
        with contextlib.suppress(NotFoundError):  # the content was deleted meanwhile
            mended.deltas += (await self._deltas.remake(content)).tasks
        await self._database.write(judge_library, self._clock())
        nothing = "Nothing came back" if mended.left else "Nothing to repair"
        report.message(f"{mended.told() or nothing}.")
        if mended.left:
            raise _not_all(mended)

    async def _last_resorts(self, ledger: SqlCheckLedger, content: str, mended: Mended, report: Reporter) -> None:
        """What only the whole source gives, and deltas, which need not be mended."""
        if self._has_room(mended):
            found, refused = await asyncio.to_thread(
                self._salvage.find, content, _faulty(ledger), report, lambda found: self._note(ledger, found)
            )
            mended.source += found
            mended.refused = refused or mended.refused
        mended.deltas = await self._database.write(remake_deltas, content, now=self._clock())
        while await self._database.write(retention.drop_unused_sets):
            report.check()
        mended.left = sum((await self._database.read(librarychecks.verdicts, content)).values())

    def _note(self, ledger: SqlCheckLedger, found: list[ObjectId]) -> None:
        ledger.note(found, [], self._clock(), lambda each: look(self._shelf, each))

    async def _repair(
        self,
        content: str,
        page: list[Listed],
        ledger: SqlCheckLedger,
        mended: Mended,
        pace: TaskPace,
        report: Reporter,
    ) -> None:
        """Try one way after the other. What came is told to the database by the batch: SIGKILL takes no more back."""
        left = {each.object_id: each for each in page}
        for way in (
            self._look_again(left, mended),
            self._from_database(left, mended),
            self._from_source(content, left, mended),
            self._from_points(left, mended, pace),
        ):
            async with contextlib.aclosing(way) as batches:
                async for found in batches:
                    if found:
                        await asyncio.to_thread(self._note, ledger, found)
                    for object_id in found:
                        del left[object_id]
                    report.amount(mended.done)
                    report.check()
            if not left or not self._has_room(mended):
                break
        mended.left += len(left)
        report.amount(mended.done)

    def _has_room(self, mended: Mended) -> bool:
        """Whether anything would be taken at all: nothing is read, or paid for at a cloud, to be dropped."""
        try:
            self._room.insist()
        except StorageError as error:
            mended.refused = error.message
            return False
        return True

    async def _look_again(self, left: Left, mended: Mended) -> Found:
        for batch in batched(list(left.values())):
            found = await asyncio.to_thread(self._sound, batch)
            mended.sound += len(found)
            yield found

    def _sound(self, batch: Sequence[Listed]) -> list[ObjectId]:
        return [each.object_id for each in batch if look(self._shelf, each.object_id) is Verdict.GOOD]

    async def _from_database(self, left: Left, mended: Mended) -> Found:
        """Object sets: the database knows their members."""
        for batch in batched(list(left.values())):
            found = await asyncio.to_thread(self._sets_again, batch, mended)
            mended.database += len(found)
            yield found

    def _sets_again(self, batch: Sequence[Listed], mended: Mended) -> list[ObjectId]:
        with self._database.reading() as connection:
            known = [each.object_id for each in batch if pointsets.objects_of(connection, each.object_id, limit=1)]
        return [set_id for set_id in known if self._keep(set_id, encode_set(self._members(set_id)), mended)]

    def _keep(self, object_id: ObjectId, data: bytes | Iterable[bytes], mended: Mended) -> bool:
        """Store what came, if it is the object. A disk that does not take one may well take the others."""
        try:
            self._shelf.put(object_id, data, replace=True)
        except IntegrityError:
            return False
        except StorageError as error:
            mended.refused = error.message
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

    async def _from_source(self, content: str, left: Left, mended: Mended) -> Found:
        """Chunks, from where they were published: the files may be the same still, at least in part."""
        between = (min(left), max(left))
        for version, source in await self._database.read(_published_with, content, between):
            if not left:
                break
            batches = batched(self._rebuilt(version, source, set(left), mended))
            while found := await asyncio.to_thread(next, batches, None):
                mended.source += len(found)
                yield list(found)

    def _rebuilt(self, version: Version, source: Path, wanted: set[ObjectId], mended: Mended) -> Iterator[ObjectId]:
        try:
            for object_id, data in rebuilt(self._parts(version), wanted, source):
                if self._keep(object_id, data, mended):
                    yield object_id
        except EntrepotError as error:  # a part of the manifest is damaged itself: points may have it
            log.info("manifest_not_readable", content=version.content, version=version.number, error=str(error))

    def _parts(self, version: Version) -> Iterator[Part]:
        ref = self._keys.open_ref(root_name(version.content, version.number), version.root)
        root = open_root(self._shelf.read_whole(ObjectId(ref.object_id)), ref, self._keys.verify_manifest)
        return parts(root, lambda wanted: self._shelf.read_whole(ObjectId(wanted.object_id)))

    async def _from_points(self, left: Left, mended: Mended, pace: TaskPace) -> Found:
        for each in list(left.values()):
            if not self._has_room(mended):
                return
            for point in await self._database.read(librarychecks.holders_of, each.object_id):
                if (data := await self._fetch(point, each, pace)) is None:
                    continue
                if await asyncio.to_thread(self._keep, each.object_id, data, mended):
                    mended.points += 1
                    yield [each.object_id]
                break  # what the disk does not take need not come from the next one, too
            yield []

    async def _fetch(self, point: str, each: Listed, pace: TaskPace) -> bytes | None:
        """An object, verified; None where this point does not give it."""
        try:
            copies = copies_of(await self._holders(point))
            await pace.take(each.size)
            data = await copies.get(each.object_id, min(each.size, MAX_OBJECT_BYTES))
            if object_id_of(data) != each.object_id:
                raise IntegrityError("Other bytes came.")
        except EntrepotError as error:
            log.info("copy_not_usable", point=point, object=each.object_id.hex(), error=str(error))
            return None
        return data


def _not_all(mended: Mended) -> EntrepotError:
    """What is told when something could not be repaired: a disk that refuses is another matter than lost bytes."""
    done = f" {mended.told()}." if mended.told() else ""
    if mended.refused:
        return StorageError(
            f"{mended.left} objects could not be repaired: the library's disk did not take all of them "
            f"({mended.refused.removesuffix('.')}).{done}",
            next_step="Make room (entrepot library sweep --now), or mend what is in the way; then: entrepot library "
            "repair",
        )
    return IntegrityError(
        f"{mended.left} objects could not be repaired: neither the source nor any point has them.{done}",
        next_step="See `entrepot library faults`; publish the content again from the same files.",
    )


def _faulty(ledger: SqlCheckLedger) -> Iterator[list[ObjectId]]:
    """All that is not sound, by the page."""
    after: ObjectId | None = None
    while page := ledger.faulty(after, ASKED):
        yield [each.object_id for each in page]
        after = page[-1].object_id


def batched(items: Iterable[T]) -> Iterator[tuple[T, ...]]:
    """So many at a time as the database is told of at once. The items are taken as they come."""
    taken = iter(items)
    while batch := tuple(itertools.islice(taken, NOTED)):
        yield batch


def _published_with(
    connection: Connection, content: str, between: tuple[ObjectId, ObjectId]
) -> list[tuple[Version, Path]]:
    """Versions that need faulty objects between two, the newest of each content first, with each folder or file that
    one may have been published from. What an archive holds cannot be read in it."""
    found: dict[tuple[str, int, str], tuple[Version, Path]] = {}
    for version in librarychecks.versions_with(connection, content, *between, each=_VERSIONS):
        for origin in origins(contents.get_content(connection, version.content), version):
            if not origin.unpack:
                found[version.content, version.number, origin.source] = (version, Path(origin.source))
    return list(found.values())
