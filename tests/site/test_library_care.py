"""The library is validated, repaired, swept and measured; so is what points have of it."""

import asyncio
import contextlib
import functools
import secrets
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from entrepot.content import keeping, sweep
from entrepot.content.compressing import Earlier
from entrepot.content.delta import plaintext
from entrepot.content.publish import PublishOptions
from entrepot.content.sealing import Purpose
from entrepot.core.errors import CancelledError, ConflictError, IntegrityError, NotFoundError, UnavailableError
from entrepot.core.ids import ObjectId
from entrepot.core.times import DAY, HOUR
from entrepot.database import alerts, librarychecks
from entrepot.database.librarysweep import SqlSweepLedger
from entrepot.database.tables.library import object_ as objects
from entrepot.database.tables.points import point as points
from entrepot.database.tables.tasks import task as tasks
from entrepot.objects.hashing import object_id_of
from entrepot.objects.shelf import Shelf, key_of
from entrepot.protocol.contentapi import ContentInfo, CurrentRequest, OriginInfo, VersionRequest
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
from entrepot.protocol.siteapi import TaskInfo, TaskState
from entrepot.rules.alerts import AlertState
from entrepot.rules.alerttypes import LIBRARY_DAMAGE
from entrepot.site import libraryrepair, librarysalvage, publishing
from entrepot.site.library import LibraryCare
from entrepot.site.staging import LIBRARY_KEPT_FREE, REPAIR_KEPT_FREE, Staging


