"""What Azure answers, in our words. Messages of Azure are shown with their error code; they hold no secrets of ours."""

import contextlib
import re
from collections.abc import Iterator
from typing import Final

from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    HttpResponseError,
    ServiceRequestError,
    ServiceResponseError,
)

from entrepot.core.errors import (
    ConflictError,
    EntrepotError,
    ForbiddenError,
    LimitedError,
    NotFoundError,
    QuotaError,
    RefusedError,
    TrustError,
    UnauthenticatedError,
    UnavailableError,
)

_BUSY: Final = re.compile(
    r"InProgress|Conflict(ing)?Operation|BeingDeleted|NotProvisioned|Busy|Retryable|Deprovision", re.IGNORECASE
)
_QUOTA: Final = re.compile(r"Quota|MaxNumberOf|LimitExceeded|TooMany", re.IGNORECASE)
_MAX_TEXT: Final = 400
_DEPTH: Final = 8


class AzureRefusedError(RefusedError):
    """Azure refuses what was asked: a policy, a region, an image, a name."""

    code = "azure_refused"


class AzureQuotaError(QuotaError):
    """A quota of the Azure subscription or region does not allow it; waiting does not help."""

    code = "azure_quota"


class AzureBusyError(UnavailableError):
    """An operation of Azure's is under way on the same resource; it takes no other before that has ended."""

    code = "azure_busy"


@contextlib.contextmanager
def azure_errors(doing: str) -> Iterator[None]:
    """Translate all that the SDKs raise.

    Args:
        doing: what was tried, as a noun: ``the storage account …``.

    Raises:
        EntrepotError: as :func:`translated` says.
    """
    try:
        yield
    except AzureError as error:
        raise translated(error, doing) from None


def translated(error: AzureError, doing: str) -> EntrepotError:
    """The error to raise instead."""
    if isinstance(error, ClientAuthenticationError):
        behind = _behind(error)
        return _sign_in(error) if behind is None else translated(behind, "signing in")
    if isinstance(error, HttpResponseError):
        return _answered(error, doing)
    text = str(error)
    if isinstance(error, ServiceRequestError | ServiceResponseError) and "CERTIFICATE_VERIFY_FAILED" in text:
        return TrustError(
            "Azure's TLS certificate is not trusted.",
            next_step="If a proxy opens TLS connections, name its CA file: cloud_ca in the site's settings.",
        )
    return UnavailableError(
        f"Azure does not answer ({doing}).", next_step="Check the way to the internet, and the proxy setting."
    )


def _behind(error: ClientAuthenticationError) -> AzureError | None:
    """What kept the question from being answered at all: azure-identity calls a lost connection a failed sign-in."""
    status = error.status_code or 0
    if status == 429 or status >= 500:
        return HttpResponseError(response=error.response)
    cause: BaseException | None = error
    for _ in range(_DEPTH):
        cause = cause.__cause__ or cause.__context__ if cause else None
        if isinstance(cause, ServiceRequestError | ServiceResponseError):
            return cause
    return None


def _sign_in(error: ClientAuthenticationError) -> EntrepotError:
    found = re.search(r"AADSTS\d{3,8}", str(error))
    code = f" ({found[0]})" if found else ""
    return UnauthenticatedError(
        f"Azure does not accept the management certificate{code}.",
        next_step="Check tenant and application id, that the application registration has the certificate's .cer, and "
        "this computer's clock.",
    )


def _answered(error: HttpResponseError, doing: str) -> EntrepotError:
    status = error.status_code or 0
    inner = getattr(error, "error", None)
    code = str(getattr(inner, "code", "") or "")
    message = str(getattr(inner, "message", "") or error.reason or "")[:_MAX_TEXT]
    failed = 200 <= status < 300  # it was asked about an operation, which did not succeed
    told = f"Azure {'could not do it:' if failed else f'answers {status}'} {code}".rstrip(": ")
    told += f" ({doing}): {message}".rstrip(": ")
    if status == 404:
        return NotFoundError(told)
    if _QUOTA.search(code) and status != 429:
        return AzureQuotaError(told, next_step="Have the quota raised, choose another region, or fewer instances.")
    if status in (401, 403):
        return ForbiddenError(
            told, next_step="Give the application the role of docs/azure-role.json. It acts in minutes."
        )
    if status == 429:
        return LimitedError(told, next_step="It is tried again later.")
    if status == 409:
        if _BUSY.search(code):
            return AzureBusyError(told, next_step="It is tried again when Azure's present operation has ended.")
        return ConflictError(told, next_step="Choose another name, or remove what has it.")
    if status >= 500 or status in (0, 408) or _BUSY.search(code):
        return UnavailableError(told, next_step="It is tried again; look at Azure's status page if it lasts.")
    return AzureRefusedError(told, next_step="Correct what Azure names, then update or delete the cloud point.")
