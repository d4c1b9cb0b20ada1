"""What is remembered of a request until its record is written."""

import secrets

from hypothesis import given
from hypothesis import strategies as st

from entrepot.core.ids import ObjectId
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
