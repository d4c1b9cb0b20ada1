"""Whose the names are that a cloud point needs in Azure. All are asked for before anything is made; reads only."""

from collections.abc import Callable
from typing import Any, Final

from azure.core.exceptions import ResourceNotFoundError

from entrepot.cloud.providers.azure import names
from entrepot.cloud.providers.azure.account import AzureAccount
from entrepot.cloud.providers.azure.errors import azure_errors
from entrepot.cloud.providers.azure.names import Names
from entrepot.cloud.providers.azure.storage import check_name, find_account
from entrepot.core.errors import ConflictError, NotFoundError

_NEVER_USED: Final = ("MissingSubscriptionRegistration", "SubscriptionNotFound")
"""What a resource provider answers about names in a subscription in which it is not registered."""
_ANOTHER_NAME: Final = "Choose another name."


class Claim:
    """What belongs to one cloud point of one hierarchy.

    Args:
        point: its id; empty before it has one, when nothing can be its own yet.
    """

    def __init__(self, account: AzureAccount, service: str, point: str, named: Names) -> None:
        self._account = account
        self._service = service
        self._point = point
        self._named = named

    def owns(self, found: Any) -> bool:
        """Whether something found in Azure carries this point's marks."""
        tags = found.tags or {}
        ours = names.is_ours(tags, self._service, self._account.access.mark)
        return ours and bool(self._point) and tags.get(names.POINT) == self._point

    def check(self, found: Any | None, what: str, next_step: str = _ANOTHER_NAME) -> None:
        """Check that something is free, or this point's own.

        Raises:
            ConflictError: it is another's.
        """
        if found is None or self.owns(found):
            return
        whose = (found.tags or {}).get(names.POINT) or "somebody else"
        raise ConflictError(f"There is {what} already, of {whose}.", next_step=next_step)

    def check_group(self, found: Any | None) -> None:
        """Check a resource group; one that was given may be anybody's.

        Raises:
            ConflictError: it would have to be this point's own, and is not.
        """
        if self._named.own_group:
            next_step = "Choose another name, or name that resource group as the one to use."
            self.check(found, f"a resource group {self._named.group}", next_step)

    def check_all(self) -> bool:
        """Check every name that is needed.

        Returns:
            whether Azure could say all: it cannot while a resource provider is not registered. Ask again then.

        Raises:
            ConflictError: which name is another's.
            EntrepotError: as ``errors`` translates.
        """
        group = self._group()
        self.check_group(group)
        answers = [_asked(self._check_storage)]
        if group is not None:
            answers += [_asked(self._check_environment), _asked(self._check_app)]
        return all(answers)

    def _group(self) -> Any | None:
        name = self._named.group
        return found(lambda: self._account.resources.resource_groups.get(name), f"the resource group {name}")

    def _check_storage(self) -> None:
        if not self._named.storage:
            return
        kept = find_account(self._account, self._named.group, self._named.storage)
        self.check(kept, f"a storage account {self._named.storage}", "Choose another resource group.")
        if kept is None:
            check_name(self._account, self._named.storage)

    def _check_environment(self) -> None:
        group, name = self._named.group, self._named.environment
        get = self._account.apps.managed_environments.get
        self.check(found(lambda: get(group, name), f"the environment {name}"), f"an environment {name}")

    def _check_app(self) -> None:
        group, name = self._named.group, self._named.app
        get = self._account.apps.container_apps.get
        self.check(found(lambda: get(group, name), f"the container app {name}"), f"a container app {name}")


def found(get: Callable[[], Any], what: str) -> Any | None:
    """What ``get`` gives, or None where there is nothing.

    Raises:
        EntrepotError: as ``errors`` translates.
    """
    with azure_errors(what):
        try:
            return get()
        except ResourceNotFoundError:
            return None


def _asked(check: Callable[[], None]) -> bool:
    """Whether Azure knew what was asked."""
    try:
        check()
    except (ConflictError, NotFoundError) as error:
        if not any(code in error.message for code in _NEVER_USED):
            raise
        return False
    return True
