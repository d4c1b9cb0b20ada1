"""From figures and findings to alerts (R21, R22, R25, R37). What is bad is decided in ``rules``; this keeps it."""

from typing import Final

from sqlalchemy import Connection

from entrepot.core.sizes import format_size
from entrepot.core.times import DAY, HOUR, iso
from entrepot.database import alerts, budgets, cloud, collection, grants, usage
from entrepot.database.cloud import CloudPoint
from entrepot.database.usage import StoredUsage
from entrepot.protocol.cloudapi import Comparison
from entrepot.protocol.cloudpointapi import Thresholds
from entrepot.rules.alerts import Condition
from entrepot.rules.alerttypes import CLOUD_POINT_ALERTS
from entrepot.rules.budgets import WORDS, Grade, grade, near, stepped
from entrepot.rules.reconciling import DIFFERS, NOT_TOLD
from entrepot.rules.thresholds import (
    Assessment,
    StorageLimits,
    TransferLimits,
    assess_storage,
    assess_transfer,
    rolling_start,
)
from entrepot.site.cost.forecasting import expected, forecasts
from entrepot.site.cost.naming import label_of
from entrepot.site.findings import Finding, condition_of, judge
from entrepot.trust.inspection import describe, expires
from entrepot.trust.pem import load_chain

EXPIRY_WARNING_DAYS: Final = 30
STALE_SECONDS: Final = 3 * HOUR
REFUSED_SECONDS: Final = HOUR
"""Clients that are refused ask again sooner: as long as any needs more than is left, the alert stays open."""


def upload_limits(thresholds: Thresholds) -> TransferLimits:
    """What the site may send before it alerts (R25): a quota of its own, the shares of the transfers to clients."""
    return TransferLimits(
        quota=thresholds.upload_quota,
        warning_percent=thresholds.transfer_warning_percent,
        critical_percent=thresholds.transfer_critical_percent,
    )


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
    for type_ in CLOUD_POINT_ALERTS:
        alerts.ensure(connection, type_=type_, subject=point.point, subject_name=point.name, now=now)


def judge_usage(connection: Connection, point_id: str, now: float, *, strict: bool = False) -> None:
    """Evaluate storage, transfers, their trend, and the wholeness and age of the records, at this moment.

    Args:
        strict: the thresholds were changed just now: nothing stays open because it is near.

    Raises:
        NotFoundError: the cloud point is gone.
    """
    point = cloud.get_cloud_point(connection, point_id)
    storage_limits, transfer_limits = limits_of(point.thresholds)
    kept = usage.stored_usage(connection, point_id)
    totals = usage.totals_since(connection, point_id, rolling_start(now))
    stored, stored_at = kept.present()
    storage = assess_storage(stored, storage_limits)
    transfer = assess_transfer(totals.sent, transfer_limits)
    uploads = assess_transfer(totals.uploaded, upload_limits(point.thresholds), what="sent by the site")
    findings = [
        *_two_levels("storage", storage, known=stored_at > 0, strict=strict, as_of=_measured(kept, stored_at)),
        *_two_levels("transfer", transfer, known=kept.collected > 0, strict=strict, as_of=_collected(kept)),
        *_two_levels("upload", uploads, known=True, strict=strict),
        *_forecasts(connection, point, kept, now),
        *_budget_findings(connection, point_id, now),
        _records(connection, point_id),
        _age(point, kept, now),
    ]
    judge(connection, point.point, point.name, findings, now)


def _measured(kept: StoredUsage, at: int) -> str:
    """How old the figure of what is stored is, and whose it is."""
    if at == kept.stored_at:
        return f"Measured by the cloud at {iso(at)}."
    since = f", since the cloud measured at {iso(kept.stored_at)}" if kept.stored_at else ""
    return f"Counted by the site at {iso(at)}{since}."


def _collected(kept: StoredUsage) -> str:
    """How old figures of transfers are."""
    return f"Collected at {iso(kept.collected)}."


def _two_levels(what: str, assessment: Assessment, *, known: bool, strict: bool, as_of: str = "") -> list[Finding]:
    """Both levels of a figure; ``as_of`` says how old it is, where it may be hours."""
    message = f"{assessment.message} {as_of}" if as_of else assessment.message
    levels = (
        ("warning", assessment.warning, assessment.warning_near),
        ("critical", assessment.critical, assessment.critical_near),
    )
    return [
        Finding(
            type=f"{what}_{level}",
            condition=condition_of(reached) if known else Condition.UNKNOWN,
            message=message,
            near=near and not strict,
        )
        for level, reached, near in levels
    ]


