"""Removes a cloud point from Azure, also one that is half gone, and looks whether anything is left (R40).

Only what carries our mark is deleted. A resource group of its own goes last, and only when nothing else is in it.
"""

import contextlib
import functools
from collections.abc import Callable
from typing import Any

from azure.core.exceptions import ResourceNotFoundError

from entrepot.cloud.providers.azure import names
from entrepot.cloud.providers.azure.account import AzureAccount, Progress
from entrepot.cloud.providers.azure.errors import azure_errors
from entrepot.core.errors import NotFoundError


class Removal:
    """Deletes one service."""

    def __init__(self, account: AzureAccount, service: str, progress: Progress) -> None:
        self._account = account
        self._service = service
        self._progress = progress
        self._names = names.names_of(service, "", account.access.options.resource_group)

    def run(self) -> tuple[str, ...]:
        """Delete everything; what is left, by name.

        Raises:
            EntrepotError: as ``errors`` translates; run it again.
        """
        if not self._group_exists():
            return ()
        try:
            return self._run()
        except NotFoundError:  # an earlier deletion, whose process died, came to its end meanwhile
            if self._group_exists():
                raise
            return ()

    def _run(self) -> tuple[str, ...]:
        group, apps = self._names.group, self._account.apps
        self._delete(
            f"the container app {self._names.app}",
            lambda: apps.container_apps.get(group, self._names.app),
            lambda: apps.container_apps.begin_delete(group, self._names.app),
        )
        self._delete_certificates()
        self._delete(
            f"the environment {self._names.environment}",
            lambda: apps.managed_environments.get(group, self._names.environment),
            lambda: apps.managed_environments.begin_delete(group, self._names.environment),
        )
        for account in self._storage_accounts():
            self._progress(f"Deleting the storage account {account}")
            delete = functools.partial(self._account.storage.storage_accounts.delete, group, account)
            self._account.patiently(delete, f"the storage account {account}", self._progress)
        left = self._left()
        if not left:
            self._delete_group()
            left = (f"the resource group {group}",) if self._owns_group() else ()
        return left

    def _group_exists(self) -> bool:
        with azure_errors(f"the resource group {self._names.group}"):
            return self._account.resources.resource_groups.check_existence(self._names.group)

    def _is_ours(self, found: Any) -> bool:
        return names.is_ours(found.tags, self._service, self._account.access.mark)

    def _delete(self, what: str, get: Callable[[], Any], begin: Callable[[], Any]) -> None:
        def begun() -> Any | None:
            try:
                if not self._is_ours(get()):
                    return None
                self._progress(f"Deleting {what}")
                return begin()
            except ResourceNotFoundError:
                return None

        self._account.order(begun, what, self._progress)

    def _delete_certificates(self) -> None:
        group, environment = self._names.group, self._names.environment

        def delete() -> None:
            with contextlib.suppress(ResourceNotFoundError):
                for one in list(self._account.apps.certificates.list(group, environment)):
                    if self._is_ours(one):
                        self._account.apps.certificates.delete(group, environment, one.name)

        self._account.patiently(delete, "the service certificates", self._progress)

    def _storage_accounts(self) -> list[str]:
        with azure_errors("the storage accounts"):
            listed = self._account.storage.storage_accounts.list_by_resource_group(self._names.group)
            return [str(one.name) for one in listed if self._is_ours(one)]

    def _left(self) -> tuple[str, ...]:
        """What still is there with our mark: asked of each kind itself, since ARM's common list lags behind."""
        group, apps = self._names.group, self._account.apps
        with azure_errors("what is left"):
            found = [
                *(
                    f"the container app {one.name}"
                    for one in apps.container_apps.list_by_resource_group(group)
                    if self._is_ours(one)
                ),
                *(
                    f"the environment {one.name}"
                    for one in apps.managed_environments.list_by_resource_group(group)
                    if self._is_ours(one)
                ),
            ]
        return (*found, *(f"the storage account {name}" for name in self._storage_accounts()))

    def _owns_group(self) -> bool:
        with azure_errors(f"the resource group {self._names.group}"):
            try:
                return self._is_ours(self._account.resources.resource_groups.get(self._names.group))
            except ResourceNotFoundError:
                return False

    def _delete_group(self) -> None:
        """The service's own resource group; what others put there keeps it."""
        what = f"the resource group {self._names.group}"

        def begun() -> Any | None:
            if not self._names.own_group or not self._owns_group():
                return None
            listed = self._account.resources.resources.list_by_resource_group(self._names.group)
            if any(not self._is_ours(one) for one in listed):
                return None
            self._progress(f"Deleting {what}")
            return self._account.resources.resource_groups.begin_delete(self._names.group)

        self._account.order(begun, what, self._progress)
