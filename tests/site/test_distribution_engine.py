"""Content comes to points, changes there, and leaves them: whole, and nothing more than is needed."""

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from entrepot.core.errors import IntegrityError, UnavailableError
from entrepot.core.ids import ObjectId
from entrepot.database import distribution, pointsets
from entrepot.protocol.contentapi import (
    ContentInfo,
    CurrentRequest,
    DistributionInfo,
    DistributionRequest,
    DistributionState,
    Priority,
)
from entrepot.protocol.pointapi import PointInfo
from entrepot.site.distribution import trim
from entrepot.site.sending import RETIRED_SECONDS


async def rows(site, content="App") -> dict[str, DistributionInfo]:
    found = await site.call("GET", f"/contents/{content}/distribution", list[DistributionInfo])
    return {row.point_name: row for row in found}


def objects(site, set_hex: str) -> set[ObjectId]:
    """Everything that a point needs for a set: its objects, and the set object."""
    set_id = bytes.fromhex(set_hex)
    with site.database.reading() as connection:
        return {each.object_id for each in pointsets.objects_of(connection, set_id)} | {ObjectId(set_id)}


@pytest.fixture
async def app(site, source):
    """App is published; the points Berlin and Munich have enrolled."""
    await site.publish("App", source)
    site.berlin = site.points[await site.enrolled_point("Berlin")]
    site.munich = site.points[await site.enrolled_point("Munich")]
    return site


def wanted(info: ContentInfo) -> str:
    return info.versions[-1].set_id


async def info_of(site, name="App") -> ContentInfo:
    return await site.call("GET", f"/contents/{name}", ContentInfo)


async def test_a_point_gets_every_object_and_the_set_last(app) -> None:
    await app.distributed("App", "Berlin")
    info = await info_of(app)
    assert app.berlin.held() == objects(app, wanted(info))
    assert app.berlin.puts[-1] == bytes.fromhex(wanted(info))
    row = (await rows(app))["Berlin"]
    assert (row.state, row.held, row.sent_objects) == (DistributionState.SUCCESS, 1, len(app.berlin.puts))
    assert row.done == row.total > 0
    assert app.munich.held() == set()


async def test_only_what_is_missing_is_sent(app, source) -> None:
    await app.distributed("App", "Berlin")
    (source / "sub" / "file 3").write_bytes(b"changed")
    app.berlin.puts.clear()
    info = await app.next_version("App")
    await app.distribute_due()
    new = info.versions[-1].new_objects
    assert len([each for each in app.berlin.puts if each in objects(app, wanted(info))]) == new
    assert (await rows(app))["Berlin"].held == 2


async def test_a_second_content_with_the_same_files_costs_its_manifest_only(app, source) -> None:
    await app.distributed("App", "Berlin")
    app.berlin.puts.clear()
    await app.publish("Copy", source)
    await app.distributed("Copy", "Berlin")
    assert len(app.berlin.puts) <= 3


async def test_a_point_that_fails_in_the_middle_is_tried_again_and_continues(app, clock) -> None:
    app.berlin.fail_after = 2
    await app.distributed("App", "Berlin")
    row = (await rows(app))["Berlin"]
    assert (row.state, row.held) == (DistributionState.RETRYING, 0)
    assert "does not answer" in row.message
    assert "does not answer" in (await app.call("GET", "/points/Berlin", PointInfo)).message
    before = len(app.berlin.puts)
    app.berlin.fail_after = None
    await app.distribute_due()
    assert len(app.berlin.puts) == before, "not before its time"
    clock.now = row.next_try
    await app.distribute_due()
    row = (await rows(app))["Berlin"]
    assert (row.state, row.message) == (DistributionState.SUCCESS, "")
    assert len(app.berlin.puts) == len(set(app.berlin.puts)), "nothing was sent twice"
    assert (await app.call("GET", "/points/Berlin", PointInfo)).message == ""


async def test_a_point_that_does_not_answer_does_not_hold_up_another(app) -> None:
    app.berlin.fail_after = 0
    await app.distributed("App", "Berlin", "Munich")
    states = {name: row.state for name, row in (await rows(app)).items()}
    assert states == {"Berlin": DistributionState.RETRYING, "Munich": DistributionState.SUCCESS}


async def test_a_damaged_object_in_the_library_is_named_and_never_counts_as_sent(app, clock) -> None:
    info = await info_of(app)
    victim = min(objects(app, wanted(info)) - {bytes.fromhex(wanted(info))})
    path = next(app.home.library.rglob(victim.hex()))
    data = bytearray(path.read_bytes())
    data[10] ^= 1
    path.chmod(0o644)
    path.write_bytes(bytes(data))
    for _ in range(6):
        await app.distributed("App", "Berlin")
        clock.advance(3600)
    row = (await rows(app))["Berlin"]
    assert row.held == 0
    assert victim not in app.berlin.held()
    assert row.state in (DistributionState.FAILED, DistributionState.RETRYING)


