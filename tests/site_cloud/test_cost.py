"""Price sheets, cost and forecasts of a cloud point, over HTTP."""

import contextlib
from collections.abc import AsyncIterator
from decimal import Decimal

import msgspec
import pytest
from litestar import Litestar, Request, Response
from litestar.testing import AsyncTestClient

from entrepot.core.errors import ConflictError, EntrepotError
from entrepot.core.sizes import GB
from entrepot.core.times import DAY, HOUR, hour_of
from entrepot.database import alerts, device_collections, devices, usage
from entrepot.database.collection import BucketRow, _add_buckets
from entrepot.database.devices import Device
from entrepot.protocol.cloudpointapi import Thresholds
from entrepot.protocol.costapi import CostBy, CostReport, PointForecast, PriceSheetInfo
from entrepot.protocol.deviceapi import DeviceState
from entrepot.rules.alerts import AlertState
from entrepot.rules.prices import POLLS_AN_HOUR
from entrepot.site.cost.charging import charge, month_of
from entrepot.site.cost.routes import cost_router
from entrepot.site.cost.splitting import LINES, split

from .conftest import NOW, SITE, SiteUnderTest

BODY = {
    "currency": "EUR",
    "storage_gb_month": "0.02",
    "egress": [{"per_gb": "0", "up_to_gb": 100}, {"per_gb": "0.10"}],
    "instance_hour": "0.05",
    "reads_per_10000": "0.004",
    "writes_per_10000": "0.05",
}


def _problem(_: Request, error: EntrepotError) -> Response:
    return Response({"code": error.code, "detail": str(error)}, status_code=error.family.status)


@pytest.fixture
async def api(site: SiteUnderTest) -> AsyncIterator[AsyncTestClient]:
    router = cost_router(site.database, site=SITE, clock=site.clock)
    async with AsyncTestClient(Litestar([router], exception_handlers={EntrepotError: _problem})) as client:
        yield client


async def _ask(api, method, path, kind, *, status=200, body=None):
    answer = await api.request(method, path, content=None if body is None else msgspec.json.encode(body))
    assert answer.status_code == status, answer.text
    return msgspec.json.decode(answer.content, type=kind) if kind else answer.json()


def _serve(site: SiteUnderTest, point: str, hour: int, sent: int, *, device="dev-1", content="pkg-1") -> None:
    row = BucketRow(hour=hour, device=device, content=content, status="2xx", requests=1000, bytes=sent)
    with site.database.transaction() as connection:
        _add_buckets(connection, point, [row])


async def test_sheets_are_versioned_and_examples_can_be_used(site, api):
    found = await _ask(api, "GET", "/price-sheets", list[PriceSheetInfo])
    assert {one.name for one in found} == {"azure-blob", "aws-s3", "free-egress"}
    assert {one.version for one in found} == {0}
    first = await _ask(api, "PUT", "/price-sheets/ours", PriceSheetInfo, body=BODY)
    second = await _ask(api, "PUT", "/price-sheets/OURS", PriceSheetInfo, body=BODY | {"storage_gb_month": "0.03"})
    assert (first.version, second.version) == (1, 2)
    every = await _ask(api, "GET", "/price-sheets/ours", list[PriceSheetInfo])
    assert [one.storage_gb_month for one in every] == [Decimal("0.02"), Decimal("0.03")]
    used = await _ask(api, "POST", "/price-sheets/aws-s3/use", PriceSheetInfo, body={})
    assert (used.version, used.used_by) == (1, ("*",))
    await _ask(api, "PUT", "/price-sheets/bad", None, body=BODY | {"currency": "???"}, status=400)
    await _ask(api, "POST", "/price-sheets/none/use", None, body={}, status=404)


async def test_the_rest_of_the_month_costs_as_many_requests_an_hour_as_there_were_since_the_point_began(site, api):
    point = await site.make_point()
    site.clock.now = hour_of(NOW) + 3 * HOUR
    with site.database.transaction() as connection:
        for hours in range(4):
            at = hour_of(NOW) + hours * HOUR
            usage.set_stored(connection, point.point, stored=0, objects=0, now=at, instances=2)
            usage.add_to_hour(connection, point.point, at, site_reads=100)
    free = {"storage_gb_month": "0", "instance_hour": "0", "writes_per_10000": "0", "reads_per_10000": "10000"}
    await _ask(api, "PUT", "/price-sheets/reads", None, body=BODY | free)
    await _ask(api, "POST", "/price-sheets/reads/use", None, body={"cloud_point": "cloud1"})
    [line] = (await _ask(api, "GET", "/cost", CostReport)).lines
    _, until = month_of(site.clock())
    left = (until - hour_of(site.clock())) // HOUR - 1
    assert line.total == 4 * (100 + 2 * POLLS_AN_HOUR)
    assert line.month_end == line.total + left * (100 + 2 * POLLS_AN_HOUR)


