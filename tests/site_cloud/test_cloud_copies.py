"""What a cloud point holds is read again, to validate it and to repair the library, through the holder that the site
uses: under an upload schedule, and charged."""

import shutil
from typing import ClassVar

import pytest

from entrepot.core.ids import ObjectId
from entrepot.core.sizes import GIB
from entrepot.core.times import DAY
from entrepot.database import charges, clouddetails
from entrepot.database.cloud import CloudPoint
from entrepot.database.library import SqlLibrary
from entrepot.database.tasks import Task
from entrepot.objects.memory import MemoryStore
from entrepot.objects.shelf import Shelf, key_of
from entrepot.protocol.cloudapi import UploadSchedule, UploadWindow
from entrepot.protocol.libraryapi import LibraryRequest, PointValidationRequest
from entrepot.site.library import LibraryCare
from entrepot.site.missingdeltas import DeltaFinder
from entrepot.site.pacing import TaskPace
from entrepot.site.settings import Settings
from entrepot.site.staging import LibraryRoom, RoomyStore, Staging

from .conftest import NOW, SITE, SiteUnderTest
from .published import publish_bytes

VALIDATION_RATE = 20_000_000
"""The setting's default."""
MEMBERS = (b"one" * 1000, b"two" * 2000, b"three" * 3000)


class Copied:
    """A content that the library and a cloud point hold whole."""

    def __init__(self, site: SiteUnderTest, point: CloudPoint) -> None:
        self.site, self.point = site, point
        self.objects = publish_bytes(site, point.point, "app", MEMBERS)
        self.members = [object_id for object_id, data in self.objects.items() if data in MEMBERS]
        self.shelf = Shelf(MemoryStore())
        self.cloud: Shelf = site.cloud.services["cloud1"].holder._shelf
        for object_id, data in self.objects.items():
            for shelf in (self.shelf, self.cloud):
                shelf.put(object_id, data)
        room = LibraryRoom(site.folder, free=lambda _: GIB)
        library = SqlLibrary(site.database, clock=site.clock, new_id=lambda: "ses-1", pause=lambda _: None)
        self.care = LibraryCare(
            site.database,
            settings=Settings(site=SITE, url="https://127.0.0.1:1", listen="127.0.0.1:1"),
            shelf=self.shelf,
            mending=RoomyStore(self.shelf.store, room),
            library=library,
            keys=site.keys,
            holders=site.services.providers.holder,
            staging=Staging(site.folder, home=site.folder, free=lambda folder: shutil.disk_usage(folder).free),
            deltas=DeltaFinder(site.database, site=SITE, deltas_kept=3, clock=site.clock, work=lambda: None),
            holder="test",
            clock=site.clock,
        )

    def flip(self, object_id: ObjectId, shelf: Shelf) -> None:
        shelf.store.put(key_of(object_id), self.objects[object_id][:-1] + b"!")

    async def done(self, task: Task) -> None:
        await self.care.tasks.run_once()
        await self.site.completed(task)

    async def validated(self, *, repair: bool = False) -> tuple[int, int]:
        """What a validation of the cloud point leaves missing and damaged."""
        request = PointValidationRequest(rate=0, repair=repair)
        await self.done(await self.care.validate_point("cloud1", request))
        [found] = await self.care.on_point("cloud1")
        return found.missing, found.damaged

    def reads(self) -> int:
        """Requests to the store that are charged as reads."""
        self.site.services.meter.flush()
        with self.site.database.reading() as connection:
            rows = charges.hours(connection, self.point.point, since=0, until=NOW + DAY)
        return sum(row.site_reads for row in rows)


@pytest.fixture
async def copied(site: SiteUnderTest) -> Copied:
    return Copied(site, await site.make_point())


async def test_a_cloud_point_is_validated_and_mended(copied: Copied) -> None:
    flipped, lost, _ = copied.members
    copied.flip(flipped, copied.cloud)
    copied.cloud.delete(lost)
    before = copied.reads()
    assert await copied.validated() == (1, 1)
    assert copied.reads() - before == len(copied.objects), "each object that is read again is a read of the store"
    assert await copied.validated(repair=True) == (0, 0)
    assert [copied.cloud.read_whole(one) for one in (flipped, lost)] == [copied.objects[one] for one in (flipped, lost)]


async def test_a_closed_upload_schedule_holds_repair_up_and_no_validation(copied: Copied) -> None:
    copied.flip(copied.members[0], copied.cloud)
    closed = UploadSchedule(windows=(UploadWindow(begin=0, end=0),))
    await copied.site.database.write(clouddetails.keep_upload, copied.point.point, closed)
    assert await copied.validated() == (0, 1)
    await copied.care.validate_point("cloud1", PointValidationRequest(rate=0, repair=True))
    await copied.care.tasks.run_once()
    [found] = await copied.care.on_point("cloud1")
    assert found.damaged == 1, "it waits for the schedule"


class Noted(TaskPace):
    """Notes what passes, and at which rate."""

    taken: ClassVar[list[tuple[int, int]]] = []

    async def take(self, size: int) -> None:
        self.taken.append((self._rate, size))
        await super().take(size)


async def test_a_repair_fetches_at_the_rate_of_validations_or_the_one_asked_for(
    copied: Copied, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("entrepot.site.libraryrepair.TaskPace", Noted)
    monkeypatch.setattr(Noted, "taken", [])
    lost = copied.members[0]
    size = len(copied.shelf.read_whole(lost))
    for request in (LibraryRequest(), LibraryRequest(rate=10**9)):
        copied.site.clock.now += 60  # what was looked at in this very second counts as looked at
        copied.shelf.delete(lost)
        await copied.done(await copied.care.validate(LibraryRequest(rate=0)))
        await copied.done(await copied.care.repair(request))
    assert Noted.taken == [(VALIDATION_RATE, size), (10**9, size)]


async def test_the_library_is_repaired_from_the_cloud(copied: Copied) -> None:
    flipped, lost, _ = copied.members
    copied.flip(flipped, copied.shelf)
    copied.shelf.delete(lost)
    await copied.done(await copied.care.validate(LibraryRequest(rate=0)))
    assert len(await copied.care.faults("", after="", limit=9)) == 2
    before = copied.reads()
    await copied.done(await copied.care.repair(LibraryRequest()))
    assert await copied.care.faults("", after="", limit=9) == []
    assert [copied.shelf.read_whole(one) for one in (flipped, lost)] == [copied.objects[one] for one in (flipped, lost)]
    assert copied.reads() - before == 2
