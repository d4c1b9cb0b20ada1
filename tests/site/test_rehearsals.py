"""A dry run of publishing says what the publish that follows does, and leaves nothing behind."""

import contextlib
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from entrepot.core.errors import BadInputError, ConflictError, NotFoundError, RefusedError, error_classes
from entrepot.core.sizes import GIB, MIB
from entrepot.core.times import HOUR
from entrepot.database import librarystats
from entrepot.database.librarysweep import SqlSweepLedger
from entrepot.protocol.contentapi import ContentInfo, DeltaOutlook, Rehearsal, RehearsalRequest
from entrepot.protocol.libraryapi import Comparison
from entrepot.protocol.siteapi import TaskInfo, TaskState
from entrepot.site.staging import Staging

SAME = ("files", "folders", "links", "plain_size", "objects", "stored_size", "new_objects")


async def rehearse(site: Any, source: Any, **more: Any) -> Rehearsal:
    request = RehearsalRequest(name="App", source=str(source), **more)
    task = await site.call("POST", "/rehearsals", TaskInfo, request)
    await site.run_tasks()
    ended = await site.call("GET", f"/tasks/{task.id}", TaskInfo)
    if ended.state is TaskState.FAILED:
        raise error_classes()[ended.error_code](ended.error)
    assert (ended.kind, ended.state) == ("rehearsal", TaskState.COMPLETED)
    assert list((site.home.folder / "scratch" / "unpacked").iterdir()) == []
    return await site.call("GET", f"/rehearsals/{task.id}", Rehearsal)


async def test_a_new_content_is_said_and_not_made(site, source) -> None:
    (source / "large").write_bytes(os.urandom(5 * MIB))
    said = await rehearse(site, source, clients=1000)
    assert site.server.shelf.page() == []
    assert await site.call("GET", "/contents", list[ContentInfo]) == []
    assert [task.kind for task in await site.call("GET", "/tasks", list[TaskInfo])] == ["rehearsal"]
    assert await site.database.read(librarystats.open_sessions) == 0
    done = (await site.publish("App", source)).versions[0]
    for name in SAME:
        assert getattr(said, name) == getattr(done, name), name
    assert said.new_chunks == said.chunks == done.chunks
    assert said.new_chunk_bytes == done.stored_size
    assert (said.delta, said.deltas, said.delta_fetch) == (DeltaOutlook.NONE, 0, said.first_fetch)
    assert abs(said.new_bytes - done.new_bytes) < 100  # another content id is in the root
    assert (said.number, said.current) == (1, 0)
    assert said.update_fetch == said.first_fetch > 5 * MIB
    assert said.all_first_fetch == 1000 * said.first_fetch


async def test_the_next_version_is_said_to_the_byte(site, source) -> None:
    (source / "large").write_bytes(os.urandom(5 * MIB))
    await site.publish("App", source)
    before = site.server.shelf.page(limit=10_000)
    (source / "added").write_bytes(os.urandom(100_000))
    said = await rehearse(site, source, clients=7)
    assert site.server.shelf.page(limit=10_000) == before
    assert len((await site.call("GET", "/contents/App", ContentInfo)).versions) == 1
    assert await site.database.read(librarystats.open_sessions) == 0
    done = next(each for each in (await site.next_version("App")).versions if each.number == 2)
    for name in (*SAME, "new_bytes"):
        assert getattr(said, name) == getattr(done, name), name
    answer = await site.raw("GET", "/contents/App/comparison", query="old=1&new=2")
    assert said.update_fetch == site.decoded(answer, Comparison).fetch_bytes < MIB < said.first_fetch
    assert said.all_update_fetch == 7 * said.update_fetch
    assert (said.number, said.current) == (2, 1)
    assert 0 < said.new_chunks < said.chunks
    assert said.new_chunk_bytes < said.new_bytes


async def test_a_pattern_that_leaves_nothing_out_is_remarked_on_before_and_after(site, source) -> None:
    patterns = ("*.lgo", "big.*")
    remark = ("The pattern '*.lgo' left nothing out.",)
    assert (await rehearse(site, source, excludes=patterns)).warnings == remark
    [version] = (await site.publish("App", source, excludes=patterns)).versions
    assert version.warnings == remark


async def changed(site: Any, source: Any) -> None:
    """A version, and a source in which a delta finds much."""
    await site.publish("App", source)
    big = bytearray((source / "big.bin").read_bytes())
    big[500_000:500_010] = b"0123456789"
    (source / "big.bin").write_bytes(big)


