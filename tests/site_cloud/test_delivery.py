"""How a cloud point delivers: what is refused and why, what gateways are told, how figures show what was granted."""

import msgspec
import pytest

from entrepot.core.errors import RefusedError
from entrepot.core.times import HOUR
from entrepot.database import usage
from entrepot.protocol.cloudapi import CloudMetrics
from entrepot.protocol.cloudpointapi import CloudPointPatch
from entrepot.protocol.control import Delivery
from entrepot.protocol.costapi import BudgetRequest
from entrepot.protocol.siteapi import TaskState
from entrepot.rules.reconciling import judge_granted
from entrepot.site.cloud import delivery
from entrepot.site.cloud.info import cloud_point_info, usage_report
from entrepot.site.cloud.states import CloudAction
from entrepot.site.cost import budgets as budget_uses

from .conftest import NOW, Gateway, SiteUnderTest, record

TO_REDIRECT = CloudPointPatch(delivery=Delivery.REDIRECT)


async def info(site: SiteUnderTest):
    point = await site.services.get("cloud1")
    return await site.database.read(cloud_point_info, point, now=NOW)


async def budget(site: SiteUnderTest, point: str) -> None:
    def put(connection) -> None:
        budget_uses.put(connection, point, BudgetRequest(bytes=10**12), by="anna", now=NOW)

    await site.database.write(put)


async def test_streams_are_the_default_and_the_control_document_says_nothing_of_it(site) -> None:
    await site.make_point()
    assert site.control_of().settings.delivery is msgspec.UNSET
    shown = await info(site)
    assert (shown.delivery, shown.delivery_note) == (Delivery.STREAM, "")


async def test_gateways_are_told_at_once_and_people_what_it_means(site) -> None:
    await site.make_point()
    site.cloud.redirects = True
    before = site.control_of().fresh.counter
    await site.services.patch("cloud1", TO_REDIRECT)
    told = site.control_of()
    assert (told.settings.delivery, told.fresh.counter) == (Delivery.REDIRECT, before + 1)
    shown = await info(site)
    assert shown.delivery is Delivery.REDIRECT
    assert "60 seconds" in shown.delivery_note
    assert "revocation" in shown.delivery_note
    await site.services.patch("cloud1", CloudPointPatch(description="unchanged else"))
    assert site.control_of().settings.delivery is Delivery.REDIRECT
    ordered = await site.services.act(CloudAction.STOP, "cloud1")
    await site.settle()
    task = await site.task(ordered)
    assert delivery.LAG in task.message
    await site.services.patch("cloud1", CloudPointPatch(delivery=Delivery.STREAM))
    assert site.control_of().settings.delivery is msgspec.UNSET


async def test_a_store_without_links_refuses_with_the_reason(site) -> None:
    await site.make_point()
    with pytest.raises(RefusedError, match="folder of the cloud host") as refused:
        await site.services.patch("cloud1", TO_REDIRECT)
    assert "S3 or Azure Blob" in refused.value.next_step
    assert (await info(site)).delivery is Delivery.STREAM


async def test_a_creation_is_refused_before_anything_is_made(site) -> None:
    site.import_certificate()
    request = site.request(delivery=Delivery.REDIRECT)
    with pytest.raises(RefusedError, match="no links"):
        await site.services.plan(request)
    ordered = await site.services.create(request)
    await site.settle()
    task = await site.task(ordered)
    assert task.state is TaskState.FAILED
    assert "no links" in task.error
    assert site.cloud.services == {}
    site.cloud.redirects = True
    await site.services.create(request)
    await site.settle()
    assert site.control_of().settings.delivery is Delivery.REDIRECT


async def test_an_update_says_when_the_store_gives_no_links_any_more(site) -> None:
    await site.make_point()
    site.cloud.redirects = True
    await site.services.patch("cloud1", TO_REDIRECT)
    site.cloud.redirects = False
    ordered = await site.services.act(CloudAction.UPDATE, "cloud1")
    await site.settle()
    task = await site.task(ordered)
    assert task.state is TaskState.FAILED
    assert "no links" in task.error


async def test_under_a_budget_it_is_refused(site) -> None:
    point = await site.make_point()
    site.cloud.redirects = True
    await budget(site, point.point)
    with pytest.raises(RefusedError, match="budget"):
        await site.services.patch("cloud1", TO_REDIRECT)
    await site.services.patch("cloud1", CloudPointPatch(delivery=Delivery.STREAM))


