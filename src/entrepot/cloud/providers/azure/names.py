"""Names and marks of what a cloud point is made of in Azure. Pure."""

import re
import uuid
from collections.abc import Mapping
from typing import Final

import msgspec

from entrepot.core.errors import BadInputError

POINT: Final = "entrepot-point"
SERVICE: Final = "entrepot-service"
FQDN: Final = "entrepot-fqdn"
ROOT: Final = "entrepot-root"
CONTAINER: Final = "entrepot"
BLOB_CONTRIBUTOR: Final = "ba92f5b4-2d11-453d-a403-e96b0029c9fe"
"""Azure's built-in role *Storage Blob Data Contributor*."""
_APP: Final = re.compile(r"[a-z](?:[a-z0-9]|-(?=[a-z0-9])){0,30}[a-z0-9]")
_NAMESPACE: Final = uuid.UUID("5f0c0d2e-7f0e-4c0a-9a3e-2f2f6f9e7c11")


class Names(msgspec.Struct, frozen=True, kw_only=True):
    """What everything of one service is called."""

    group: str
    app: str
    environment: str
    storage: str
    own_group: bool

    @property
    def parts(self) -> tuple[str, ...]:
        """For a list of what remains."""
        return (self.app, self.environment, self.storage)


def names_of(service: str, point: str, group: str) -> Names:
    """Names for a service. The storage account's is made of the point's id: those names are unique in all of Azure.

    Args:
        group: the resource group that was given; empty: one of its own.

    Raises:
        BadInputError: the service's name is none that Azure takes.
    """
    if not _APP.fullmatch(service):
        raise BadInputError(
            f"{service!r} cannot be the name of a container app.",
            next_step="Use 2 to 32 lower-case letters, digits and single hyphens, beginning with a letter.",
        )
    return Names(
        group=group or f"entrepot-{service}",
        app=service,
        environment=f"{service}-env",
        storage=storage_name(point),
        own_group=not group,
    )


def storage_name(point: str) -> str:
    """Name of a point's storage account: 24 lower-case letters and digits; empty while there is no point."""
    return f"entrepot{point.removeprefix('pt-')}"[:24] if point else ""


def marks(service: str, point: str, fqdn: str, root: bytes) -> dict[str, str]:
    """The tags that everything carries."""
    return {POINT: point, SERVICE: service, FQDN: fqdn, ROOT: root.hex()}


def is_ours(tags: Mapping[str, str] | None, service: str, root: bytes) -> bool:
    """Whether something with these tags belongs to this service of this hierarchy."""
    found = tags or {}
    return found.get(SERVICE) == service and found.get(ROOT) == root.hex()


def given_group(service: str, group: str) -> str:
    """The resource group, as an option has it: empty when it is the service's own."""
    return "" if group.lower() == names_of(service, "", "").group else group


def assignment_name(scope: str, principal: str) -> str:
    """The same name for the same assignment, so that it is made once."""
    return str(uuid.uuid5(_NAMESPACE, f"{scope.lower()}|{principal}|{BLOB_CONTRIBUTOR}"))


def certificate_name(thumbprint: str) -> str:
    """Name of a service certificate in its environment: a renewed one stands beside the old one until it serves."""
    return f"service-{thumbprint[:16].lower()}"