async def test_the_delta_is_said_to_the_byte(site, source) -> None:
    await changed(site, source)
    await site.enrolled_point("dp")
    await site.distributed("App", "dp")
    said = await rehearse(site, source, clients=5)
    assert said.points == 1
    (made,) = (await site.next_version("App")).versions[1].deltas
    assert (said.delta, said.deltas) == (DeltaOutlook.MADE, 1)
    assert abs(said.delta_size - made.size) < 100  # signatures differ
    assert abs(said.delta_fetch - made.fetched) < 100
    assert said.delta_fetch < said.update_fetch / 2
    assert said.all_delta_fetch == 5 * said.delta_fetch


async def test_no_delta_is_made_where_none_is_wanted_or_there_is_no_room(site, source) -> None:
    await changed(site, source)
    said = await rehearse(site, source, delta_versions=0)
    assert (said.delta, said.deltas, said.delta_size) == (DeltaOutlook.NONE, 0, 0)
    assert said.delta_fetch == said.update_fetch
    site.free = GIB
    said = await rehearse(site, source)
    assert (said.delta, said.deltas) == (DeltaOutlook.UNKNOWN, 1)
    assert said.delta_fetch == said.update_fetch


async def test_a_rehearsal_has_no_result_before_its_end_or_when_it_is_none(site, source) -> None:
    request = RehearsalRequest(name="App", source=str(source))
    task = await site.call("POST", "/rehearsals", TaskInfo, request)
    with pytest.raises(ConflictError, match="no result"):
        await site.call("GET", f"/rehearsals/{task.id}", Rehearsal)
    await site.call("POST", f"/tasks/{task.id}/cancel", TaskInfo)
    await site.run_tasks()
    with pytest.raises(ConflictError, match="no result"):
        await site.call("GET", f"/rehearsals/{task.id}", Rehearsal)
    await site.publish("App", source)
    [publish] = [each for each in await site.call("GET", "/tasks", list[TaskInfo]) if each.kind == "publish"]
    with pytest.raises(NotFoundError, match="no rehearsal"):
        await site.call("GET", f"/rehearsals/{publish.id}", Rehearsal)


async def test_what_cannot_be_published_is_refused_and_leaves_no_session(site, source, tmp_path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(RefusedError, match="empty"):
        await rehearse(site, empty)
    with pytest.raises(BadInputError, match="absolute"):
        await rehearse(site, "relative")
    with pytest.raises(RefusedError, match="own folder"):
        await rehearse(site, site.home.folder)
    assert await site.database.read(librarystats.open_sessions) == 0
    await site.publish("App", source)
    await site.call("DELETE", "/contents/App", TaskInfo)
    with pytest.raises(ConflictError, match="deleted"):
        await rehearse(site, source)


async def test_what_an_archive_holds_is_rehearsed_and_hostile_ones_are_refused_by_name(site, tmp_path) -> None:
    archive = tmp_path / "app.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("bin/app", os.urandom(2 * MIB))
    said = await rehearse(site, archive, unpack=True)
    done = (await site.publish("App", archive, unpack=True)).versions[0]
    for name in SAME:
        assert getattr(said, name) == getattr(done, name), name
    again = await rehearse(site, archive)  # that it is unpacked is remembered with the content
    assert (again.files, again.new_chunks) == (1, 0)
    plain = await rehearse(site, archive, unpack=False)
    assert "'app.zip' is an archive" in plain.warnings[0]
    with zipfile.ZipFile(archive, "a") as packed:
        packed.writestr("../escaped", "x")
    with pytest.raises(RefusedError, match=r"'app\.zip' holds the unsafe path '\.\./escaped'"):
        await rehearse(site, archive)
    assert await site.database.read(librarystats.open_sessions) == 0
    assert list((site.home.folder / "scratch" / "unpacked").iterdir()) == []


async def test_unpacking_may_take_hours(site, source, monkeypatch) -> None:
    """Longer than any lease lasts: it begins when the source is ready."""
    real = Staging.source

    @contextlib.contextmanager
    def slow(self: Staging, path: Path, **more: Any) -> Iterator[Path]:
        with real(self, path, **more) as ready:
            site.clock.advance(2 * HOUR)
            SqlSweepLedger(site.database).drop_lapsed(site.clock())
            yield ready

    monkeypatch.setattr(Staging, "source", slow)
    assert (await rehearse(site, source)).number == 1
