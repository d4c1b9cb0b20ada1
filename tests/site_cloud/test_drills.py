"""Load drills as the site plans, permits, counts and remembers them."""

from collections.abc import AsyncIterator
from decimal import Decimal

import msgspec
import pytest
from litestar import Litestar, Request, Response
from litestar.testing import AsyncTestClient
from sqlalchemy import select

from entrepot.core.errors import ConflictError, EntrepotError, NotFoundError, RefusedError, UnauthenticatedError
from entrepot.core.sizes import GB, MB
from entrepot.core.times import DAY, HOUR
from entrepot.database import budgets, drills, pointsets, usage
from entrepot.database.grants import LAG
from entrepot.database.tables.cost import budget_grant
from entrepot.protocol.costapi import BudgetRequest, PriceSheetRequest
from entrepot.protocol.drillapi import DrillPermit, DrillPlan, DrillRecord, DrillRequest
from entrepot.rules.prices import Tier
from entrepot.site.cloud.states import CloudAction
from entrepot.site.cost import sheets
from entrepot.site.cost.budgets import put as put_budget
from entrepot.site.cost.forecasting import forecasts
from entrepot.site.drills.permits import Drills
from entrepot.site.drills.routes import drill_router
from entrepot.trust.tokens import set_ids, verify_content_token

from ..database_cloud.conftest import DRILL_REPORT
from .conftest import NOW, SITE, Gateway, SiteUnderTest, record
from .published import publish

REQUEST = DrillRequest(devices=3, seconds=30, most_bytes=500 * MB)


class Drilling:
    """A ready cloud point with two contents."""

    def __init__(self, site: SiteUnderTest, point: str) -> None:
        self.site, self.point = site, point
        self.drills = Drills(site.database, site.keys, clock=site.clock)
        publish(site, point, "small", (1000,))
        self.set_id = publish(site, point, "large", (3 * MB, 2 * MB))

    async def plan(self, **changes: object) -> DrillPlan:
        return await self.drills.plan("cloud1", msgspec.structs.replace(REQUEST, **changes))

    async def permit(self, **changes: object) -> DrillPermit:
        return await self.drills.permit("cloud1", msgspec.structs.replace(REQUEST, **changes), by="anna")


@pytest.fixture
async def drilling(site: SiteUnderTest) -> Drilling:
    return Drilling(site, (await site.make_point()).point)


async def test_the_plan_takes_the_largest_content_and_says_what_it_may_transfer(drilling) -> None:
    plan = await drilling.plan()
    assert (plan.content_name, plan.version, plan.objects, plan.stored) == ("large", 1, 2, 5 * MB)
    assert (plan.bytes, plan.currency, plan.amount) == (500 * MB, "", None)
    assert plan.url.startswith("https://cloud1.contoso.com:")
    assert (await drilling.plan(content="Small")).content_name == "small"


async def test_devices_that_are_held_to_a_rate_bound_what_may_be_transferred(drilling) -> None:
    assert (await drilling.plan(rate=100_000)).bytes == 3 * (30 * 100_000 + 3 * MB)  # and what is begun at the end


async def test_the_plan_is_priced_by_the_tier_that_the_month_has_reached(site, drilling) -> None:
    prices = PriceSheetRequest(
        currency="EUR",
        storage_gb_month=Decimal(0),
        egress=(Tier(per_gb=Decimal(0), up_to_gb=1), Tier(per_gb=Decimal("0.10"))),
    )
    with site.database.transaction() as connection:
        sheets.put(connection, "ours", prices, by="anna", now=NOW)
        sheets.use(connection, "ours", "cloud1", by="anna", now=NOW)
    assert (await drilling.plan(most_bytes=2 * GB)).amount == Decimal("0.10")
    with site.database.transaction() as connection:
        usage.add_to_hour(connection, drilling.point, NOW - HOUR, sent=GB)
    plan = await drilling.plan(most_bytes=2 * GB)
    assert (plan.amount, plan.currency) == (Decimal("0.20"), "EUR")


async def test_bytes_that_do_not_suffice_for_all_devices_are_told(drilling) -> None:
    assert not any("not all of them" in note for note in (await drilling.plan()).notes)
    told = "less than an object of 2.5 MB for each device"
    assert any(told in note for note in (await drilling.plan(devices=100, most_bytes=100 * MB)).notes)


async def test_a_drill_that_uses_much_of_the_threshold_says_so(drilling) -> None:
    assert not any("threshold, " in note for note in (await drilling.plan()).notes)
    assert any(
        "2.0 % of its transfer threshold, 10.0 TB" in n for n in (await drilling.plan(most_bytes=200 * GB)).notes
    )


async def test_tokens_open_that_content_on_that_point_for_synthetic_devices_and_not_for_long(site, drilling) -> None:
    permit = await drilling.permit()
    assert [one.size for one in permit.objects] in ([3 * MB, 2 * MB], [2 * MB, 3 * MB])
    kids = site.control_of().token_kids

    def claims(token: str, audience: str = drilling.point, now: float = NOW):  # type: ignore[no-untyped-def]
        return verify_content_token(token, site.keys.ring, SITE, audience, kids, now)

    now = site.clock()
    found = [claims(token, now=now) for token in permit.tokens]
    assert [one.sub for one in found] == [f"{permit.drill}-{number:04}" for number in range(3)]
    assert {set_ids(one) for one in found} == {(drilling.set_id,)}
    assert {one.exp for one in found} == {permit.expires} == {int(now) + 90}
    for wrong in ({"audience": "pt-other", "now": now}, {"now": now + 91}):
        with pytest.raises(UnauthenticatedError):
            claims(permit.tokens[0], **wrong)


