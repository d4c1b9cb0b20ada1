"""Throttled tokens (R23): whatever the rate, every download goes on, and who leaves keeps nobody waiting."""

import asyncio
import selectors
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from itertools import accumulate, pairwise

import msgspec
import pytest

from entrepot.client.settings import Settings
from entrepot.core.errors import LimitedError
from entrepot.core.ids import ObjectId
from entrepot.core.sizes import KIB, MIB
from entrepot.objects.memory import MemoryStore
from entrepot.rules.throttle import LEAST_PIECE, LEAST_RATE, MOST_PIECE, piece
from entrepot.web.allowances import Allowances
from entrepot.web.asgi import ResponseAbortedError
from entrepot.web.downloads import Downloads
from entrepot.web.grants import Grant
from entrepot.web.http import MINIMUM_RATE, STALL_SECONDS
from entrepot.web.objects import ObjectPlane

from ..waiting import until
from .conftest import Keyring

[AS_USUAL] = [field.default for field in msgspec.structs.fields(Settings) if field.name == "parallel"]
MOST_OF_ONE = Downloads().most_of_one
OBJECT = 1_200_000
ALLOW = 3 * MIB
Heard = list[tuple[float, int]]
"""When bytes came on a connection, and how many."""


class _NobodyWaits(selectors.DefaultSelector):
    """Time that passes at once: as much as the event loop would have waited for its next timer."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "all wait, and no time is set for anything"
        self.now += timeout
        return super().select(0)


class _Simulated(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._nobody_waits = _NobodyWaits()
        super().__init__(self._nobody_waits)

    def time(self) -> float:
        return self._nobody_waits.now


@pytest.fixture
def simulate() -> Iterator[Callable[[Awaitable[object]], object]]:
    with asyncio.Runner(loop_factory=_Simulated) as runner:
        yield runner.run


def _throttled(rate: int) -> Grant:
    return Grant(device="dev-good", jti="slow", set_id=b"s" * 32, allow=ALLOW, rate=rate)


def _purses() -> Allowances:
    return Allowances(MemoryStore(), holder="gw", clock=lambda: asyncio.get_running_loop().time())


async def _download(purses: Allowances, rate: int) -> Heard:
    heard, left = [(asyncio.get_running_loop().time(), 0)], OBJECT
    while left:
        count = min(left, piece(rate))
        await purses.pace(_throttled(rate), count)
        heard.append((asyncio.get_running_loop().time(), count))
        left -= count
    return heard


async def _side_by_side(count: int, rate: int) -> list[Heard]:
    purses = _purses()
    return await asyncio.gather(*(_download(purses, rate) for _ in range(count)))


def _silence(heard: Heard) -> float:
    return max(after - before for (before, _), (after, _) in pairwise(heard))


@pytest.mark.parametrize("rate", [1, LEAST_RATE, 240_000, 512_000, 10**7])
def test_none_of_a_clients_downloads_is_silent_for_as_long_as_it_would_wait(simulate, rate):
    assert max(map(_silence, simulate(_side_by_side(AS_USUAL, rate)))) < 2 < STALL_SECONDS
    assert max(map(_silence, simulate(_side_by_side(MOST_OF_ONE, rate)))) < 17 < STALL_SECONDS


@pytest.mark.parametrize(("count", "rate"), [(AS_USUAL, LEAST_RATE), (15, LEAST_RATE), (MOST_OF_ONE, 256 * KIB)])
def test_none_is_so_slow_that_a_client_goes_elsewhere(simulate, count, rate):
    for heard in simulate(_side_by_side(count, rate)):
        came = accumulate(size for _, size in heard)
        assert all(when <= STALL_SECONDS + got / MINIMUM_RATE for (when, _), got in zip(heard, came, strict=True))


@pytest.mark.parametrize("rate", [LEAST_RATE, 512_000, 10**7])
def test_together_they_get_the_rate_and_no_more(simulate, rate):
    heard = sorted(each for one in simulate(_side_by_side(AS_USUAL, rate)) for each in one)
    came = list(accumulate(size for _, size in heard))
    assert all(got <= when * rate + piece(rate) + 1 for (when, _), got in zip(heard, came, strict=True))
    assert heard[-1][0] == pytest.approx(AS_USUAL * OBJECT / rate, abs=0.3)


def test_pieces_are_neither_a_long_wait_nor_more_than_a_cut_may_miss():
    assert [piece(rate) for rate in (1, LEAST_RATE, 512_000, 10**9)] == [LEAST_PIECE, LEAST_PIECE, 128_000, MOST_PIECE]


def test_who_leaves_while_he_waits_keeps_nobody_waiting(simulate):
    async def run() -> float:
        purses, slow = _purses(), _throttled(LEAST_RATE)
        await purses.pace(slow, LEAST_RATE)
        waiting = [asyncio.create_task(purses.pace(slow, MIB)) for _ in range(5)]
        await asyncio.sleep(0.5)
        for one in waiting:
            one.cancel()
        await purses.pace(slow, LEAST_PIECE)
        return asyncio.get_running_loop().time()

    assert simulate(run()) == pytest.approx(1.0)


class _Slow(Keyring):
    """Whose tokens are throttled to the least rate."""

    async def client(self, token: str, object_id: ObjectId) -> Grant:
        return _throttled(LEAST_RATE)

    def at_once(self, token: bytes, object_id: ObjectId) -> Grant | None:
        return None


@pytest.fixture
def purses() -> Allowances:
    return Allowances(MemoryStore(), holder="gw")


@pytest.fixture
async def slow_plane(shelf, records, purses) -> AsyncIterator[ObjectPlane]:
    made = ObjectPlane(shelf, _Slow(), records.append, allowances=purses)
    yield made
    made.close()


async def _all_but(purses: Allowances, sent: int) -> None:
    """Nothing but what was sent has been debited."""
    await purses.take(_throttled(LEAST_RATE), ALLOW - sent)
    with pytest.raises(LimitedError):
        await purses.take(_throttled(LEAST_RATE), 1)


async def test_the_head_comes_before_its_turn_and_who_leaves_before_it_was_sent_nothing(
    slow_plane, served, http, stock, records, purses
):
    object_id, _ = stock(MIB)
    await purses.pace(_throttled(LEAST_RATE), 10**9)  # hours until the next piece
    async with served(slow_plane) as url:
        async with http.stream("GET", f"{url}/objects/{object_id.hex()}", bearer="good") as response:
            assert (response.status, response.content_length) == (200, MIB)
            assert not records
        [record] = await until(lambda: records)
    assert (record.status, record.sent) == (200, 0)
    await _all_but(purses, 0)


async def test_who_leaves_between_two_pieces_is_debited_what_was_sent(shelf, stock, records):
    object_id, data = stock(MIB)
    purses = Allowances(MemoryStore(), holder="gw", clock=lambda: 0.0)
    plane, sent, left = ObjectPlane(shelf, _Slow(), records.append, allowances=purses), bytearray(), asyncio.Event()

    async def send(message):
        sent.extend(message.get("body", b""))
        if sent:
            left.set()

    async def receive():
        await left.wait()
        return {"type": "http.disconnect"}

    headers = [(b"authorization", b"Bearer good")]
    scope = {"type": "http", "method": "GET", "path": f"/objects/{object_id.hex()}", "headers": headers}
    with pytest.raises(ResponseAbortedError):
        await plane(scope, receive, send)
    plane.close()
    assert sent == data[:LEAST_PIECE]
    assert [record.sent for record in records] == [LEAST_PIECE]
    await _all_but(purses, LEAST_PIECE)


async def test_a_client_with_several_downloads_gets_all_of_them_at_the_least_rate(
    slow_plane, served, http, stock, records, purses
):
    objects = [stock(LEAST_PIECE + 4 * KIB, seed) for seed in range(AS_USUAL)]
    async with served(slow_plane) as url:
        found = await asyncio.gather(*(http.read_object(url, object_id, bearer="good") for object_id, _ in objects))
    assert found == [data for _, data in objects]
    sizes = [len(data) for data in found]
    assert [record.sent for record in records] == sizes
    await _all_but(purses, sum(sizes))