class Care:
    """The library's part of the site, with the points of the test."""

    def __init__(self, site: Any) -> None:
        self.site = site
        self.server = site.server

        async def holders(point: str) -> Any:
            return site.points[point]

        self.part = LibraryCare(
            site.database,
            settings=site.server.settings,
            shelf=site.server.shelf,
            mending=site.server.mending,
            library=site.server.library,
            keys=site.keys,
            holders=holders,
            staging=site.server.staging,
            deltas=site.server.library_care.deltas,
            holder="test",
            clock=site.clock,
        )

    async def run(self, method: str, path: str, body: object) -> TaskInfo:
        """Ask for a task, run it, and give its end."""
        task = await self.site.call(method, path, TaskInfo, body)
        await self.part.tasks.run_once()
        return await self.site.call("GET", f"/tasks/{task.id}", TaskInfo)

    async def validate(self, **more: Any) -> TaskInfo:
        return await self.run("POST", "/library/validate", LibraryRequest(rate=0, **more))

    async def repair(self) -> TaskInfo:
        return await self.run("POST", "/library/repair", LibraryRequest())

    async def alerts(self) -> list[tuple[AlertState, int, str]]:
        """State, number of occurrences and message of the library's alert."""
        found = await self.site.database.read(alerts.listed, subject="library")
        mine = (one.alert for one in found if one.alert.type == LIBRARY_DAMAGE)
        return [(alert.state, alert.occurrences, alert.message) for alert in mine]

    async def faults(self) -> list[Fault]:
        return await self.site.call("GET", "/library/faults", list[Fault])

    async def deltas(self) -> int:
        info = await self.site.call("GET", "/contents/App", ContentInfo)
        return sum(len(version.deltas) for version in info.versions)

    def of(self, purpose: int) -> list[ObjectId]:
        """Objects of the library by what they are."""
        with self.site.database.reading() as connection:
            found = connection.scalars(
                objects.select().where(objects.c.purpose == purpose).with_only_columns(objects.c.object_id)
            )
            return [ObjectId(object_id) for object_id in found]

    def flip(self, object_id: ObjectId, shelf: Any = None) -> None:
        """Change a byte of a stored object."""
        store = (shelf or self.server.shelf).store
        data = bytearray(b"".join(store.read(key_of(object_id))))
        data[len(data) // 2] ^= 1
        store.put(key_of(object_id), bytes(data))


@pytest.fixture
async def care(site: Any, source: Path) -> Care:
    await site.publish("App", source)
    return Care(site)


async def test_a_sound_library_is_found_sound(care) -> None:
    before = await care.site.call("GET", "/library", LibraryInfo)
    assert (before.validation.checked_objects, before.validation.state) == (0, "not validated")
    ended = await care.validate()
    assert (ended.state, ended.message[:10]) == (TaskState.COMPLETED, "All sound:")
    [content] = await care.site.call("GET", "/library/contents", list[ContentLibraryInfo])
    assert content.validation.state == "good"
    assert content.validation.checked == int(care.site.clock())
    assert content.validation.objects == content.validation.checked_objects == len(care.server.shelf.page(limit=9999))


async def test_a_flipped_bit_and_a_lost_file_are_found_named_and_kept_from_everybody(care) -> None:
    flipped, lost = care.of(Purpose.CHUNK)[:2]
    care.flip(flipped)
    care.server.shelf.delete(lost)
    ended = await care.validate()
    assert ended.message.startswith("1 missing and 1 damaged of ")
    found = {fault.object_id: fault for fault in await care.faults()}
    assert {key: fault.verdict for key, fault in found.items()} == {flipped.hex(): "damaged", lost.hex(): "missing"}
    assert {fault.kind for fault in found.values()} == {"chunk"}
    assert all(fault.needed_by == ("App 1",) for fault in found.values())
    info = await care.site.call("GET", "/library", LibraryInfo)
    assert (info.validation.missing, info.validation.damaged, info.validation.state) == (1, 1, "damaged")
    assert care.server.shelf.has([flipped]) == [False]


async def test_chunks_are_made_again_from_the_source(care) -> None:
    for object_id in care.of(Purpose.CHUNK):
        care.flip(object_id)
    await care.validate()
    ended = await care.repair()
    assert (ended.state, ended.error) == (TaskState.COMPLETED, "")
    assert "made again from the source" in ended.message
    assert await care.faults() == []
    for object_id in care.of(Purpose.CHUNK):
        care.server.shelf.read_whole(object_id)


async def test_a_manifest_is_read_once_however_many_of_its_chunks_are_made_again(care, monkeypatch) -> None:
    real, read = libraryrepair.open_root, []

    def counted(*args: Any) -> Any:
        read.append(args)
        return real(*args)

    monkeypatch.setattr(libraryrepair, "open_root", counted)
    monkeypatch.setattr(libraryrepair, "NOTED", 1)
    chunks = care.of(Purpose.CHUNK)
    assert len(chunks) > 1
    for object_id in chunks:
        care.server.shelf.delete(object_id)
    await care.validate()
    ended = await care.repair()
    assert (ended.state, ended.message) == (TaskState.COMPLETED, f"{len(chunks)} made again from the source.")
    assert await care.faults() == []
    assert len(read) == 1


async def test_an_alert_opens_when_validation_finds_damage_and_closes_on_repair(care) -> None:
    await care.part.run_once()
    assert await care.alerts() == [(AlertState.NEVER_TRIGGERED, 0, "")]
    await care.validate()
    assert (await care.alerts())[0][:2] == (AlertState.NEVER_TRIGGERED, 0)
    flipped, lost = care.of(Purpose.CHUNK)[:2]
    care.flip(flipped)
    care.server.shelf.delete(lost)
    care.site.clock.advance(60)
    await care.validate()
    told = "Objects that contents need: 1 missing, 1 damaged."
    assert await care.alerts() == [(AlertState.ACTIVE, 1, told)]
    await care.part.run_once()
    assert await care.alerts() == [(AlertState.ACTIVE, 1, told)]
    await care.repair()
    assert (await care.alerts())[0][:2] == (AlertState.CANCELED, 1)
    care.flip(flipped)
    care.site.clock.advance(60)
    await care.validate()
    assert (await care.alerts())[0][:2] == (AlertState.ACTIVE, 2)


async def test_the_alert_stays_while_anything_cannot_be_repaired(care, source) -> None:
    (source / "big.bin").write_bytes(b"something else")
    for object_id in care.of(Purpose.CHUNK):
        care.server.shelf.delete(object_id)
    await care.validate()
    before = len(await care.faults())
    assert (await care.repair()).state is TaskState.FAILED
    left = len(await care.faults())
    assert 0 < left < before
    assert await care.alerts() == [(AlertState.ACTIVE, 1, f"Objects that contents need: {left} missing, 0 damaged.")]


async def test_the_alert_closes_by_itself_when_the_same_bytes_are_published_again(care) -> None:
    for object_id in care.of(Purpose.CHUNK):
        care.flip(object_id)
    await care.validate()
    assert (await care.alerts())[0][0] is AlertState.ACTIVE
    await care.site.next_version("App")
    await care.part.run_once()
    assert (await care.alerts())[0][0] is AlertState.CANCELED


async def test_what_the_source_has_no_more_comes_from_a_point(care, source) -> None:
    await care.site.enrolled_point("dp")
    await care.site.distributed("App", "dp")
    everything = [object_id for object_id, _ in care.server.shelf.page(limit=9999)]
    (source / "big.bin").write_bytes(b"something else")
    (source / "sub" / "file 7").unlink()
    for object_id in everything:
        care.flip(object_id)
    await care.validate()
    assert len(await care.faults()) == len(everything)
    ended = await care.repair()
    assert (ended.state, ended.error) == (TaskState.COMPLETED, "")
    assert "made again from the database" in ended.message
    assert "fetched from distribution points" in ended.message
    for object_id in everything:
        care.server.shelf.read_whole(object_id)
    assert await care.faults() == []


async def test_what_nobody_has_stays_known_and_is_told(care, source) -> None:
    (source / "big.bin").write_bytes(b"something else")
    for object_id in care.of(Purpose.CHUNK):
        care.server.shelf.delete(object_id)
    await care.validate()
    ended = await care.repair()
    assert ended.state is TaskState.FAILED
    assert ended.error_code == IntegrityError.code
    assert "neither the source nor any point" in ended.error
    assert await care.faults()


async def test_lost_parts_of_a_manifest_come_back_when_the_source_is_read_again(care) -> None:
    """No file of the source gives them, and without them nobody knows where the lost chunk lies in it."""
    lost = [*care.of(Purpose.MANIFEST_PART), *care.of(Purpose.MANIFEST_ROOT), care.of(Purpose.CHUNK)[0]]
    for object_id in lost:
        care.flip(object_id)
    await care.validate()
    assert len(await care.faults()) == len(lost)
    ended = await care.repair()
    assert (ended.state, ended.error) == (TaskState.COMPLETED, "")
    assert f"{len(lost)} made again from the source" in ended.message
    assert await care.faults() == []
    for object_id in lost:
        care.server.shelf.read_whole(object_id)
    assert len((await care.site.call("GET", "/contents/App", ContentInfo)).versions) == 1, "nothing was published"


async def test_one_object_that_the_disk_does_not_take_keeps_no_other_from_coming_back(care) -> None:
    """And what is told is the disk's refusal: the source has everything."""
    lost = [*care.of(Purpose.MANIFEST_PART), *care.of(Purpose.CHUNK), *care.of(Purpose.MANIFEST_ROOT)]
    root = care.site.home.library
    for object_id in lost:
        care.server.shelf.delete(object_id)
    care.server.shelf.flush()
    blocked = [root / key_of(lost[0]), root / key_of(care.of(Purpose.CHUNK)[0])]
    for path in blocked:
        path.mkdir(parents=True)
    await care.validate()
    ended = await care.repair()
    assert ended.state is TaskState.FAILED
    assert "the library's disk did not take all of them" in ended.error
    assert "neither the source" not in ended.error
    assert {fault.object_id for fault in await care.faults()} == {path.name for path in blocked}
    for path in blocked:
        path.rmdir()
    assert (await care.repair()).state is TaskState.COMPLETED
    assert await care.faults() == []


async def test_a_source_is_read_once_however_many_objects_it_is_read_for(care, monkeypatch) -> None:
    real, read = Staging.source, []

    def counted(self: Staging, path: Path, **more: Any) -> Any:
        read.append(path)
        return real(self, path, **more)

    monkeypatch.setattr(Staging, "source", counted)
    monkeypatch.setattr(librarysalvage, "ASKED", 1)
    monkeypatch.setattr(libraryrepair, "ASKED", 1)
    lost = [object_id for purpose in Purpose for object_id in care.of(purpose)]
    for object_id in lost:
        care.server.shelf.delete(object_id)
    await care.validate()
    ended = await care.repair()
    assert (ended.state, ended.error) == (TaskState.COMPLETED, "")
    assert f"{len(lost)} made again from the source" in ended.message
    assert await care.faults() == []
    assert len(read) == 1


async def test_versions_with_the_same_files_come_back_from_one_reading(care, monkeypatch) -> None:
    real, read = Staging.source, []

    def counted(self: Staging, path: Path, **more: Any) -> Any:
        read.append(path)
        return real(self, path, **more)

    for _ in range(3):
        await care.site.next_version("App")
    roots = care.of(Purpose.MANIFEST_ROOT)
    assert len(roots) == 4
    for object_id in roots:
        care.flip(object_id)
    await care.validate()
    monkeypatch.setattr(Staging, "source", counted)
    ended = await care.repair()
    assert (ended.state, ended.error) == (TaskState.COMPLETED, "")
    assert len(read) == 1
    for object_id in roots:
        care.server.shelf.read_whole(object_id)


async def test_versions_come_back_as_they_were_published_although_the_content_is_published_otherwise_by_now(
    site, source, tmp_path
) -> None:
    """Version 1 lacked what was excluded then, version 2 came from an archive, version 3 from yet another folder."""
    await site.publish("App", source, excludes=("big.bin",))
    archive = tmp_path / "app.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("only", secrets.token_bytes(9_000))
        packed.writestr("bad:name", secrets.token_bytes(10))
    other = tmp_path / "other"
    other.mkdir()
    (other / "new").write_bytes(secrets.token_bytes(9_000))
    for given in ({"source": str(archive), "unpack": True, "excludes": ()}, {"source": str(other), "unpack": False}):
        await site.call("POST", "/contents/App/versions", TaskInfo, given)
        await site.run_tasks()
    info = await site.call("PATCH", "/contents/App", ContentInfo, {"excludes": ["new"], "for_windows": True})
    assert [each.origin for each in info.versions] == [
        OriginInfo(source=str(source), excludes=("big.bin",), unpack=False),
        OriginInfo(source=str(archive), excludes=(), unpack=True),
        OriginInfo(source=str(other), excludes=(), unpack=False),
    ]
    care = Care(site)
    lost = [object_id for purpose in Purpose for object_id in care.of(purpose)]
    for object_id in lost:
        care.server.shelf.delete(object_id)
    await care.validate()
    ended = await care.repair()
    assert (ended.state, ended.error) == (TaskState.COMPLETED, "")
    for object_id in lost:
        care.server.shelf.read_whole(object_id)


async def test_a_version_comes_back_from_where_its_source_was_moved_to(care, source, tmp_path) -> None:
    """What was left out of it, which nobody changed, stays out; the folder has another path by now."""
    source.rename(tmp_path / "moved")
    changed = {"source": str(tmp_path / "moved"), "excludes": ["*"]}
    await care.site.call("PATCH", "/contents/App", ContentInfo, changed)
    lost = [object_id for purpose in Purpose for object_id in care.of(purpose)]
    for object_id in lost:
        care.server.shelf.delete(object_id)
    await care.validate()
    ended = await care.repair()
    assert (ended.state, ended.error) == (TaskState.COMPLETED, "")
    for object_id in lost:
        care.server.shelf.read_whole(object_id)


async def test_what_an_earlier_version_compressed_otherwise_comes_back_as_it_was(site, source, monkeypatch) -> None:
    """Published anew it has another id: the very objects that were lost are made again, and the parts name them."""
    for number in range(300):
        (source / "sub" / f"text {number % 7} {number}").write_bytes(b"%d is the number of this file\n" % number * 50)
    with monkeypatch.context() as earlier:
        earlier.setattr(keeping, "effort_for", lambda _plain: Earlier.TEXT)
        await site.publish("App", source)
    care = Care(site)
    lost = [object_id for purpose in Purpose for object_id in care.of(purpose)]
    for object_id in lost:
        care.server.shelf.delete(object_id)
    await care.validate()
    ended = await care.repair()
    assert (ended.state, ended.error) == (TaskState.COMPLETED, "")
    assert f"{len(lost)} made again from the source" in ended.message
    for object_id in lost:
        care.server.shelf.read_whole(object_id)


async def test_what_an_earlier_version_grouped_otherwise_comes_back_as_it_was(site, source, monkeypatch) -> None:
    """It kept the bytes of a small file as often as there are files with them."""
    for number in range(600):
        (source / "sub" / f"{number}").write_bytes(b"%d is the number of this file\n" % (number % 300) * 100)
    with monkeypatch.context() as earlier:
        earlier.setattr(publishing, "PublishOptions", functools.partial(PublishOptions, once=False))
        await site.publish("App", source)
    care = Care(site)
    lost = [object_id for purpose in Purpose for object_id in care.of(purpose)]
    for object_id in lost:
        care.server.shelf.delete(object_id)
    await care.validate()
    ended = await care.repair()
    assert (ended.state, ended.error) == (TaskState.COMPLETED, "")
    for object_id in lost:
        care.server.shelf.read_whole(object_id)


async def test_reading_a_source_again_may_begin_with_hours_of_unpacking(care, monkeypatch) -> None:
    real = Staging.source

    @contextlib.contextmanager
    def slow(self: Staging, path: Path, **more: Any) -> Iterator[Path]:
        with real(self, path, **more) as ready:
            care.site.clock.advance(2 * HOUR)
            SqlSweepLedger(care.site.database).drop_lapsed(care.site.clock())
            yield ready

    monkeypatch.setattr(Staging, "source", slow)
    for object_id in care.of(Purpose.MANIFEST_PART):
        care.server.shelf.delete(object_id)
    await care.validate()
    ended = await care.repair()
    assert (ended.state, ended.error) == (TaskState.COMPLETED, "")


async def test_a_damaged_delta_is_made_anew(care, source) -> None:
    big = bytearray((source / "big.bin").read_bytes())
    big[1000:1010] = b"other data"
    (source / "big.bin").write_bytes(big)
    await care.site.next_version("App")
    packs = care.of(Purpose.DELTA_PACK)
    assert packs
    for object_id in packs:
        care.server.shelf.delete(object_id)
    await care.validate()
    ended = await care.repair()
    assert (ended.state, ended.error) == (TaskState.COMPLETED, "")
    assert "1 delta(s) to be made anew" in ended.message
    assert await care.deltas() == 0
    assert await care.faults() == []
    await care.site.run_tasks()
    assert await care.deltas() == 1
    assert (await care.validate()).message.startswith("All sound")


@pytest.mark.parametrize("full", ["library", "scratch"])
async def test_a_delta_that_found_no_room_is_named_and_a_repair_asks_for_it_again(
    care, source, full: str, monkeypatch
) -> None:
    big = bytearray((source / "big.bin").read_bytes())
    big[1000:1010] = b"other data"
    (source / "big.bin").write_bytes(big)
    publishing = await care.site.call("POST", "/contents/App/versions", TaskInfo, VersionRequest())
    await care.site.server.publishing.run_once()
    assert (await care.site.call("GET", f"/tasks/{publishing.id}", TaskInfo)).state is TaskState.COMPLETED
    with monkeypatch.context() as patched:
        if full == "library":
            care.site.free = 1000
        else:
            patched.setattr(plaintext, "_SCHEMA", f"PRAGMA max_page_count=2;{plaintext._SCHEMA}")
        await care.site.run_tasks()
    care.site.free = None
    [task] = await care.site.call("GET", "/tasks", list[TaskInfo], query="kind=delta")
    assert (task.state, task.error_code) == (TaskState.FAILED, "storage")
    assert "then: entrepot library repair" in task.error
    assert await care.deltas() == 0
    assert "1 delta(s) to be made anew" in (await care.repair()).message
    await care.site.run_tasks()
    assert await care.deltas() == 1
    assert "Nothing to repair" in (await care.repair()).message


async def test_a_delta_that_the_server_did_not_survive_says_what_has_it_made_all_the_same(care, source) -> None:
    """Such as after the power failed again and again, or when it took more memory than there is."""
    (source / "big.bin").write_bytes((source / "big.bin").read_bytes()[:-10] + b"other data")
    await care.site.call("POST", "/contents/App/versions", TaskInfo, VersionRequest())
    await care.site.server.publishing.run_once()
    with care.site.database.transaction() as connection:
        connection.execute(tasks.update().where(tasks.c.kind == "delta").values(attempts=3))
    await care.site.run_tasks()
    [task] = await care.site.call("GET", "/tasks", list[TaskInfo], query="kind=delta")
    assert task.state is TaskState.FAILED
    assert "the server ended in the middle of the last one" in task.error
    assert "entrepot library repair" in task.error
    assert "1 delta(s) to be made anew" in (await care.repair()).message
    await care.site.run_tasks()
    assert await care.deltas() == 1


async def test_a_damaged_delta_waits_until_its_versions_are_whole(care, source) -> None:
    big = bytearray((source / "big.bin").read_bytes())
    big[1000:1010] = b"other data"
    (source / "big.bin").write_bytes(big)
    await care.site.next_version("App")
    store = care.server.shelf.store
    first = care.of(Purpose.MANIFEST_ROOT)
    kept = {object_id: b"".join(store.read(key_of(object_id))) for object_id in first}
    for object_id in [*first, *care.of(Purpose.DELTA_PACK)]:
        care.flip(object_id)
    await care.validate()
    assert (await care.repair()).state is TaskState.FAILED
    assert await care.deltas() == 1, "not given up"
    for object_id, data in kept.items():
        store.put(key_of(object_id), data)
    assert (await care.repair()).state is TaskState.COMPLETED
    assert await care.deltas() == 0, "to be made anew"


async def test_a_damaged_delta_is_no_failure_because_a_point_that_is_away_still_has_it(care, source) -> None:
    """Its set stays known until the point has lost it; no version and no delta needs it meanwhile."""
    await care.site.enrolled_point("dp")
    await care.site.distributed("App", "dp")
    big = bytearray((source / "big.bin").read_bytes())
    big[1000:1010] = b"other data"
    (source / "big.bin").write_bytes(big)
    await care.site.next_version("App")
    await care.site.distribute_due()
    [point] = care.site.points.values()
    packs = care.of(Purpose.DELTA_PACK)
    assert point.shelf.has(packs) == [True] * len(packs)
    for object_id in packs:
        care.server.shelf.delete(object_id)
        point.shelf.delete(object_id)
    await care.validate()
    ended = await care.repair()
    assert (ended.state, ended.error) == (TaskState.COMPLETED, "")
    assert ended.message == "1 delta(s) to be made anew."
    left = {each.needed_by for each in await care.faults() if each.object_id in {one.hex() for one in packs}}
    assert left == {("no version; dp still has it",)}
    assert (await care.alerts())[0][0] is not AlertState.ACTIVE


async def test_a_damaged_copy_of_a_point_is_not_taken(care, source) -> None:
    (source / "big.bin").write_bytes(b"something else")
    point = await care.site.enrolled_point("dp")
    await care.site.distributed("App", "dp")
    [root] = care.of(Purpose.MANIFEST_ROOT)
    care.flip(root)
    care.flip(root, care.site.points[point].shelf)
    await care.validate()
    assert (await care.repair()).state is TaskState.FAILED
    assert [fault.kind for fault in await care.faults()] == ["manifest root"]


async def test_another_point_gives_what_the_first_has_damaged_and_the_cloud_is_asked_last(care) -> None:
    """The cloud point's name comes first, but its bytes cost something."""
    near, cloud = await care.site.enrolled_point("b-near"), await care.site.enrolled_point("a-cloud")
    await care.site.distributed("App", "b-near", "a-cloud")
    with care.site.database.transaction() as connection:
        connection.execute(points.update().where(points.c.id == cloud).values(kind="cloud"))
    [root] = care.of(Purpose.MANIFEST_ROOT)
    with care.site.database.reading() as connection:
        assert librarychecks.holders_of(connection, root) == [near, cloud]
    care.flip(root)
    care.flip(root, care.site.points[near].shelf)
    await care.validate()
    ended = await care.repair()
    assert (ended.state, "1 fetched from distribution points" in ended.message) == (TaskState.COMPLETED, True)
    care.server.shelf.read_whole(root)


async def test_what_the_disk_has_no_room_for_is_not_fetched_from_one_point_after_the_other(care, monkeypatch) -> None:
    near, far = await care.site.enrolled_point("near"), await care.site.enrolled_point("far")
    await care.site.distributed("App", "near", "far")
    [root] = care.of(Purpose.MANIFEST_ROOT)
    care.flip(root)
    await care.validate()
    asked: list[str] = []

    def counted(point: str) -> Any:
        real = care.site.points[point].get

        async def get(*args: Any) -> Any:
            asked.append(point)
            return await real(*args)

        return get

    for point in (near, far):
        monkeypatch.setattr(care.site.points[point], "get", counted(point))
    path = care.site.home.library / key_of(root)
    path.mkdir(parents=True)
    ended = await care.repair()
    assert (ended.state, ended.error_code, len(asked)) == (TaskState.FAILED, "storage", 1)
    path.rmdir()
    assert (await care.repair()).state is TaskState.COMPLETED


async def test_a_repair_brings_nothing_where_the_disk_has_no_room_for_anything(care, source, monkeypatch) -> None:
    """Neither is the source read for that, nor a cloud paid."""
    point = await care.site.enrolled_point("dp")
    await care.site.distributed("App", "dp")
    for object_id in (*care.of(Purpose.CHUNK), *care.of(Purpose.MANIFEST_PART), *care.of(Purpose.MANIFEST_ROOT)):
        care.server.shelf.delete(object_id)
    await care.validate()
    used: list[object] = []
    monkeypatch.setattr(care.site.points[point], "get", lambda *args: used.append(args))
    monkeypatch.setattr(Staging, "source", lambda *args, **_: used.append(args))
    care.site.free = REPAIR_KEPT_FREE - 1000
    ended = await care.repair()
    assert (ended.state, ended.error_code, ended.message) == (TaskState.FAILED, "storage", "Nothing came back.")
    assert "33.6 MB are kept for the database). Make room (entrepot library sweep --now)" in ended.error
    assert used == []


async def test_a_repair_may_use_room_that_no_publish_gets(care, source) -> None:
    """Clients wait for what it brings back."""
    for object_id in (*care.of(Purpose.CHUNK), *care.of(Purpose.MANIFEST_PART)):
        care.server.shelf.delete(object_id)
    await care.validate()
    care.site.free = LIBRARY_KEPT_FREE - 1000
    ended = await care.repair()
    assert ended.state is TaskState.COMPLETED, ended.error
    assert await care.faults() == []


async def test_publishing_the_same_bytes_heals(care) -> None:
    for object_id in care.of(Purpose.CHUNK):
        care.flip(object_id)
    await care.validate()
    assert len(await care.faults()) == len(care.of(Purpose.CHUNK))
    await care.site.next_version("App")
    await care.part.run_once()
    assert await care.faults() == []
    await care.validate()
    assert await care.faults() == []


async def test_figures_add_up(care, source) -> None:
    (source / "new").write_bytes(secrets.token_bytes(5000))
    await care.site.next_version("App")
    await care.site.publish("Copy", source)
    [app, copy] = [each.figures for each in await care.site.call("GET", "/library/contents", list[ContentLibraryInfo])]
    whole = (await care.site.call("GET", "/library", LibraryInfo)).figures
    assert (app.versions, copy.versions, whole.versions) == (2, 1, 3)
    assert whole.logical == app.logical + copy.logical
    assert whole.unique < app.unique + copy.unique
    assert whole.saved_by_dedupe == whole.logical - whole.unique > 0
    assert whole.saved_by_compression == whole.unique - whole.stored > 0
    assert whole.saved_by_deltas > 0
    assert whole.unmeasured == 0
    assert copy.shared == copy.stored
    assert whole.stored + whole.overhead == sum(size for _, size in care.server.shelf.page(limit=9999))


async def test_a_sweep_deletes_what_its_preview_says(care, source) -> None:
    (source / "new").write_bytes(secrets.token_bytes(300_000))
    await care.site.next_version("App")
    await care.site.call("POST", "/contents/App/current", ContentInfo, CurrentRequest(version=1))
    await care.site.run_tasks()
    await care.site.call("DELETE", "/contents/App/versions/2", TaskInfo)
    await care.site.run_tasks()
    preview = await care.site.call("GET", "/library/sweep", SweepPreview)
    assert (preview.due_objects, preview.later_objects > 0) == (0, True)
    before = care.server.shelf.page(limit=9999)
    ended = await care.run("POST", "/library/sweep", SweepRequest(now=True))
    after = care.server.shelf.page(limit=9999)
    assert ended.message == f"{preview.later_objects} objects deleted."
    assert len(before) - len(after) == preview.later_objects
    assert sum(size for _, size in before) - sum(size for _, size in after) == preview.later_bytes
    assert (await care.validate()).message.startswith("All sound")


async def test_a_sweep_waits_an_hour_unless_it_is_told_not_to(care, clock) -> None:
    await care.site.call("DELETE", "/contents/App", TaskInfo)
    await care.site.run_tasks()
    count = len(care.server.shelf.page(limit=9999))
    assert (await care.run("POST", "/library/sweep", SweepRequest())).message.startswith("0 objects deleted")
    clock.advance(2 * HOUR)
    ended = await care.run("POST", "/library/sweep", SweepRequest())
    assert ended.message.startswith(f"{count} objects deleted")
    assert care.server.shelf.page() == []


async def test_a_sweep_that_is_broken_off_tells_in_the_end_of_all_that_it_deleted(care, clock, monkeypatch) -> None:
    strays = [secrets.token_bytes(100) for _ in range(5)]
    for data in strays:
        care.server.shelf.put(object_id_of(data), data)
    await care.site.call("DELETE", "/contents/App", TaskInfo)
    await care.site.run_tasks()
    count = len(care.server.shelf.page(limit=9999)) - len(strays)
    monkeypatch.setattr(sweep, "BATCH", 3)
    real, left = Shelf.delete, [4]

    def breaking(self: Shelf, object_id: ObjectId) -> bool:
        left[0] -= 1
        if left[0] == 0:
            raise UnavailableError("The disk does not answer.")
        return real(self, object_id)

    monkeypatch.setattr(Shelf, "delete", breaking)
    ended = await care.run("POST", "/library/sweep", SweepRequest(now=True, strays=True))
    for nth in (count, 0):  # among the strays; never
        assert ended.state is TaskState.CREATED, "it is tried again"
        left[0] = nth
        clock.advance(HOUR)
        await care.part.tasks.run_once()
        ended = await care.site.call("GET", f"/tasks/{ended.id}", TaskInfo)
    assert (ended.state, ended.attempts) == (TaskState.COMPLETED, 3)
    assert ended.message == f"{count} objects deleted, {len(strays)} stray files deleted."
    assert care.server.shelf.page() == []


async def test_files_are_counted_for_one_request_at_a_time_and_no_longer_than_it_lives(care, monkeypatch) -> None:
    begun, ended = threading.Event(), threading.Event()

    def endless(_ledger: Any, _shelf: Any, *, cancelled: Callable[[], bool]) -> tuple[int, int]:
        begun.set()
        while not cancelled():
            threading.Event().wait(0.01)
        ended.set()
        return 0, 0

    with monkeypatch.context() as slow:
        slow.setattr("entrepot.site.library.count_strays", endless)
        first = asyncio.create_task(care.part.preview_sweep(strays=True))
        assert await asyncio.to_thread(begun.wait, 120)
        with pytest.raises(ConflictError, match="counted already"):
            await care.part.preview_sweep(strays=True)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert await asyncio.to_thread(ended.wait, 120)
    assert (await care.part.preview_sweep(strays=True)).stray_objects == 0
    with pytest.raises(CancelledError):
        sweep.count_strays(SqlSweepLedger(care.site.database), care.server.shelf, cancelled=lambda: True)


async def test_files_that_the_database_does_not_know_go_when_asked(care) -> None:
    known = care.server.shelf.page(limit=9999)
    data = secrets.token_bytes(1000)
    care.server.shelf.put(object_id_of(data), data)
    await care.run("POST", "/library/sweep", SweepRequest(now=True))
    assert len(care.server.shelf.page(limit=9999)) == len(known) + 1
    preview = await care.site.call("GET", "/library/sweep", SweepPreview)
    assert (preview.stray_objects, preview.stray_bytes) == (None, None), "not asked for"
    preview = await care.site.call("GET", "/library/sweep", SweepPreview, query="strays=true")
    assert (preview.stray_objects, preview.stray_bytes) == (1, 1000)
    assert len(care.server.shelf.page(limit=9999)) == len(known) + 1
    ended = await care.run("POST", "/library/sweep", SweepRequest(strays=True))
    assert ended.message.endswith("1 stray files deleted.")
    assert care.server.shelf.page(limit=9999) == known


async def test_a_point_is_validated_and_mended(care) -> None:
    point = await care.site.enrolled_point("dp")
    await care.site.distributed("App", "dp")
    shelf = care.site.points[point].shelf
    flipped, lost = care.of(Purpose.CHUNK)[:2]
    care.flip(flipped, shelf)
    shelf.delete(lost)
    ended = await care.run("POST", "/points/dp/validate", PointValidationRequest(rate=0))
    assert (ended.state, ended.message) == (TaskState.COMPLETED, "2 objects are missing or damaged.")
    [found] = await care.site.call("GET", "/points/dp/validation", list[SetValidation])
    assert (found.content_name, found.version, found.missing, found.damaged) == ("App", 1, 1, 1)
    assert found.checked == int(care.site.clock())
    ended = await care.run("POST", "/points/dp/validate", PointValidationRequest(rate=0, repair=True, content="App"))
    assert ended.message == "All sound. 2 objects were sent again."
    [found] = await care.site.call("GET", "/points/dp/validation", list[SetValidation])
    assert (found.missing, found.damaged) == (0, 0)
    assert shelf.read_whole(flipped) == care.server.shelf.read_whole(flipped)
    assert shelf.has([lost]) == [True]


async def test_redistributing_mends_a_point_too(care) -> None:
    point = await care.site.enrolled_point("dp")
    await care.site.distributed("App", "dp")
    shelf = care.site.points[point].shelf
    for object_id in care.of(Purpose.CHUNK):
        care.flip(object_id, shelf)
    await care.site.call("POST", "/contents/App/redistribute", list[Any], {"points": ["dp"]})
    await care.site.distribute_due()
    for object_id in care.of(Purpose.CHUNK):
        shelf.read_whole(object_id)


async def test_a_point_that_does_not_exist_is_not_validated(care) -> None:
    with pytest.raises(NotFoundError):
        await care.site.call("POST", "/points/none/validate", TaskInfo, PointValidationRequest())


async def test_validation_comes_by_itself_when_the_last_one_is_long_ago(care, clock) -> None:
    await care.part.run_once()
    assert await care.site.call("GET", "/library", LibraryInfo)
    clock.advance(31 * DAY)
    care.site.token = ""
    await care.part.run_once()
    [task] = (await care.site.call("GET", "/library", LibraryInfo)).tasks
    assert task.title == "Validate the library"
