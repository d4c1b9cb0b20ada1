"""A cloud point that is deleted stays in the cost of its month, and in no other."""

from decimal import Decimal

import pytest

from entrepot.core.errors import NotFoundError
from entrepot.core.sizes import GB
from entrepot.core.times import DAY, HOUR, hour_of
from entrepot.database import charges, deletedpoints, prices, usage
from entrepot.database.collection import BucketRow, _add_buckets
from entrepot.protocol.costapi import CostBy
from entrepot.rules.prices import PriceSheet, Tier
from entrepot.site.cloud.states import CloudAction
from entrepot.site.cost.charging import month_of, report

from .conftest import NOW, SITE, Gateway, SiteUnderTest, record

D = Decimal
SHEET = PriceSheet(
    name="ours",
    currency="EUR",
    storage_gb_month=D("0.02"),
    egress=(Tier(per_gb=D("0.10")),),
    instance_hour=D("0.05"),
    reads_per_10000=D("0.004"),
    writes_per_10000=D("0.05"),
)


def _used(site: SiteUnderTest, point: str, hour: int, sent: int) -> None:
    row = BucketRow(hour=hour, device="dev-1", content="pkg-1", status="2xx", requests=1000, bytes=sent)
    with site.database.transaction() as connection:
        _add_buckets(connection, point, [row])


def _cost(site: SiteUnderTest, by: CostBy = CostBy.POINT, cloud_point: str = ""):
    with site.database.reading() as connection:
        return report(connection, by=by, cloud_point=cloud_point, site=SITE, now=site.clock())


async def _deleted(site: SiteUnderTest) -> str:
    """A cloud point that was used and deleted within the month; its id."""
    with site.database.transaction() as connection:
        prices.add_version(connection, SHEET, by="ann", now=NOW)
    point = await site.make_point()
    with site.database.transaction() as connection:
        prices.use(connection, point.point, "ours")
    gateway = Gateway(point.point)
    for _ in range(3):
        key, data = gateway.segment([record(1000)])
        await site.cloud.services["cloud1"].holder.put_document(key, data)
    await site.services.collect("cloud1")
    _used(site, point.point, hour_of(NOW), 100 * GB)
    with site.database.transaction() as connection:
        usage.set_stored(connection, point.point, stored=50 * GB, objects=1, now=int(site.clock()), instances=2)
    site.clock.advance(2 * DAY)
    return point.point


async def test_a_point_deleted_in_the_month_stays_in_its_cost(site):
    point = await _deleted(site)
    before = _cost(site)
    await site.services.act(CloudAction.DELETE, "cloud1")
    await site.settle()
    with site.database.reading() as connection:
        [gone] = deletedpoints.deleted_since(connection, month_of(site.clock())[0], site=SITE)
        assert charges.lost_points(connection, since=0) == 0
    assert (gone.name, gone.sheet, gone.segments) == ("cloud1", "ours", 3)
    after = _cost(site)
    [line], [was] = after.lines, before.lines
    assert (line.subject, line.name, line.bytes) == (point, "cloud1", was.bytes)
    assert (line.egress, line.requests_cost) == (was.egress, was.requests_cost)
    assert line.total >= was.total > 10
    assert line.month_end == line.total  # nothing comes any more
    assert any("cloud1" in note for note in after.notes)
    site.clock.advance(3 * DAY)
    assert _cost(site).lines[0].total == line.total
    assert _cost(site, cloud_point="cloud1").lines == (line,)
    [content] = (one for one in _cost(site, CostBy.CONTENT).lines if one.subject == "pkg-1")
    assert content.egress == pytest.approx(line.egress)


async def test_it_is_in_no_later_month(site):
    await _deleted(site)
    await site.services.act(CloudAction.DELETE, "cloud1")
    await site.settle()
    site.clock.now = month_of(site.clock())[1] + HOUR
    assert _cost(site).lines == ()
    with pytest.raises(NotFoundError):
        _cost(site, cloud_point="cloud1")


async def test_a_new_point_of_that_name_has_a_line_of_its_own(site):
    old = await _deleted(site)
    await site.services.act(CloudAction.DELETE, "cloud1")
    await site.settle()
    new = await site.make_point()
    with site.database.transaction() as connection:
        prices.use(connection, "", "ours")
    assert {line.subject for line in _cost(site).lines} == {old, new.point}
    [line] = _cost(site, cloud_point="cloud1").lines
    assert line.subject == new.point


async def test_where_all_points_are_deleted_the_figures_are_as_old_as_the_last_deletion(site):
    await _deleted(site)
    await site.make_point("cloud2", fqdn="cloud2.contoso.com")
    with site.database.transaction() as connection:
        prices.use(connection, "", "ours")
    ends = []
    for name in ("cloud1", "cloud2"):
        site.clock.advance(HOUR)
        await site.services.act(CloudAction.DELETE, name)
        await site.settle()
        with site.database.reading() as connection:
            gone = deletedpoints.deleted_since(connection, month_of(site.clock())[0], site=SITE)
        ends.append(max(one.deleted for one in gone))
    site.clock.advance(HOUR)
    found = _cost(site)
    assert ends[0] < ends[1] == found.figures_from
    assert found.age_seconds == int(site.clock()) - ends[1] >= HOUR
    assert _cost(site, cloud_point="cloud1").figures_from == ends[0]


async def test_a_point_that_is_being_created_has_no_figures_that_could_be_missing(site):
    point = await _deleted(site)
    with site.database.transaction() as connection:
        prices.use(connection, "", "ours")
    with site.database.reading() as connection:
        collected = usage.stored_usage(connection, point).collected
    await site.services.create(site.request("cloud2", "cloud2.contoso.com"))
    found = _cost(site)
    assert len(found.lines) == 2
    assert found.figures_from == collected > 0
    await site.settle()
    assert (await site.services.get("cloud2")).ready
    assert _cost(site).figures_from == 0, "one that serves was never collected"