async def test_a_point_that_loses_objects_while_being_sent_to_is_not_a_success(app) -> None:
    real = app.berlin.missing
    asked = 0

    async def forgetful(ids):
        nonlocal asked
        asked += 1
        if asked == 3:  # set objects, then the set, then the verification
            await app.berlin.delete(app.berlin.puts[0])
        return await real(ids)

    app.berlin.missing = forgetful
    await app.distributed("App", "Berlin")
    assert (await rows(app))["Berlin"].state is DistributionState.RETRYING


async def test_removal_takes_what_nothing_else_on_the_point_needs(app, source) -> None:
    (source / "only in copy").write_bytes(b"x" * 5000)
    await app.publish("Copy", source)
    await app.distributed("App", "Berlin")
    await app.distributed("Copy", "Berlin")
    await app.call("DELETE", "/contents/Copy/distribution/Berlin", type(None))
    await app.distribute_due()
    assert app.berlin.held() == objects(app, wanted(await info_of(app)))
    assert "Berlin" not in await rows(app, "Copy")


async def test_removal_takes_the_set_object_first(app) -> None:
    await app.distributed("App", "Berlin")
    await app.call("DELETE", "/contents/App/distribution/Berlin", type(None))
    await app.distribute_due()
    assert app.berlin.deletes[0] == bytes.fromhex(wanted(await info_of(app)))
    assert app.berlin.held() == set()


async def test_a_superseded_version_stays_as_long_as_tokens_may_name_it(app, source, clock) -> None:
    await app.distributed("App", "Berlin")
    old = objects(app, wanted(await info_of(app)))
    (source / "big.bin").unlink()
    info = await app.next_version("App")
    await app.distribute_due()
    assert old <= app.berlin.held()
    clock.advance(RETIRED_SECONDS - 10)
    assert await trim(app.database, site="PS1", now=clock()) == 0
    clock.advance(20)
    assert await trim(app.database, site="PS1", now=clock()) == 1
    await app.distribute_due()
    needed = objects(app, wanted(info))
    for delta in info.versions[-1].deltas:
        needed |= objects(app, delta.set_id)
    assert app.berlin.held() == needed
    assert await trim(app.database, site="PS1", now=clock()) == 0


async def test_rolling_back_sends_nothing_that_is_still_there(app, source) -> None:
    await app.distributed("App", "Berlin")
    (source / "new").write_bytes(b"new")
    await app.next_version("App")
    await app.distribute_due()
    app.berlin.puts.clear()
    await app.call("POST", "/contents/App/current", ContentInfo, CurrentRequest(version=1))
    await app.distribute_due()
    assert app.berlin.puts == []
    assert (await rows(app))["Berlin"].held == 1


async def test_a_newer_version_breaks_off_the_transfer_of_the_older(app, source) -> None:
    release, reached = asyncio.Event(), asyncio.Event()
    real = app.berlin.put

    async def slow(object_id, size, pieces, **more):
        reached.set()
        await release.wait()
        await real(object_id, size, pieces, **more)

    app.berlin.put = slow
    body = DistributionRequest(points=("Berlin",))
    await app.call("POST", "/contents/App/distribution", list[DistributionInfo], body)
    running = asyncio.create_task(app.engine.run_once())
    await reached.wait()
    (source / "new").write_bytes(b"new")
    await app.next_version("App")
    await running
    release.set()
    await app.distribute_due()
    row = (await rows(app))["Berlin"]
    assert (row.version, row.held, row.state) == (2, 2, DistributionState.SUCCESS)


async def test_cancelling_stops_a_running_transfer(app) -> None:
    reached = asyncio.Event()

    async def stuck(object_id, size, pieces, **more):
        reached.set()
        await asyncio.Event().wait()

    app.berlin.put = stuck
    body = DistributionRequest(points=("Berlin",))
    await app.call("POST", "/contents/App/distribution", list[DistributionInfo], body)
    running = asyncio.create_task(app.engine.run_once())
    await reached.wait()
    await app.call("POST", "/contents/App/distribution/Berlin/cancel", type(None))
    await running
    assert (await rows(app))["Berlin"].state is DistributionState.CANCELLED
    assert await app.engine.run_once() == 0


async def test_a_stopped_engine_leaves_its_work_to_the_next(app) -> None:
    reached = asyncio.Event()
    real = app.berlin.put

    async def stuck(object_id, size, pieces, **more):
        reached.set()
        await asyncio.Event().wait()

    app.berlin.put = stuck
    body = DistributionRequest(points=("Berlin",))
    await app.call("POST", "/contents/App/distribution", list[DistributionInfo], body)
    serving = asyncio.create_task(app.engine.serve())
    await reached.wait()
    await app.engine.stop()
    await serving
    app.berlin.put = real
    other = app.new_engine("two")
    assert await other.run_once() == 1
    assert (await rows(app))["Berlin"].state is DistributionState.SUCCESS


async def test_high_priority_goes_first(app, source) -> None:
    await app.publish("Urgent", source)
    for content, priority in (("App", Priority.LOW), ("Urgent", Priority.HIGH)):
        body = DistributionRequest(points=("Berlin",), priority=priority)
        await app.call("POST", f"/contents/{content}/distribution", list[DistributionInfo], body)
    await app.engine.run_once()
    assert (await rows(app, "Urgent"))["Berlin"].state is DistributionState.SUCCESS
    assert (await rows(app))["Berlin"].state is DistributionState.PENDING


