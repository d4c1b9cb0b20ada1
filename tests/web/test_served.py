"""What is remembered of a request until its record is written."""

import secrets

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from entrepot.core.errors import LimitedError
from entrepot.core.ids import ObjectId
from entrepot.web.allowances import NoPurses
from entrepot.web.grants import Grant
from entrepot.web.health import registry_of
from entrepot.web.objects import ObjectPlane
from entrepot.web.served import CLOCK_STEP, MOST_MOMENTS, Moments

ONE = ObjectId(bytes(32))


@given(st.lists(st.tuples(st.sampled_from(["dev-a", "dev-b"]), st.integers(0, 3)), max_size=60))
def test_equal_requests_have_a_moment_of_their_own_each(asked: list[tuple[str, int]]) -> None:
    moments, now, given = Moments(), 1_774_267_200_000, []
    for device, passed in asked:
        now += passed
        given.append((device, moments.own(device, ONE, "GET", now)))
        assert now <= given[-1][1] <= now + len(given)
    assert len(set(given)) == len(given)


def test_requests_that_are_not_equal_keep_the_moment_they_came_in() -> None:
    moments = Moments()
    assert {moments.own(device, ONE, method, 5000) for device in ("a", "b") for method in ("GET", "HEAD")} == {5000}


def test_a_clock_that_was_set_back_is_believed() -> None:
    moments = Moments()
    assert moments.own("dev-a", ONE, "GET", 10_000_000) == 10_000_000
    assert moments.own("dev-a", ONE, "GET", 10_000_000 - CLOCK_STEP) == 10_000_000 - CLOCK_STEP


def test_moments_that_have_passed_are_forgotten() -> None:
    moments = Moments()
    for number in range(3 * MOST_MOMENTS):
        moments.own("dev-a", ObjectId(secrets.token_bytes(32)), "GET", number)
    assert len(moments._given) <= MOST_MOMENTS


async def test_what_a_budget_refuses_is_recorded_and_counted(shelf, keyring, records, served, http, stock) -> None:
    class Bounded(type(keyring)):  # type: ignore[misc]  # the fixtures' own class
        def at_once(self, *_: object) -> None:
            return None

        async def client(self, token: str, object_id: ObjectId) -> Grant:
            return msgspec.structs.replace(await super().client(token, object_id), allow=1)

    class Empty(NoPurses):
        async def take(self, grant: Grant, count: int) -> None:
            raise LimitedError("The transfer budget has no room for more on this token.")

    object_id, _ = stock(10)
    plane = ObjectPlane(shelf, Bounded(), records.append, allowances=Empty())
    async with served(plane) as url:
        await http.request("GET", f"{url}/objects/{object_id.hex()}", bearer="good", accept=(429,))
    plane.close()
    assert [(record.device, record.status, record.sent) for record in records] == [("dev-good", 429, 0)]
    assert registry_of(plane).get_sample_value("entrepot_requests_limited_total") == 1