async def test_a_budget_that_comes_later_turns_it_into_streams_and_says_so(site) -> None:
    point = await site.make_point()
    site.cloud.redirects = True
    await site.services.patch("cloud1", TO_REDIRECT)
    await budget(site, point.point)
    await site.services.control.publish(point.point, await site.services.providers.store_of(point))
    told = site.control_of()
    assert (told.bounded, told.settings.delivery) == (True, msgspec.UNSET)
    assert "budget" in (await info(site)).delivery_note


async def collected(site: SiteUnderTest) -> str:
    """300 MB granted and 100 MB sent, an hour ago, collected; the point's id."""
    point = await site.make_point()
    at = (NOW - HOUR) * 1000
    granted = msgspec.structs.replace(
        record(0, time=at), status=307, delivery="redirect", granted=300_000_000, device="dev-9"
    )
    key, data = Gateway(point.point).segment([record(100_000_000, time=at), granted], opened=at)
    await site.cloud.services["cloud1"].holder.put_document(key, data)
    await site.services.collect("cloud1")
    return point.point


async def test_figures_show_what_was_granted_apart_and_thresholds_count_both(site) -> None:
    point = await collected(site)
    cloud = await site.services.get(point)
    hours = await site.database.read(usage_report, cloud, now=NOW, since=None, until=None, by="")
    [hour] = [one for one in hours.buckets if one.requests]  # in another hour the site uploaded
    assert (hour.sent, hour.granted, hour.requests) == (100_000_000, 300_000_000, 2)
    devices = await site.database.read(usage_report, cloud, now=NOW, since=None, until=None, by="device")
    assert max((one.subject, one.sent, one.granted) for one in devices.buckets) == ("dev-9", 0, 300_000_000)
    used = (await info(site)).usage
    assert (used.transferred_30_days, used.granted_30_days) == (400_000_000, 300_000_000)
    assert (await site.database.read(usage.totals_since, point, 0)).sent == 400_000_000


async def test_the_log_says_what_was_granted_in_lines_of_its_own(site) -> None:
    await collected(site)
    log = (site.folder / "logs" / "CloudDP-cloud1.log").read_text()
    assert "status=3xx requests=1 bytes=300000000" in log
    assert "status=2xx requests=1 bytes=100000000" in log


async def test_what_left_the_store_is_held_against_what_was_granted(site) -> None:
    await collected(site)

    async def metrics(_: str, since: int, until: int) -> CloudMetrics:
        return CloudMetrics(
            stored_bytes=None,
            stored_objects=None,
            egress_bytes=101_000_000,
            since=since,
            until=until,
            store_egress_bytes=402_000_000,
        )

    site.cloud.metrics = metrics
    found = await site.services.books.reconcile(await site.services.get("cloud1"), 7)
    figures = {one.figure: (one.by_cloud, one.by_site, one.verdict) for one in found.figures}
    assert figures["sent to clients"] == (101_000_000, 100_000_000, "agrees")
    assert figures["granted by links"] == (402_000_000, 300_000_000, "agrees")


async def test_what_the_site_itself_fetched_from_the_store_is_no_difference(site) -> None:
    await collected(site)
    fetched = 900_000_000  # it validated what the point holds
    told = CloudMetrics(
        stored_bytes=None,
        stored_objects=None,
        egress_bytes=101_000_000,
        since=0,
        until=0,
        store_egress_bytes=402_000_000 + fetched,
    )

    async def metrics(*_: object) -> CloudMetrics:
        return told

    site.cloud.metrics = metrics
    point = await site.services.get("cloud1")

    async def verdict() -> str:
        found = await site.services.books.reconcile(point, 7)
        return next(one.verdict for one in found.figures if one.figure == "granted by links")

    assert await verdict() == "differs"
    hour = await site.database.read(_an_hour_with_figures, point.point)
    await site.database.write(usage.add_to_hour, point.point, hour, fetched=fetched)
    assert await verdict() == "agrees"


def _an_hour_with_figures(connection, point: str) -> int:
    return usage.hours(connection, point, since=0, until=2**40, limit=1)[0].hour


@pytest.mark.parametrize(
    ("by_store", "granted", "streamed", "word", "says"),
    [
        (10**10, 10**10, 0, "agrees", ""),
        (15 * 10**9, 10**10, 5 * 10**9, "agrees", ""),
        (4 * 10**10, 10**10, 0, "differs", "several times"),
        (10**9, 10**10, 0, "differs", "followed their links"),
        (None, 10**10, 0, "unknown", "does not tell"),
        (10**10, None, None, "unknown", "not counted"),
    ],
)
def test_links_that_were_used_often_or_not_at_all_show(by_store, granted, streamed, word, says) -> None:
    verdict = judge_granted(by_store, granted, streamed)
    assert verdict.word == word
    assert says in verdict.message
