"""Object sets: found in token order, verified, bounded, and never wrong for long."""

import asyncio
import threading

import pytest

from entrepot.core.errors import UnavailableError
from entrepot.core.ids import ObjectId
from entrepot.objects.memory import MemoryStore
from entrepot.objects.shelf import Shelf, key_of
from entrepot.web.sets import MISSING_SECONDS, RECHECK_SECONDS, SetLibrary


def ids(*numbers: int) -> list[ObjectId]:
    return [ObjectId(number.to_bytes(32, "big")) for number in numbers]


class Time:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


async def test_the_first_set_of_the_token_that_holds_the_object_is_charged(shelf, stock_set):
    one, two, three = ids(1, 2, 3)
    first, second = stock_set(one), stock_set(one, two)
    sets = SetLibrary(shelf)
    assert await sets.first_holding([first, second], one) == first
    assert await sets.first_holding([second, first], one) == second
    assert await sets.first_holding([first, second], two) == second
    assert await sets.first_holding([first, second], three) is None
    assert await sets.first_holding([], one) is None


async def test_a_set_gives_access_to_itself(shelf, stock_set):
    first = stock_set(*ids(1))
    assert await SetLibrary(shelf).first_holding([first], ObjectId(first)) == first


async def test_a_missing_set_is_looked_for_again_soon(shelf, stock_set):
    clock = Time()
    sets = SetLibrary(shelf, clock=clock)
    wanted = stock_set(*ids(7))
    data = shelf.read_whole(ObjectId(wanted))
    shelf.delete(ObjectId(wanted))
    assert await sets.get(wanted) is None
    shelf.put(ObjectId(wanted), data)
    assert await sets.get(wanted) is None  # remembered, for a moment
    clock.now += MISSING_SECONDS
    assert await sets.get(wanted) is not None
    shelf.delete(ObjectId(wanted))
    sets.forget(wanted)
    assert await sets.get(wanted) is None


async def test_a_set_that_was_removed_stops_counting(shelf, stock_set):
    clock = Time()
    sets = SetLibrary(shelf, clock=clock)
    wanted = stock_set(*ids(7))
    assert await sets.get(wanted) is not None
    shelf.delete(ObjectId(wanted))
    assert await sets.get(wanted) is not None
    clock.now += RECHECK_SECONDS
    assert await sets.get(wanted) is None
    assert sets.used == 0


async def test_a_set_whose_bytes_are_not_its_id_never_counts(shelf, stock_set):
    one, two = ids(1, 2)
    wanted = stock_set(one)
    other = shelf.read_whole(ObjectId(stock_set(one, two)))
    shelf.store.put(key_of(ObjectId(wanted)), other)
    assert await SetLibrary(shelf).first_holding([wanted], two) is None


async def test_an_object_that_is_no_set_never_counts(shelf, stock):
    chunk, _ = stock(4096)
    assert await SetLibrary(shelf).get(chunk) is None


async def test_memory_is_bounded_and_the_least_used_go_first(shelf, stock_set):
    made = [stock_set(*ids(*range(start, start + 100))) for start in (1, 1000, 2000)]
    sets = SetLibrary(shelf, memory=2 * (100 * 32 + 8))
    for set_id in (made[0], made[1], made[0], made[2]):
        await sets.get(set_id)
    assert sets.used == 2 * (100 * 32 + 8)
    assert set(sets._kept) == {made[0], made[2]}
    tiny = SetLibrary(shelf, memory=1)
    assert await tiny.get(made[0]) is not None
    assert await tiny.get(made[1]) is not None
    assert len(tiny._kept) == 1


async def test_many_requests_at_once_load_a_set_once(shelf, stock_set):
    wanted = stock_set(*ids(1))
    reads = []

    class Counting:
        has = shelf.has

        def read_whole(self, object_id):
            reads.append(object_id)
            return shelf.read_whole(object_id)

    sets = SetLibrary(Counting())
    found = await asyncio.gather(*(sets.get(wanted) for _ in range(50)))
    assert len(reads) == 1
    assert all(item is found[0] for item in found)


async def test_a_cancelled_request_does_not_take_the_set_from_the_others(shelf, stock_set):
    wanted = stock_set(*ids(1))
    sets = SetLibrary(shelf)
    first = asyncio.create_task(sets.get(wanted))
    second = asyncio.create_task(sets.get(wanted))
    await asyncio.sleep(0)
    first.cancel()
    assert await second is not None


class Silent(MemoryStore):
    """A store that accepts every question, and answers none before it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.answers = threading.Event()
        self.asked = 0

    def read(self, *arguments, **more):
        self.asked += 1
        self.answers.wait(120)
        return super().read(*arguments, **more)


async def test_no_request_waits_long_for_a_silent_store_and_what_it_asked_for_is_there_for_the_next(shelf, stock_set):
    wanted = stock_set(*ids(7))
    store = Silent()
    store.put(key_of(ObjectId(wanted)), shelf.read_whole(ObjectId(wanted)))
    sets = SetLibrary(Shelf(store), patience=0.01)
    try:
        for _ in range(3):
            with pytest.raises(UnavailableError, match="has not answered"):
                await sets.first_holding([wanted], ids(7)[0])
        [loading] = sets._loading.values()
    finally:
        store.answers.set()
    await loading
    assert await sets.first_holding([wanted], ids(7)[0]) == wanted
    assert store.asked == 1, "three requests waited for the same answer"


async def test_what_the_store_says_too_late_ends_nothing(shelf, stock_set):
    class Refusing(Silent):
        def read(self, *arguments, **more):
            self.answers.wait(120)
            raise UnavailableError("The store is away.")

    store, wanted = Refusing(), stock_set(*ids(7))
    sets = SetLibrary(Shelf(store), patience=0.01)
    with pytest.raises(UnavailableError, match="has not answered"):
        await sets.get(wanted)
    [loading] = sets._loading.values()
    store.answers.set()
    with pytest.raises(UnavailableError, match="away"):
        await loading
    assert not sets._loading
