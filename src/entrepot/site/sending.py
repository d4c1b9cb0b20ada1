"""One run of the distribution engine on one point: bring a content's object sets there, or take them away.

Sending: note the set → ask what is missing, in batches → send only that, side by side → the set object last → ask again
(verification) → the set is held. A version's own set comes first, then the deltas to it; from the moment when the
version is held clients are sent there. Sets that are superseded stay until tokens that name them have ended.

Taking away: the set object first, so that no token proves anything there any more; then every object that no other set
on the point names. Both can be killed anywhere and are then run again from the beginning.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

import msgspec
from sqlalchemy import Connection

from entrepot.core.errors import CancelledError, EntrepotError, UnavailableError
from entrepot.core.ids import ObjectId
from entrepot.core.times import Clock
from entrepot.database import contents, distribution, pointsets
from entrepot.database.distribution import Distribution
from entrepot.database.engine import Database
from entrepot.database.hierarchy import note_change
from entrepot.database.pointsets import PointSet, StoredObject
from entrepot.objects.shelf import Shelf
from entrepot.protocol.dataplane import MAX_MISSING_IDS
from entrepot.protocol.tokens import MAX_TOKEN_LIFETIME
from entrepot.web.dataplane import Holder

RETIRED_SECONDS: Final = MAX_TOKEN_LIFETIME
"""How long a superseded set stays on a point: as long as a token that names it may live."""


class Amounts(msgspec.Struct):
    """What a run has done so far; ``done`` of ``total`` bytes, of which ``sent_bytes`` had to be sent."""

    done: int = 0
    total: int = 0
    objects: int = 0
    sent_objects: int = 0
    sent_bytes: int = 0


class Sender:
    """Runs of one site's distribution engine.

    Args:
        threads: objects in flight to one point.
    """

    def __init__(self, database: Database, *, shelf: Shelf, clock: Clock, threads: int) -> None:
        self._database = database
        self._shelf = shelf
        self._clock = clock
        self._threads = threads

    async def send(self, row: Distribution, holder: Holder, amounts: Amounts) -> None:
        """Bring the wanted version and its deltas to the point, and drop there what is superseded.

        Raises:
            EntrepotError: by the holder; what has arrived stays and is not sent again.
        """
        wanted = await self._database.write(_begin, row, self._clock())
        totals = [await self._database.read(pointsets.set_totals, each.set_id) for each in wanted]
        amounts.total = sum(size for _, size in totals) + sum(each.size for each in wanted)
        amounts.objects = sum(number + 1 for number, _ in totals)
        for each in wanted:
            await self._send_set(each, holder, amounts, full=row.full)
            await self._verify(each, holder)
            await self._database.write(_hold, row, each, self._clock())
        await self._drop_superseded(row, [each.set_id for each in wanted], holder)

    async def remove(self, row: Distribution, holder: Holder) -> None:
        """Take every set of the content away from the point.

        Raises:
            EntrepotError: by the holder; run it again.
        """
        for each in await self._database.read(pointsets.sets_on, row.point, row.content):
            await self._remove_set(each, holder)

    async def _send_set(self, each: PointSet, holder: Holder, amounts: Amounts, *, full: bool) -> None:
        async for page in self._pages(each.set_id):
            ids = [found.object_id for found in page]
            missing = set(ids) if full else set(await holder.missing(ids))
            amounts.done += sum(found.size for found in page if found.object_id not in missing)
            await self._side_by_side(
                [self._put(found, holder, amounts) for found in page if found.object_id in missing]
            )
        set_object = StoredObject(ObjectId(each.set_id), each.size)
        if full or await holder.missing([set_object.object_id]):
            await self._put(set_object, holder, amounts)()
        else:
            amounts.done += each.size

    def _put(self, found: StoredObject, holder: Holder, amounts: Amounts) -> Callable[[], Awaitable[None]]:
        async def put() -> None:
            await holder.put(found.object_id, found.size, lambda: self._shelf.read(found.object_id))
            amounts.done += found.size
            amounts.sent_objects += 1
            amounts.sent_bytes += found.size

        return put

    async def _verify(self, each: PointSet, holder: Holder) -> None:
        async for page in self._pages(each.set_id):
            if await holder.missing([found.object_id for found in page]):
                raise UnavailableError("The point lost objects while they were being sent.")

    async def _drop_superseded(self, row: Distribution, keep: list[bytes], holder: Holder) -> None:
        now = self._clock()
        present = await self._database.read(pointsets.sets_on, row.point, row.content)
        others = [each for each in present if each.set_id not in keep]
        if others:
            await self._database.write(pointsets.retire_sets, row.point, [each.set_id for each in others], now=now)
        for each in others:
            if each.state != pointsets.HELD or (each.retired and each.retired < now - RETIRED_SECONDS):
                await self._remove_set(each, holder)

    async def _remove_set(self, each: PointSet, holder: Holder) -> None:
        await self._database.write(pointsets.begin_removal, each.point, each.set_id, now=self._clock())
        await holder.delete(ObjectId(each.set_id))
        after = b""
        while page := await self._database.read(pointsets.only_in, each.point, each.set_id, after=after):
            await self._side_by_side([self._delete(object_id, holder) for object_id in page])
            after = page[-1]
        await self._database.write(pointsets.forget_set, each.point, each.set_id)

    def _delete(self, object_id: ObjectId, holder: Holder) -> Callable[[], Awaitable[None]]:
        async def delete() -> None:
            await holder.delete(object_id)

        return delete

    async def _side_by_side(self, works: list[Callable[[], Awaitable[None]]]) -> None:
        """Run them, so many at a time; the first failure ends all."""
        waiting = iter(works)

        async def worker() -> None:
            for work in waiting:
                await work()

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(self._threads, len(works))):
                    group.create_task(worker())
        except* EntrepotError as failed:
            raise failed.exceptions[0] from None

    async def _pages(self, set_id: bytes) -> AsyncIterator[list[StoredObject]]:
        after = b""
        while page := await self._database.read(pointsets.objects_of, set_id, after=after, limit=MAX_MISSING_IDS):
            yield page
            after = page[-1].object_id


def _begin(connection: Connection, row: Distribution, now: float) -> list[PointSet]:
    """Note every set that the point is to get: the version's own first, then the deltas, the newest first."""
    _check_wanted(connection, row)
    version = contents.get_version(connection, row.content, row.version)
    deltas = contents.list_deltas(connection, row.content, to_version=row.version)
    wanted = [(version.set_id, 0), *((delta.set_id, delta.from_version) for delta in reversed(deltas))]
    sets = []
    for set_id, from_version in wanted:
        new = PointSet(
            point=row.point,
            set_id=set_id,
            content=row.content,
            version=row.version,
            from_version=from_version,
            state=pointsets.SENDING,
            size=pointsets.object_size(connection, set_id),
            changed=int(now),
            retired=0,
        )
        pointsets.begin_set(connection, new)
        sets.append(new)
    return sets


def _check_wanted(connection: Connection, row: Distribution) -> None:
    """A run that is broken off may be here still, in a thread of its own."""
    if not distribution.is_ours(connection, row):
        raise CancelledError("Something else is wanted of this point meanwhile.")


def _hold(connection: Connection, row: Distribution, each: PointSet, now: float) -> None:
    _check_wanted(connection, row)
    pointsets.hold_set(connection, row.point, each.set_id, now=now)
    if not each.from_version:
        distribution.note_held(connection, row, each.version)
    note_change(connection)
