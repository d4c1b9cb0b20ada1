"""Forecasts of a cloud point's storage and transfers, and the alerts that follow: "critical in 6 days"."""

from typing import Final

from sqlalchemy import Connection

from entrepot.core.times import DAY, hour_of
from entrepot.database import usage
from entrepot.database.cloud import CloudPoint
from entrepot.rules import sentences
from entrepot.rules.forecast import (
    MOST_DAYS,
    NOTHING_PLANNED,
    Crossing,
    Forecast,
    Planned,
    forecast_storage,
    forecast_transfer,
)
from entrepot.rules.sentences import Said, say
from entrepot.rules.thresholds import StorageLimits, TransferLimits, storage_levels, transfer_levels

WARNING: Final = "warning"
CRITICAL: Final = "critical"
SOON_DAYS: Final = 7
CALM_DAYS: Final = 10
"""An open forecast alert closes when the critical level is further away than this."""
LOOKED_AT_DAYS: Final = MOST_DAYS + 2


def forecasts(
    connection: Connection, point: CloudPoint, now: float, planned: Planned = NOTHING_PLANNED
) -> tuple[Forecast, Forecast]:
    """Storage and transfers of a cloud point, against its thresholds."""
    thresholds = point.thresholds
    storage = StorageLimits(
        quota=thresholds.storage_quota, warning_free_percent=thresholds.storage_warning_free_percent
    )
    transfer = TransferLimits(
        quota=thresholds.transfer_quota,
        warning_percent=thresholds.transfer_warning_percent,
        critical_percent=thresholds.transfer_critical_percent,
    )
    since = hour_of(now) - LOOKED_AT_DAYS * DAY
    course = usage.course(connection, point.point, since=since)
    kept = usage.stored_usage(connection, point.point)
    return (
        forecast_storage(
            course.stored,
            _named(storage_levels(storage) if storage.quota else ()),
            present=kept.present()[0],
            now=now,
            planned=planned,
        ),
        forecast_transfer(
            course.sent,
            _named(transfer_levels(transfer) if transfer.quota else ()),
            now=now,
            planned=planned,
            drilled=course.drilled,
        ),
    )


def _named(levels: tuple[int, ...]) -> dict[str, int]:
    return dict(zip((WARNING, CRITICAL), levels, strict=False))


def expected(forecast: Forecast, now: float) -> tuple[bool, bool, Said | None]:
    """Whether the critical level is expected soon, whether so late that only an open alert stays open, and what to say.

    A level that is reached already is not expected any more: its own alert says so.
    """
    found = next((one for one in forecast.crossings if one.name == CRITICAL), None)
    if found is None or not found.at or found.at <= now:
        return False, False, None
    days = (found.at - now) / DAY
    return days <= SOON_DAYS, SOON_DAYS < days <= CALM_DAYS, _told(found, now)


def _told(crossing: Crossing, now: float) -> Said:
    days = max(1, round((crossing.at - now) / DAY))
    figures = {"days": days, "at": int(crossing.at), "earliest": int(crossing.earliest)}
    if crossing.latest:
        figures["latest"] = int(crossing.latest)
        return say(sentences.IN_A_DAY if days == 1 else sentences.IN_DAYS, **figures)
    return say(sentences.IN_A_DAY_OPEN if days == 1 else sentences.IN_DAYS_OPEN, **figures)
