"""What goes wrong at a store far away, in our words.

obstore tells HTTP failures as text only. Of that text nothing is passed on but the status and the store's own error
code: the rest may hold addresses with signatures in them.
"""

import contextlib
import re
from collections.abc import Iterator
from typing import Final

from obstore import exceptions as vendor

from entrepot.core.errors import (
    BadInputError,
    EntrepotError,
    ForbiddenError,
    NotFoundError,
    StorageError,
    TrustError,
    UnavailableError,
)

_STATUS: Final = re.compile(r"status code: (\d{3})\b")
_CODE: Final = re.compile(r"<Code>([A-Za-z0-9]{1,64})</Code>")
_NO_CONTAINER: Final = frozenset({"NoSuchBucket", "ContainerNotFound", "ContainerBeingDeleted", "ResourceNotFound"})
_TRANSIENT: Final = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
_LOOKED_AT: Final = 8192


def status_of(error: Exception) -> int:
    """HTTP status that the store answered; 0 when it did not answer."""
    found = _STATUS.search(str(error)[:_LOOKED_AT])
    return int(found[1]) if found else 0


def is_behind_the_end(error: Exception) -> bool:
    """Tell whether a range was refused because it begins at the end of the value or behind it."""
    # Azurite answers the very end with the whole value, which obstore then refuses itself.
    return status_of(error) == 416 or "StartTooLarge" in str(error)[:_LOOKED_AT]


def translated(error: Exception, what: str) -> EntrepotError:
    """The error to raise instead.

    Args:
        what: the key, or what else was wanted.
    """
    text = str(error)[:_LOOKED_AT]
    status = status_of(error)
    found = _CODE.search(text)
    code = found[1] if found else ""
    answer = f"{status or ''} {code}".strip()
    if code in _NO_CONTAINER:
        return StorageError(
            f"The object store has no such bucket or container ({code}).",
            next_step="Create it, or correct its name in the settings; it is never created by itself.",
        )
    if isinstance(error, FileNotFoundError):
        return NotFoundError(f"The store has no {what}.")
    if isinstance(error, vendor.PermissionDeniedError | vendor.UnauthenticatedError) or status in (401, 403):
        return ForbiddenError(
            f"The object store refuses our credentials ({answer or 'no access'}).",
            next_step="Check the credentials, what they allow on this bucket or container, and this machine's clock.",
        )
    if isinstance(error, vendor.InvalidPathError):
        return BadInputError(f"{what[:200]!r} is not a key that this store can hold.")
    if not status and "InvalidCertificate" in text:
        return TrustError(
            "The object store's TLS certificate is not trusted.",
            next_step="Check the endpoint; give the file of its CA in the settings if it has one of its own.",
        )
    if not status or status in _TRANSIENT:
        return UnavailableError(
            f"The object store does not serve now ({what}: {answer or 'no answer'}).",
            next_step="Try again later; check its address, its status page and its limits if it lasts.",
        )
    return StorageError(
        f"The object store refuses {what} ({answer}).", next_step="Check the bucket or container and its policies."
    )


@contextlib.contextmanager
def vendor_errors(what: str) -> Iterator[None]:
    """Translate all that obstore raises.

    Raises:
        EntrepotError: as :func:`translated` says.
    """
    try:
        yield
    except (vendor.BaseError, FileNotFoundError, ValueError) as error:
        raise translated(error, what) from None
