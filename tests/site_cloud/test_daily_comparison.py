"""Once a day the cloud's own figures are held against the site's, and what that finds is kept and shown (R25, R26)."""

import asyncio

import pytest

from entrepot.core.errors import UnavailableError
from entrepot.core.times import DAY, HOUR
from entrepot.database import alerts, usage
from entrepot.protocol.cloudapi import CloudMetrics
from entrepot.rules.alerts import AlertState
from entrepot.rules.reconciling import MOST_DAYS, SETTLED_AFTER
from entrepot.site.cloud.books import ASK_AGAIN_SECONDS, Books
from entrepot.site.cloud.info import cloud_point_info
from entrepot.site.cloud.loops import CloudLoops

from .conftest import NOW, Crash, Gateway, record

MIDNIGHT = NOW // DAY * DAY + DAY
GB = 10**9


class Compared:
    """A cloud point of which the cloud tells other figures than the site, or the same."""

    def __init__(self, site, point) -> None:
        self.site, self.id, self.point = site, point.point, point
        self.gateway = Gateway(point.point)
        self.asked: list[tuple[int, int]] = []
        self.tells: int | None = 0
        site.cloud.metrics = self._metrics

    async def _metrics(self, _: str, since: int, until: int) -> CloudMetrics:
        await self.site.cloud._call("metrics")
        self.asked.append((since, until))
        return CloudMetrics(stored_bytes=0, stored_objects=0, egress_bytes=self.tells, since=since, until=until)

    async def serve(self, sent: int) -> None:
        at = int(self.site.clock()) * 1000
        key, data = self.gateway.segment([record(sent, time=at)], opened=at)
        await self.site.cloud.services["cloud1"].holder.put_document(key, data)

    async def day_passes(self, days: int = 1, *, told: int | None = 0) -> bool:
        """So many days pass and are collected; the cloud tells so much of what it sent. Whether it was compared."""
        self.tells = told
        self.site.clock.now = self.site.clock() // DAY * DAY + days * DAY + SETTLED_AFTER
        await self.site.services.monitor.collect(self.id)
        return await self.compare()

    async def compare(self) -> bool:
        return await self.site.services.books.compare_if_due(self.point)

    async def shown(self):
        """The last comparison, as the API has it."""
        return (await self.site.database.read(cloud_point_info, self.point, now=self.site.clock())).compared

    async def alert(self):
        return (await self.site.database.read(alerts.find, type_="figures_differ", subject=self.id)).alert


@pytest.fixture
async def compared(site):
    return Compared(site, await site.make_point())


async def test_each_whole_day_is_compared_once_and_shown_with_its_age(compared) -> None:
    await compared.serve(3 * GB)
    assert not await compared.day_passes(0, told=3 * GB), "the day is not over"
    assert await compared.day_passes(told=3 * GB)
    assert not await compared.compare()
    compared.site.clock.advance(5 * HOUR)
    assert not await compared.compare()
    shown = await compared.shown()
    sent = next(one for one in shown.figures if one.figure == "sent to clients")
    assert (sent.by_cloud, sent.by_site, sent.verdict) == (3 * GB, 3 * GB, "agrees")
    assert (shown.until, shown.age_seconds, shown.error) == (MIDNIGHT, 5 * HOUR, "")
    assert await compared.day_passes()
    assert compared.asked[-1] == (MIDNIGHT, MIDNIGHT + DAY)


async def test_days_that_could_not_be_compared_are_made_up_for(compared) -> None:
    await compared.day_passes()
    assert await compared.day_passes(3)
    assert compared.asked[-1] == (MIDNIGHT, MIDNIGHT + 3 * DAY)
    assert await compared.day_passes(40)
    assert compared.asked[-1] == (MIDNIGHT + (43 - MOST_DAYS) * DAY, MIDNIGHT + 43 * DAY)


async def test_a_figure_that_differs_two_days_on_end_is_an_alert_until_it_agrees(compared) -> None:
    await compared.day_passes()
    await compared.day_passes(told=9 * GB)
    assert (await compared.alert()).state is AlertState.NEVER_TRIGGERED, "a cloud may be late once"
    await compared.day_passes(told=8 * GB)
    alert = await compared.alert()
    assert alert.state is AlertState.ACTIVE
    assert "Sent to clients: 8.0 GB by the cloud, 0 B by the site. More left the cloud" in alert.message
    await compared.day_passes(told=0)
    alert = await compared.alert()
    assert (alert.state, alert.occurrences) == (AlertState.CANCELED, 1)
    await compared.day_passes(told=9 * GB)
    assert (await compared.alert()).occurrences == 1


