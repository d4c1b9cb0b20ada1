"""A client fetches content, from the first byte to the report."""

import asyncio
import hashlib
import os
from pathlib import Path

import msgspec
import pytest

from entrepot.client.fetch import fetch, locate
from entrepot.client.records import Record
from entrepot.client.settings import Settings, load_settings, save_settings
from entrepot.content.manifest import Entry, EntryKind, Extent, Part
from entrepot.content.sealing import Purpose
from entrepot.core.errors import ConflictError, NotFoundError, StorageError, UnavailableError
from entrepot.durable.locks import HomeLock
from entrepot.protocol.location import Withheld


async def test_a_fetched_tree_equals_its_source(world, source: Path, tools) -> None:
    world.publish(source)
    point = world.point("near")
    home = await world.client()

    seen = []
    result = await fetch(home, tools.content, progress=seen.append)

    assert tools.listing(result.folder) == tools.listing(source)
    assert result.folder == (home / "content" / f"{tools.content}.1").absolute()
    assert (result.files, result.version) == (44, 1)
    assert result.downloaded == point.served
    assert [given.name for given in result.located.given] == ["near"]
    assert seen[-1].phase == "done"
    assert seen[-1].done == seen[-1].total == result.plain_size
    assert [report.outcome for report in world.reports] == ["success"]
    assert sum(one.bytes for one in world.reports[0].sources) == point.served


async def test_content_is_found_by_its_name_too(world, source: Path, tools) -> None:
    world.publish(source)
    world.point("near")
    home = await world.client()
    result = await fetch(home, f" {tools.name.upper()}")  # as the site compares names
    assert result.content == tools.content
    assert (await fetch(home, tools.name)).downloaded == 0


async def test_what_stands_already_is_checked_and_not_fetched_again(world, source: Path, tools) -> None:
    world.publish(source)
    point = world.point("near")
    home = await world.client()
    await fetch(home, tools.content)
    before = sum(point.requests.values())

    again = await fetch(home, tools.content)

    assert sum(point.requests.values()) == before
    assert again.present == again.plain_size


async def test_a_tree_that_was_damaged_is_mended_from_what_is_left(world, source: Path, tools) -> None:
    world.publish(source)
    point = world.point("near")
    home = await world.client(cache_size="0")
    first = await fetch(home, tools.content)
    served = point.served
    (first.folder / "data" / "small-07").write_bytes(b"tampered")
    (first.folder / "bin" / "tool").unlink()

    mended = await fetch(home, tools.content)

    assert tools.listing(mended.folder) == tools.listing(source)
    assert point.served - served < served / 2
    assert {one.kind for one in mended.used} >= {"installed", "point"}


async def test_the_own_cache_serves_what_was_downloaded_before(world, source: Path, tools, tmp_path: Path) -> None:
    world.publish(source)
    point = world.point("near")
    home = await world.client()
    await fetch(home, tools.content)
    served = point.served

    result = await fetch(home, tools.content, to=tmp_path / "copy")

    assert point.served == served
    assert tools.listing(tmp_path / "copy") == tools.listing(source)
    assert {one.kind for one in result.used} == {"own-cache"}


async def test_the_next_version_is_recut_from_the_one_before(world, source: Path, tools) -> None:
    world.publish(source)
    point = world.point("near")
    home = await world.client(cache_size="0")
    first = await fetch(home, tools.content)
    (source / "data" / "new").write_bytes(os.urandom(10_000))
    (source / "data" / "small-00").unlink()
    world.publish(source, 2)
    served = point.served

    second = await fetch(home, tools.content)

    assert tools.listing(second.folder) == tools.listing(source)
    assert second.version == 2
    assert first.folder.is_dir()
    assert point.served - served < 700_000  # large.bin alone has 3 MB
    assert any(one.kind == "installed" and one.name == "version 1" for one in second.used)
    assert world.locations[-1].held == (1,)


async def test_a_delta_brings_what_changed(world, tmp_path: Path, tools) -> None:
    source = tmp_path / "app"
    source.mkdir()
    data = bytearray(os.urandom(2_000_000))
    (source / "library.bin").write_bytes(data)
    (source / "readme").write_bytes(b"one")
    world.publish(source)
    point = world.point("near")
    home = await world.client()
    await fetch(home, tools.content)
    for at in range(1000, 2_000_000, 50_000):
        data[at : at + 4] = b"\0\1\2\3"
    (source / "library.bin").write_bytes(data)
    world.publish(source, 2)
    made = world.offer_delta(1, 2)
    served = point.served

    result = await fetch(home, tools.content)

    assert tools.listing(result.folder) == tools.listing(source)
    assert (result.delta_from, result.delta_problem) == (1, "")
    assert result.delta_chunks > 0
    assert point.served - served < 200_000
    assert sum(one.bytes for one in result.used if one.form == "delta") == made.size


