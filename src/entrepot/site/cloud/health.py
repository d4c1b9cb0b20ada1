"""Looks at a cloud point's subscription, deployment and instances, and says what that means (R37)."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import msgspec

from entrepot.core.errors import EntrepotError, ForbiddenError, NotFoundError, TrustError, UnauthenticatedError
from entrepot.database.cloud import CloudPoint
from entrepot.protocol.cloudapi import HealthDetail
from entrepot.protocol.cloudhost import RunState, ServiceStatus, Subscription
from entrepot.protocol.cloudpointapi import CloudPointState
from entrepot.protocol.control import ServiceState
from entrepot.rules import sentences
from entrepot.rules.alerts import Condition
from entrepot.rules.sentences import Said, quoted, say
from entrepot.site.cloud.checks import has_certificate
from entrepot.site.cloud.waiting import Sleep, running
from entrepot.site.cloudport import CloudProvider
from entrepot.site.findings import Finding

T = TypeVar("T")
PAUSES: Final = (1.0, 4.0)
"""Seconds before a question that was not answered is asked again."""
_SUBSCRIPTION_ERRORS: Final = (UnauthenticatedError, ForbiddenError, TrustError)


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen. ``subscription`` and ``status`` are None when they could not be seen, for these reasons; ``way``:
    what clients are shown, None where that was not looked at."""

    subscription: Subscription | None = None
    subscription_error: EntrepotError | None = None
    status: ServiceStatus | None = None
    status_error: EntrepotError | None = None
    way: HealthDetail | None = None


async def look(provider: CloudProvider, point: CloudPoint, *, sleep: Sleep = asyncio.sleep) -> Look:
    """Ask the cloud. Errors become part of what was seen; one lost packet is no outage, so it is asked again first."""
    subscription, first = await _ask(provider.check, sleep)
    status, second = await _ask(lambda: provider.status(point.service), sleep)
    return Look(subscription=subscription, subscription_error=first, status=status, status_error=second)


async def _ask(question: Callable[[], Awaitable[T]], sleep: Sleep) -> tuple[T | None, EntrepotError | None]:
    for pause in (*PAUSES, None):
        try:
            return await question(), None
        except EntrepotError as error:
            if pause is None or not error.retryable:
                return None, error
            await sleep(pause)
    raise AssertionError("unreachable")


def settled_state(point: CloudPoint, seen: Look) -> tuple[CloudPointState, tuple[Said, ...]]:
    """The state that a point without a task under way is in, and what is wrong with it, if anything."""
    state, said = _as_seen(point, seen)
    if not point.behind:
        if state is CloudPointState.READY and _has_another_certificate(point, seen):
            return CloudPointState.DEGRADED, (say(sentences.SERVICE_OTHER_CERTIFICATE, name=point.name),)
        if state is CloudPointState.READY and seen.way is not None and seen.way.state == "bad":
            return CloudPointState.DEGRADED, (say(sentences.SERVICE_SHOWS_OTHER, address=point.address),)
        return state, said
    if state is CloudPointState.STOPPED:
        return state, (say(sentences.SERVICE_BEHIND_STOPPED, reason=point.behind),)
    lacks = say(sentences.SERVICE_BEHIND, name=point.name, reason=point.behind)
    return (CloudPointState.DEGRADED if state is CloudPointState.READY else state), (*said, lacks)


def _has_another_certificate(point: CloudPoint, seen: Look) -> bool:
    """Only where the cloud tells which it has: another order may have brought it, or the host is an older copy."""
    status = seen.status
    return status is not None and bool(status.certificate_thumbprint) and not has_certificate(status, point)


def _as_seen(point: CloudPoint, seen: Look) -> tuple[CloudPointState, tuple[Said, ...]]:
    """As :func:`settled_state`, whatever was ordered last."""
    status = seen.status
    if status is None:
        reason = seen.status_error.message if seen.status_error else ""
        if isinstance(seen.status_error, NotFoundError):
            return CloudPointState.FAILED, (say(sentences.SERVICE_GONE, error=reason),)
        return CloudPointState.DEGRADED, (say(sentences.SERVICE_SILENT, error=reason),)
    if point.wanted is ServiceState.STOPPED:
        if status.state is RunState.STOPPED:
            return CloudPointState.STOPPED, ()
        return CloudPointState.DEGRADED, (say(sentences.SERVICE_UNWANTED),)
    count, wanted = running(status, 0), max(status.wanted, point.instances_wanted)
    if count >= wanted and status.state is RunState.RUNNING:
        notes = tuple(told for note in status.notes for told in quoted(note))
        return (CloudPointState.DEGRADED, notes) if notes else (CloudPointState.READY, ())
    if count:
        some = say(sentences.SERVICE_PARTLY, running=count, wanted=wanted)
        whole = status.state is RunState.RUNNING
        return CloudPointState.DEGRADED, (some,) if whole else (
            some,
            say(sentences.SERVICE_STATE, state=status.state.value),
        )
    return CloudPointState.FAILED, (say(sentences.SERVICE_DOWN, state=status.state.value),)


def findings_of(point: CloudPoint, seen: Look) -> list[Finding]:
    """What the subscription and the deployment mean for alerts."""
    return [_subscription(seen), _service(point, seen), _degraded(point, seen)]


def _subscription(seen: Look) -> Finding:
    kind = "subscription_problem"
    if seen.subscription is not None:
        if seen.subscription.state == "active":
            return Finding(type=kind, condition=Condition.GOOD)
        told = say(sentences.SUBSCRIPTION, id=seen.subscription.id, state=seen.subscription.state)
        return Finding(type=kind, condition=Condition.BAD, said=(told,))
    if isinstance(seen.subscription_error, _SUBSCRIPTION_ERRORS):
        return Finding(type=kind, condition=Condition.BAD, said=quoted(str(seen.subscription_error)))
    return Finding(type=kind, condition=Condition.UNKNOWN)


def _service(point: CloudPoint, seen: Look) -> Finding:
    kind = "service_not_active"
    if point.wanted is ServiceState.STOPPED:
        return Finding(type=kind, condition=Condition.GOOD)  # as an administrator wants it
    if seen.status is not None and running(seen.status, 0):
        return Finding(type=kind, condition=Condition.GOOD)
    return Finding(type=kind, condition=Condition.BAD, said=settled_state(point, seen)[1])


def _degraded(point: CloudPoint, seen: Look) -> Finding:
    """Whether the service runs, but not as wanted, as it did at the look before: an instance that is replaced between
    two looks opens nothing, and one that comes and goes closes nothing.

    Args:
        point: as the look before left it.
    """
    kind = "service_degraded"
    if point.wanted is ServiceState.STOPPED:
        return Finding(type=kind, condition=Condition.GOOD)
    if seen.status is None or not running(seen.status, 0):
        return Finding(type=kind, condition=Condition.UNKNOWN)  # of that ``service_not_active`` speaks
    state, said = settled_state(point, seen)
    before = point.state is CloudPointState.DEGRADED
    if state is CloudPointState.DEGRADED and before:
        return Finding(type=kind, condition=Condition.BAD, said=said)
    if before:
        said = (say(sentences.SERVICE_AGAIN),)
    return Finding(type=kind, condition=Condition.GOOD, said=said, near=bool(said))
