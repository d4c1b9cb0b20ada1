"""When storage and transfers reach a threshold, if things go on as they do: a pure function of daily figures.

The last eight weeks count at most, whole UTC days only. Days are first divided by their weekday's usual share (known
from two weeks on), because a quiet Sunday is no trend; a straight line through what remains is the trend. The range
comes from how far days lie from that line: the earliest and latest moment belong to the line's level and slope eased or
strained by 1.28 standard errors (eight cases of ten lie between). Transfers are summed over the rolling thirty days, so
what was sent leaves the sum again; storage only adds up. Nothing is claimed from fewer than three whole days, nor for
later than the horizon.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from entrepot.core.times import DAY, HOUR
from entrepot.rules.thresholds import ROLLING_DAYS

MOST_DAYS: Final = 56
LEAST_DAYS: Final = 3
WEEKS_FOR_RHYTHM: Final = 2
HORIZON_DAYS: Final = 366
SPREAD: Final = 1.28
UPTAKE: Final = (0.45, 0.2, 0.1, 0.08, 0.06, 0.05, 0.06)
"""Which share of a deployment's clients download on which day after its start."""


class Planned(msgspec.Struct, frozen=True, kw_only=True):
    """What a deployment will add from now on: bytes stored at once, bytes sent over the days of :data:`UPTAKE`."""

    stored: int = 0
    sent: int = 0


NOTHING_PLANNED: Final = Planned()
NO_DRILLS: Final[Mapping[int, int]] = {}


class Crossing(msgspec.Struct, frozen=True, kw_only=True):
    """When a level is reached: seconds since 1970, 0 when not within the horizon. ``at`` is the present moment when it
    is reached already. ``earliest <= at <= latest`` where they are not 0."""

    name: str
    level: int
    at: int = 0
    earliest: int = 0
    latest: int = 0


class Forecast(msgspec.Struct, frozen=True, kw_only=True):
    """``present`` bytes now; ``per_day`` what the next day adds (storage) or sends (transfer), ``per_day_change`` how
    that grows each day; ``in_thirty_days`` the figure thirty days ahead; ``rhythm`` the weekdays' factors, Monday
    first; ``days`` how many whole days it rests on, 0: too few, then nothing is claimed."""

    present: int
    days: int = 0
    per_day: int = 0
    per_day_change: int = 0
    in_thirty_days: int = 0
    rhythm: tuple[float, ...] = (1.0,) * 7
    crossings: tuple[Crossing, ...] = ()


class _Line(msgspec.Struct, frozen=True):
    """What a day is expected to bring: ``(level + slope * days from now) * rhythm of its weekday``, never below 0."""

    level: float
    slope: float
    level_error: float
    slope_error: float
    rhythm: tuple[float, ...]

    def days(self, now: float, strain: float) -> list[float]:
        """The spans of 24 hours from now to the horizon: each a part of one weekday, and a part of the next."""
        level = self.level + strain * self.level_error
        slope = self.slope + strain * self.slope_error
        first, passed = int(now) // DAY, now % DAY / DAY
        week = [_weekday(first + number) for number in range(7)]
        factors = [(1 - passed) * self.rhythm[day] + passed * self.rhythm[(day + 1) % 7] for day in week]
        return [max(0.0, level + slope * (number + passed)) * factors[number % 7] for number in range(HORIZON_DAYS)]


