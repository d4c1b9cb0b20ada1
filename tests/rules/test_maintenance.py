"""Maintenance windows, across daylight saving."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.core.errors import BadInputError
from entrepot.rules.alerts import Alert, AlertState, Condition, Event, evaluate
from entrepot.rules.maintenance import Repeat, Window, check_window, is_open
from entrepot.rules.sentences import quoted
from entrepot.rules.thresholds import rolling_start

BERLIN = ZoneInfo("Europe/Berlin")


def at(text: str, zone: str = "Europe/Berlin") -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


def test_a_single_window_is_open_for_its_minutes_only():
    window = Window(start="2026-03-23T22:00", zone="Europe/Berlin", minutes=90)
    check_window(window)
    opens = [is_open(window, at(f"2026-03-23T{clock}")) for clock in ("21:59", "22:00", "23:29", "23:30")]
    assert opens == [False, True, True, False]
    assert not is_open(window, at("2026-03-24T22:10"))


def test_a_weekly_window_keeps_its_wall_clock_across_daylight_saving():
    window = Window(start="2026-03-22T04:00", zone="Europe/Berlin", minutes=60, repeat=Repeat.WEEKLY)
    for day in ("2026-03-22", "2026-03-29", "2026-04-05", "2026-10-25", "2026-11-01"):
        assert is_open(window, at(f"{day}T04:30")), day
        assert not is_open(window, at(f"{day}T05:30")), day
        assert not is_open(window, at(f"{day}T03:30")), day
    assert not is_open(window, at("2026-03-24T04:30"))


def test_a_daily_window_goes_over_midnight():
    window = Window(start="2026-03-22T23:00", zone="Europe/Berlin", minutes=180, repeat=Repeat.DAILY)
    assert is_open(window, at("2026-03-30T01:30"))
    assert not is_open(window, at("2026-03-30T02:30"))
    assert not is_open(window, at("2026-03-22T01:30"))  # before the first


@pytest.mark.parametrize(
    "window",
    [
        Window(start="tomorrow", zone="UTC", minutes=5),
        Window(start="2026-03-22T23:00", zone="Mars/Olympus", minutes=5),
        Window(start="2026-03-22T23:00", zone="../etc/passwd", minutes=5),
        Window(start="2026-03-22T23:00", zone="UTC", minutes=0),
        Window(start="2026-03-22T23:00", zone="UTC", minutes=1441, repeat=Repeat.DAILY),
    ],
)
def test_windows_that_make_no_sense_are_refused(window):
    with pytest.raises(BadInputError):
        check_window(window)


def test_in_a_window_nothing_opens_but_what_is_still_bad_afterwards_does():
    fresh = Alert(type="service_not_active", subject="pt-1")
    quiet = evaluate(fresh, Condition.BAD, said=quoted("down"), now=1, quiet=True)
    assert (quiet.event, quiet.alert.state) == (None, AlertState.NEVER_TRIGGERED)
    after = evaluate(quiet.alert, Condition.BAD, said=quoted("down"), now=2)
    assert after.event is Event.OPENED
    closed = evaluate(after.alert, Condition.GOOD, said=(), now=3, quiet=True)
    assert closed.event is Event.CLOSED


@given(st.integers(1_760_000_000, 1_800_000_000), st.integers(0, 3 * 3600))
def test_the_thirty_days_are_as_long_on_days_of_daylight_saving_as_on_others(now, later):
    """Hours are counted in UTC, so no local clock makes the window an hour longer or shorter."""
    assert now - rolling_start(now) == 30 * 86_400 + now % 3600
    assert 0 <= rolling_start(now + later) - rolling_start(now) <= 3 * 3600
