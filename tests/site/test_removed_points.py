"""A point on premises that is removed serves nobody any more, also when the server is killed in between."""

import asyncio
import math
from typing import Any

import pytest

from entrepot.core.encoding import from_json
from entrepot.core.errors import ConflictError, NotFoundError, UnavailableError
from entrepot.database import points
from entrepot.database.points import Point
from entrepot.protocol import SignedType
from entrepot.protocol.contentapi import DistributionRequest
from entrepot.protocol.control import CONTROL_KEY, ControlDocument, ServiceState
from entrepot.protocol.pointapi import PointInfo
from entrepot.trust.signing import take_apart

from ..waiting import until as eventually


class Within:
    """Reaches points in this process instead of over the network."""

    def __init__(self, site: Any) -> None:
        self._site = site
        self.reachable = True

    def of(self, point: Point) -> Any:
        if not self.reachable:
            raise UnavailableError(f"{point.name} does not answer.")
        assert point.state == points.ACTIVE
        return self._site.points[point.id]


@pytest.fixture
def ways(site) -> Within:
    site.server.controls._holders = within = Within(site)
    return within


async def obeyed(site, point: str) -> ControlDocument:
    """The control document that a point has."""
    document = await site.points[point].get_document(CONTROL_KEY)
    return from_json(take_apart(document, typ=SignedType.CONTROL).payload, ControlDocument, "control document")


async def test_it_is_told_to_stop_before_it_is_forgotten(site, ways: Within) -> None:
    point = await site.enrolled_point("berlin")
    await site.server.controls.run_once()
    before = await obeyed(site, point)
    assert before.state is ServiceState.RUNNING
    await site.call("DELETE", "/points/berlin", type(None))
    after = await obeyed(site, point)
    assert (after.state, after.fresh.counter > before.fresh.counter) == (ServiceState.STOPPED, True)
    assert await site.call("GET", "/points", list[PointInfo]) == []


async def test_one_that_cannot_be_reached_is_forgotten_all_the_same(site, ways: Within) -> None:
    await site.enrolled_point("berlin")
    ways.reachable = False
    await site.call("DELETE", "/points/berlin", type(None))
    with pytest.raises(NotFoundError):
        await site.call("GET", "/points/berlin", PointInfo)


async def test_one_that_never_enrolled_is_simply_forgotten(site, ways: Within) -> None:
    await site.call("POST", "/points", Any, {"name": "berlin"})
    await site.call("DELETE", "/points/berlin", type(None))
    assert await site.call("GET", "/points", list[PointInfo]) == []


async def test_a_server_that_was_killed_in_between_finishes_after_its_next_start(site, ways: Within) -> None:
    point = await site.enrolled_point("berlin")
    await site.database.write(points.retire_point, "berlin")
    assert (await site.call("GET", "/points/berlin", PointInfo)).state == "removed"
    await site.server.controls.run_once()
    assert (await obeyed(site, point)).state is ServiceState.STOPPED
    assert await site.call("GET", "/points", list[PointInfo]) == []


async def test_removing_twice_at_once_is_no_failure(site, ways: Within) -> None:
    await site.enrolled_point("berlin")
    known = await site.database.read(points.get_point, "berlin")
    await site.call("DELETE", "/points/berlin", type(None))
    await site.server.controls._forget(known)
    with pytest.raises(NotFoundError):
        await site.server.controls.retire("berlin")


def test_a_cloud_point_is_not_retired(database) -> None:
    with database.transaction() as connection:
        points.add_point(
            connection, Point(id="pt-1", name="eu", kind=points.CLOUD, site="PS1", state=points.ACTIVE, url="")
        )
        with pytest.raises(ConflictError):
            points.retire_point(connection, "eu")


async def until(site: Any, point: str, *blocked: str) -> None:
    """Wait until a point has been told of these blocked devices."""

    async def told() -> bool:
        return (await obeyed(site, point)).revoked_devices == blocked

    await eventually(told, f"{point} was told")


async def test_a_point_that_can_be_reached_again_gets_its_document_with_its_content(site, ways: Within, source) -> None:
    await site.publish("App", source)
    point = await site.enrolled_point("berlin")
    controls, distribution = site.server.controls, site.server.distribution
    ways.reachable = False
    assert await controls.run_once() == 1
    controls._pauses[point] = (math.inf, 300.0)  # it was away for long, and is asked seldom
    ways.reachable = True
    await controls.run_once()
    with pytest.raises(NotFoundError):
        await obeyed(site, point)
    distribution._holders = site.engine._holders
    await site.call("POST", "/contents/App/distribution", list[Any], DistributionRequest(points=("berlin",)))
    await distribution.run_once()
    await controls.run_once()
    assert (await obeyed(site, point)).state is ServiceState.RUNNING


async def test_a_point_that_is_slow_keeps_a_revocation_from_no_other(site, ways: Within, monkeypatch) -> None:
    slow, quick = await site.enrolled_point("slow"), await site.enrolled_point("quick")
    controls = site.server.controls
    await controls.run_once()
    device = await site.enrolled_device("pc1")
    answers, asked = asyncio.Event(), asyncio.Event()
    told: list[tuple[str, ...]] = []
    keep = site.points[slow].put_document

    async def waiting(key: str, data: bytes, **more: Any) -> None:
        asked.set()
        await answers.wait()
        await keep(key, data, **more)
        if key == CONTROL_KEY:
            told.append((await obeyed(site, slow)).revoked_devices)

    monkeypatch.setattr(site.points[slow], "put_document", waiting)
    serving = asyncio.create_task(controls.serve())
    try:
        await site.call("POST", "/devices/pc1/block", Any)
        controls.wake()
        await asyncio.wait_for(asked.wait(), 30)
        await until(site, quick, device.id)
        await site.call("POST", "/devices/pc1/approve", Any)
        controls.wake()
        await until(site, quick)
        assert (await obeyed(site, slow)).fresh.counter == 1, "it has not answered yet"
        answers.set()
        await eventually(lambda: len(told) > 1, "it was told again")
        assert told == [(device.id,), ()], "what it was being told, and then the last word"
    finally:
        serving.cancel()
