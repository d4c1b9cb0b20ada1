"""Maintenance windows: when an administrator expects trouble, and no alert opens.

A window begins at a local wall-clock time and lasts so many minutes of real time; it may repeat daily or weekly at the
same wall-clock time, so that "Sunday 02:00 in Berlin" stays that across daylight saving. A wall-clock time that a
change to summer time skips is taken as the moment of the change's other side; one that occurs twice counts once, the
first time.
"""

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from entrepot.core.errors import BadInputError
from entrepot.core.times import MINUTE

FORM: Final = "%Y-%m-%dT%H:%M"
MAX_MINUTES: Final = 7 * 24 * 60


class Repeat(StrEnum):
    """How often a window comes back."""

    NEVER = "never"
    DAILY = "daily"
    WEEKLY = "weekly"


_DAYS: Final = {Repeat.DAILY: 1, Repeat.WEEKLY: 7}


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """``start`` local time (``2026-03-23T22:00``) in the IANA ``zone``; ``types``: alert types, empty: all."""

    start: str
    zone: str
    minutes: int
    repeat: Repeat = Repeat.NEVER
    types: tuple[str, ...] = ()

    def covers(self, type_: str, now: float) -> bool:
        """Whether an alert of this type is expected at this moment."""
        return (not self.types or type_ in self.types) and is_open(self, now)


def check_window(window: Window) -> None:
    """Check that a window makes sense.

    Raises:
        BadInputError: an unreadable time, an unknown time zone, or a length that is not 1 minute to 7 days, or longer
            than its repetition.
    """
    _first(window)
    _zone(window)
    longest = min(MAX_MINUTES, _DAYS.get(window.repeat, 7) * 24 * 60)
    if not 1 <= window.minutes <= longest:
        raise BadInputError(f"A maintenance window that repeats {window.repeat.value} lasts 1 to {longest} minutes.")


def is_open(window: Window, now: float) -> bool:
    """Whether the window is open at this moment (seconds since 1970)."""
    first, zone = _first(window), _zone(window)
    days = _DAYS.get(window.repeat)
    local = datetime.fromtimestamp(now, zone).replace(tzinfo=None)
    if days is None:
        candidates = [first]
    else:
        passed = (local - first).days // days
        candidates = [first + timedelta(days=days * count) for count in (passed - 1, passed, passed + 1) if count >= 0]
    return any(begin <= now < begin + window.minutes * MINUTE for begin in (_instant(one, zone) for one in candidates))


def _instant(local: datetime, zone: ZoneInfo) -> float:
    return local.replace(tzinfo=zone, fold=0).astimezone(UTC).timestamp()


def _first(window: Window) -> datetime:
    try:
        return datetime.strptime(window.start, FORM)  # noqa: DTZ007  # a wall-clock time; its zone is a field of its own
    except ValueError:
        raise BadInputError(
            f"{window.start[:40]!r} is not the begin of a window.", next_step="Write for example 2026-03-23T22:00."
        ) from None


def _zone(window: Window) -> ZoneInfo:
    try:
        return ZoneInfo(window.zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise BadInputError(
            f"{window.zone[:64]!r} is not a time zone.", next_step="Use an IANA name such as Europe/Berlin, or UTC."
        ) from None
