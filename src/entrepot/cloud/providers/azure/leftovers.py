"""What is left in Azure of services of this hierarchy that have no container app any more: it goes on costing (R40).

A deletion in Azure's portal, or one that was given up, leaves a storage account or an environment behind. They are
found by their marks, wherever in the subscription they lie.
"""

from collections.abc import Iterator
from typing import Any, Final

from entrepot.cloud.providers.azure import names
from entrepot.cloud.providers.azure.account import AzureAccount
from entrepot.cloud.providers.azure.errors import azure_errors
from entrepot.protocol.cloudhost import RunState, ServiceStatus

_KINDS: Final = {
    "microsoft.storage/storageaccounts": "storage account",
    "microsoft.app/managedenvironments": "environment",
    "microsoft.app/containerapps": "container app",
}
_GROUP: Final = "resource group"
_OTHER: Final = "resource"


def tagged(account: AzureAccount) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Everything in the subscription that carries the hierarchy's mark: what it is, its resource group, its tags.

    Raises:
        EntrepotError: as ``errors`` translates.
    """
    marked = f"tagName eq '{names.ROOT}' and tagValue eq '{account.access.mark.hex()}'"
    with azure_errors("the resources of the subscription"):
        for one in account.resources.resources.list(filter=marked):
            kind = _KINDS.get(str(one.type).lower(), _OTHER)
            yield f"{kind} {one.name}", _group_of(one), dict(one.tags or {})
        for group in account.resources.resource_groups.list(filter=marked):
            yield f"{_GROUP} {group.name}", str(group.name), dict(group.tags or {})


def _group_of(resource: Any) -> str:
    parts = str(resource.id).split("/")
    return parts[4] if len(parts) > 4 else ""  # /subscriptions/ID/resourceGroups/NAME/…


def incomplete(account: AzureAccount) -> list[ServiceStatus]:
    """Services of which something is left; whole ones among them, which the caller knows.

    Raises:
        EntrepotError: as ``errors`` translates.
    """
    found: dict[tuple[str, str, str], tuple[dict[str, str], list[str]]] = {}
    for what, group, tags in tagged(account):
        service, point = tags.get(names.SERVICE, ""), tags.get(names.POINT, "")
        if service and tags.get(names.ROOT) == account.access.mark.hex():
            found.setdefault((service, point, group), (tags, []))[1].append(what)
    return [
        ServiceStatus(
            name=service,
            point=point,
            fqdn=tags.get(names.FQDN, ""),
            state=RunState.DEGRADED,
            address="",
            wanted=0,
            instances=(),
            stored_bytes=0,
            stored_objects=0,
            certificate_expires=0,
            root=account.access.mark,
            place=names.given_group(service, group),
            parts=tuple(sorted(parts)),
        )
        for (service, point, group), (tags, parts) in found.items()
    ]
