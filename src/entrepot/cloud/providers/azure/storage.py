"""The storage account and its container: made, found, opened (R11: what is put there is sealed already)."""

from typing import Any

from azure.core.exceptions import ResourceNotFoundError
from azure.mgmt.authorization.v2022_04_01.models import RoleAssignmentCreateParameters

from entrepot.cloud.providers.azure import names
from entrepot.cloud.providers.azure.account import AzureAccount, Progress
from entrepot.cloud.providers.azure.errors import AzureRefusedError, azure_errors
from entrepot.core.errors import ConflictError, UnavailableError

_FRESH_PRINCIPAL = "PrincipalNotFound"


def find_account(account: AzureAccount, group: str, name: str) -> Any | None:
    """The storage account, or None."""
    with azure_errors(f"the storage account {name}"):
        try:
            return account.storage.storage_accounts.get_properties(group, name)
        except ResourceNotFoundError:
            return None


def check_name(account: AzureAccount, name: str) -> None:
    """Check that a storage account's name is free in all of Azure.

    Raises:
        ConflictError: it is not.
    """
    with azure_errors(f"the name {name}"):
        answer = account.storage.storage_accounts.check_name_availability(
            {"name": name, "type": "Microsoft.Storage/storageAccounts"}
        )
    if not answer.name_available:
        raise ConflictError(
            f"The storage account's name {name} is not free: {answer.message or answer.reason}",
            next_step="If a deletion was just finished, wait some minutes; then create the cloud point again.",
        )


def ensure_account(
    account: AzureAccount, group: str, name: str, tags: dict[str, str], progress: Progress
) -> tuple[str, str]:
    """Make the storage account and its container, if they are not there.

    Returns:
        its resource id, and the address of Blob storage.

    Raises:
        ConflictError: somebody else has the name.
        EntrepotError: as ``errors`` translates.
    """
    found = find_account(account, group, name)
    if found is None:
        progress(f"Creating the storage account {name}")
        wanted, operations = _wanted(account, tags), account.storage.storage_accounts
        what = f"the storage account {name}"
        found = account.order(lambda: operations.begin_create(group, name, wanted), what, progress)
    elif not names.is_ours(found.tags, tags[names.SERVICE], account.access.mark):
        raise ConflictError(f"The storage account {name} is another's.", next_step="Choose another resource group.")
    account.patiently(lambda: _ensure_container(account, group, name, progress), f"the container of {name}", progress)
    return str(found.id), blob_endpoint(found)


def _ensure_container(account: AzureAccount, group: str, name: str, progress: Progress) -> None:
    containers = account.storage.blob_containers
    try:
        containers.get(group, name, names.CONTAINER)
    except ResourceNotFoundError:
        progress("Creating the container")
        containers.create(group, name, names.CONTAINER, {"properties": {"publicAccess": "None"}})


def blob_endpoint(found: Any) -> str:
    """Address of Blob storage of an account."""
    endpoints = found.primary_endpoints
    if endpoints is None or not endpoints.blob:
        raise UnavailableError("Azure has not given the storage account an address yet.")
    return str(endpoints.blob).rstrip("/")


def _wanted(account: AzureAccount, tags: dict[str, str]) -> dict[str, Any]:
    return {
        "location": account.access.region,
        "tags": tags,
        "kind": "StorageV2",
        "sku": {"name": f"Standard_{account.access.options.redundancy}"},
        "properties": {
            "accessTier": "Hot",
            "minimumTlsVersion": "TLS1_2",
            "supportsHttpsTrafficOnly": True,
            "allowBlobPublicAccess": False,
            "allowSharedKeyAccess": False,
        },
    }


def ensure_role(account: AzureAccount, scope: str, principal: str) -> None:
    """Let a principal read and write blobs of the account. One that was made just now may not be known everywhere.

    Raises:
        UnavailableError: Azure does not know the principal yet; try again.
        EntrepotError: as ``errors`` translates.
    """
    role = (
        f"/subscriptions/{account.access.subscription}/providers/Microsoft.Authorization/roleDefinitions/"
        f"{names.BLOB_CONTRIBUTOR}"
    )
    parameters = RoleAssignmentCreateParameters(
        role_definition_id=role, principal_id=principal, principal_type="ServicePrincipal"
    )
    try:
        with azure_errors("the role at the storage account"):
            account.roles.role_assignments.create(scope, names.assignment_name(scope, principal), parameters)
    except ConflictError as error:
        if "RoleAssignmentExists" not in error.message:
            raise
    except AzureRefusedError as error:
        if _FRESH_PRINCIPAL in error.message:
            raise UnavailableError(error.message, next_step="Azure needs a moment; it is tried again.") from error
        raise
