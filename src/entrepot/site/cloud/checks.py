"""What must hold before anything is created in a cloud, whose a service is, and whether it serves our certificate."""

from enum import Enum
from typing import Final

from cryptography.hazmat.primitives import hashes

from entrepot.core.errors import (
    BadInputError,
    ConflictError,
    NotFoundError,
    QuotaError,
    RefusedError,
    UnavailableError,
)
from entrepot.core.times import iso
from entrepot.database.cloud import CloudPoint
from entrepot.protocol.cloudapi import HOST
from entrepot.protocol.cloudhost import RunState, ServiceStatus, Subscription
from entrepot.site.cloudport import CloudProvider
from entrepot.trust.pem import load_chain

_OURS: Final = (
    "It is this hierarchy's own: if its site does not know it, adopt it (entrepot cloud create … --adopt) or remove it "
    "(entrepot cloud orphans)."
)


_DIGESTS: Final = {40: hashes.SHA1(), 64: hashes.SHA256()}  # noqa: S303  # how Azure names certificates, no protection
"""Which thumbprint it is, by its length."""


class Owner(Enum):
    """Whose service has the name of a cloud point."""

    OURS = "ours"
    NOBODY = "nobody"
    ANOTHER = "another"


async def owner_of(provider: CloudProvider, point: CloudPoint) -> Owner:
    """Ask the cloud whose service it is."""
    try:
        status = await provider.status(point.service)
    except NotFoundError:
        return Owner.NOBODY
    return Owner.OURS if status.point == point.point else Owner.ANOTHER


def check_subscription(subscription: Subscription, *, name: str, instances: int, expires: int, now: float) -> None:
    """Check that the subscription and the certificates will do (R1).

    Args:
        name: of the cloud point.
        instances: that it is to have.
        expires: when its service certificate does.

    Raises:
        RefusedError: the subscription is not active.
        BadInputError: a certificate has expired.
        QuotaError: too many instances.
    """
    if subscription.state != "active":
        raise RefusedError(
            f"The subscription {subscription.id} is {subscription.state}.", next_step="Enable it at the cloud first."
        )
    if subscription.certificate_expires <= now:
        raise BadInputError(
            f"The management certificate expired at {iso(subscription.certificate_expires)}.",
            next_step="Make a new one, upload its .cer to the subscription and import its .pfx.",
        )
    if expires <= now:
        raise BadInputError(
            f"The service certificate of {name} expired at {iso(expires)}.",
            next_step="Request a new one with the same name.",
        )
    check_quota(subscription, instances)


def check_quota(subscription: Subscription, instances: int) -> None:
    """Check that the subscription may run so many instances at all; what its other services take the cloud knows.

    Raises:
        QuotaError: too many.
    """
    if instances > subscription.instance_quota:
        raise QuotaError(
            f"The subscription {subscription.id} allows {subscription.instance_quota} instances; "
            f"{instances} are asked for.",
            next_step="Ask for fewer instances, or have the quota raised.",
        )


def check_point(subscription: Subscription, point: CloudPoint, now: float) -> None:
    """As :func:`check_subscription`, for a cloud point that the site knows."""
    check_subscription(
        subscription,
        name=point.name,
        instances=point.instances_wanted,
        expires=point.certificate_expires,
        now=now,
    )


def check_certificate(status: ServiceStatus, point: CloudPoint) -> None:
    """Check that the cloud has taken the service certificate.

    Raises:
        UnavailableError: not yet.
    """
    if not has_certificate(status, point):
        told = f"thumbprint {status.certificate_thumbprint}, " if status.certificate_thumbprint else ""
        raise UnavailableError(
            f"The cloud goes on using another service certificate ({told}ends at {iso(status.certificate_expires)}) "
            f"than the one that is kept for {point.name} (thumbprint {point.certificate_thumbprint}, ends at "
            f"{iso(point.certificate_expires)}).",
            next_step="It is tried again; if it stays so, see who else gives orders to this service, then: "
            f"entrepot cloud update {point.name}",
        )


def has_certificate(status: ServiceStatus, point: CloudPoint) -> bool:
    """Whether the cloud has the service certificate that is kept here. Of a cloud that tells no thumbprint that is
    known (older cloud hosts) only the end is compared."""
    told = status.certificate_thumbprint.lower()
    digest = _DIGESTS.get(len(told))
    if digest is None or not point.certificate:
        return status.certificate_expires == point.certificate_expires
    return load_chain(point.certificate)[0].fingerprint(digest).hex() == told


def port_remarks(point: CloudPoint) -> tuple[str, ...]:
    """What must be done where a cloud host's service does not listen where clients are sent: it was there before the
    port was asked for, and keeps its own."""
    listens = point.address.rpartition(":")[2]
    if point.provider != HOST or not point.port or not listens.isdigit() or int(listens) == point.port:
        return ()
    return (
        f"The service listens on port {listens}, and clients are sent to {point.port}: a firewall or front of yours "
        "must lead them there.",
    )


async def check_free(provider: CloudProvider, point: CloudPoint, root: bytes) -> None:
    """Check that the service's name is free in the cloud, or ours from an earlier attempt.

    Args:
        root: the hierarchy root's public key: services that pin it are this hierarchy's.

    Raises:
        ConflictError: another service has it, or it is still being deleted.
    """
    try:
        status = await provider.status(point.service)
    except NotFoundError:
        return
    if status.point != point.point or status.state is RunState.DELETING:
        ours = status.root == root and status.state is not RunState.DELETING
        raise ConflictError(
            f"The subscription has a service named {point.service} already, of {status.point}.",
            next_step=_OURS if ours else "Choose another name, or delete that service at the cloud.",
        )
