"""A grant is charged until its bytes are known to be in the figures (R23): what instances won, what they accounted for,
what they lost."""

import asyncio

import pytest

from entrepot.core.sizes import MIB
from entrepot.core.times import DAY, HOUR
from entrepot.database import alerts, contents, usage
from entrepot.database.grants import LAG
from entrepot.protocol.allowances import ALL_SEGMENTS, Mark, encode_mark, encode_slot, mark_key, slot_key
from entrepot.protocol.costapi import BudgetRequest
from entrepot.rules.allowance import slots
from entrepot.site.cloud.alerting import Alerting
from entrepot.site.cost.budgets import EARLY, BudgetBook, listed, put, sweep_slots
from entrepot.site.cost.settling import CLOSED_AFTER, KEPT

from .bare import APP
from .conftest import NOW, Gateway, record

BUDGET = 500 * MIB
FOREVER = NOW + 10**9


class Bounded:
    """A cloud point with a budget, one grant, and a hand on what its instances leave in the store."""

    def __init__(self, site, point) -> None:
        self.site, self.point = site, point
        self.holder = site.cloud.services["cloud1"].holder
        book = BudgetBook(site.database, clock=site.clock)
        self.grant = book.grant(point.point, device="dev-1", content="pkg-1", version=1, size=100 * MIB)
        self.slot = slots(self.grant.bytes)[0]

    async def win(self, instance: str, number: int) -> None:
        await self.holder.put_document(slot_key(self.grant.jti, number), encode_slot(instance, "nonce"))

    async def mark(self, instance: str, *, before: int, segments: int = ALL_SEGMENTS, ended: bool = False) -> None:
        mark = Mark(before=before, segments=segments, at=int(self.site.clock()), ended=ended)
        await self.holder.put_document(mark_key(instance), encode_mark(mark))

    async def send(self, gateway: Gateway, sent: int) -> None:
        """An instance's next segment arrives in the store."""
        key, data = gateway.segment([record(sent, time=int(self.site.clock()) * 1000)])
        await self.holder.put_document(key, data)

    async def collect(self) -> tuple[int, int]:
        """Collect; what is used, and what is charged beside."""
        await self.site.services.monitor.collect(self.point.point)
        [info] = await self.site.database.read(listed, now=self.site.clock())
        return info.used, info.granted


@pytest.fixture
async def bounded(site):
    point = await site.make_point()
    with site.database.transaction() as connection:
        usage.set_collected(connection, point.point, now=NOW + LAG)
        put(connection, "cloud1", BudgetRequest(bytes=BUDGET), by="anna", now=NOW)
    return Bounded(site, point)


def _after_the_end(bounded: Bounded) -> None:
    bounded.site.clock.advance(bounded.grant.expires - bounded.site.clock() + CLOSED_AFTER + 1)


async def test_a_grant_counts_whole_until_its_token_has_ended(bounded):
    await bounded.win("gw-1", 0)
    assert await bounded.collect() == (0, bounded.grant.bytes)


async def test_what_nobody_won_is_free_again_when_the_token_has_ended(bounded):
    _after_the_end(bounded)
    assert await bounded.collect() == (0, 0)


async def test_what_was_won_counts_until_the_figures_have_it(bounded):
    gateway = Gateway(bounded.point.point)
    await bounded.win("gw-1", 0)
    await bounded.win("gw-1", 1)
    _after_the_end(bounded)
    assert await bounded.collect() == (0, 2 * bounded.slot), "the instance has not said that it is done"
    await bounded.mark("gw-1", before=bounded.grant.expires, segments=1)
    assert await bounded.collect() == (0, 2 * bounded.slot), "it has not said so of this token"
    await bounded.mark("gw-1", before=bounded.grant.expires + 1, segments=1)
    assert await bounded.collect() == (0, 2 * bounded.slot), "its segment has not come yet"
    await bounded.send(gateway, 7 * MIB)
    assert await bounded.collect() == (7 * MIB, 0)


async def test_every_instance_accounts_for_what_it_won_itself(bounded):
    await bounded.win("gw-1", 0)
    await bounded.win("gw-2", 1)
    await bounded.mark("gw-1", before=FOREVER, segments=0, ended=True)
    _after_the_end(bounded)
    assert await bounded.collect() == (0, bounded.slot)
    await bounded.mark("gw-2", before=FOREVER, segments=0, ended=True)
    assert await bounded.collect() == (0, 0)


async def test_while_a_segment_is_missing_what_was_won_counts(bounded):
    gateway = Gateway(bounded.point.point)
    await bounded.win("gw-1", 0)
    await bounded.mark("gw-1", before=FOREVER, ended=True)
    lost = gateway.segment([record(MIB)])
    await bounded.send(gateway, 2 * MIB)
    _after_the_end(bounded)
    assert await bounded.collect() == (2 * MIB, bounded.slot)
    await bounded.holder.put_document(*lost)
    assert await bounded.collect() == (3 * MIB, 0)


async def test_accepting_a_gap_frees_nothing_that_was_won(bounded):
    gateway = Gateway(bounded.point.point)
    await bounded.win("gw-1", 0)
    await bounded.mark("gw-1", before=FOREVER, ended=True)
    gateway.segment([record(MIB)])
    await bounded.send(gateway, 2 * MIB)
    _after_the_end(bounded)
    await bounded.collect()
    alert = await bounded.site.database.read(alerts.find, type_="accounting_gap", subject=bounded.point.point)
    await Alerting(bounded.site.database, clock=bounded.site.clock).cancel(alert.id, by="ann", comment="disk lost")
    assert await bounded.collect() == (2 * MIB, bounded.slot)


