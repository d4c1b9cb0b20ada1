"""From figures and findings to alerts (R21, R22, R25, R37). What is bad is decided in ``rules``; this keeps it."""

from typing import Final

from sqlalchemy import Connection

from entrepot.core.times import DAY, HOUR
from entrepot.database import alerts, budgets, cloud, collection, grants, usage
from entrepot.database.cloud import CloudPoint
from entrepot.database.usage import StoredUsage
from entrepot.protocol.cloudapi import Comparison, Reconciled
from entrepot.protocol.cloudpointapi import Thresholds
from entrepot.rules import sentences
from entrepot.rules.alerts import Condition
from entrepot.rules.alerttypes import CLOUD_POINT_ALERTS
from entrepot.rules.budgets import WORDS, Grade, grade, near, stepped
from entrepot.rules.reconciling import DIFFERS, NOT_TOLD
from entrepot.rules.sentences import Said, quoted, say
from entrepot.rules.thresholds import (
    Assessment,
    StorageLimits,
    TransferLimits,
    assess_storage,
    assess_transfer,
    rolling_start,
)
from entrepot.site.cost.forecasting import expected, forecasts
from entrepot.site.cost.naming import name_of
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
    uploads = assess_transfer(totals.uploaded, upload_limits(point.thresholds), by_site=True)
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


def _measured(kept: StoredUsage, at: int) -> Said:
    """How old the figure of what is stored is, and whose it is."""
    if at == kept.stored_at:
        return say(sentences.MEASURED, at=at)
    if kept.stored_at:
        return say(sentences.COUNTED_SINCE, at=at, measured=kept.stored_at)
    return say(sentences.COUNTED, at=at)


def _collected(kept: StoredUsage) -> Said:
    """How old figures of transfers are."""
    return say(sentences.COLLECTED, at=kept.collected)


