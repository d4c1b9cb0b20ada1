"""Looks at a cloud point's subscription, deployment and instances, and says what that means (R37)."""

from typing import Final

import msgspec

from entrepot.core.errors import EntrepotError, ForbiddenError, NotFoundError, TrustError, UnauthenticatedError
from entrepot.database.cloud import CloudPoint
from entrepot.protocol.cloudhost import RunState, ServiceStatus, Subscription
from entrepot.protocol.control import ServiceState
from entrepot.protocol.siteapi import CloudPointState
from entrepot.rules.alerts import Condition
from entrepot.site.cloud.judging import Finding
from entrepot.site.cloud.waiting import running
from entrepot.site.cloudport import CloudProvider

_SUBSCRIPTION_ERRORS: Final = (UnauthenticatedError, ForbiddenError, TrustError)


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen. ``subscription`` and ``status`` are None when they could not be seen, for these reasons."""

    subscription: Subscription | None = None
    subscription_error: EntrepotError | None = None
    status: ServiceStatus | None = None
    status_error: EntrepotError | None = None


async def look(provider: CloudProvider, point: CloudPoint) -> Look:
    """Ask the cloud. Errors become part of what was seen."""
    subscription: Subscription | None = None
    status: ServiceStatus | None = None
    first: EntrepotError | None = None
    second: EntrepotError | None = None
    try:
        subscription = await provider.check()
    except EntrepotError as error:
        first = error
    try:
        status = await provider.status(point.service)
    except EntrepotError as error:
        second = error
    return Look(subscription=subscription, subscription_error=first, status=status, status_error=second)


def settled_state(point: CloudPoint, seen: Look) -> tuple[CloudPointState, str]:
    """The state that a point without a task under way is in, and what is wrong with it, if anything."""
    status = seen.status
    if status is None:
        reason = seen.status_error.message if seen.status_error else ""
        if isinstance(seen.status_error, NotFoundError):
            return CloudPointState.FAILED, f"The cloud no longer has the service: {reason}"
        return CloudPointState.DEGRADED, f"The cloud does not tell how the service is: {reason}"
    if point.wanted is ServiceState.STOPPED:
        if status.state is RunState.STOPPED:
            return CloudPointState.STOPPED, ""
        return CloudPointState.DEGRADED, "The service should be stopped, but its instances run; they refuse clients."
    count = running(status, 0)
    if count >= status.wanted and status.state is RunState.RUNNING:
        return CloudPointState.READY, ""
    if count:
        return CloudPointState.DEGRADED, f"{count} of {status.wanted} instances run."
    return CloudPointState.FAILED, f"The service is {status.state.value} at the cloud: no instance runs."


def findings_of(point: CloudPoint, seen: Look) -> list[Finding]:
    """What the subscription and the deployment mean for alerts."""
    return [_subscription(seen), _service(point, seen)]


def _subscription(seen: Look) -> Finding:
    kind = "subscription_problem"
    if seen.subscription is not None:
        if seen.subscription.state == "active":
            return Finding(type=kind, condition=Condition.GOOD)
        message = f"The subscription {seen.subscription.id} is {seen.subscription.state}."
        return Finding(type=kind, condition=Condition.BAD, message=message)
    if isinstance(seen.subscription_error, _SUBSCRIPTION_ERRORS):
        return Finding(type=kind, condition=Condition.BAD, message=str(seen.subscription_error))
    return Finding(type=kind, condition=Condition.UNKNOWN)


def _service(point: CloudPoint, seen: Look) -> Finding:
    kind = "service_not_active"
    if point.wanted is ServiceState.STOPPED:
        return Finding(type=kind, condition=Condition.GOOD)  # as an administrator wants it
    if seen.status is not None and running(seen.status, 0):
        return Finding(type=kind, condition=Condition.GOOD)
    return Finding(type=kind, condition=Condition.BAD, message=settled_state(point, seen)[1])
