"""Forecasts: when a threshold is reached at the present trend."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.core.times import DAY, HOUR
from entrepot.rules.forecast import Planned, forecast_storage, forecast_transfer
from entrepot.rules.thresholds import rolling_start

MONDAY = 20_534 * DAY  # 2026-03-23
NOW = float(MONDAY + 12 * HOUR)
WEEK = (1.2, 1.2, 1.1, 1.1, 1.0, 0.3, 0.1)


def sent(days: int, volume, *, now: float = NOW) -> dict[int, int]:
    """Hourly bytes of the days before now; ``volume(day number, weekday)`` is a day's."""
    today = int(now) // DAY
    return {
        (today - back) * DAY + hour * HOUR: int(volume(-back, (today - back + 3) % 7) / 24)
        for back in range(1, days + 1)
        for hour in range(24)
    }


def test_steady_transfers_never_reach_what_they_do_not_fill():
    found = forecast_transfer(sent(50, lambda _n, _w: 1000 * 24), {"critical": 31 * 24_000}, now=NOW)
    assert found.crossings[0].at == 0
    assert found.in_thirty_days == pytest.approx(30 * 24_000, rel=0.01)


def test_a_growing_trend_is_followed_to_the_day():
    def volume(number: int, _weekday: int) -> float:
        return 24_000 * (100 + number)

    level = sum(24_000 * (100 + number) for number in range(-10, 20))  # what the 30 days hold on day 20
    found = forecast_transfer(sent(50, volume), {"critical": level}, now=float(MONDAY)).crossings[0]
    assert abs(found.at - (MONDAY + 20 * DAY)) <= DAY


def test_the_rhythm_of_the_week_is_no_trend():
    found = forecast_transfer(sent(42, lambda _n, weekday: 24_000 * WEEK[weekday]), {"critical": 10**9}, now=NOW)
    assert found.rhythm == pytest.approx([factor * 7 / sum(WEEK) for factor in WEEK], rel=0.01)
    assert abs(found.per_day_change) < 200
    assert found.crossings[0].at == 0


def test_a_drill_counts_until_it_leaves_the_thirty_days_and_is_no_trend():
    """A forecast that knew nothing of it would not say "critical" of what its threshold already calls so."""
    hours = sent(50, lambda _n, _w: 24_000)
    moment = MONDAY - 5 * DAY
    level = {"critical": 800_000}
    without = forecast_transfer(hours, level, now=NOW)
    hours[moment] += 100_000
    found = forecast_transfer(hours, level, now=NOW, drilled={moment: 100_000})
    assert (without.crossings[0].at, found.crossings[0].at) == (0, int(NOW))
    assert found.present == without.present + 100_000
    assert (found.per_day, found.in_thirty_days) == (without.per_day, without.in_thirty_days)


@given(st.dictionaries(st.integers(-900, 48), st.integers(0, 10**9)), st.floats(0, HOUR - 1))
def test_a_forecast_begins_with_what_the_threshold_counts(volumes, passed):
    now = MONDAY + 12 * HOUR + passed
    hours = {MONDAY + 12 * HOUR + number * HOUR: count for number, count in volumes.items()}
    counted = sum(count for hour, count in hours.items() if hour >= rolling_start(now))
    assert forecast_transfer(hours, {}, now=now).present == counted


def test_storage_reaches_its_bound_when_growth_says_so():
    measured = {MONDAY - back * DAY + 20 * HOUR: (100 - back) * 1000 for back in range(1, 40)}
    found = forecast_storage(measured, {"warning": 105_000, "critical": 109_000}, present=99_000, now=NOW)
    assert [round((one.at - NOW) / DAY) for one in found.crossings] == [6, 10]
    assert found.per_day == 1000


def test_what_a_planned_deployment_adds_brings_the_moment_nearer():
    hours = sent(40, lambda number, _w: 24_000 * (100 + number))
    level = {"critical": 24_000 * 110 * 30}
    without = forecast_transfer(hours, level, now=NOW).crossings[0]
    with_it = forecast_transfer(hours, level, now=NOW, planned=Planned(sent=24_000 * 500)).crossings[0]
    assert with_it.at < without.at
    stored = {MONDAY - back * DAY: 1000 for back in range(1, 10)}
    assert forecast_storage(stored, {"c": 1500}, present=1000, now=NOW).crossings[0].at == 0
    planned = forecast_storage(stored, {"c": 1500}, present=1000, now=NOW, planned=Planned(stored=600))
    assert planned.crossings[0].at == int(NOW)


@pytest.mark.parametrize("days", [0, 1, 2])
def test_too_few_days_claim_nothing(days):
    found = forecast_transfer(sent(days, lambda _n, _w: 24_000), {"critical": 100}, now=NOW)
    assert (found.days, found.crossings) == (0, ())


series = st.lists(st.integers(0, 10**12), min_size=3, max_size=60)


@given(series, st.integers(1, 10**14), st.integers(1, 10**14))
def test_the_range_holds_the_expectation_and_higher_levels_come_later(values, first, second):
    low, high = sorted((first, second))
    hours = {MONDAY - (back + 1) * DAY: value for back, value in enumerate(values)}
    found = forecast_transfer(hours, {"warning": low, "critical": high}, now=NOW)
    for one in found.crossings:
        assert not one.at or int(NOW) <= one.earliest <= one.at
        assert not one.latest or (one.at and one.at <= one.latest)
    warning, critical = (one.at or float("inf") for one in found.crossings)
    assert warning <= critical


@given(st.lists(st.integers(0, 10**13), min_size=4, max_size=60), st.integers(1, 10**14))
def test_storage_forecasts_hold_their_range_too(values, level):
    measured = {MONDAY - (back + 1) * DAY: value for back, value in enumerate(values)}
    [found] = forecast_storage(measured, {"critical": level}, present=values[0], now=NOW).crossings
    assert not found.at or int(NOW) <= found.earliest <= found.at
    assert not found.latest or (found.at and found.at <= found.latest)


def test_a_simulated_year_is_foreseen_within_days():
    """A year of weekly rhythm, growth and noise: from a month before it happens on, the forecast is off by less than
    a quarter of the time that is left, and a week; the window's plateaus at weekends make up most of that."""
    draw = random.Random(20_260_323)
    start = MONDAY - 400 * DAY
    hours = {
        start + day * DAY + hour * HOUR: int((100 + 0.5 * day) * WEEK[day % 7] * 10**8 * draw.uniform(0.7, 1.3))
        for day in range(365)
        for hour in range(24)
    }

    def rolling(moment: int) -> int:
        return sum(count for hour, count in hours.items() if moment - 30 * DAY - HOUR < hour <= moment)

    level = 14_500 * 10**9
    happens = next(start + day * DAY for day in range(40, 365) if rolling(start + day * DAY) >= level)
    for days_before in (30, 21, 14, 7, 3, 1):
        now = float(happens - days_before * DAY + 6 * HOUR)
        known = {hour: count for hour, count in hours.items() if now - 58 * DAY < hour <= now}
        found = forecast_transfer(known, {"critical": level}, now=now).crossings[0]
        assert abs(found.at - happens) <= (7 + days_before / 4) * DAY, days_before
