"""Grades and periods of budgets (R23)."""

from datetime import datetime
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from entrepot.rules.budgets import Grade, Shares, bound, described, grade, next_period, period_start

ALL = Shares(throttle_percent=50, peers_percent=60, critical_percent=80, grant_percent=90, stop_percent=95)


@given(st.integers(1, 2**50), st.integers(0, 2**51), st.integers(0, 2**51))
def test_a_grade_never_falls_when_more_is_used(budget, used, more):
    assert grade(ALL, budget, used=used + more, granted=0) >= grade(ALL, budget, used=used, granted=0)


def test_each_grade_holds_from_its_share_on_and_stopping_counts_what_was_used():
    found = [grade(ALL, 100, used=used, granted=0) for used in (49, 50, 60, 80, 90, 95)]
    assert found == list(Grade)
    assert grade(ALL, 100, used=0, granted=100) is Grade.NO_GRANTS


def test_grades_are_told_in_words_and_in_their_order():
    assert described(ALL, 512_000) == (
        "throttle to 512.0 kB/s at 50 %, peers only at 60 %, critical content only at 80 %, no new grants at 90 %, "
        "stop when 95 % are used"
    )
    assert described(Shares(), 0) == "no new grants at 100 %"


def test_critical_content_is_held_back_by_the_end_alone():
    assert bound(ALL, 1000, critical=True) == 900
    assert bound(ALL, 1000, critical=False) == 600


def test_months_begin_at_local_midnight_across_daylight_saving():
    zone = ZoneInfo("Europe/Berlin")
    now = datetime(2026, 3, 30, 12, tzinfo=zone).timestamp()
    assert period_start("Europe/Berlin", now) == datetime(2026, 3, 1, tzinfo=zone).timestamp()
    assert next_period("Europe/Berlin", now) == datetime(2026, 4, 1, tzinfo=zone).timestamp()
    assert period_start("", now) == int(now) // 3600 * 3600 - 30 * 86400
    assert next_period("", now) == 0