async def test_an_alert_stays_while_the_figure_that_differed_is_not_told_although_another_agrees(compared) -> None:
    await compared.day_passes()
    for told in (9 * GB, 9 * GB, None, None):
        await compared.day_passes(told=told)
    shown = {one.figure: one.verdict for one in (await compared.shown()).figures}
    assert shown == {"sent to clients": "unknown", "stored": "agrees"}
    assert (await compared.alert()).state is AlertState.ACTIVE
    await compared.day_passes(told=8 * GB)
    alert = await compared.alert()
    assert (alert.state, alert.occurrences) == (AlertState.ACTIVE, 1)
    assert "8.0 GB by the cloud" in alert.message
    await compared.day_passes(told=0)
    assert (await compared.alert()).state is AlertState.CANCELED


async def test_a_day_that_was_not_told_is_not_the_day_that_agreed(compared) -> None:
    await compared.day_passes()
    for told in (9 * GB, None, 9 * GB):
        assert (await compared.alert()).state is AlertState.NEVER_TRIGGERED
        await compared.day_passes(told=told)
    assert (await compared.alert()).state is AlertState.ACTIVE


async def test_a_clock_that_was_set_back_holds_no_comparison_up(compared) -> None:
    clock = compared.site.clock
    await compared.day_passes()
    compared.site.cloud.failures["metrics"] = [UnavailableError("The metrics are away.")]
    clock.advance(20 * DAY)
    await compared.site.services.monitor.collect(compared.id)
    assert not await compared.compare()
    clock.advance(-19 * DAY)
    assert await compared.compare()


async def test_a_cloud_that_does_not_answer_changes_nothing_and_is_asked_again_after_an_hour(compared) -> None:
    await compared.day_passes(told=0)
    compared.site.cloud.failures["metrics"] = [UnavailableError("The metrics are away.")]
    assert not await compared.day_passes()
    shown = await compared.shown()
    assert (shown.until, shown.error) == (MIDNIGHT, "The metrics are away.")
    assert (await compared.alert()).state is AlertState.NEVER_TRIGGERED
    asked = compared.site.cloud.calls.count("metrics")
    compared.site.clock.advance(ASK_AGAIN_SECONDS - 1)
    assert not await compared.compare()
    assert compared.site.cloud.calls.count("metrics") == asked
    compared.site.clock.advance(1)
    assert await compared.compare()
    assert ((await compared.shown()).until, (await compared.shown()).error) == (MIDNIGHT + DAY, "")


async def test_a_cloud_that_never_answers_holds_no_collection_up_and_is_given_up(compared) -> None:
    site, never = compared.site, asyncio.Event()
    await compared.day_passes()
    site.clock.advance(DAY)
    await site.services.monitor.collect(compared.id)
    site.cloud.on_call = lambda name: never.wait() if name == "metrics" else asyncio.sleep(0)
    loops = CloudLoops(site.services)
    await loops.reconcile_once()
    assert not loops._busy["reconcile", compared.id].done()
    site.clock.advance(HOUR)
    await compared.serve(GB)
    await loops.collect_once()
    await loops._busy["collect", compared.id]
    assert (await site.database.read(usage.totals_since, compared.id, 0)).sent == GB
    loops._busy["reconcile", compared.id].cancel()
    books = Books(site.database, site.services.providers, clock=site.clock, patience=0)
    assert not await books.compare_if_due(compared.point)
    assert "does not answer" in (await compared.shown()).error


async def test_killed_at_any_step_a_comparison_is_made_and_alerts_once(compared) -> None:
    """Nothing is half kept: either the day is compared, with its alert, or it is still to be."""
    site = compared.site
    await compared.day_passes()
    await compared.day_passes(told=9 * GB)
    compared.tells = 9 * GB
    for step in range(20):
        site.clock.advance(DAY)
        await site.services.monitor.collect(compared.id)
        site.fuse.arm(step)
        crashed = False
        try:
            assert await compared.compare()
        except Crash:
            crashed = True
            site.boot()
            await compared.compare()
        site.fuse.arm(-1)
        assert (await compared.shown()).until == site.clock() // DAY * DAY
        alert = await compared.alert()
        assert (alert.state, alert.occurrences) == (AlertState.ACTIVE, 1)
        if not crashed:
            break
    assert step > 3