def _two_levels(
    what: str, assessment: Assessment, *, known: bool, strict: bool, as_of: Said | None = None
) -> list[Finding]:
    """Both levels of a figure; ``as_of`` says how old it is, where it may be hours."""
    said = assessment.said if as_of is None else (*assessment.said, as_of)
    levels = (
        ("warning", assessment.warning, assessment.warning_near),
        ("critical", assessment.critical, assessment.critical_near),
    )
    return [
        Finding(
            type=f"{what}_{level}",
            condition=condition_of(reached) if known else Condition.UNKNOWN,
            said=said,
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
        soon, near, told = expected(forecast, now)
        said = (told, as_of) if told is not None else ()
        findings.append(
            Finding(type=f"{what}_forecast", condition=condition_of(soon), said=said, near=near)
            if forecast.days
            else Finding(type=f"{what}_forecast", condition=Condition.UNKNOWN)
        )
    return findings


def _budget_findings(connection: Connection, point_id: str, now: float) -> list[Finding]:
    """Which budgets that bound this point have reached a grade. The message names each, and its grade."""
    steps: list[Said] = []
    ends: list[Said] = []
    near_step = near_end = False
    for one in budgets.budgets(connection):
        if one.scope is budgets.Scope.POINT and one.subject != point_id:
            continue
        used, granted = grants.standing(connection, one, now)
        figures: dict[str, int | str] = {"used": used, "granted": granted, "bytes": one.bytes}
        figures |= {"scope": one.scope.value.replace("-", " "), "name": name_of(connection, one)}
        step, end = (which(one.shares, one.bytes, used=used, granted=granted) for which in (stepped, grade))
        if step > Grade.OPEN:
            steps.append(say(sentences.BUDGET, grade=WORDS[step], **figures))
        if end >= Grade.NO_GRANTS:
            ends.append(say(sentences.BUDGET, grade=WORDS[end], **figures))
        elif step < Grade.CRITICAL_ONLY and now - one.refused < REFUSED_SECONDS:
            ends.append(say(sentences.BUDGET_REFUSED, at=one.refused, **figures))
        near_step |= stepped(one.shares, near(one.bytes), used=used, granted=granted) > Grade.OPEN
        near_end |= now - one.refused < 2 * REFUSED_SECONDS
        near_end |= grade(one.shares, near(one.bytes), used=used, granted=granted) >= Grade.NO_GRANTS
    return [
        Finding(type=type_, condition=condition_of(bool(found)), said=tuple(found[:20]), near=close)
        for type_, found, close in (("budget_step", steps, near_step), ("budget_used_up", ends, near_end))
    ]


def comparison_finding(found: Comparison) -> Finding:
    """Whether figures of the cloud and the site's own have differed in two daily comparisons on end. While one that
    differed is not told, nothing shows that it agrees again: an alert stays as it is.
    """
    differing = [one for one in found.figures if one.figure in found.lasting and one.verdict == DIFFERS]
    told = [sentence for one in differing for sentence in _differing(one)]
    days = say(sentences.COMPARED, since=found.since, until=found.until)
    known = not found.awaited and any(one.verdict != NOT_TOLD for one in found.figures)
    return Finding(
        type="figures_differ",
        condition=condition_of(bool(told)) if told or known else Condition.UNKNOWN,
        said=(*told, days) if told else (),
    )


def _differing(one: Reconciled) -> tuple[Said, ...]:
    """A figure that differs, and why that may be; comparisons of before told that in words alone."""
    figures = {"by_cloud": one.by_cloud or 0, "by_site": one.by_site or 0}
    why = (say(one.reason),) if one.reason else quoted(one.message)
    return say(sentences.DIFFERS, figure=one.figure.capitalize(), **figures), *why


def _age(point: CloudPoint, kept: StoredUsage, now: float) -> Finding:
    """No figures for three hours, since the last collection or, before the first, since the point was ready."""
    since = kept.collected or point.ready
    stale = since > 0 and now - since >= STALE_SECONDS
    hours = int(now - since) // HOUR
    told = (
        say(sentences.STALE, hours=hours, at=kept.collected)
        if kept.collected
        else say(sentences.STALE_NEVER, hours=hours)
    )
    said = (told, *quoted(kept.error)) if stale else ()
    return Finding(type="figures_stale", condition=condition_of(stale), said=said)


def _records(connection: Connection, point_id: str) -> Finding:
    gaps = collection.gaps(connection, point_id)
    told = [say(sentences.GAP, instance=gap.instance, missing=gap.missing, broken=gap.broken) for gap in gaps[:20]]
    said = (say(sentences.GAPS, count=len(gaps)), *told) if gaps else ()
    return Finding(type="accounting_gap", condition=condition_of(bool(gaps)), said=said)


def expiries(point: CloudPoint, management_expires: int) -> tuple[tuple[str, str, int], ...]:
    """What expires, which issuer of it does if it is not itself, and when: a service certificate is worth no more than
    the issuers that are sent with it."""
    issuers = load_chain(point.certificate)[1:] if point.certificate else []
    first = min(issuers, key=expires, default=None)
    if first is None or expires(first) >= point.certificate_expires:
        service = "service certificate", "", point.certificate_expires
    else:
        service = "service certificate", describe(first), expires(first)
    return service, ("management certificate", "", management_expires)


def expiry(point: CloudPoint, what: str, issuer: str, ends: int, now: float) -> Said:
    """What to say of one of :func:`expiries`."""
    if issuer:
        key = sentences.ISSUER_EXPIRED if ends <= now else sentences.ISSUER_EXPIRES
        return say(key, issuer=issuer, what=what, name=point.name, at=ends)
    return say(sentences.EXPIRED if ends <= now else sentences.EXPIRES, what=what, name=point.name, at=ends)


def certificate_finding(point: CloudPoint, management_expires: int, now: float) -> Finding:
    """Whether a certificate has expired or does within 30 days."""
    problems = tuple(
        expiry(point, what, issuer, ends, now)
        for what, issuer, ends in expiries(point, management_expires)
        if ends - now <= EXPIRY_WARNING_DAYS * DAY
    )
    return Finding(type="certificate_problem", condition=condition_of(bool(problems)), said=problems)
