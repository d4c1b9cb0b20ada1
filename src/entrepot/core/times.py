"""Time. Inside the product: whole seconds or milliseconds since 1970 UTC, passed in as arguments."""

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], float]
"""Seconds since 1970-01-01T00:00:00Z; ``time.time`` in production, a fake in tests."""

MINUTE = 60
HOUR = 3600
DAY = 24 * HOUR
_LAST_SECOND = 253_402_300_799  # of the year 9999


def hour_of(seconds: float) -> int:
    """Start of the UTC hour that holds this instant, in seconds since 1970."""
    return int(seconds) // HOUR * HOUR


def iso(seconds: float) -> str:
    """RFC 3339 text in UTC, whole seconds: ``2026-03-23T14:30:00Z``; the years 1970 to 9999, nothing beyond.

    Times in documents from elsewhere may be anything: an error text about one must not fail in its turn.
    """
    bounded = min(max(seconds, 0), _LAST_SECOND)
    return datetime.fromtimestamp(int(bounded), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
