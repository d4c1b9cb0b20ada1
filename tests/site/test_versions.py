"""Single versions: compared, made current, shown with their uses, deleted."""

import asyncio
import hashlib
import secrets
import time
from pathlib import Path
from typing import Any

import pytest

from entrepot.content import digests
from entrepot.content.delta.making import make_delta
from entrepot.content.sweep import sweep
from entrepot.core.errors import BadInputError, ConflictError, NotFoundError
from entrepot.core.times import HOUR, MINUTE
from entrepot.database import retention
from entrepot.database.librarysweep import SqlSweepLedger
from entrepot.protocol.contentapi import ContentInfo, CurrentRequest
from entrepot.protocol.libraryapi import Change, Comparison, ContentEvent, VersionUses
from entrepot.protocol.siteapi import TaskInfo, TaskState
from entrepot.site import comparison as room


@pytest.fixture
async def two_versions(site: Any, source: Path) -> ContentInfo:
    """A content whose version 2 has other files."""
    await site.publish("App", source)
    big = bytearray((source / "big.bin").read_bytes())
    big[500_000:500_010] = b"0123456789"
    (source / "big.bin").write_bytes(big)
    (source / "sub" / "file 3").unlink()
    (source / "sub" / "file 4").rename(source / "moved here")
    (source / "new").write_bytes(secrets.token_bytes(5000))
    return await site.next_version("App")


async def comparison(site: Any, query: str) -> Comparison:
    return site.decoded(await site.raw("GET", "/contents/App/comparison", query=query), Comparison)


async def test_a_comparison_names_what_was_added_changed_removed_and_moved(site, two_versions) -> None:
    found = await comparison(site, "old=1&new=2")
    assert (found.added, found.changed, found.removed, found.moved, found.same) == (1, 1, 1, 1, 18)
    assert [(each.change, each.path, each.old_path) for each in found.differences] == [
        (Change.CHANGED, "big.bin", ""),
        (Change.MOVED, "moved here", "sub/file 4"),
        (Change.ADDED, "new", ""),
        (Change.REMOVED, "sub/file 3", ""),
    ]
    assert not found.more


async def test_versions_whose_digests_are_of_different_kinds_are_compared_with_a_remark(
    site, source, monkeypatch
) -> None:
    with monkeypatch.context() as before:  # as what was published then has them
        before.setattr(digests, "_BLAKE3", b"")
        before.setattr(digests, "blake3", hashlib.sha256)
        await site.publish("App", source)
    await site.next_version("App")
    await site.next_version("App")
    found = await comparison(site, "old=1&new=2")
    assert (found.changed, found.same) == (21, 0)
    assert found.remark.startswith("The digests of versions 1 and 2 are of different kinds (SHA-256, BLAKE3)")
    assert (await comparison(site, "old=1&new=2")).remark == found.remark, "also what was worked out before"
    found = await comparison(site, "old=2&new=3")
    assert (found.same, found.remark) == (21, "")


async def test_a_comparison_says_what_a_client_fetches_with_and_without_the_delta(site, two_versions) -> None:
    found = await comparison(site, "old=1&new=2")
    [delta] = two_versions.versions[1].deltas
    assert found.has_delta
    assert delta.size < found.delta_bytes < found.fetch_bytes
    back = await comparison(site, "old=2&new=1")
    assert not back.has_delta
    assert back.delta_bytes == back.fetch_bytes > 0


async def test_a_comparison_is_not_dropped_while_it_is_read(site, two_versions, source, monkeypatch) -> None:
    """An empty file would take its place, and fail until the server's next start."""
    await site.next_version("App")
    read = room._page

    def slow(file, after, limit):
        if "-1.1-2.1" in file.name:
            time.sleep(0.3)
        return read(file, after, limit)

    monkeypatch.setattr(room, "_page", slow)
    monkeypatch.setattr(room, "KEPT", 1)
    before = await comparison(site, "old=1&new=2")
    found, _ = await asyncio.gather(comparison(site, "old=1&new=2"), comparison(site, "old=1&new=3"))
    assert found == before
    assert await comparison(site, "old=1&new=2") == before


