"""Forgetting a cloud point whose cloud is gone for good: a destroyed machine, a closed subscription (R40).

A deletion never claims that nothing is left before it has looked. Where nobody answers any more, an administrator may
let the site forget the point all the same; then it is told what may be left, and that nobody looked.
"""

from collections.abc import Awaitable

from entrepot.core.errors import CancelledError, EntrepotError
from entrepot.database.cloud import CloudPoint


async def last_try(removal: Awaitable[tuple[str, ...]], point: CloudPoint) -> str:
    """Remove what can be removed; what may be left, in words. A cloud that does not answer is no obstacle.

    Args:
        removal: tries to delete the service; what is left of it.

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
            f"at {where}. {error.message} If that cloud ever answers again: entrepot cloud orphans."
        )
    return f"This remains in the cloud: {', '.join(left)}." if left else "Nothing is left in the cloud."


def way_out(error: EntrepotError, point: CloudPoint) -> EntrepotError:
    """The error of a deletion that failed for good, with what can still be done."""
    out = f"If that cloud is gone for good: entrepot cloud delete {point.name} --forget."
    known: EntrepotError = type(error).__new__(type(error))
    EntrepotError.__init__(known, error.message, next_step=f"{error.next_step} {out}".strip())
    return known
