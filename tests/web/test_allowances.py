"""Allowances: bytes served never exceed a token's allowance, whatever instances and clients do (R23)."""

import asyncio
import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entrepot.core.errors import ForbiddenError, LimitedError, UnauthenticatedError, UnavailableError
from entrepot.core.sizes import KIB, MIB
from entrepot.objects.folder import FolderStore
from entrepot.objects.memory import MemoryStore
from entrepot.rules.allowance import LEAST, SLOTS, ample, enough, granted, slots
from entrepot.web.allowances import Allowances
from entrepot.web.grants import Grant
from entrepot.web.problems import problem_of


def token(allow: int, jti: str = "a1") -> Grant:
    return Grant(device="dev-1", jti=jti, set_id=bytes(32), allow=allow)


@given(st.integers(0, 2**50))
def test_slots_add_up_to_the_allowance(allowance):
    found = slots(allowance)
    assert sum(found) == allowance
    assert len(found) <= SLOTS
    assert all(size >= LEAST for size in found[:-1])


sizes = st.integers(0, 2**50)


@given(st.integers(1, 2**40), sizes, sizes, sizes)
def test_a_grant_is_whole_or_none_and_never_beyond_the_budget(needed, budget, used, outstanding):
    allowance = granted(needed, budget=budget, used=used, outstanding=outstanding)
    assert allowance in (0, needed)
    assert not allowance or used + outstanding + allowance <= budget


moves = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from(["take", "take", "take", "crash"]), st.integers(1, 8 * MIB)),
    max_size=60,
)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40 * MIB), moves)
def test_with_several_instances_and_crashes_no_more_is_served_than_allowed(allow, sequence):
    store = MemoryStore()
    instances = [Allowances(store, holder=f"gw-{number}") for number in range(4)]

    async def run() -> int:
        served = 0
        for which, verb, count in sequence:
            if verb == "crash":
                instances[which] = Allowances(store, holder=f"gw-{which}-again")
                continue
            try:
                await instances[which].take(token(allow), count)
            except LimitedError:
                continue
            served += count
        return served

    assert asyncio.run(run()) <= allow


async def test_a_hostile_client_that_asks_everyone_at_once_gets_no_more(tmp_path):
    allow, store = 30 * MIB, FolderStore(tmp_path)
    instances = [Allowances(store, holder=f"gw-{number}") for number in range(3)]
    draw = random.Random(5)

    async def ask() -> int:
        served = 0
        for _ in range(60):
            count = draw.choice([1, 64 * KIB, 256 * KIB])
            try:
                await draw.choice(instances).take(token(allow), count)
            except LimitedError:
                break
            served += count
        return served

    assert sum(await asyncio.gather(*(ask() for _ in range(40)))) <= allow


async def test_one_honest_client_of_one_instance_gets_all_of_it():
    instance, served = Allowances(MemoryStore(), holder="gw"), 0
    with pytest.raises(LimitedError) as used_up:
        while True:
            await instance.take(token(10 * MIB), 256 * KIB)
            served += 256 * KIB
    assert served == 10 * MIB
    assert problem_of(used_up.value).retry_after == 60, "asking this token again at once cannot help"


async def _fetched(size: int, instances: int, seed: int) -> tuple[int, int]:
    """What one honest client is given that fetches so many bytes of whoever answers: requests granted, refused."""
    allow, store, draw = ample(size, instances), MemoryStore(), random.Random(seed)
    all_of_them = [Allowances(store, holder=f"gw-{number}") for number in range(instances)]
    counts: list[int] = []
    while sum(counts) < size:
        counts.append(min(256 * KIB, size - sum(counts)))
    refused = 0
    for count in counts:
        for _ in range(200):  # it asks again, and comes to any of them
            try:
                await draw.choice(all_of_them).take(token(allow), count)
                break
            except LimitedError:
                refused += 1
        else:
            pytest.fail(f"{sum(counts)} of {size} bytes, then nobody gave more")
    return len(counts), refused