def forecast_transfer(
    hours: Mapping[int, int],
    levels: Mapping[str, int],
    *,
    now: float,
    planned: Planned = NOTHING_PLANNED,
    drilled: Mapping[int, int] = NO_DRILLS,
) -> Forecast:
    """Forecast the bytes of the rolling thirty days.

    Args:
        hours: all bytes that count, by the hour's start; hours without any may be left out.
        levels: bytes at which something happens, by name.
        now: seconds since 1970.
        planned: what comes on top.
        drilled: the part of them that went to load drills: it counts until it leaves the thirty days, and is no trend.
    """
    days: dict[int, int] = {}
    leaving = [0] * ROLLING_DAYS
    begin = now - ROLLING_DAYS * DAY - HOUR
    for hour, count in hours.items():
        days[hour // DAY] = days.get(hour // DAY, 0) + count - drilled.get(hour, 0)
        if hour > begin:
            leaving[min(int(hour - begin) // DAY, ROLLING_DAYS - 1)] += count
    present = sum(leaving)
    series = _whole_days(days, int(now) // DAY)
    if len(series) < LEAST_DAYS:
        return Forecast(present=present)
    line = _fit(series, int(now) // DAY)

    def path(strain: float) -> list[float]:
        coming = line.days(now, strain)
        for number, share in enumerate(UPTAKE):
            coming[number] += planned.sent * share
        total, found = float(present), [float(present)]
        for number, count in enumerate(coming):
            total += count - (leaving[number] if number < ROLLING_DAYS else coming[number - ROLLING_DAYS])
            found.append(max(0.0, total))
        return found

    return _forecast(path, levels, line, present=present, days=len(series), now=now)


def forecast_storage(
    measured: Mapping[int, int],
    levels: Mapping[str, int],
    *,
    present: int,
    now: float,
    planned: Planned = NOTHING_PLANNED,
) -> Forecast:
    """Forecast stored bytes.

    Args:
        measured: stored bytes by the hour's start; hours without a measurement are left out.
        levels: bytes at which something happens, by name.
        present: bytes stored now.
        now: seconds since 1970.
        planned: what comes on top.
    """
    today = int(now) // DAY
    last: dict[int, tuple[int, int]] = {}
    for hour, count in measured.items():
        day = hour // DAY
        last[day] = max(last.get(day, (0, 0)), (hour, count))
    ends = _carried({day: count for day, (_, count) in last.items()}, today)
    growth = {day: ends[day] - ends[day - 1] for day in ends if day - 1 in ends}
    series = _whole_days(growth, today)
    if len(series) < LEAST_DAYS:
        return Forecast(present=present)
    line = _fit(series, today, flat=True)

    def path(strain: float) -> list[float]:
        return list(itertools.accumulate(line.days(now, strain), initial=float(present + planned.stored)))

    return _forecast(path, levels, line, present=present, days=len(series), now=now)


def _forecast(
    path: Callable[[float], Sequence[float]],
    levels: Mapping[str, int],
    line: _Line,
    *,
    present: int,
    days: int,
    now: float,
) -> Forecast:
    expected, high, low = path(0.0), path(SPREAD), path(-SPREAD)
    crossings = [
        Crossing(
            name=name,
            level=level,
            at=_crossing(expected, level, now),
            earliest=_crossing(high, level, now),
            latest=_crossing(low, level, now),
        )
        for name, level in levels.items()
        if level > 0
    ]
    return Forecast(
        present=present,
        days=days,
        per_day=round(line.days(now, 0.0)[0]),
        per_day_change=round(line.slope),
        in_thirty_days=round(expected[ROLLING_DAYS]),
        rhythm=tuple(round(factor, 3) for factor in line.rhythm),
        crossings=tuple(crossings),
    )


def _crossing(path: Sequence[float], level: int, now: float) -> int:
    """The first moment at which the path is at the level; days are crossed evenly."""
    if path[0] >= level:
        return int(now)
    for number in range(1, len(path)):
        before, after = path[number - 1], path[number]
        if after >= level:
            return int(now + DAY * (number - 1 + (level - before) / (after - before)))
    return 0


def _whole_days(days: Mapping[int, int], today: int) -> list[tuple[int, float]]:
    """(day, figure) from the first known day to yesterday; days without figures count as 0."""
    known = [day for day in days if day < today]
    if not known:
        return []
    first = max(min(known), today - MOST_DAYS)
    return [(day, float(days.get(day, 0))) for day in range(first, today)]


def _carried(ends: dict[int, int], today: int) -> dict[int, int]:
    """The figure at each day's end; a day without a measurement keeps that of the day before."""
    known = [day for day in ends if day < today]
    if not known:
        return {}
    found: dict[int, int] = {}
    for day in range(min(known), today):
        found[day] = ends.get(day, found.get(day - 1, 0))
    return found


def _fit(series: Sequence[tuple[int, float]], today: int, *, flat: bool = False) -> _Line:
    """The weekdays' factors and a straight line through the days without them; ``flat``: a level without a slope."""
    rhythm = _rhythm(series)
    points = [(day - today, value / rhythm[_weekday(day)]) for day, value in series if rhythm[_weekday(day)] > 0]
    count = len(points)
    middle = math.fsum(number for number, _ in points) / count
    mean = math.fsum(value for _, value in points) / count
    square = math.fsum((number - middle) ** 2 for number, _ in points)
    straight = not flat and square > 0 and count > 2
    slope = math.fsum((number - middle) * (value - mean) for number, value in points) / square if straight else 0.0
    residue = math.fsum((value - mean - slope * (number - middle)) ** 2 for number, value in points)
    deviation = math.sqrt(residue / max(1, count - (2 if straight else 1)))
    return _Line(
        level=mean - slope * middle if straight else mean,
        slope=slope,
        level_error=deviation * math.sqrt(1 / count + (middle * middle / square if straight else 0.0)),
        slope_error=deviation / math.sqrt(square) if straight and count > 7 else 0.0,
        rhythm=rhythm,
    )


def _rhythm(series: Sequence[tuple[int, float]]) -> tuple[float, ...]:
    """Each weekday's share of an average day; all 1 before two weeks are known."""
    weeks = len(series) // 7
    whole = series[-weeks * 7 :] if weeks else []
    total = math.fsum(value for _, value in whole)
    if weeks < WEEKS_FOR_RHYTHM or total <= 0 or any(value < 0 for _, value in whole):
        return (1.0,) * 7
    sums = [0.0] * 7
    for day, value in whole:
        sums[_weekday(day)] += value
    return tuple(value * 7 / total for value in sums)


def _weekday(day: int) -> int:
    """Monday is 0; 1970-01-01 was a Thursday."""
    return (day + 3) % 7