async def test_a_damaged_delta_costs_bytes_and_nothing_else(world, tmp_path: Path, tools) -> None:
    source = tmp_path / "app"
    source.mkdir()
    data = bytearray(os.urandom(1_000_000))
    (source / "library.bin").write_bytes(data)
    world.publish(source)
    point = world.point("near")
    home = await world.client()
    await fetch(home, tools.content)
    data[1000:1004] = b"\0\1\2\3"
    data[800_000:800_004] = b"\0\1\2\3"
    (source / "library.bin").write_bytes(data)
    world.publish(source, 2)
    made = world.offer_delta(1, 2)
    broken = {bytes(object_id) for object_id in made.objects} - {made.root.object_id}
    point.damage = lambda object_id, data: bytes(len(data)) if object_id in broken else data

    result = await fetch(home, tools.content)

    assert tools.listing(result.folder) == tools.listing(source)
    assert result.delta_chunks == 0
    assert any("damaged delta" in failure.reason for failure in result.failures)


async def test_old_versions_go_once_there_are_enough(world, source: Path, tools) -> None:
    world.point("near")
    home = await world.client(keep_versions=2)
    for number in (1, 2, 3):
        (source / "version").write_bytes(str(number).encode())
        world.publish(source, number)
        await fetch(home, tools.content)
    assert sorted(path.name for path in (home / "content").iterdir()) == [f"{tools.content}.2", f"{tools.content}.3"]
    assert sorted(path.name for path in (home / "records").iterdir()) == [f"{tools.content}.2", f"{tools.content}.3"]


async def test_an_old_version_that_was_asked_for_stays(world, source: Path, tools) -> None:
    world.point("near")
    home = await world.client(keep_versions=2)
    for number in (1, 2, 3):
        (source / "version").write_bytes(str(number).encode())
        world.publish(source, number)
        await fetch(home, tools.content)
    result = await fetch(home, tools.content, version=1)
    assert (result.folder / "version").read_bytes() == b"1"


async def test_what_was_begun_and_never_finished_goes_with_the_next_success(world, source: Path, tools) -> None:
    point = world.point("near")
    home = await world.client(retries=0)
    world.publish(source)
    point.damage = lambda _, data: data if len(data) < 100_000 else b"damaged"
    with pytest.raises(UnavailableError):
        await fetch(home, tools.content)
    assert sorted(path.name for path in (home / "staging").iterdir()) == [
        f"{tools.content}.1",
        f"{tools.content}.1.record",
    ]
    point.damage = lambda _, data: data
    (source / "bin" / "tool").write_bytes(b"changed")
    world.publish(source, 2)
    await fetch(home, tools.content)
    assert list((home / "staging").iterdir()) == []


async def test_an_older_version_can_be_asked_for(world, source: Path, tools) -> None:
    world.point("near")
    home = await world.client()
    world.publish(source)
    before = tools.listing(source)
    (source / "bin" / "tool").write_bytes(b"changed")
    world.publish(source, 2)
    result = await fetch(home, tools.content, version=1)
    assert result.version == 1
    assert tools.listing(result.folder) == before


async def test_content_without_files_is_content(world, tmp_path: Path, tools) -> None:
    (tmp_path / "bare" / "only" / "folders").mkdir(parents=True)
    world.publish(tmp_path / "bare")
    world.point("near")
    result = await fetch(await world.client(), tools.content)
    assert tools.listing(result.folder) == {"only": ("folder",), "only/folders": ("folder",)}


async def test_unknown_content_is_named_as_such(world, tools) -> None:
    home = await world.client()
    with pytest.raises(NotFoundError, match="No such content"):
        await fetch(home, "pkg-ffffffffffffffff")
    assert world.reports == []


async def test_locating_shows_what_was_withheld(world, source: Path, tools) -> None:
    world.publish(source)
    world.withheld = (Withheld(name="cloud", reason="the client setting does not allow it"),)
    found = await locate(await world.client(), tools.content)
    assert found.given == ()
    assert found.withheld == world.withheld


async def test_one_home_has_one_user_at_a_time(world, source: Path, tools) -> None:
    world.publish(source)
    world.point("near")
    home = await world.client()
    with HomeLock(home, "a client's home"), pytest.raises(ConflictError, match="Another process"):
        await fetch(home, tools.content)


