"""How a cloud point delivers, and what stands in the way of redirects (architecture 5).

A redirect is granted, not counted byte by byte, and a link cannot be taken back: so it is refused where the store gives
no links, and where a budget is active. A budget that is set later is not refused for its sake: while there is one, the
control document leaves redirects out, and everything is streamed.
"""

from typing import Final

import msgspec
from sqlalchemy import Connection

from entrepot.core.errors import RefusedError
from entrepot.database import budgets, cloud
from entrepot.objects.store import MAX_LINK_SECONDS
from entrepot.protocol.control import Delivery

LAG: Final = (
    f"Clients fetch from the store by links that stay good for up to {MAX_LINK_SECONDS} seconds: stop, revocation and "
    "the end of a token take effect that much later, and a transfer that has begun by then is finished."
)
_MEANWHILE: Final = "A budget is active: everything is streamed until there is none."


def check_store(delivery: Delivery, *, redirects: bool) -> None:
    """Refuse redirects where the store gives no links.

    Args:
        redirects: what the cloud says of the store.

    Raises:
        RefusedError: why.
    """
    if delivery is Delivery.REDIRECT and not redirects:
        raise RefusedError(
            "The cloud's store gives no links that clients could follow: the content lies in a folder of the cloud "
            "host, behind plain HTTP, or the cloud host is too old to tell.",
            next_step="Leave the delivery at stream, or use a cloud whose content lies in S3 or Azure Blob.",
        )


def check_budgets(connection: Connection, point: str, delivery: Delivery) -> None:
    """Refuse redirects while a budget bounds what the cloud point sends.

    Raises:
        RefusedError: why.
    """
    if delivery is Delivery.REDIRECT and budgets.touches(connection, point):
        raise RefusedError(
            "A budget is active for this cloud point, and nobody counts what clients fetch by links.",
            next_step="Leave the delivery at stream, or remove the budget: `entrepot budget list`.",
        )


def obeyed(connection: Connection, point: str) -> Delivery | msgspec.UnsetType:
    """What the control document says."""
    redirected = cloud.delivery_of(connection, point) is Delivery.REDIRECT and not budgets.touches(connection, point)
    return Delivery.REDIRECT if redirected else msgspec.UNSET


def note_on(connection: Connection, point: str, delivery: Delivery) -> str:
    """What the chosen way of delivery means now, for people; empty when there is nothing to say."""
    if delivery is Delivery.STREAM:
        return ""
    return _MEANWHILE if budgets.touches(connection, point) else LAG