async def test_a_comparison_comes_in_pages(site, two_versions) -> None:
    paths, after = [], ""
    while True:
        page = await comparison(site, f"old=1&new=2&limit=1&after={after}")
        paths += [each.path for each in page.differences]
        if not page.more:
            break
        after = page.differences[-1].path.replace(" ", "%20")
    assert paths == ["big.bin", "moved here", "new", "sub/file 3"]
    between = await comparison(site, "old=1&new=2&after=c")
    assert [each.path for each in between.differences] == ["moved here", "new", "sub/file 3"]


async def test_a_version_is_not_compared_with_itself_or_with_none(site, two_versions) -> None:
    with pytest.raises(BadInputError):
        await comparison(site, "old=1&new=1")
    with pytest.raises(NotFoundError):
        await comparison(site, "old=1&new=7")
    assert (await site.raw("GET", "/contents/App/comparison", query="old=0&new=1")).status == 400


async def test_rolling_back_is_noted_and_gives_a_delta_back(site, two_versions) -> None:
    info = await site.call("POST", "/contents/App/current", ContentInfo, CurrentRequest(version=1, note="2 crashes"))
    assert info.current == 1
    await site.run_tasks()
    [event] = await site.call("GET", "/contents/App/history", list[ContentEvent])
    assert (event.event, event.version, event.previous, event.by, event.note) == (
        "made_current",
        1,
        2,
        "admin",
        "2 crashes",
    )
    deltas = (await site.call("GET", "/contents/App", ContentInfo)).versions[0].deltas
    assert [delta.from_version for delta in deltas] == [2]
    await site.call("POST", "/contents/App/current", ContentInfo, CurrentRequest(version=1))
    assert len(await site.call("GET", "/contents/App/history", list[ContentEvent])) == 1


async def test_the_current_version_is_not_deleted(site, two_versions) -> None:
    uses = await site.call("GET", "/contents/App/versions/2/uses", VersionUses)
    assert uses.current
    assert "current" in uses.refusal
    for query in ("", "force=true"):
        with pytest.raises(ConflictError, match="current"):
            site.decoded(await site.raw("DELETE", "/contents/App/versions/2", query=query), TaskInfo)
    with pytest.raises(NotFoundError):
        await site.call("DELETE", "/contents/App/versions/9", TaskInfo)


async def test_deleting_a_version_frees_points_and_library_and_nothing_else(site, two_versions, clock) -> None:
    point = await site.enrolled_point("dp")
    await site.call("POST", "/contents/App/current", ContentInfo, CurrentRequest(version=1))
    await site.run_tasks()
    await site.distributed("App", "dp")
    await site.call("POST", "/contents/App/current", ContentInfo, CurrentRequest(version=2))
    await site.run_tasks()
    await site.distribute_due()
    uses = await site.call("GET", "/contents/App/versions/1/uses", VersionUses)
    assert {use.point_name for use in uses.points} == {"dp"}
    assert {(delta.from_version, delta.to_version) for delta in uses.deltas} == {(1, 2), (2, 1)}
    assert uses.freed_objects > 0
    with pytest.raises(ConflictError, match="Clients may be fetching it from dp"):
        await site.call("DELETE", "/contents/App/versions/1", TaskInfo)
    before = site.points[point].held()
    stored = site.server.shelf.page(limit=10_000)
    task = site.decoded(await site.raw("DELETE", "/contents/App/versions/1", query="force=true"), TaskInfo)
    await site.distribute_due()
    await site.run_tasks()
    assert (await site.call("GET", f"/tasks/{task.id}", TaskInfo)).state is TaskState.COMPLETED
    info = await site.call("GET", "/contents/App", ContentInfo)
    assert [version.number for version in info.versions] == [2]
    assert info.versions[0].deltas == ()
    assert site.points[point].held() < before
    await sweep_all(site, clock)
    left = site.server.shelf.page(limit=10_000)
    assert len(left) == len(stored) - uses.freed_objects
    assert sum(size for _, size in stored) - sum(size for _, size in left) == uses.freed_bytes
    assert site.points[point].held() == {object_id for object_id, _ in left}