async def test_one_drill_at_a_time_until_it_is_reported_or_over(site, drilling) -> None:
    first = await drilling.permit()
    with pytest.raises(ConflictError, match="under way"):
        await drilling.permit()
    await drilling.drills.report(first.drill, DRILL_REPORT)
    with pytest.raises(ConflictError, match="reported already"):
        await drilling.drills.report(first.drill, DRILL_REPORT)
    second = await drilling.permit()
    site.clock.advance(91)
    await drilling.permit()
    with pytest.raises(NotFoundError):
        await drilling.drills.report("drill-none", DRILL_REPORT)
    listed = await drilling.drills.listed("cloud1")
    assert [(one.by, one.report) for one in listed if one.drill == first.drill] == [("anna", DRILL_REPORT)]
    assert [one.report for one in listed if one.drill == second.drill] == [None]
    with site.database.transaction() as connection:
        assert drills.prune(connection, before=int(site.clock()) + 1) == 3


async def test_what_cannot_serve_is_not_drilled(site, drilling) -> None:
    with pytest.raises(NotFoundError):
        await drilling.drills.plan("cloud2", REQUEST)
    with pytest.raises(NotFoundError):
        await drilling.plan(content="none")
    with pytest.raises(ConflictError, match="does not have version 2 of 'large' whole"):
        await drilling.plan(content="large", version=2)
    publish(site, drilling.point, "coming", (10,), state=pointsets.SENDING)
    with pytest.raises(ConflictError, match="version 1 of 'coming'"):
        await drilling.plan(content="coming")
    await site.services.act(CloudAction.STOP, "cloud1")
    await site.settle()
    with pytest.raises(ConflictError, match="cloud1 is stopped"):
        await drilling.permit()


async def test_under_a_budget_the_drill_has_one_allowance_or_is_refused(site, drilling) -> None:
    with site.database.transaction() as connection:
        usage.set_collected(connection, drilling.point, now=NOW + LAG)
        put_budget(connection, "cloud1", BudgetRequest(bytes=600 * MB), by="anna", now=NOW)
    permit = await drilling.permit()
    kids = site.control_of().token_kids
    found = [
        verify_content_token(token, site.keys.ring, SITE, drilling.point, kids, site.clock()) for token in permit.tokens
    ]
    assert {(one.jti, one.allow) for one in found} == {(permit.drill, 500 * MB)}
    with site.database.reading() as connection:
        assert connection.execute(select(budget_grant.c.device, budget_grant.c.bytes)).all() == [
            (permit.drill, 500 * MB)
        ]
        assert budgets.touches(connection, drilling.point)
    await drilling.drills.report(permit.drill, DRILL_REPORT)
    with pytest.raises(RefusedError, match=r"has no room for 500\.0 MB"):
        await drilling.permit()
    assert len(await drilling.drills.listed("cloud1")) == 1  # a refusal leaves no drill that would be waited for


async def test_its_transfers_count_under_its_own_name_and_are_no_trend(site, drilling) -> None:
    permit = await drilling.permit()
    gateway = Gateway(drilling.point)
    holder = site.cloud.services["cloud1"].holder
    for day in range(20, 0, -1):
        moment = NOW - day * DAY
        records = [record(100 * MB, time=moment * 1000)]
        if day == 2:
            records += [record(900 * GB, time=moment * 1000, device=f"{permit.drill}-{n:04}") for n in range(3)]
        key, data = gateway.segment(records, opened=moment * 1000)
        await holder.put_document(key, data)
    await site.services.monitor.collect(drilling.point)
    with site.database.reading() as connection:
        by_device = usage.hours_by(connection, drilling.point, since=0, until=NOW, by="device", limit=100)
        total = usage.totals_since(connection, drilling.point, 0)
        [_, transfer] = forecasts(connection, await site.services.get("cloud1"), NOW)
    assert sum(one.sent for one in by_device if one.subject == permit.drill) == 2700 * GB
    assert {one.subject for one in by_device} == {"dev-1", permit.drill}
    assert (total.sent, total.drilled) == (2700 * GB + 20 * 100 * MB, 2700 * GB)
    assert 90 * MB < transfer.per_day < 110 * MB
    assert transfer.present == total.sent, "what a threshold counts is what a forecast begins with"


def _problem(_: Request, error: EntrepotError) -> Response:
    return Response({"code": error.code}, status_code=error.family.status)


@pytest.fixture
async def api(drilling: Drilling) -> AsyncIterator[AsyncTestClient]:
    app = Litestar([drill_router(drilling.drills)], exception_handlers={EntrepotError: _problem})
    async with AsyncTestClient(app) as client:
        yield client


async def test_it_is_asked_for_over_http(api) -> None:
    body = msgspec.json.encode(REQUEST)
    assert (await api.post("/cloud-points/cloud1/drills/plan", content=body)).status_code == 200
    answer = await api.post("/cloud-points/cloud1/drills", content=body)
    permit = msgspec.json.decode(answer.content, type=DrillPermit)
    assert (answer.status_code, len(permit.tokens)) == (201, 3)
    assert "***" in repr(permit)
    assert permit.tokens[0] not in repr(permit)
    answer = await api.put(f"/drills/{permit.drill}/report", content=msgspec.json.encode(DRILL_REPORT))
    assert answer.status_code == 204
    [listed] = msgspec.json.decode((await api.get("/cloud-points/cloud1/drills")).content, type=list[DrillRecord])
    assert listed.report == DRILL_REPORT