@pytest.mark.parametrize("to", [False, True])
async def test_what_was_published_with_digests_by_sha256_is_fetched(world, tmp_path: Path, tools, *, to: bool) -> None:
    """Version 1 of manifests: ``docs/formats/manifest.md``."""
    small, large = b"small", b"first half, " + b"second half"
    refs = [world.library.seal(piece, Purpose.CHUNK) for piece in (small, large[:12], large[12:])]
    refs = [
        msgspec.structs.replace(ref, digest=hashlib.sha256(piece).digest())
        for ref, piece in zip(refs, (small, large[:12], large[12:]), strict=True)
    ]
    entries = (
        Entry(
            EntryKind.FILE, "large", 0o644, 23, hashlib.sha256(large).digest(), 0, (Extent(1, 0, 12), Extent(2, 0, 11))
        ),
        Entry(EntryKind.FILE, "small", 0o644, 5, hashlib.sha256(small).digest(), 0, (Extent(0, 0, 5),)),
    )
    world.library.forge([Part(1, tuple(refs), entries)], version=1)
    world.point("near")
    home = await world.client()

    for _ in range(2):  # the second time it is proved to stand
        result = await fetch(home, tools.content, to=tmp_path / "target" if to else None)
        assert (result.folder / "large").read_bytes() == large
        assert (result.folder / "small").read_bytes() == small


async def test_a_disk_without_room_is_named_before_anything_is_fetched(world, tmp_path: Path, tools) -> None:
    huge = 10**18
    entry = Entry(kind=EntryKind.FILE, path="huge", size=huge, digest=b"h" * 32)
    world.library.forge([Part(version=2, chunks=(), entries=(entry,))], stored_size=huge // 3)
    world.point("near")
    home = await world.client()
    with pytest.raises(StorageError, match=r"needs 1000000\.0 TB"):
        await fetch(home, tools.content)


async def test_reports_wait_until_the_site_takes_them(world, source: Path, tools) -> None:
    world.publish(source)
    world.point("near")
    world.refuse_reports = UnavailableError("Busy.")
    home = await world.client()
    await fetch(home, tools.content)
    assert len(list((home / "reports").iterdir())) == 1

    world.refuse_reports = None
    await fetch(home, tools.content)

    assert [report.outcome for report in world.reports] == ["success", "success"]
    assert list((home / "reports").iterdir()) == []


async def test_downloads_run_side_by_side_but_bounded(world, tmp_path: Path, tools) -> None:
    source = tmp_path / "app"
    source.mkdir()
    for number in range(30):
        (source / f"file-{number}").write_bytes(os.urandom(300_000))
    world.publish(source)
    point = world.point("near")
    home = await world.client(parallel=3)
    running = most = 0

    class Slow(asyncio.Event):
        async def wait(self) -> bool:  # type: ignore[override]
            nonlocal running, most
            running += 1
            most = max(most, running)
            await asyncio.sleep(0.02)
            running -= 1
            return True

    point.gate = lambda _: Slow()
    await fetch(home, tools.content)
    assert most == 3


def cached_bytes(home: Path) -> int:
    return sum(path.stat().st_size for path in (home / "cache").rglob("*") if path.is_file())


async def test_the_cache_limit_of_the_settings_is_kept(world, source: Path, tools) -> None:
    world.publish(source)
    world.point("near")
    home = await world.client()
    await fetch(home, tools.content)
    limit = cached_bytes(home) // 2
    assert limit > 0
    save_settings(home, msgspec.structs.replace(load_settings(home), cache_size=str(limit)))
    (source / "new").write_bytes(os.urandom(100_000))
    world.publish(source, 2)
    await fetch(home, tools.content)
    assert cached_bytes(home) <= limit
    save_settings(home, Settings())  # the site's address is part of the settings
    with pytest.raises(NotFoundError, match="belongs to no site"):
        await fetch(home, tools.content)


async def test_a_lost_executable_bit_is_noticed_and_mended(world, source: Path, tools) -> None:
    world.publish(source)
    world.point("near")
    home = await world.client()
    folder = (await fetch(home, tools.content)).folder
    tool = next(
        path for path in folder.rglob("*") if path.is_file() and not path.is_symlink() and path.stat().st_mode & 0o100
    )
    tool.chmod(0o644)
    result = await fetch(home, tools.content)
    assert tools.listing(result.folder) == tools.listing(source)


async def test_a_report_that_cannot_be_read_now_is_kept(world, source: Path, tools) -> None:
    world.publish(source)
    world.point("near")
    home = await world.client()
    unreadable = home / "reports" / "000000000001-x.json"
    unreadable.parent.mkdir(parents=True, exist_ok=True)
    unreadable.symlink_to(unreadable.name)  # reading it is an OSError, for every account
    await fetch(home, tools.content)
    assert unreadable.is_symlink()
    assert len(world.reports) == 1


def test_a_record_that_cannot_be_read_is_an_error_of_storage(tmp_path: Path) -> None:
    (tmp_path / "root").symlink_to("root")
    with pytest.raises(StorageError):
        Record(tmp_path).root()