def _forecasts(connection: Connection, point: CloudPoint, kept: StoredUsage, now: float) -> list[Finding]:
    """Whether a critical level is expected within a week; what is reached already has an alert of its own."""
    findings = []
    stored, sent = forecasts(connection, point, now)
    ages = (_measured(kept, kept.present()[1]), _collected(kept))
    for what, forecast, as_of in zip(("storage", "transfer"), (stored, sent), ages, strict=True):
        soon, near, message = expected(forecast, now)
        told = f"{message} {as_of}" if message else ""
        findings.append(
            Finding(type=f"{what}_forecast", condition=condition_of(soon), message=told, near=near)
            if forecast.days
            else Finding(type=f"{what}_forecast", condition=Condition.UNKNOWN)
        )
    return findings


def _budget_findings(connection: Connection, point_id: str, now: float) -> list[Finding]:
    """Which budgets that bound this point have reached a grade. The message names each, and its grade."""
    steps, ends = [], []
    near_step = near_end = False
    for one in budgets.budgets(connection):
        if one.scope is budgets.Scope.POINT and one.subject != point_id:
            continue
        used, granted = grants.standing(connection, one, now)
        figures = f"{format_size(used)} used and {format_size(granted)} granted of {format_size(one.bytes)}"
        told = f"The budget of the {label_of(connection, one)}: {{}} ({figures})."
        step, end = (which(one.shares, one.bytes, used=used, granted=granted) for which in (stepped, grade))
        if step > Grade.OPEN:
            steps.append(told.format(WORDS[step]))
        if end >= Grade.NO_GRANTS:
            ends.append(told.format(WORDS[end]))
        elif step < Grade.CRITICAL_ONLY and now - one.refused < REFUSED_SECONDS:
            ends.append(told.format(f"refused a download at {iso(one.refused)} that needs more than is left"))
        near_step |= stepped(one.shares, near(one.bytes), used=used, granted=granted) > Grade.OPEN
        near_end |= now - one.refused < 2 * REFUSED_SECONDS
        near_end |= grade(one.shares, near(one.bytes), used=used, granted=granted) >= Grade.NO_GRANTS
    return [
        Finding(type=type_, condition=condition_of(bool(found)), message=" ".join(found[:20]), near=close)
        for type_, found, close in (("budget_step", steps, near_step), ("budget_used_up", ends, near_end))
    ]


def comparison_finding(found: Comparison) -> Finding:
    """Whether figures of the cloud and the site's own have differed in two daily comparisons on end. While one that
    differed is not told, nothing shows that it agrees again: an alert stays as it is.
    """
    differing = [one for one in found.figures if one.figure in found.lasting and one.verdict == DIFFERS]
    told = [
        f"{one.figure.capitalize()}: {format_size(one.by_cloud or 0)} by the cloud, {format_size(one.by_site or 0)} by "
        f"the site. {one.message}"
        for one in differing
    ]
    days = f"Compared from {iso(found.since)} to {iso(found.until)}."
    known = not found.awaited and any(one.verdict != NOT_TOLD for one in found.figures)
    return Finding(
        type="figures_differ",
        condition=condition_of(bool(told)) if told or known else Condition.UNKNOWN,
        message=" ".join([*told, days]) if told else "",
    )


def _age(point: CloudPoint, kept: StoredUsage, now: float) -> Finding:
    """No figures for three hours, since the last collection or, before the first, since the point was ready."""
    since = kept.collected or point.ready
    stale = since > 0 and now - since >= STALE_SECONDS
    message = f"No figures for {int(now - since) // HOUR} h: the last collection was {_moment(kept.collected)}."
    return Finding(
        type="figures_stale", condition=condition_of(stale), message=f"{message} {kept.error}".strip() if stale else ""
    )


def _moment(seconds: int) -> str:
    return f"at {iso(seconds)}" if seconds else "never"


def _records(connection: Connection, point_id: str) -> Finding:
    gaps = collection.gaps(connection, point_id)
    told = [f"{gap.instance}: {gap.missing} segments missing, {gap.broken} damaged or not fitting" for gap in gaps[:20]]
    return Finding(
        type="accounting_gap",
        condition=condition_of(bool(gaps)),
        message=f"Of {len(gaps)} instances the records are not whole. {'; '.join(told)}." if gaps else "",
    )


def expiries(point: CloudPoint, management_expires: int) -> tuple[tuple[str, int], ...]:
    """What expires, and when: a service certificate is worth no more than the issuers that are sent with it."""
    issuers = load_chain(point.certificate)[1:] if point.certificate else []
    first = min(issuers, key=expires, default=None)
    if first is None or expires(first) >= point.certificate_expires:
        service = "service certificate", point.certificate_expires
    else:
        service = f"issuer {describe(first)} of the service certificate", expires(first)
    return service, ("management certificate", management_expires)


def certificate_finding(point: CloudPoint, management_expires: int, now: float) -> Finding:
    """Whether a certificate has expired or does within 30 days."""
    problems = [
        f"The {what} {'expired' if ends <= now else 'expires'} at {iso(ends)}."
        for what, ends in expiries(point, management_expires)
        if ends - now <= EXPIRY_WARNING_DAYS * DAY
    ]
    return Finding(type="certificate_problem", condition=condition_of(bool(problems)), message=" ".join(problems))