async def sweep_all(site: Any, clock: Any) -> None:
    await site.database.write(retention.drop_unused_sets)
    for _ in range(3):
        sweep(SqlSweepLedger(site.database), site.server.shelf, now=clock())
        clock.advance(2 * HOUR)


async def test_a_superseded_version_goes_without_force_once_its_tokens_have_ended(site, two_versions, clock) -> None:
    await site.enrolled_point("dp")
    await site.call("POST", "/contents/App/current", ContentInfo, CurrentRequest(version=1))
    await site.run_tasks()
    await site.distributed("App", "dp")
    await site.call("POST", "/contents/App/current", ContentInfo, CurrentRequest(version=2))
    await site.distribute_due()
    clock.advance(9 * HOUR)
    site.token = ""
    task = await site.call("DELETE", "/contents/App/versions/1", TaskInfo)
    await site.distribute_due()
    await site.run_tasks()
    assert (await site.call("GET", f"/tasks/{task.id}", TaskInfo)).state is TaskState.COMPLETED


async def test_the_number_of_a_deleted_version_is_never_given_again(site, two_versions, source) -> None:
    await site.call("POST", "/contents/App/current", ContentInfo, CurrentRequest(version=1))
    await site.run_tasks()
    await site.call("DELETE", "/contents/App/versions/2", TaskInfo)
    await site.run_tasks()
    info = await site.next_version("App")
    assert [version.number for version in info.versions] == [1, 3]
    events = await site.call("GET", "/contents/App/history", list[ContentEvent])
    assert [(event.event, event.version) for event in events] == [("version_deleted", 2), ("made_current", 1)]


async def test_a_delta_that_takes_hours_keeps_its_lease(site, source, monkeypatch) -> None:
    """The sweep would end its session, and the hours would be for nothing."""

    def slow(*sides, cancelled, **more):
        for _ in range(12):
            site.clock.advance(20 * MINUTE)
            assert not cancelled()
            SqlSweepLedger(site.database).drop_lapsed(site.clock.now)
        return make_delta(*sides, cancelled=cancelled, **more)

    monkeypatch.setattr("entrepot.site.deltas.make_delta", slow)
    await site.publish("App", source)
    big = bytearray((source / "big.bin").read_bytes())
    big[500_000:500_010] = b"0123456789"
    (source / "big.bin").write_bytes(big)
    info = await site.next_version("App")
    assert [delta.from_version for delta in info.versions[-1].deltas] == [1]


async def test_a_delta_in_the_making_is_an_objection_and_is_cancelled_by_force(site, source) -> None:
    await site.publish("App", source)
    (source / "new").write_bytes(secrets.token_bytes(5000))
    await site.call("POST", "/contents/App/versions", TaskInfo, {})
    await site.server.publishing.run_once()  # publishes, and asks for the delta
    uses = await site.call("GET", "/contents/App/versions/1/uses", VersionUses)
    assert [task.kind for task in uses.tasks] == ["delta"]
    with pytest.raises(ConflictError, match="A task works on it"):
        await site.call("DELETE", "/contents/App/versions/1", TaskInfo)
    site.decoded(await site.raw("DELETE", "/contents/App/versions/1", query="force=true"), TaskInfo)
    await site.run_tasks()
    assert (await site.call("GET", f"/tasks/{uses.tasks[0].id}", TaskInfo)).state is TaskState.CANCELLED
    info = await site.call("GET", "/contents/App", ContentInfo)
    assert [(version.number, version.deltas) for version in info.versions] == [(2, ())]
