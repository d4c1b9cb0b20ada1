"""Which store far away, and who we are there: settings may be shown, credentials never.

Credentials come from a TOML file that only its owner can read, or, when none is named, from what the service's own
tools use: environment variables (``AWS_ACCESS_KEY_ID`` …, ``AZURE_STORAGE_ACCOUNT_KEY`` …), the instance's role, or a
managed identity. They are never in settings, arguments, logs or replies.
"""

import ipaddress
import stat
import sys
import tomllib
from enum import StrEnum
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from entrepot.core.errors import BadInputError
from entrepot.objects.keys import check_key

MAX_FILE: Final = 16 * 1024


class StoreKind(StrEnum):
    """Where values lie."""

    FOLDER = "folder"
    S3 = "s3"
    AZURE = "azure"


class StoreSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One store; *folder* is the local disk, and then nothing else is set.

    Attributes:
        kind: ``folder``, ``s3`` or ``azure``.
        bucket: the S3 bucket or the Azure Blob container; it must exist.
        prefix: begins every key there, so that others may use the bucket too.
        endpoint: ``https://…`` of an S3-compatible service or a private endpoint; empty: the service's own.
            ``http://`` on this machine only.
        region: of the S3 bucket.
        account: Azure storage account.
        credentials: path of the credentials file; empty: environment, instance role or managed identity.
        ca: path of a PEM file with further CAs to trust for the endpoint.
        verify: whether objects are hashed when they are read, and a damaged one is never passed on as whole.
    """

    kind: StoreKind = StoreKind.FOLDER
    bucket: str = ""
    prefix: str = ""
    endpoint: str = ""
    region: str = ""
    account: str = ""
    credentials: str = ""
    ca: str = ""
    verify: bool = True


class S3Credentials(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The credentials file of an S3 store."""

    access_key_id: str
    secret_access_key: str
    session_token: str = ""

    def __repr__(self) -> str:
        return "S3Credentials(***)"


class AzureCredentials(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The credentials file of an Azure store: one of the two."""

    account_key: str = ""
    sas_token: str = ""

    def __repr__(self) -> str:
        return "AzureCredentials(***)"


def check_store(settings: StoreSettings) -> StoreSettings:
    """Refuse settings that contradict each other.

    Raises:
        BadInputError: which setting, and what it may be.
    """
    kind = settings.kind
    if kind is StoreKind.FOLDER:
        if settings != StoreSettings(verify=settings.verify):
            raise BadInputError("A store of kind folder takes no other settings; it lies in the home.")
        return settings
    if not settings.bucket:
        raise BadInputError("The store's setting bucket names the S3 bucket or the Azure Blob container.")
    if kind is StoreKind.AZURE and (not settings.account or settings.region):
        raise BadInputError("A store of kind azure needs account, and has no region.")
    if kind is StoreKind.S3 and (settings.account or not (settings.region or settings.endpoint)):
        raise BadInputError("A store of kind s3 needs region or endpoint, and has no account.")
    if settings.prefix:
        check_key(settings.prefix)
    _check_endpoint(settings.endpoint)
    return settings


def gives_links(settings: StoreSettings) -> bool:
    """Whether the store signs links that clients can follow: by HTTPS, and it is no folder."""
    return settings.kind is not StoreKind.FOLDER and not settings.endpoint.startswith("http://")


def load_credentials(path: Path, kind: StoreKind) -> S3Credentials | AzureCredentials:
    """Read a credentials file.

    Raises:
        BadInputError: missing, readable by others, or not such a file; what it holds is not told.
    """
    try:
        found = path.stat()
        if sys.platform != "win32" and stat.S_IMODE(found.st_mode) & 0o077:
            raise BadInputError(
                f"The credentials file {path} can be read by others.", next_step=f"Run: chmod 600 {path}"
            )
        if found.st_size > MAX_FILE:
            raise BadInputError(f"The credentials file {path} is too large to be one.")
        values = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise BadInputError(f"The credentials file {path} cannot be read: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        raise BadInputError(f"The credentials file {path} is not TOML text.") from None
    try:
        if kind is StoreKind.S3:
            return msgspec.convert(values, S3Credentials)
        credentials = msgspec.convert(values, AzureCredentials)
    except msgspec.ValidationError:
        raise _wrong_keys(path, kind) from None
    if bool(credentials.account_key) == bool(credentials.sas_token):
        raise _wrong_keys(path, kind)
    return credentials


def _wrong_keys(path: Path, kind: StoreKind) -> BadInputError:
    wanted = {
        StoreKind.S3: "access_key_id and secret_access_key, and session_token if there is one",
        StoreKind.AZURE: "account_key or sas_token, one of them",
    }[kind]
    return BadInputError(f"The credentials file {path} does not have the right keys.", next_step=f"It has {wanted}.")


def _check_endpoint(endpoint: str) -> None:
    if not endpoint:
        return
    parts = urlsplit(endpoint)
    if parts.scheme == "https" and parts.hostname and not parts.query and not parts.username:
        return
    if parts.scheme == "http" and _is_loopback(parts.hostname or "") and not parts.query and not parts.username:
        return
    raise BadInputError("The store's endpoint begins with https:// and holds neither a password nor a query.")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