async def test_cost_so_far_by_point_content_and_device_adds_up(site, api):
    point = await site.make_point()
    site.clock.now = NOW + DAY
    for back in range(20):
        _serve(site, point.point, hour_of(NOW) - back * DAY, 10 * GB, device="dev-1")
        _serve(site, point.point, hour_of(NOW) - back * DAY, 5 * GB, device="dev-2", content="pkg-2")
    await _ask(api, "GET", "/cost", None, status=409)
    await _ask(api, "PUT", "/price-sheets/ours", None, body=BODY)
    await _ask(api, "POST", "/price-sheets/ours/use", None, body={"cloud_point": "cloud1"})
    report = await _ask(api, "GET", "/cost", CostReport)
    [line] = report.lines
    assert (line.name, report.currency, line.bytes) == ("cloud1", "EUR", 300 * GB)
    assert line.egress == Decimal(20)  # 100 GB are free, 200 GB cost 0.10
    assert line.requests_cost == Decimal(40_000) * Decimal("0.004") / 10_000
    assert line.total == report.total
    assert line.month_end > line.total
    for by, expected in (("content", {"pkg-1", "pkg-2"}), ("device", {"dev-1", "dev-2"})):
        split = await _ask(api, "GET", f"/cost?by={by}", CostReport)
        assert {one.subject for one in split.lines} == expected
        assert sum(one.egress for one in split.lines) == pytest.approx(Decimal(20))
        assert max(split.lines, key=lambda one: one.egress).subject.endswith("-1")


