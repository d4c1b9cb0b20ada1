"""How contents are published: from archives, with notes, with as many deltas as asked for; and what changes that."""

import io
import secrets
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from entrepot.content import archives
from entrepot.core.errors import BadInputError, ConflictError, NotFoundError, RefusedError
from entrepot.core.sizes import GIB, MIB
from entrepot.database import librarystats
from entrepot.protocol.contentapi import (
    ContentInfo,
    ContentPatch,
    ContentRequest,
    CurrentRequest,
    Rehearsal,
    RehearsalRequest,
    VersionPatch,
    VersionRequest,
)
from entrepot.protocol.siteapi import TaskInfo, TaskState
from entrepot.site.staging import LIBRARY_KEPT_FREE


def zip_of(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def tar_of(path: Path, name: str, kind: bytes, target: str = "") -> Path:
    with tarfile.open(path, "w:gz") as archive:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, target
        archive.addfile(info, io.BytesIO())
    return path


def encrypted(path: Path) -> Path:
    data = bytearray(zip_of(path, {"secret": b"x"}).read_bytes())
    data[6] |= 1  # the local header's flags, and the directory's
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    return path


def truncated(path: Path) -> Path:
    whole = tar_of(path, "a", tarfile.REGTYPE).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    return path


def bomb(path: Path) -> Path:
    with tarfile.open(path, "w:xz", preset=0) as archive:
        info = tarfile.TarInfo("zeros")
        info.size = 8 * MIB
        with Path("/dev/zero").open("rb") as zeros:
            archive.addfile(info, zeros)
    return path


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    files = {f"lib/{number}": secrets.token_bytes(20_000) for number in range(5)}
    return zip_of(tmp_path / "app.zip", files | {"lib/log": b"noise"})


async def ended(site: Any, task: TaskInfo) -> TaskInfo:
    await site.run_tasks()
    return await site.call("GET", f"/tasks/{task.id}", TaskInfo)


def staged(site: Any) -> list[Path]:
    return list((site.home.folder / "scratch" / "unpacked").iterdir())


async def test_what_an_archive_holds_is_published_and_that_is_remembered(site, archive, tmp_path) -> None:
    info = await site.publish("App", archive, unpack=True, excludes=("log",))
    assert (info.unpack, info.source) == (True, str(archive))
    assert (info.versions[0].files, info.versions[0].plain_size) == (5, 100_000)
    assert staged(site) == []
    with zipfile.ZipFile(archive, "a") as more:
        more.writestr("lib/new", b"more")
    second = (await site.next_version("App")).versions[1]
    assert (second.files, second.plain_size) == (6, 100_004)
    changes = VersionRequest(source=str(tmp_path / "app.zip"), unpack=False)
    assert (await ended(site, await site.call("POST", "/contents/App/versions", TaskInfo, changes))).error == ""
    info = await site.call("GET", "/contents/App", ContentInfo)
    assert not info.unpack
    assert (info.versions[2].files, info.versions[2].plain_size) == (1, archive.stat().st_size)
    assert "'app.zip' is an archive" in info.versions[2].warnings[0]


async def test_unpacked_and_as_a_folder_it_is_the_same(site, archive, tmp_path) -> None:
    await site.publish("Zipped", archive, unpack=True)
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(tmp_path / "folder")
    version = (await site.publish("Plain", tmp_path / "folder")).versions[0]
    assert version.new_bytes < 3000  # a manifest and a set: all chunks were there


HOSTILE = {
    "unsafe path '../escaped'": lambda path: tar_of(path / "a.tar.gz", "../escaped", tarfile.REGTYPE),
    "unsafe path '/escaped'": lambda path: zip_of(path / "a.zip", {"/escaped": b"x"}),
    "link 'l' to '../../x', which leads outside": lambda path: tar_of(path / "a.tgz", "l", tarfile.SYMTYPE, "../../x"),
    "'null', which is neither a file nor a folder": lambda path: tar_of(path / "a.tgz", "null", tarfile.CHRTYPE),
    "'secret' in 'a.zip' needs a password": lambda path: encrypted(path / "a.zip"),
    "'a.tar.gz' is damaged": lambda path: truncated(path / "a.tar.gz"),
}


@pytest.mark.parametrize("what", HOSTILE)
async def test_a_hostile_archive_is_refused_by_name_and_leaves_nothing(site, tmp_path, what: str) -> None:
    path = HOSTILE[what](tmp_path)
    request = ContentRequest(name="App", source=str(path), unpack=True)
    task = await ended(site, await site.call("POST", "/contents", TaskInfo, request))
    assert (task.state, task.error_code) == (TaskState.FAILED, "refused")
    assert what in task.error
    assert staged(site) == []
    assert site.server.shelf.page() == []
    assert await site.database.read(librarystats.open_sessions) == 0
    assert not list(site.home.folder.rglob("*escaped*"))


async def test_a_bomb_is_refused(site, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "ALWAYS_ALLOWED", 4 * MIB)
    request = ContentRequest(name="App", source=str(bomb(tmp_path / "bomb.tar.xz")), unpack=True)
    task = await ended(site, await site.call("POST", "/contents", TaskInfo, request))
    assert task.error_code == "refused"
    assert "'bomb.tar.xz' unpacks to more than 4.2 MB" in task.error
    assert staged(site) == []


async def test_without_room_nothing_is_unpacked(site, archive) -> None:
    site.free = GIB + 50_000
    request = ContentRequest(name="App", source=str(archive), unpack=True)
    task = await ended(site, await site.call("POST", "/contents", TaskInfo, request))
    assert task.error_code == "storage"
    assert "'app.zip' takes 100.0 kB more" in task.error
    assert "room for 50.0 kB" in task.error


async def test_a_publish_leaves_room_to_the_database_and_a_rehearsal_says_so(site, source) -> None:
    site.free = LIBRARY_KEPT_FREE + 1000
    said = await rehearsed(site, source)
    assert any(text.startswith("The library's disk has room for 1.0 kB, and it would grow by") for text in said)
    site.free = LIBRARY_KEPT_FREE - 1000
    request = ContentRequest(name="App", source=str(source))
    task = await ended(site, await site.call("POST", "/contents", TaskInfo, request))
    assert (task.state, task.error_code) == (TaskState.FAILED, "storage")
    assert "134.2 MB are kept for the database" in task.error
    site.free = None
    assert (await site.next_version("App")).current == 1


async def rehearsed(site, source) -> tuple[str, ...]:
    task = await site.call("POST", "/rehearsals", TaskInfo, RehearsalRequest(name="App", source=str(source)))
    await ended(site, task)
    return (await site.call("GET", f"/rehearsals/{task.id}", Rehearsal)).warnings


async def test_a_link_that_leads_to_the_servers_own_folder_by_now_is_not_followed(site, source, tmp_path) -> None:
    link = tmp_path / "named"
    link.symlink_to(source)
    task = await site.call("POST", "/contents", TaskInfo, ContentRequest(name="App", source=str(link)))
    link.unlink()
    link.symlink_to(site.home.folder)
    task = await ended(site, task)
    assert task.error_code == "refused"
    assert "own folder, with its keys, cannot be published" in task.error


async def test_what_is_no_archive_is_refused_before_anything_is_made(site, source, archive) -> None:
    for wrong in (source, source / "big.bin"):
        with pytest.raises(RefusedError, match="is no archive"):
            await site.call("POST", "/contents", TaskInfo, ContentRequest(name="App", source=str(wrong), unpack=True))
    assert await site.call("GET", "/contents", list[ContentInfo]) == []
    await site.publish("App", archive, unpack=True)
    with pytest.raises(RefusedError, match="is no archive"):
        await site.call("POST", "/contents/App/versions", TaskInfo, VersionRequest(source=str(source)))
    with pytest.raises(RefusedError, match="is no archive"):
        await site.call("PATCH", "/contents/App", ContentInfo, ContentPatch(source=str(source)))


async def test_a_cancelled_unpacking_leaves_nothing(site, archive) -> None:
    request = ContentRequest(name="App", source=str(archive), unpack=True)
    task = await site.call("POST", "/contents", TaskInfo, request)
    site.free = GIB * 100
    stopped: list[str] = []
    asked = site.server.staging.room

    def cancel_then_ask() -> int:
        stopped.append(task.id)
        site.server.publishing.cancel(task.id)
        return int(asked())

    site.server.staging.room = cancel_then_ask
    ended_task = await ended(site, task)
    assert (ended_task.state, stopped) == (TaskState.CANCELLED, [task.id])
    assert staged(site) == []


async def test_a_note_is_kept_with_its_version_and_can_be_changed(site, source) -> None:
    info = await site.publish("App", source, note="first")
    assert info.versions[0].note == "first"
    (source / "new").write_bytes(b"new")
    task = await site.call("POST", "/contents/App/versions", TaskInfo, VersionRequest(note="second"))
    await ended(site, task)
    before = (await site.call("GET", "/contents/App", ContentInfo)).versions
    info = await site.call("PATCH", "/contents/App/versions/1", ContentInfo, VersionPatch(note="tested"))
    assert [version.note for version in info.versions] == ["tested", "second"]
    assert [version.set_id for version in info.versions] == [version.set_id for version in before]
    info = await site.call("PATCH", "/contents/App/versions/2", ContentInfo, VersionPatch(note=""))
    assert [version.note for version in info.versions] == ["tested", ""]
    with pytest.raises(NotFoundError):
        await site.call("PATCH", "/contents/App/versions/9", ContentInfo, VersionPatch(note="x"))
    with pytest.raises(BadInputError):
        await site.call("PATCH", "/contents/App/versions/1", ContentInfo, {"note": "x" * 1025})


async def grow(site: Any, source: Path, **options: Any) -> ContentInfo:
    big = bytearray((source / "big.bin").read_bytes())
    big[len(big) // 2] ^= 1
    (source / "big.bin").write_bytes(big + b"more")
    await ended(site, await site.call("POST", "/contents/App/versions", TaskInfo, VersionRequest(**options)))
    return await site.call("GET", "/contents/App", ContentInfo)


def deltas(info: ContentInfo, number: int) -> list[int]:
    [version] = [version for version in info.versions if version.number == number]
    return [delta.from_version for delta in version.deltas]


async def test_deltas_are_made_from_as_many_versions_as_asked_for(site, source) -> None:
    await site.publish("App", source, delta_versions=0)
    assert deltas(await grow(site, source), 2) == []
    info = await grow(site, source, delta_versions=1)
    assert (deltas(info, 3), info.delta_versions) == ([2], 1)
    assert deltas(await grow(site, source), 4) == [3]  # it stays so
    assert deltas(await grow(site, source, delta_versions=20), 5) == [1, 2, 3, 4]
    info = await site.call("PATCH", "/contents/App", ContentInfo, ContentPatch(delta_versions=-1))
    assert info.delta_versions is None
    assert deltas(await grow(site, source), 6) == [3, 4, 5]  # the site's setting is 3


async def test_after_a_rollback_a_delta_leads_from_what_clients_have(site, source) -> None:
    await site.publish("App", source, delta_versions=1)
    await grow(site, source)
    await site.call("POST", "/contents/App/current", ContentInfo, CurrentRequest(version=1))
    assert deltas(await grow(site, source), 3) == [1]
    await site.call("POST", "/contents/App/current", ContentInfo, CurrentRequest(version=2))
    assert deltas(await grow(site, source, delta_versions=2), 4) == [2, 3]


async def test_a_rollback_asks_for_no_delta_where_the_content_is_to_have_none(site, source) -> None:
    await site.publish("App", source, delta_versions=0)
    await grow(site, source)
    await site.call("POST", "/contents/App/current", ContentInfo, CurrentRequest(version=1))
    await site.run_tasks()
    assert deltas(await site.call("GET", "/contents/App", ContentInfo), 1) == []


async def test_settings_apply_from_the_next_version_on_and_what_is_left_out_stays(site, source, tmp_path) -> None:
    first = await site.publish("App", source, delta_versions=2)
    patch = ContentPatch(excludes=("sub/",), for_windows=True)
    info = await site.call("PATCH", "/contents/App", ContentInfo, patch)
    assert (info.excludes, info.for_windows, info.delta_versions) == (("sub/",), True, 2)
    assert (info.source, info.versions) == (first.source, first.versions)
    (source / "aux").write_bytes(b"Windows has a device of this name")
    failed = await ended(site, await site.call("POST", "/contents/App/versions", TaskInfo, {}))
    assert "'aux'" in failed.error
    (source / "aux").unlink()
    assert (await site.next_version("App")).versions[1].files == 1
    cleared = await site.call("PATCH", "/contents/App", ContentInfo, ContentPatch(excludes=()))
    assert cleared.excludes == ()


async def test_settings_that_make_no_sense_change_nothing(site, source) -> None:
    before = await site.publish("App", source)
    for wrong in ({"excludes": ["../x"]}, {"source": "relative"}, {"delta_versions": 21}, {"isolated": True}):
        with pytest.raises(BadInputError):
            await site.call("PATCH", "/contents/App", ContentInfo, wrong)
    with pytest.raises(BadInputError):
        await site.call("POST", "/contents", TaskInfo, ContentRequest(name="B", source=str(source), excludes=("/x",)))
    with pytest.raises(RefusedError, match="own folder"):
        await site.call("PATCH", "/contents/App", ContentInfo, ContentPatch(source=str(site.home.folder)))
    await site.call("POST", "/contents/App/versions", TaskInfo, {})
    with pytest.raises(ConflictError, match="is being published"):
        await site.call("PATCH", "/contents/App", ContentInfo, ContentPatch(excludes=("x",)))
    await site.run_tasks()
    after = await site.call("GET", "/contents/App", ContentInfo)
    assert (after.excludes, after.source) == (before.excludes, before.source)


async def test_a_version_that_fails_changes_nothing_of_the_content(site, source, tmp_path) -> None:
    await site.publish("App", source)
    empty = tmp_path / "empty"
    empty.mkdir()
    request = VersionRequest(source=str(empty), excludes=("*.log",), note="never")
    assert (await ended(site, await site.call("POST", "/contents/App/versions", TaskInfo, request))).error
    info = await site.call("GET", "/contents/App", ContentInfo)
    assert (info.source, info.excludes, len(info.versions)) == (str(source), (), 1)