@pytest.mark.parametrize("instances", [1, 2, 4, SLOTS])
@pytest.mark.parametrize("size", [200 * KIB, 3 * MIB, 8 * MIB, 30 * MIB, 100 * MIB])
async def test_an_honest_client_gets_all_of_it_and_no_instance_refuses_a_part(size, instances):
    for seed in range(3):
        assert await _fetched(size, instances, seed) == (-(-size // (256 * KIB)), 0)


@given(st.lists(st.integers(1, 12 * MIB), min_size=1, max_size=SLOTS))
def test_a_small_download_has_slots_for_all_instances_however_it_is_spread(parts):
    """What each instance sends of it, in any way that it may be spread over them."""
    allowance = ample(sum(parts), len(parts))
    if allowance <= SLOTS * LEAST:
        assert sum(-(-part // LEAST) for part in parts) <= slots(allowance).count(LEAST)
    assert allowance >= enough(sum(parts))


def test_no_more_is_granted_than_several_instances_can_need():
    assert [ample(MIB, instances) // MIB for instances in (1, 2, 4, 8, 64)] == [5, 8, 16, 32, 32]
    assert all(ample(400 * MIB, instances) == enough(400 * MIB) for instances in range(100))


async def test_more_instances_than_slots_refuse_and_so_are_warned_of():
    """What ``site.cloud.crowding`` says: with twice as many instances as slots, about every second request."""
    shares = {}
    for instances in (SLOTS, 2 * SLOTS):
        given, refused = await _fetched(100 * MIB, instances, seed=1)
        shares[instances] = refused / (given + refused)
    assert shares[SLOTS] <= 0.125
    assert 0.4 < shares[2 * SLOTS] < 0.6


async def test_tokens_without_an_allowance_are_not_bounded_and_others_not_mixed_up():
    store = MemoryStore()
    instance = Allowances(store, holder="gw")
    await instance.take(token(0), 10**12)
    assert list(store.list("").entries) == []
    await instance.take(token(MIB, "one"), MIB)
    await instance.take(token(MIB, "two"), MIB)
    with pytest.raises(LimitedError):
        await instance.take(token(MIB, "one"), 1)


async def test_purses_are_bounded_and_what_a_forgotten_one_held_is_lost():
    instance, store = Allowances(MemoryStore(), holder="gw", kept=2), None
    assert store is None
    for jti in ("one", "two", "three"):
        await instance.take(token(5 * MIB, jti), 1)
    await instance.take(token(5 * MIB, "one"), MIB)  # from its second slot
    with pytest.raises(LimitedError):
        await instance.take(token(5 * MIB, "one"), MIB)


async def test_what_was_not_sent_after_all_is_there_for_the_next_request():
    instance = Allowances(MemoryStore(), holder="gw")
    await instance.take(token(5 * MIB), 5 * MIB)
    instance.give_back(token(5 * MIB), 2 * MIB)
    await instance.take(token(5 * MIB), 2 * MIB)
    with pytest.raises(LimitedError):
        await instance.take(token(5 * MIB), 1)
    instance.give_back(token(0, "unbounded"), MIB)
    instance.give_back(token(5 * MIB, "never seen"), MIB)


async def test_nothing_is_debited_on_a_token_that_has_ended_and_the_last_end_is_known():
    now, store = 1000.0, MemoryStore()
    instance = Allowances(store, holder="gw", now=lambda: now)
    assert instance.latest == 0, "nothing was debited yet"
    await instance.take(msgspec.structs.replace(token(5 * MIB), expires=1001), 1)
    assert instance.latest == 1001
    now = 1001.0
    with pytest.raises(UnauthenticatedError):
        await instance.take(msgspec.structs.replace(token(5 * MIB), expires=1001), 1)
    assert [entry.key for entry in store.list("").entries] == ["allow/a1/0"]


async def test_without_the_store_nothing_is_served():
    class Down(MemoryStore):
        def put(self, *_args: object, **_kwargs: object) -> bool:
            raise UnavailableError("The store does not answer.")

    with pytest.raises(UnavailableError):
        await Allowances(Down(), holder="gw").take(token(5 * MIB), 1)


@pytest.mark.parametrize("jti", ["../control", "a/b", "", "x" * 65])
async def test_an_id_that_would_leave_its_place_is_refused(jti):
    with pytest.raises(ForbiddenError):
        await Allowances(MemoryStore(), holder="gw").take(token(5 * MIB, jti), 1)


async def test_a_throttled_token_waits_for_its_rate_and_others_do_not(monkeypatch):
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr("entrepot.web.allowances.asyncio.sleep", sleep)
    instance = Allowances(MemoryStore(), holder="gw", clock=lambda: 100.0)
    slow = Grant(device="dev-1", jti="slow", set_id=bytes(32), allow=30 * MIB, rate=MIB)
    for _ in range(3):
        await instance.pace(slow, 2 * MIB)
    await instance.pace(token(30 * MIB, "fast"), 2 * MIB)
    assert pauses == [2.0, 4.0], "the first may go at once"
