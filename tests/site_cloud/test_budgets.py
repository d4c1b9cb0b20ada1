"""Budgets (R23): grants never exceed them, also when several ask at once, also after a crash; on either path."""

import asyncio

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import insert, select

from entrepot.core.errors import BadInputError, LimitedError, NotFoundError, UnavailableError
from entrepot.core.sizes import MIB, format_size
from entrepot.core.times import HOUR, MINUTE, hour_of
from entrepot.database import budgets, cloud, usage
from entrepot.database.budgets import Budget, Scope
from entrepot.database.grants import LAG, Grant
from entrepot.database.tables import cost
from entrepot.objects.memory import MemoryStore
from entrepot.protocol import Freshness, SealedRef
from entrepot.protocol.control import ServiceState
from entrepot.protocol.costapi import BudgetPatch, BudgetRequest
from entrepot.protocol.location import LocationReply, Network, Source, Tier, TierKind, Withheld
from entrepot.rules.allowance import SLOTS, enough, granted
from entrepot.rules.throttle import LEAST_RATE
from entrepot.site.cloud.states import CloudAction
from entrepot.site.cost.budgets import (
    REFUSED,
    BudgetBook,
    delete,
    enforce_stops,
    history,
    listed,
    put,
    sweep_slots,
    within_budgets,
)
from entrepot.site.cost.changing import change
from entrepot.trust.tokens import verify_content_token
from entrepot.web.allowances import Allowances
from entrepot.web.grants import Grant as Shown

from .conftest import NOW, SITE

SIZE = 10 * MIB
NEEDED = SIZE + SIZE // 4 + 4 * MIB


def _reply(point: str, device: str = "dev-1") -> LocationReply:
    def source(name: str, audience: str) -> Source:
        return Source(point=name, name=name, url="https://x", audience=audience, trust="system", reason="")

    ref = {field.name: bytes(32) if field.type is bytes else 0 for field in msgspec.structs.fields(SealedRef)}
    return LocationReply(
        nonce="n",
        fresh=Freshness(epoch=1, counter=1, issued=NOW, expires=NOW + HOUR),
        site=SITE,
        device=device,
        network=Network.INTERNET,
        content="pkg-1",
        name="App",
        version=1,
        root=SealedRef(**ref),
        set_id=bytes(32),
        tiers=(
            Tier(kind=TierKind.REMOTE, sources=(source("pt-home", "points:PS1"),)),
            Tier(kind=TierKind.CLOUD, sources=(source(point, point),)),
        ),
        withheld=(),
        tokens={"points:PS1": "home", point: "cloud"},
    )


@pytest.fixture
async def bounded(site):
    point = await site.make_point()
    with site.database.transaction() as connection:
        usage.set_collected(connection, point.point, now=NOW + LAG)
    return point


def _set(site, amount: int, **more) -> None:
    with site.database.transaction() as connection:
        put(connection, "cloud1", BudgetRequest(bytes=amount, **more), by="anna", now=NOW)


def _answer(site, point, device: str) -> LocationReply:
    book = BudgetBook(site.database, clock=site.clock)
    return within_budgets(_reply(point.point, device), book, site.keys, counter=1, needed=SIZE)


async def test_without_a_budget_nothing_changes(site, bounded):
    reply = _reply(bounded.point)
    book = BudgetBook(site.database, clock=site.clock)
    assert within_budgets(reply, book, site.keys, counter=1, needed=SIZE) is reply


async def test_tokens_carry_an_allowance_until_the_budget_is_granted_and_then_the_point_is_withheld(site, bounded):
    _set(site, 2 * NEEDED)
    for device in ("dev-1", "dev-2"):
        token = _answer(site, bounded, device).tokens[bounded.point]
        claims = verify_content_token(token, site.keys.ring, SITE, bounded.point, None, site.clock())
        assert (claims.allow, claims.sub) == (NEEDED, device)
    refused = _answer(site, bounded, "dev-3")
    assert bounded.point not in refused.tokens
    assert refused.tokens["points:PS1"] == "home"
    assert [tier.kind for tier in refused.tiers] == [TierKind.REMOTE]
    assert refused.withheld[-1].reason == REFUSED.format(budget="cloud point cloud1")
    [info] = await site.database.read(listed, now=site.clock())
    assert (info.used, info.granted, info.left) == (0, 2 * NEEDED, 0)


