"""What a cloud point costs now and after a stop, and the cloud's own figures beside the site's."""

from decimal import Decimal

import pytest

from entrepot.core.errors import UnavailableError
from entrepot.core.times import DAY, HOUR, hour_of
from entrepot.database import prices, usage
from entrepot.protocol.cloudapi import CloudMetrics, PlannedResource
from entrepot.rules.prices import PriceSheet, Tier

from .conftest import NOW, Gateway, SiteUnderTest, record

PARTS = (
    PlannedResource(kind="group", name="g"),
    PlannedResource(kind="instance", name="i", meter="instance_hour", quantity=1460, stays=False),
    PlannedResource(kind="storage", name="s", meter="storage_gb_month"),
    PlannedResource(kind="operations", name="s", meter="writes_per_10000"),
    PlannedResource(kind="transfers", name="i", meter="egress_gb", stays=False),
)
SHEET = PriceSheet(
    name="Contoso",
    currency="EUR",
    storage_gb_month=Decimal("0.02"),
    instance_hour=Decimal("0.05"),
    writes_per_10000=Decimal("0.05"),
    egress=(Tier(per_gb=Decimal("0.08")),),
)


async def _priced(site: SiteUnderTest) -> None:
    async def plan(*_: object) -> tuple[PlannedResource, ...]:
        return PARTS

    site.cloud.plan = plan  # type: ignore[method-assign]  # another cloud than the fixture's
    await site.database.write(prices.add_version, SHEET, by="anna", now=NOW)
    await site.database.write(prices.use, "", SHEET.name)


async def test_what_goes_on_costing_after_a_stop_is_listed_with_what_is_stored_now(site) -> None:
    point = await site.make_point()
    await _priced(site)
    await site.database.write(usage.set_stored, point.point, stored=50 * 10**9, objects=7, now=NOW)
    found = await site.services.books.resources(await site.services.get("cloud1"))
    assert (found.running, found.stopped, found.currency, found.unpriced) == (74.0, 1.0, "EUR", ())
    staying = [(one.kind, one.quantity, one.monthly) for one in found.resources if one.stays and one.meter]
    assert staying == [("storage", 50.0, 1.0), ("operations", 0.0, 0.0)]


async def test_meters_without_a_price_are_named_and_in_no_sum(site) -> None:
    await site.make_point()
    found = await site.services.books.resources(await site.services.get("cloud1"))
    assert (found.running, found.stopped, found.unpriced) == (None, None, ("x/hour", "x/disk"))


async def test_what_is_charged_by_use_has_the_price_of_a_unit(site) -> None:
    await site.make_point()
    await _priced(site)
    found = await site.services.books.resources(await site.services.get("cloud1"))
    rates = {one.meter: (one.monthly, one.rate) for one in found.resources if not one.quantity}
    assert rates == {
        "": (0.0, None),
        "storage_gb_month": (0.0, 0.02),
        "writes_per_10000": (0.0, 0.05),
        "egress_gb": (0.0, 0.08),
    }


async def _told(site: SiteUnderTest, asked: list[tuple[int, int]], stored: int | None, sent: int | None) -> None:
    async def metrics(_: str, since: int, until: int) -> CloudMetrics:
        asked.append((since, until))
        return CloudMetrics(stored_bytes=stored, stored_objects=1, egress_bytes=sent, since=since, until=until)

    site.cloud.metrics = metrics  # type: ignore[method-assign]  # another cloud than the fixture's


async def test_the_clouds_figures_are_held_against_the_same_hours_of_the_records(site) -> None:
    point = await site.make_point()
    gateway = Gateway(point.point)
    holder = site.cloud.services["cloud1"].holder
    for hours, sent in ((3, 800_000_000), (2, 100_000_000)):
        at = (NOW - hours * HOUR) * 1000
        key, data = gateway.segment([record(sent, time=at)], opened=at)
        await holder.put_document(key, data)
    await site.services.collect("cloud1")
    asked: list[tuple[int, int]] = []
    await _told(site, asked, stored=None, sent=930_000_000)
    point = await site.services.get("cloud1")
    found = await site.services.books.reconcile(point, 7)
    kept = await site.database.read(usage.stored_usage, point.point)
    until = hour_of(kept.collected)  # later hours may be incomplete
    assert asked == [(until - 7 * DAY, until)] == [(found.since, found.until)]
    sent, stored = found.figures
    assert (sent.by_cloud, sent.by_site, sent.verdict) == (930_000_000, 900_000_000, "agrees")
    assert (stored.by_cloud, stored.verdict) == (None, "unknown")
    await _told(site, asked, stored=10**12, sent=2 * 10**9)
    sent, stored = (await site.services.books.reconcile(point, 7)).figures
    assert (sent.verdict, stored.verdict) == ("differs", "differs")
    assert "gaps in the records" in sent.message


async def test_before_the_first_collection_the_site_claims_nothing(site) -> None:
    await site.make_point()
    await _told(site, [], stored=5, sent=5)
    found = await site.services.books.reconcile(await site.services.get("cloud1"), 500)
    assert [one.verdict for one in found.figures] == ["unknown", "unknown"]
    assert found.until - found.since == 90 * DAY


async def test_a_cloud_that_does_not_answer_is_an_error_and_not_a_difference(site) -> None:
    await site.make_point()
    site.cloud.failures["metrics"] = [UnavailableError("away")]
    with pytest.raises(UnavailableError):
        await site.services.books.reconcile(await site.services.get("cloud1"), 7)