async def test_what_a_lost_instance_won_counts_until_no_period_has_it_and_is_told(bounded):
    await bounded.win("gw-lost", 0)
    _after_the_end(bounded)
    assert await bounded.collect() == (0, bounded.slot)
    bounded.site.clock.advance(2 * DAY)
    [info] = await bounded.site.database.read(listed, now=bounded.site.clock())
    assert (info.granted, info.unaccounted) == (bounded.slot, bounded.slot)
    assert await sweep_slots(bounded.site.database, bounded.site.services) == 0
    bounded.site.clock.advance(KEPT)
    assert await bounded.collect() == (0, 0)
    assert await sweep_slots(bounded.site.database, bounded.site.services) == 1
    assert (await bounded.holder.list_documents("allow/")).keys == ()


async def test_slots_and_marks_go_from_the_store_when_they_tell_nothing_any_more(bounded):
    await bounded.win("gw-1", 0)
    await bounded.mark("gw-1", before=FOREVER, segments=0, ended=True)
    _after_the_end(bounded)
    await bounded.collect()
    assert await sweep_slots(bounded.site.database, bounded.site.services) == 0, "a late instance must find its slots"
    bounded.site.clock.advance(3 * DAY)
    assert await sweep_slots(bounded.site.database, bounded.site.services) == 1
    assert (await bounded.holder.list_documents("")).keys == ("control", "trust")


async def test_a_mark_stays_while_a_grant_that_it_speaks_of_is_not_settled(bounded):
    """The collection that needs it may be late: the store did not answer for days."""
    await bounded.win("gw-1", 0)
    await bounded.mark("gw-1", before=FOREVER, segments=0, ended=True)
    bounded.site.clock.advance(4 * DAY)
    await sweep_slots(bounded.site.database, bounded.site.services)
    assert await bounded.collect() == (0, 0), "the mark says that nothing was sent of it"
    await sweep_slots(bounded.site.database, bounded.site.services)
    assert (await bounded.holder.list_documents("")).keys == ("control", "trust")


@pytest.mark.parametrize("rubbish", [b"", b"gw-1", b"\xff\xfe x", b"x" * 150])
async def test_rubbish_in_the_store_frees_nothing(bounded, rubbish):
    await bounded.holder.put_document(slot_key(bounded.grant.jti, 0), rubbish)
    await bounded.holder.put_document(mark_key("gw-1"), rubbish)
    _after_the_end(bounded)
    assert await bounded.collect() == (0, bounded.slot)


async def test_before_the_first_grant_of_a_budget_what_was_sent_without_one_is_collected(site):
    point = await site.make_point()
    book = BudgetBook(site.database, clock=site.clock)
    gateway = Gateway(point.point)
    holder = site.cloud.services["cloud1"].holder
    await site.services.monitor.collect(point.point)
    with site.database.transaction() as connection:
        put(connection, "cloud1", BudgetRequest(bytes=BUDGET), by="anna", now=site.clock())

    def ask():
        return book.grant(point.point, device="dev-1", content="pkg-1", version=1, size=MIB)

    refused = await asyncio.to_thread(ask)
    assert refused.reason == EARLY.format(budget="cloud point cloud1")
    assert 0 < refused.retry_after < HOUR
    assert not await site.services.monitor.collect_if_due(point.point), "gateways may not ask for allowances yet"
    await holder.put_document(*gateway.segment([record(BUDGET)]))
    site.clock.advance(LAG)
    assert await site.services.monitor.collect_if_due(point.point)
    assert "no room" in (await asyncio.to_thread(ask)).reason, "what was sent before counts"


async def test_a_budget_of_a_content_waits_for_what_every_cloud_point_sent_before_it(site):
    """The other point's bytes count as well: as long as they are not collected nobody knows what is left."""
    here, there = await site.make_point(), await site.make_point("cloud2", fqdn="cloud2.contoso.com")
    with site.database.transaction() as connection:
        made = contents.add_content(connection, APP)
        put(connection, "app", BudgetRequest(bytes=BUDGET, scope="content"), by="anna", now=site.clock())
        put(connection, "cloud1", BudgetRequest(bytes=BUDGET), by="anna", now=site.clock())
    book = BudgetBook(site.database, clock=site.clock)

    def ask():
        return book.grant(here.point, device="dev-1", content=made.id, version=1, size=MIB)

    site.clock.advance(LAG)
    await site.services.monitor.collect(here.point)
    assert ask().reason == EARLY.format(budget="content app")
    await site.cloud.services["cloud2"].holder.put_document(
        *Gateway(there.point).segment([record(5, time=int(NOW) * 1000)])
    )
    assert await site.services.monitor.collect_if_due(there.point), "the budget waits for it"
    assert ask().bytes


async def test_what_arrives_while_a_collection_lists_the_store_is_not_taken_for_collected(site):
    """A collection brings in what there was when it began, however long it takes."""
    point = await site.make_point()
    holder = site.cloud.services["cloud1"].holder
    listed_at_once = holder.list_documents

    async def slowly(*args, **more):
        page = await listed_at_once(*args, **more)
        site.clock.advance(100)
        return page

    holder.list_documents = slowly
    began = int(site.clock())
    await site.services.collector.run_once(point, holder)
    kept = await site.database.read(usage.stored_usage, point.point)
    assert kept.collected == began