async def test_asking_again_gives_the_same_allowance_again_and_not_another(site, bounded):
    _set(site, 2 * NEEDED)
    ids = set()
    for _ in range(5):
        token = _answer(site, bounded, "dev-1").tokens[bounded.point]
        ids.add(verify_content_token(token, site.keys.ring, SITE, bounded.point, None, site.clock()).jti)
    assert len(ids) == 1


async def test_what_was_used_counts_when_the_grant_does_no_longer(site, bounded):
    _set(site, NEEDED)
    _answer(site, bounded, "dev-1")
    site.clock.advance(2 * HOUR + 60)
    assert bounded.point not in _answer(site, bounded, "dev-2").tokens, "what was sent may not be collected yet"
    with site.database.transaction() as connection:
        usage.add_to_hour(connection, bounded.point, hour_of(NOW), sent=100)
    site.clock.advance(HOUR)
    await site.services.monitor.collect(bounded.point)
    assert bounded.point not in _answer(site, bounded, "dev-2").tokens, "what was used counts"
    _set(site, NEEDED + 100)
    assert bounded.point in _answer(site, bounded, "dev-2").tokens


async def test_from_a_share_on_only_critical_content_is_granted(site, bounded):
    with site.database.transaction() as connection:
        budget = Budget(subject=bounded.point, bytes=4 * NEEDED, critical_percent=25, critical=("pkg-2",))
        budgets.put_budget(connection, budget)
    assert bounded.point in _answer(site, bounded, "dev-1").tokens
    assert bounded.point not in _answer(site, bounded, "dev-2").tokens
    book = BudgetBook(site.database, clock=site.clock)
    assert book.grant(bounded.point, device="dev-2", content="pkg-2", version=1, size=SIZE).bytes


async def test_a_budget_can_be_lifted(site, bounded):
    _set(site, NEEDED)
    with site.database.transaction() as connection:
        delete(connection, "cloud1", by="anna", now=NOW)
    assert _answer(site, bounded, "dev-1").tokens[bounded.point] == "cloud"
    with site.database.transaction() as connection, pytest.raises(NotFoundError):
        delete(connection, "cloud1", by="anna", now=NOW)


async def test_many_that_ask_at_once_are_granted_no_more_than_there_is(site, bounded):
    _set(site, 5 * NEEDED)
    book = BudgetBook(site.database, clock=site.clock)

    def ask(number: int) -> Grant | Withheld:
        return book.grant(bounded.point, device=f"dev-{number}", content="pkg-1", version=1, size=SIZE)

    found = await asyncio.gather(*(asyncio.to_thread(ask, number) for number in range(20)))
    assert sum(isinstance(grant, Grant) for grant in found) == 5


async def test_small_downloads_are_granted_slots_for_all_instances_or_where_room_is_short_what_they_need(site, bounded):
    _set(site, 32 * MIB + 6 * MIB)
    with site.database.transaction() as connection:
        cloud.update_cloud_point(connection, bounded.point, instances_wanted=SLOTS)
    book = BudgetBook(site.database, clock=site.clock)
    found = [
        book.grant(bounded.point, device=f"dev-{number}", content="pkg-1", version=1, size=MIB) for number in range(3)
    ]
    assert [one.bytes if isinstance(one, Grant) else 0 for one in found] == [32 * MIB, enough(MIB), 0]
    assert "no room" in found[2].reason
    site.clock.advance(HOUR + 11 * MINUTE)
    await site.services.monitor.collect(bounded.point)
    [info] = await site.database.read(listed, now=site.clock())
    assert (info.granted, info.used) == (0, 0), "slots that nobody won are free again"


async def test_however_many_grants_ended_all_are_swept_in_one_run(site, bounded, monkeypatch):
    monkeypatch.setattr("entrepot.site.cost.settling.PAGE", 2)
    _set(site, 5 * NEEDED)
    for number in range(5):
        assert bounded.point in _answer(site, bounded, f"dev-{number}").tokens
    site.clock.advance(30 * HOUR)
    assert await sweep_slots(site.database, site.services) == 0, "nobody has looked at their slots yet"
    await site.services.monitor.collect(bounded.point)
    assert await sweep_slots(site.database, site.services) == 5


