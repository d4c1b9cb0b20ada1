"""Grades of a transfer budget, and the period that it is for (R23). Pure.

At given shares of a budget, each opt-in: throttle, peers only, critical content only, no new grants, stop the service.
"""

from datetime import UTC, datetime, timedelta
from enum import IntEnum
from zoneinfo import ZoneInfo

import msgspec

from entrepot.core.sizes import format_size
from entrepot.core.times import hour_of
from entrepot.rules.thresholds import NEAR_PERCENT, rolling_start
from entrepot.rules.throttle import kept_rate


class Grade(IntEnum):
    """How far a budget has come; each includes the ones before."""

    OPEN = 0
    THROTTLE = 1
    PEERS_ONLY = 2
    CRITICAL_ONLY = 3
    NO_GRANTS = 4
    STOP = 5


WORDS = {
    Grade.OPEN: "open",
    Grade.THROTTLE: "throttled",
    Grade.PEERS_ONLY: "peers only",
    Grade.CRITICAL_ONLY: "critical content only",
    Grade.NO_GRANTS: "no new grants",
    Grade.STOP: "service stopped",
}


class Shares(msgspec.Struct, frozen=True, kw_only=True):
    """Percent of the budget from which each grade holds; 0: never. ``no_grants`` is at most 100, and always set."""

    throttle_percent: int = 0
    peers_percent: int = 0
    critical_percent: int = 100
    grant_percent: int = 100
    stop_percent: int = 0


def described(shares: Shares, rate: int) -> str:
    """The grades of a budget in words, in their order."""
    slow = f"throttle to {format_size(kept_rate(rate))}/s"
    told = [
        f"{slow} at {shares.throttle_percent} %" if shares.throttle_percent else "",
        f"peers only at {shares.peers_percent} %" if shares.peers_percent else "",
        f"critical content only at {shares.critical_percent} %" if _before_end(shares) else "",
        f"no new grants at {shares.grant_percent} %",
        f"stop when {shares.stop_percent} % are used" if shares.stop_percent else "",
    ]
    return ", ".join(filter(None, told))


def bound(shares: Shares, budget: int, *, critical: bool) -> int:
    """Up to which sum of used and granted bytes new grants may go. Critical content is held back by the end alone."""
    percents = [shares.grant_percent]
    if not critical:
        percents += [each for each in (shares.peers_percent, shares.critical_percent) if each]
    return budget * min(percents) // 100


def throttled(shares: Shares, budget: int, committed: int) -> bool:
    """Whether a grant that brings the sum to ``committed`` is throttled. "Reaches or exceeds" counts."""
    return shares.throttle_percent > 0 and committed * 100 >= budget * shares.throttle_percent


def grade(shares: Shares, budget: int, *, used: int, granted: int) -> Grade:
    """The highest grade that is reached. The service is stopped for what was used, not for what may yet be."""

    def reached(percent: int, amount: int) -> bool:
        return percent > 0 and amount * 100 >= budget * percent

    committed = used + granted
    steps = (
        (Grade.STOP, shares.stop_percent, used),
        (Grade.NO_GRANTS, shares.grant_percent, committed),
        (Grade.CRITICAL_ONLY, shares.critical_percent, committed),
        (Grade.PEERS_ONLY, shares.peers_percent, committed),
        (Grade.THROTTLE, shares.throttle_percent, committed),
    )
    return next((which for which, percent, amount in steps if reached(percent, amount)), Grade.OPEN)


def stepped(shares: Shares, budget: int, *, used: int, granted: int) -> Grade:
    """The highest grade before the end that is reached, whether the end is or not."""
    shares = msgspec.structs.replace(shares, stop_percent=0, grant_percent=0, critical_percent=_before_end(shares))
    return grade(shares, budget, used=used, granted=granted)


def _before_end(shares: Shares) -> int:
    return shares.critical_percent if shares.critical_percent < shares.grant_percent else 0


def near(budget: int) -> int:
    """The budget by which a grade is near: what swings around a share neither opens and closes alerts again and again
    nor stops and starts a service."""
    return budget * (100 - NEAR_PERCENT) // 100


def stops(shares: Shares, budget: int, *, used: int, stopped: bool) -> bool:
    """Whether the service shall stop for what was used; if it has ``stopped``, whether it shall not start yet."""
    return grade(shares, near(budget) if stopped else budget, used=used, granted=0) is Grade.STOP


def period_start(zone: str, now: float) -> int:
    """First hour that counts: the beginning of the month in ``zone``, or with no zone of 30 rolling days.

    Figures are by the hour in UTC: where a month begins within one (zones with half hours), that hour counts whole.
    """
    if not zone:
        return rolling_start(now)
    local = datetime.fromtimestamp(now, ZoneInfo(zone))
    return hour_of(datetime(local.year, local.month, 1, tzinfo=ZoneInfo(zone)).timestamp())


def next_period(zone: str, now: float) -> int:
    """When the next month begins; 0 where the days roll."""
    if not zone:
        return 0
    local = datetime.fromtimestamp(now, ZoneInfo(zone))
    later = datetime(local.year, local.month, 1, tzinfo=UTC) + timedelta(days=32)
    return int(datetime(later.year, later.month, 1, tzinfo=ZoneInfo(zone)).timestamp())