async def test_a_holder_that_refuses_for_good_is_not_asked_for_ever(app, clock) -> None:
    async def refusing(object_id, size, pieces, **more):
        raise IntegrityError("These are other bytes.")

    app.berlin.put = refusing
    await app.distributed("App", "Berlin")
    for _ in range(4):
        clock.advance(3600)
        await app.distribute_due()
    assert (await rows(app))["Berlin"].state is DistributionState.FAILED


async def test_content_for_a_point_that_has_not_enrolled_waits(site, source) -> None:
    await site.publish("App", source)
    await site.call("POST", "/points", dict, {"name": "Later"})
    await site.distributed("App", "Later")
    assert (await rows(site))["Later"].state is DistributionState.PENDING


_STEPS = st.lists(
    st.tuples(
        st.sampled_from(["distribute", "withdraw", "crash", "trim"]),
        st.sampled_from(["one", "two", "three"]),
        st.sampled_from(["Berlin", "Munich"]),
        st.integers(0, 6),
    ),
    min_size=1,
    max_size=12,
)


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(steps=_STEPS)
async def test_points_hold_exactly_what_is_wanted_whatever_happened(app, tmp_path, clock, steps) -> None:
    await _published(app, tmp_path)
    wanted_now: dict[str, set[str]] = {"Berlin": set(), "Munich": set()}
    for action, content, point, after in steps:
        holder = app.berlin if point == "Berlin" else app.munich
        if action == "distribute":
            body = DistributionRequest(points=(point,))
            await app.call("POST", f"/contents/{content}/distribution", list[DistributionInfo], body)
            wanted_now[point].add(content)
        elif action == "withdraw" and content in wanted_now[point]:
            await app.call("DELETE", f"/contents/{content}/distribution/{point}", type(None))
            wanted_now[point].discard(content)
        elif action == "crash":
            holder.fail_after = after
            await app.engine.run_once()
            holder.fail_after = None
        else:
            await app.engine.run_once()
    await _settled(app, clock)
    for point, holder in (("Berlin", app.berlin), ("Munich", app.munich)):
        expected: set[ObjectId] = set()
        for content in wanted_now[point]:
            expected |= objects(app, wanted(await info_of(app, content)))
        assert holder.held() == expected
    await _emptied(app, clock)


async def _published(app, tmp_path) -> None:
    """Three contents that share files pairwise; made once for all examples."""
    if hasattr(app, "three"):
        return
    app.three = True
    for name, files in (("one", "abc"), ("two", "bcd"), ("three", "cde")):
        folder = tmp_path / name
        folder.mkdir()
        for letter in files:
            (folder / letter).write_bytes(letter.encode() * 300_000)
        await app.publish(name, folder)


async def _settled(app, clock) -> None:
    for _ in range(8):
        clock.advance(4000)
        await app.distribute_due()
    app.token = ""  # the session has ended long ago


async def _emptied(app, clock) -> None:
    for content in ("one", "two", "three"):
        for point in (await rows(app, content)).values():
            await app.call("DELETE", f"/contents/{content}/distribution/{point.point_name}", type(None))
    await _settled(app, clock)
    assert app.berlin.held() == app.munich.held() == set()
    with app.database.reading() as connection:
        assert distribution.described(connection) == []


async def test_a_defect_in_renewing_a_lease_does_not_keep_the_point_busy_for_ever(app, monkeypatch) -> None:
    whole = distribution.renew
    broken = asyncio.Event()

    def renew(*given, **more):
        if not broken.is_set():
            broken.set()
            raise ValueError("a defect")
        return whole(*given, **more)

    async def slow(object_id, size, pieces):
        await broken.wait()
        return await put(object_id, size, pieces)

    put = app.berlin.put
    monkeypatch.setattr(distribution, "renew", renew)
    monkeypatch.setattr(app.berlin, "put", slow)
    monkeypatch.setattr("entrepot.site.distribution.BEAT_SECONDS", 0.01)
    await app.distributed("App", "Berlin")
    assert (await rows(app))["Berlin"].state is DistributionState.SUCCESS


async def test_a_run_whose_lease_has_lapsed_unrenewed_stops(app, clock, monkeypatch) -> None:
    """Another process may have taken the point over."""

    def renew(*_, **__):
        clock.advance(61)
        raise UnavailableError("The database does not answer.")

    async def never(*_) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(distribution, "renew", renew)
    monkeypatch.setattr(app.berlin, "put", never)
    monkeypatch.setattr("entrepot.site.distribution.BEAT_SECONDS", 0.01)
    await app.call(
        "POST", "/contents/App/distribution", list[DistributionInfo], DistributionRequest(points=("Berlin",))
    )
    await asyncio.wait_for(app.engine.run_once(), 30)
    row = (await rows(app))["Berlin"]
    assert (row.state, row.held) == (DistributionState.PENDING, 0)