async def test_a_store_that_does_not_answer_holds_up_no_other(site, bounded):
    await site.services.create(site.request("cloud2", "cloud2.contoso.com"))
    await site.settle()
    other = await site.services.get("cloud2")
    with site.database.transaction() as connection:
        for point in (bounded, other):
            budgets.put_budget(connection, Budget(subject=point.point, bytes=NEEDED))
    for point in (bounded, other):
        await site.services.monitor.collect(point.point)
        assert point.point in _answer(site, point, "dev-1").tokens
    site.clock.advance(30 * HOUR)
    for point in (bounded, other):
        await site.services.monitor.collect(point.point)
    site.cloud.failures["list_documents"] = [UnavailableError("The store does not answer.")]
    assert await sweep_slots(site.database, site.services) == 1
    assert await sweep_slots(site.database, site.services) == 1, "the first one's turn comes again"


async def test_a_deleted_cloud_point_leaves_neither_budget_nor_grants_nor_prices(site, bounded):
    _set(site, NEEDED)
    _answer(site, bounded, "dev-1")
    with site.database.transaction() as connection:
        connection.execute(insert(cost.price_use).values(point=bounded.point, sheet="list"))
    await site.services.act(CloudAction.DELETE, "cloud1")
    await site.settle()
    with site.database.reading() as connection:
        left = [connection.execute(select(table)).all() for table in (cost.budget, cost.budget_grant, cost.price_use)]
    assert left == [[], [], []]


async def test_the_tightest_budget_decides_and_is_named(site, bounded):
    _set(site, 100 * NEEDED)
    with site.database.transaction() as connection:
        budgets.put_budget(connection, Budget(scope=Scope.CONTENT, subject="pkg-1", bytes=NEEDED))
    assert bounded.point in _answer(site, bounded, "dev-1").tokens
    refused = _answer(site, bounded, "dev-2").withheld[-1]
    assert "content pkg-1" in refused.reason
    assert refused.retry_after > 0


async def test_peers_only_says_so_and_lets_critical_content_pass(site, bounded):
    with site.database.transaction() as connection:
        one = Budget(subject=bounded.point, bytes=4 * NEEDED, peers_percent=25, critical=("pkg-2",))
        budgets.put_budget(connection, one)
    book = BudgetBook(site.database, clock=site.clock)
    assert isinstance(book.grant(bounded.point, device="dev-1", content="pkg-1", version=1, size=SIZE), Grant)
    assert "peers only" in book.grant(bounded.point, device="dev-2", content="pkg-1", version=1, size=SIZE).reason
    assert isinstance(book.grant(bounded.point, device="dev-2", content="pkg-2", version=1, size=SIZE), Grant)


async def test_a_throttled_token_carries_its_rate(site, bounded):
    _set(site, 2 * NEEDED, throttle_percent=100, rate=100_000)
    rates = []
    for device in ("dev-1", "dev-2"):
        token = _answer(site, bounded, device).tokens[bounded.point]
        rates.append(verify_content_token(token, site.keys.ring, SITE, bounded.point, None, site.clock()).rate)
    assert rates == [0, 100_000]


async def test_a_rate_that_was_set_before_there_was_a_least_one_is_served_at_the_least(site, bounded):
    with site.database.transaction() as connection:
        budgets.put_budget(connection, Budget(subject=bounded.point, bytes=NEEDED, throttle_percent=1, rate=1))
    book = BudgetBook(site.database, clock=site.clock)
    assert book.grant(bounded.point, device="dev-1", content="pkg-1", version=1, size=SIZE).rate == LEAST_RATE
    [info] = await site.database.read(listed, now=site.clock())
    assert "throttle to 64.0 kB/s at 1 %" in info.grades
    with site.database.transaction() as connection:
        changed = change(connection, "cloud1", BudgetPatch(peers_percent=50), by="anna", now=NOW)
    assert (changed.peers_percent, changed.rate) == (50, LEAST_RATE)


