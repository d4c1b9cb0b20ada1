"""From figures and findings to alerts (R21, R22, R25, R37). What is bad is decided in ``rules``; this keeps it."""

from collections.abc import Callable
from typing import Final

import msgspec
from sqlalchemy import Connection

from entrepot.core.times import DAY, iso
from entrepot.database import alerts, cloud, collection, usage
from entrepot.database.cloud import CloudPoint
from entrepot.protocol.siteapi import Thresholds
from entrepot.rules.alerts import ALERT_TYPES, Alert, Condition, Step, evaluate
from entrepot.rules.thresholds import (
    Assessment,
    StorageLimits,
    TransferLimits,
    assess_storage,
    assess_transfer,
    rolling_start,
)

EXPIRY_WARNING_DAYS: Final = 30


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What a rule says about one type of alert."""

    type: str
    condition: Condition
    message: str = ""


def limits_of(thresholds: Thresholds) -> tuple[StorageLimits, TransferLimits]:
    """Thresholds of a cloud point, as the rules take them."""
    return (
        StorageLimits(quota=thresholds.storage_quota, warning_free_percent=thresholds.storage_warning_free_percent),
        TransferLimits(
            quota=thresholds.transfer_quota,
            warning_percent=thresholds.transfer_warning_percent,
            critical_percent=thresholds.transfer_critical_percent,
        ),
    )


def create_alerts(connection: Connection, point: CloudPoint, now: int) -> None:
    """The alerts of a cloud point exist from its beginning, never triggered."""
    for type_ in ALERT_TYPES:
        alerts.ensure(connection, type_=type_, subject=point.point, subject_name=point.name, now=now)


def judge(connection: Connection, point: CloudPoint, findings: list[Finding], now: float) -> None:
    """Let each finding open, close or keep its alert."""
    for finding in findings:
        alerts.ensure(connection, type_=finding.type, subject=point.point, subject_name=point.name, now=int(now))
        kept = alerts.find(connection, type_=finding.type, subject=point.point)
        alerts.change(connection, kept.id, _deciding(finding, now))


def _deciding(finding: Finding, now: float) -> Callable[[Alert], Step]:
    return lambda alert: evaluate(alert, finding.condition, message=finding.message, now=now)


def judge_usage(connection: Connection, point_id: str, now: float) -> None:
    """Evaluate storage, transfers and the wholeness of the records, at this moment.

    Raises:
        NotFoundError: the cloud point is gone.
    """
    point = cloud.get_cloud_point(connection, point_id)
    storage_limits, transfer_limits = limits_of(point.thresholds)
    kept = usage.stored_usage(connection, point_id)
    sent = usage.totals_since(connection, point_id, rolling_start(now)).sent
    storage = assess_storage(kept.stored_bytes, storage_limits)
    transfer = assess_transfer(sent, transfer_limits)
    findings = [
        *_two_levels("storage", storage, known=kept.stored_at > 0),
        *_two_levels("transfer", transfer, known=kept.collected > 0),
        _records(connection, point_id),
    ]
    judge(connection, point, findings, now)


def _two_levels(what: str, assessment: Assessment, *, known: bool) -> list[Finding]:
    return [
        Finding(
            type=f"{what}_{level}",
            condition=_condition(reached) if known else Condition.UNKNOWN,
            message=assessment.message,
        )
        for level, reached in (("warning", assessment.warning), ("critical", assessment.critical))
    ]


def _condition(bad: bool) -> Condition:
    return Condition.BAD if bad else Condition.GOOD


def _records(connection: Connection, point_id: str) -> Finding:
    gaps = collection.gaps(connection, point_id)
    told = [f"{gap.instance}: {gap.missing} segments missing, {gap.broken} damaged or not fitting" for gap in gaps[:20]]
    return Finding(
        type="accounting_gap",
        condition=_condition(bool(gaps)),
        message=f"Of {len(gaps)} instances the records are not whole. {'; '.join(told)}." if gaps else "",
    )


def certificate_finding(point: CloudPoint, management_expires: int, now: float) -> Finding:
    """Whether a certificate has expired or does within 30 days."""
    problems = [
        f"The {what} certificate {'expired' if expires <= now else 'expires'} at {iso(expires)}."
        for what, expires in (("service", point.certificate_expires), ("management", management_expires))
        if expires - now <= EXPIRY_WARNING_DAYS * DAY
    ]
    return Finding(type="certificate_problem", condition=_condition(bool(problems)), message=" ".join(problems))
