"""How fast long work goes, and how long it will take."""

from hypothesis import given
from hypothesis import strategies as st

from entrepot.rules.pace import Pace, format_seconds, seconds_left


def test_the_rate_is_that_of_the_last_while() -> None:
    pace = Pace()
    assert pace.note(0, 0) == pace.note(0.5, 50) == 0, "too soon to say"
    assert pace.note(10, 1000) == 100
    rates = [pace.note(10 + second, 1000 + 10 * second) for second in range(1, 61)]
    assert rates[-1] == 10, "what was quick a minute ago does not count"


def test_what_does_not_move_has_no_rate_in_the_end() -> None:
    pace = Pace()
    pace.note(0, 0)
    pace.note(10, 1000)
    assert [pace.note(10 + second, 1000) for second in range(60)][-1] == 0


def test_an_amount_that_falls_begins_anew() -> None:
    pace = Pace()
    pace.note(0, 0)
    pace.note(10, 1_000_000)
    assert pace.note(11, 10) == 0
    assert pace.note(13, 30) == 10


@given(st.lists(st.tuples(st.floats(0, 100), st.integers(0, 10**15)), max_size=50))
def test_whatever_is_told_the_rate_is_no_negative_number(steps: list[tuple[float, int]]) -> None:
    pace, now = Pace(), 0.0
    for seconds, done in steps:
        now += seconds
        assert pace.note(now, done) >= 0


def test_what_is_left() -> None:
    assert seconds_left(400, 1000, 40) == 15
    assert seconds_left(0, 0, 40) == seconds_left(5, 10, 0) == seconds_left(10, 10, 3) == seconds_left(11, 10, 3) == 0


def test_readable_durations() -> None:
    assert [format_seconds(each) for each in (1, 59, 61, 3600, 7500)] == [
        "1 s",
        "59 s",
        "1 min",
        "1 h 0 min",
        "2 h 5 min",
    ]