async def test_by_collection_each_device_counts_in_all_of_its_own_and_those_in_none_have_a_line(site, api):
    point = await site.make_point()
    with site.database.transaction() as connection:
        usage.set_stored(connection, point.point, stored=30_000 * GB, objects=1, now=NOW, instances=2)
        for number, collections in enumerate((("Field", "Office"), ("Office",), ()), start=1):
            devices.add_device(connection, _device(number))
            for name in collections:
                with contextlib.suppress(ConflictError):
                    device_collections.add(connection, f"col-{name}", name)
                device_collections.add_member(connection, name, f"dev-{number}")
    for device, sent in (("dev-1", 100), ("dev-2", 200), ("dev-3", 600), ("dev-deleted", 100)):
        _serve(site, point.point, hour_of(NOW), sent * GB, device=device)
    await _ask(api, "PUT", "/price-sheets/ours", None, body=BODY)
    await _ask(api, "POST", "/price-sheets/ours/use", None, body={})
    report = await _ask(api, "GET", "/cost?by=collection", CostReport)
    lines = [(one.subject, one.name, one.bytes // GB, one.egress) for one in report.lines]
    # 1,000 GB cost 90 EUR: 100 GB of them are free
    assert lines == [
        ("", "devices in no collection", 700, 63),
        ("col-Office", "Office", 300, 27),
        ("col-Field", "Field", 100, 9),
    ]
    unsplit = report.total - 90 - report.lines[0].requests_cost / 2 * 4
    assert report.notes[0] == (
        f"In the total and in no line: {unsplit:,.2f} EUR for instances and storage, "
        "which belong to cloud points as a whole."
    )
    assert sum("several collections" in note for note in report.notes) == 1


async def test_what_the_site_itself_fetches_is_egress_that_is_shown_apart(site, api):
    point = await site.make_point()
    _serve(site, point.point, hour_of(NOW), 90 * GB)
    before = await _priced_report(api)
    with site.database.transaction() as connection:
        usage.add_to_hour(connection, point.point, hour_of(NOW), fetched=30 * GB)
    after = await _ask(api, "GET", "/cost", CostReport)
    [line] = after.lines
    assert (line.bytes, line.egress, line.fetched_bytes, line.fetched) == (90 * GB, 0, 30 * GB, Decimal(2))
    assert after.total == before.total + 2, "10 GB of it are free, 20 GB cost 0.10"
    assert after.month_end > before.month_end + 2
    split = await _ask(api, "GET", "/cost?by=content", CostReport)
    assert sum(one.total for one in split.lines) + 2 <= split.total
    assert "the site's own downloads" in split.notes[0]


async def test_devices_beyond_the_longest_list_are_one_line_and_nothing_is_missing(site, api):
    point = await site.make_point()
    rows = [
        BucketRow(hour=hour_of(NOW), device=f"dev-{number:04}", content="pkg", status="2xx", requests=1, bytes=number)
        for number in range(1, LINES + 12)
    ]
    with site.database.transaction() as connection:
        _add_buckets(connection, point.point, rows)
    await _priced_report(api)
    report = await _ask(api, "GET", "/cost?by=device", CostReport)
    assert len(report.lines) == LINES
    assert (report.rest.name, report.rest_count, report.rest.requests) == ("others (11)", 11, 11)
    assert report.rest.bytes == sum(range(1, 12)), "the least of them"
    assert sum(one.bytes for one in report.lines) + report.rest.bytes == sum(row.bytes for row in rows)


async def test_contents_beyond_the_longest_list_are_summed_as_well(site, api):
    point = await site.make_point()
    with site.database.transaction() as connection:
        usage.set_stored(connection, point.point, stored=0, objects=0, now=NOW, instances=0)
    for number in range(5):
        _serve(site, point.point, hour_of(NOW), (number + 1) * 100 * GB, content=f"pkg-{number}")
    await _priced_report(api)
    with site.database.reading() as connection:
        found = charge(connection, point, site.clock())
        whole = split(connection, [found], CostBy.CONTENT, hour_of(NOW))
        cut = split(connection, [found], CostBy.CONTENT, hour_of(NOW), most=2)
    assert [one.subject for one in cut.lines] == ["pkg-4", "pkg-3"]
    assert (whole.rest, whole.count, cut.rest.name, cut.count) == (None, 0, "others (3)", 3)
    assert cut.rest.bytes == 600 * GB
    assert cut.rest.total + sum(one.total for one in cut.lines) == sum(one.total for one in whole.lines)
    assert cut.unsplit == whole.unsplit


async def _priced_report(api) -> CostReport:
    await _ask(api, "PUT", "/price-sheets/ours", None, body=BODY)
    await _ask(api, "POST", "/price-sheets/ours/use", None, body={})
    return await _ask(api, "GET", "/cost", CostReport)


def _device(number: int) -> Device:
    return Device(
        id=f"dev-{number}",
        name=f"D{number}",
        public_key=bytes([number]),
        state=DeviceState.APPROVED,
        changed=0,
        site=SITE,
        enrolled=0,
        seen=0,
        address="",
    )


async def test_nothing_of_last_month_is_charged(site, api):
    point = await site.make_point()
    await _ask(api, "POST", "/price-sheets/azure-blob/use", None, body={})
    _serve(site, point.point, hour_of(NOW) - 25 * DAY, 5000 * GB)
    report = await _ask(api, "GET", "/cost", CostReport)
    assert report.lines[0].egress == 0


async def test_the_forecast_says_when_and_its_alert_opens_a_week_before(site, api):
    point = await site.make_point(thresholds=Thresholds(transfer_quota=1150 * GB))
    for back in range(1, 41):
        _serve(site, point.point, hour_of(NOW) - back * DAY, (80 - back) * GB // 2)
    with site.database.transaction() as connection:
        usage.set_collected(connection, point.point, now=NOW)
    found = await _ask(api, "GET", "/cloud-points/cloud1/forecast", PointForecast)
    critical = next(one for one in found.transfer.crossings if one.level == "critical")
    assert NOW < critical.at < NOW + 7 * DAY
    assert critical.earliest <= critical.at <= critical.latest
    more = await _ask(api, "GET", f"/cloud-points/cloud1/forecast?planned_transfer={500 * GB}", PointForecast)
    assert next(one for one in more.transfer.crossings if one.level == "critical").at < critical.at
    await site.services.monitor.evaluate(point.point)
    kept = (await site.database.read(alerts.find, type_="transfer_forecast", subject=point.point)).alert
    assert kept.state is AlertState.ACTIVE
    assert kept.message.startswith("Critical in ")


async def test_without_figures_for_three_hours_an_alert_opens_and_the_next_collection_closes_it(site):
    point = await site.make_point()
    await site.services.collect("cloud1")
    site.clock.advance(3 * HOUR - 1)
    await site.services.monitor.evaluate(point.point)
    kept = (await site.database.read(alerts.find, type_="figures_stale", subject=point.point)).alert
    assert kept.state is AlertState.NEVER_TRIGGERED
    site.clock.advance(2)
    await site.services.monitor.evaluate(point.point)
    kept = (await site.database.read(alerts.find, type_="figures_stale", subject=point.point)).alert
    assert (kept.state, "No figures for 3 h" in kept.message) == (AlertState.ACTIVE, True)
    await site.services.collect("cloud1")
    kept = (await site.database.read(alerts.find, type_="figures_stale", subject=point.point)).alert
    assert kept.state is AlertState.CANCELED


async def test_what_the_site_sends_has_a_threshold_of_its_own(site):
    point = await site.make_point(thresholds=Thresholds(upload_quota=1000))
    with site.database.transaction() as connection:
        usage.add_to_hour(connection, point.point, hour_of(NOW), uploaded=10_000)
    await site.services.monitor.evaluate(point.point)
    kept = (await site.database.read(alerts.find, type_="upload_critical", subject=point.point)).alert
    assert kept.state is AlertState.ACTIVE
    assert "sent by the site" in kept.message
