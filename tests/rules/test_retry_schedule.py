"""The retry schedule."""

from hypothesis import given
from hypothesis import strategies as st

from entrepot.rules.retry import DEFAULT, Schedule, next_pause


def pauses(schedule=DEFAULT, draw=0.0):
    found = []
    failed = 1
    while (pause := next_pause(failed, draw, schedule)) is not None:
        found.append(pause)
        failed += 1
    return found


def test_a_hundred_tries_quick_ones_first_then_every_thirty_minutes():
    found = pauses()
    assert len(found) == 99
    assert found[:5] == [5, 15, 60, 180, 600]
    assert set(found[5:]) == {1800}


def test_the_last_try_is_the_last():
    assert next_pause(99, 0) == 1800
    assert next_pause(100, 0) is None
    assert next_pause(10**9, 0) is None
    assert pauses(Schedule(attempts=1)) == []


@given(st.integers(1, 99), st.floats(0, 1, exclude_max=True))
def test_a_pause_is_spread_by_a_fifth_at_most(failed, draw):
    base, spread = next_pause(failed, 0), next_pause(failed, draw)
    assert base <= spread <= base * 1.2


@given(st.integers(1, 98))
def test_pauses_only_grow(failed):
    assert next_pause(failed, 0) <= next_pause(failed + 1, 0)
