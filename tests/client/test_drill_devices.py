"""Synthetic devices against a service that behaves, and one that does not."""

from collections.abc import AsyncIterator

import msgspec
import pytest

from entrepot.client.drill import devices
from entrepot.client.drill.devices import Drill, check_reachable, open_http
from entrepot.client.drill.measuring import report_of
from entrepot.core.errors import BadInputError, LimitedError, NotFoundError, TrustError, UnavailableError
from entrepot.core.sizes import MB
from entrepot.protocol.drillapi import DrillInstance, DrillObject, DrillPermit, DrillPlan, DrillReport
from entrepot.web.http import HttpClient
from entrepot.web.tls import TlsTrust

from .conftest import PointState, World, make_source


class Drilled:
    """A cloud point with content, and drills of it."""

    def __init__(self, world: World, point: PointState) -> None:
        self.world, self.point = world, point
        self.objects = tuple(DrillObject(id=one, size=size) for one, size in world.library.shelf.page())
        self.size = sum(one.size for one in self.objects)

    def permit(self, *, devices: int = 3, most: int = 0, seconds: int = 20, rate: int = 0) -> DrillPermit:
        plan = DrillPlan(
            cloud_point="cloud",
            url=f"{self.world.url}/cloud",
            address="",
            content="pkg-1",
            content_name="App",
            version=1,
            objects=len(self.objects),
            stored=self.size,
            devices=devices,
            seconds=seconds,
            ramp=0,
            rate=rate,
            bytes=most or 2 * self.size,
        )
        return DrillPermit(drill="drill-0", plan=plan, objects=self.objects, tokens=("token-1",) * devices, expires=0)

    def http(self, permit: DrillPermit) -> HttpClient:
        return open_http(TlsTrust.hierarchy(self.world.hierarchy.authority.pem()), permit.plan)

    async def run(self, permit: DrillPermit) -> DrillReport:
        async with self.http(permit) as http:
            drill = Drill(permit, http)
            await drill.run()
        seen = (DrillInstance(id="gw-1", sent=1, cpu_percent=10),)
        return report_of(drill.measured, permit, seen, cpu=0, interrupted=False)


@pytest.fixture
async def drilled(world: World, tmp_path) -> AsyncIterator[Drilled]:
    world.publish(make_source(tmp_path / "source"))
    yield Drilled(world, world.point("cloud"))


async def test_devices_download_verify_and_stay_below_their_bound(drilled) -> None:
    report = await drilled.run(drilled.permit())
    assert report.received == drilled.point.served == 2 * drilled.size
    largest = max(one.size for one in drilled.objects)
    assert report.received - largest < report.verified <= report.received  # of the last object maybe a part only
    assert report.whole == report.requests == sum(report.statuses.values())
    assert set(report.statuses) <= {"200", "206"}
    assert (report.damaged, report.errors, report.refused, report.unfinished) == (0, {}, 0, 0)
    assert report.first_byte.half <= report.whole_object.half <= report.whole_object.most
    assert any("clients at 100 MB in 24 hours" in one for one in report.conclusions)


async def test_bytes_that_are_not_what_their_name_says_are_noticed(drilled) -> None:
    bad = drilled.objects[0].id
    drilled.point.damage = lambda one, data: bytes(len(data)) if one == bad else data
    report = await drilled.run(drilled.permit(devices=1, most=drilled.size))
    assert (report.damaged, report.verified) == (1, drilled.size - drilled.objects[0].size)
    assert "not what their name says" in report.conclusions[0]


@pytest.mark.parametrize(
    ("failing", "status", "counted"),
    [(LimitedError("slower"), "429", "limited"), (UnavailableError("stopped"), "503", "unavailable")],
)
async def test_limits_are_counted_and_waited_for(drilled, failing, status, counted) -> None:
    drilled.point.failing = failing
    report = await drilled.run(drilled.permit(devices=2, seconds=1))
    answered = report.requests - report.unfinished  # the end may come while one is on its way
    assert report.statuses == {status: answered}
    assert getattr(report, counted) == answered == report.errors[f"HTTP {status}"]
    assert report.requests <= 2 * 4  # a quarter second, a half, one: not as fast as it can
    assert (report.received, report.bytes_per_second) == (0, 0)


async def test_devices_whose_token_is_refused_give_up(drilled) -> None:
    drilled.point.token = "another"
    report = await drilled.run(drilled.permit(devices=3))
    assert (report.refused, report.requests, report.errors) == (3, 3, {"HTTP 401": 3})
    assert "The token has expired." in report.examples[0]


async def test_devices_that_ask_for_what_is_not_there_give_up(drilled) -> None:
    drilled.point.failing = NotFoundError("gone")
    report = await drilled.run(drilled.permit(devices=3))
    assert (report.refused, report.requests, report.errors) == (3, 3, {"HTTP 404": 3})


async def test_what_may_have_been_sent_is_not_asked_for_again_although_nothing_of_it_was_taken(
    drilled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(devices, "LONGEST_PAUSE", 0.01)
    drilled.point.damage = lambda _, data: data + b"x"  # announced with another length: not read at all
    report = await drilled.run(drilled.permit(devices=1, most=drilled.size))
    assert (report.received, report.requests) == (0, len(drilled.objects))
    assert report.errors == {"format": report.requests}


async def test_while_nobody_listens_the_same_bytes_are_asked_for_again(drilled) -> None:
    permit = drilled.permit(devices=1, most=1, seconds=1)
    nowhere = msgspec.structs.replace(permit.plan, url="https://127.0.0.1:1")
    report = await drilled.run(msgspec.structs.replace(permit, plan=nowhere))
    assert report.requests > 1
    assert report.errors == {"connection": report.requests}


async def test_broken_connections_are_counted_and_their_bytes_are_not_asked_for_again(drilled) -> None:
    drilled.point.cut = True
    report = await drilled.run(drilled.permit(devices=1, most=drilled.size))
    assert report.errors == {"connection": report.requests}
    assert (report.whole, report.verified) == (0, 0)
    assert 0 < report.received < drilled.size


async def test_the_end_of_the_time_breaks_off_what_runs(drilled) -> None:
    permit = drilled.permit(devices=2, most=100 * MB, seconds=1, rate=100_000)
    report = await drilled.run(permit)
    assert report.unfinished == 2  # both are in the middle of the large chunk, or of the pause that holds their rate
    assert report.received <= 2 * 100_000 * (report.seconds + 1) + 2 * 64 * 1024


async def test_a_service_with_another_certificate_is_refused_before_anything_is_begun(drilled) -> None:
    plan = drilled.permit().plan
    foreign = TlsTrust.hierarchy(drilled.world.hierarchy.cloud_authority.pem())
    async with open_http(foreign, plan) as http:
        with pytest.raises(TrustError):
            await check_reachable(http, plan)


def test_more_devices_than_sockets_are_refused(drilled, monkeypatch) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (100, 100))
    with pytest.raises(BadInputError, match="may open 100 files"):
        open_http(TlsTrust.system(), drilled.permit(devices=50).plan)
