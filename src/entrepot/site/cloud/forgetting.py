"""Forgetting a cloud point whose cloud is gone for good: a destroyed machine, a closed subscription (R40).

A deletion never claims that nothing is left before it has looked. Where nobody answers any more, an administrator may
let the site forget the point all the same; then it is told what may be left, and that nobody looked.
"""

import shlex
from collections.abc import Awaitable

from sqlalchemy import Connection

from entrepot.core.errors import CancelledError, EntrepotError
from entrepot.database import cloud, clouddetails
from entrepot.database.cloud import CloudPoint


def search_later(connection: Connection, point: CloudPoint) -> str:
    """How to look for what a forgotten point left: the site may use its subscription for nothing else.

    Raises:
        NotFoundError: the point's management certificate is gone.
    """
    certificate = cloud.certificate(connection, point.management_certificate).name
    azure = clouddetails.detail(connection, point.point).azure
    options = {
        "--host": point.host_url,
        "--host-pin": point.host_pin,
        "--subscription": point.subscription,
        "--certificate": certificate,
        "--azure-tenant": azure.tenant if azure else "",
        "--azure-application": azure.application if azure else "",
    }
    named = " ".join(f"{option} {shlex.quote(value)}" for option, value in options.items() if value)
    kept = f"Keep the management certificate {certificate}"
    return f"{kept}: if that cloud ever answers again, entrepot cloud orphans {named}"


async def last_try(removal: Awaitable[tuple[str, ...]], point: CloudPoint, later: str) -> str:
    """Remove what can be removed; what may be left, in words. A cloud that does not answer is no obstacle.

    Args:
        removal: tries to delete the service; what is left of it.
        later: see :func:`search_later`.

    Raises:
        CancelledError: the work is to stop.
    """
    try:
        left = await removal
    except CancelledError:
        raise
    except EntrepotError as error:
        where = f"{point.host_url}, subscription {point.subscription}" if point.host_url else point.subscription
        return (
            f"What may be left was not checked: the service {point.service} with its content, records and certificate "
            f"at {where}. {error.message} {later} finds it."
        )
    return f"This remains in the cloud: {', '.join(left)}." if left else "Nothing is left in the cloud."


def way_out(point: CloudPoint) -> str:
    """What can still be done when a deletion failed for good."""
    return f"If that cloud is gone for good: entrepot cloud delete {point.name} --forget."
