"""Time. Inside the product: whole seconds or milliseconds since 1970 UTC, passed in as arguments."""

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], float]
"""Seconds since 1970-01-01T00:00:00Z; ``time.time`` in production, a fake in tests."""

MINUTE = 60
HOUR = 3600
DAY = 24 * HOUR


def hour_of(seconds: float) -> int:
    """Start of the UTC hour that holds this instant, in seconds since 1970."""
    return int(seconds) // HOUR * HOUR


def iso(seconds: float) -> str:
    """RFC 3339 text in UTC, whole seconds: ``2026-03-23T14:30:00Z``."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