async def test_a_budget_tells_the_rate_that_it_keeps(site, bounded):
    with site.database.transaction() as connection:
        budgets.put_budget(connection, Budget(subject=bounded.point, bytes=NEEDED, throttle_percent=1, rate=1))
    [told] = await site.database.read(listed, now=NOW)
    assert (told.rate, told.grades.split(" at ")[0]) == (LEAST_RATE, "throttle to 64.0 kB/s")


async def test_a_rate_at_which_downloads_would_never_end_is_refused_with_what_to_do(site, bounded):
    for preview in (True, False):
        with pytest.raises(BadInputError, match="time limits") as caught:
            _set(site, NEEDED, throttle_percent=50, rate=LEAST_RATE - 1, dry_run=preview)
        assert "64KB or more" in caught.value.next_step
    _set(site, NEEDED, throttle_percent=50, rate=LEAST_RATE)


async def test_a_preview_sets_nothing_and_history_says_who_set_what(site, bounded):
    _set(site, NEEDED, dry_run=True)
    assert await site.database.read(listed, now=site.clock()) == []
    assert await site.database.read(history) == []
    _set(site, NEEDED)
    [change] = await site.database.read(history)
    assert (change.by, change.name) == ("anna", "cloud1")
    assert change.what == f"{format_size(NEEDED)} in 30 days: no new grants at 100 %"


@pytest.mark.parametrize(
    "more", [{"zone": "Mars/Olympus"}, {"throttle_percent": 5}, {"scope": "collection", "stop_percent": 9}]
)
async def test_what_does_not_fit_is_refused(site, bounded, more):
    with pytest.raises((BadInputError, NotFoundError)):
        _set(site, NEEDED, **more)
    assert await site.database.read(listed, now=site.clock()) == []


async def test_a_budget_stops_the_service_starts_it_again_and_obeys_the_administrator(site, bounded):
    with site.database.transaction() as connection:
        usage.add_to_hour(connection, bounded.point, hour_of(NOW), sent=90)
    _set(site, 100, stop_percent=90)
    await enforce_stops(site.database, site.services)
    await site.settle()
    assert (await site.services.get("cloud1")).wanted is ServiceState.STOPPED
    await site.services.act(CloudAction.START, "cloud1")
    await site.settle()
    for _ in range(2):
        await enforce_stops(site.database, site.services)
        await site.settle()
        assert (await site.services.get("cloud1")).wanted is ServiceState.RUNNING, "started by hand: obeyed"
    _set(site, 1000, stop_percent=90)
    await enforce_stops(site.database, site.services)
    _set(site, 100, stop_percent=90)
    await enforce_stops(site.database, site.services)
    await site.settle()
    assert (await site.services.get("cloud1")).wanted is ServiceState.STOPPED
    _set(site, 1000, stop_percent=90)
    await enforce_stops(site.database, site.services)
    await site.settle()
    assert (await site.services.get("cloud1")).wanted is ServiceState.RUNNING


steps = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 2), st.sampled_from(["ask", "read", "read", "crash"])), max_size=40
)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 6 * NEEDED), steps)
def test_whatever_clients_and_instances_do_no_more_is_served_than_the_budget(budget, sequence):
    """The rule of grants and the purses of three instances together, with crashes and greedy readers."""
    store = MemoryStore()
    instances = [Allowances(store, holder=f"gw-{number}") for number in range(3)]

    async def run() -> int:
        tokens: dict[int, Shown] = {}
        served = 0
        for client, instance, verb in sequence:
            if verb == "crash":
                instances[instance] = Allowances(store, holder=f"gw-{instance}-next")
            elif verb == "ask" and client not in tokens:
                outstanding = sum(token.allow for token in tokens.values())
                allow = granted(NEEDED, budget=budget, used=0, outstanding=outstanding)
                if allow:
                    tokens[client] = Shown(device=f"dev-{client}", jti=f"t{client}", set_id=bytes(32), allow=allow)
            elif verb == "read" and client in tokens:
                for _ in range(40):
                    try:
                        await instances[instance].take(tokens[client], MIB)
                    except LimitedError:
                        break
                    served += MIB
        return served

    assert asyncio.run(run()) <= budget
