"""Looks deeper than a cloud's own word: the store (write, read, delete), the clock, DNS, the certificates (R6, R37)."""

import secrets
from typing import TYPE_CHECKING, Final

from entrepot.core.errors import EntrepotError
from entrepot.core.times import DAY
from entrepot.database.cloud import CloudPoint
from entrepot.protocol.cloudapi import HealthDetail
from entrepot.protocol.cloudhost import ServiceStatus
from entrepot.protocol.cloudpointapi import CloudPointState
from entrepot.rules import sentences
from entrepot.rules.alerts import Condition
from entrepot.rules.sentences import in_words, say
from entrepot.site.cloud.dns import Resolver, check_name, record_for
from entrepot.site.cloud.health import Look
from entrepot.site.cloud.judging import expiries, expiry
from entrepot.site.cloud.waiting import running
from entrepot.site.findings import Finding, condition_of

if TYPE_CHECKING:
    from entrepot.web.dataplane import Holder

MAX_SKEW: Final = 60
"""Seconds. Tokens and signed documents allow two minutes; the alert comes before they fail."""
NEAR_SKEW: Final = 45
"""An open alert closes below this: a clock that wanders around the bound does not open it again and again."""
PROBE: Final = "probe/site"
LEVELS: Final = (
    ("certificate_1_day", DAY),
    ("certificate_7_days", 7 * DAY),
    ("certificate_60_days", 60 * DAY),
)
"""From the most urgent; ``certificate_problem`` opens at 30 days and stays until there is a new certificate."""
_QUIET_AT: Final = 30 * DAY
_FIRST_WARNING: Final = max(seconds for _, seconds in LEVELS)


async def probe_store(holder: "Holder") -> Finding:
    """Write, read and delete a small document. What does not answer is the business of other alerts."""
    token = secrets.token_bytes(16)
    try:
        await holder.put_document(PROBE, token)
        read = await holder.get_document(PROBE, limit=1024)
        await holder.delete_document(PROBE)
    except EntrepotError as error:
        condition = Condition.UNKNOWN if error.retryable else Condition.BAD
        return Finding(
            type="store_problem", condition=condition, said=(say(sentences.STORE_REFUSES, error=str(error)),)
        )
    good = read == token
    return Finding(
        type="store_problem",
        condition=Condition.GOOD if good else Condition.BAD,
        said=() if good else (say(sentences.STORE_LIES),),
    )


def clock_finding(seen: Look, before: float, after: float) -> Finding:
    """Compare the cloud's clock with the site's, which it was asked between two moments of."""
    theirs = seen.subscription.time if seen.subscription is not None else 0
    if not theirs:
        return Finding(type="clock_skew", condition=Condition.UNKNOWN)
    skew = int(theirs - after if theirs > after else min(0.0, theirs - before))
    bad, near = abs(skew) > MAX_SKEW, abs(skew) > NEAR_SKEW
    told = say(sentences.CLOCK_AHEAD if skew > 0 else sentences.CLOCK_BEHIND, seconds=abs(skew))
    return Finding(type="clock_skew", condition=condition_of(bad), said=(told,) if near else (), near=near)


async def dns_finding(point: CloudPoint, resolver: Resolver) -> Finding:
    """Whether the service's name leads elsewhere. That this server cannot resolve it is told, but is no alert: the name
    may exist for clients only."""
    if record_for(point.fqdn, point.address) is None:
        return Finding(type="dns_problem", condition=Condition.UNKNOWN)
    verdict = await check_name(point.fqdn, point.address, resolver)
    if not verdict.found:
        return Finding(type="dns_problem", condition=Condition.UNKNOWN, said=verdict.said)
    return Finding(
        type="dns_problem",
        condition=Condition.BAD if verdict.said else Condition.GOOD,
        said=verdict.said,
    )


def certificate_findings(point: CloudPoint, management_expires: int, now: float) -> tuple[Finding, ...]:
    """Warnings 60, 7 and 1 days before a certificate expires, and when it has; one of them is open at a time."""
    kinds = expiries(point, management_expires)
    level = {what: _level(ends - now) for what, _, ends in kinds}
    findings = []
    for key in ("certificate_expired", *(name for name, _ in LEVELS)):
        told = tuple(expiry(point, what, issuer, ends, now) for what, issuer, ends in kinds if level[what] == key)
        condition = Condition.BAD if told else Condition.GOOD
        findings.append(Finding(type=key, condition=condition, said=told))
    return tuple(findings)


def certificates_detail(point: CloudPoint, management_expires: int, now: float) -> HealthDetail:
    """The certificates for people: each is named from the first warning on until there is a new one."""
    told = [
        expiry(point, what, issuer, ends, now)
        for what, issuer, ends in expiries(point, management_expires)
        if ends - now <= _FIRST_WARNING
    ]
    return HealthDetail(name="certificates", state="bad" if told else "good", message=in_words(told))


def _level(left: float) -> str:
    if left <= 0:
        return "certificate_expired"
    for key, seconds in LEVELS:
        if left <= seconds:
            # Between 30 and 7 days the alert certificate_problem speaks.
            return "" if key == "certificate_60_days" and left <= _QUIET_AT else key
    return ""


def details_of(point: CloudPoint, seen: Look, findings: tuple[Finding, ...]) -> tuple[HealthDetail, ...]:
    """Everything that was looked at but certificates, one line each, for people."""
    subscription = seen.subscription
    lines = [
        HealthDetail(
            name="subscription",
            state="good" if subscription is not None and subscription.state == "active" else "bad",
            message=str(seen.subscription_error or "") if subscription is None else subscription.state,
        ),
        HealthDetail(
            name="deployment",
            state=_deployment(point, seen.status),
            message=str(seen.status_error or "") if seen.status is None else _told(seen.status),
        ),
    ]
    for one in seen.status.instances if seen.status is not None else ():
        good = "good" if one.state == "running" else "bad"
        told = f"{one.state}, {one.restarts} restarts"
        lines.append(HealthDetail(name=f"instance {one.id}", state=good, message=told))
    names = {"store_problem": "store", "clock_skew": "clock", "dns_problem": "DNS"}
    lines += [
        HealthDetail(name=names[one.type], state=one.condition.value, message=one.message)
        for one in findings
        if one.type in names
    ]
    return (*lines, *([seen.way] if seen.way is not None else ()))


def _told(status: ServiceStatus) -> str:
    """How the deployment is, in the cloud's words and ours."""
    count = f", {running(status, 0)} of {status.wanted} instances run" if status.wanted else ""
    return f"{status.state.value}{count}. {' '.join(status.notes)}".strip()


def _deployment(point: CloudPoint, status: ServiceStatus | None) -> str:
    if status is None:
        return "unknown"
    if point.state is CloudPointState.STOPPED:
        return "good"
    return "good" if running(status, 0) >= status.wanted and not status.notes else "bad"
