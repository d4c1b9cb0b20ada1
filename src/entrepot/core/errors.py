"""One error root for the whole product.

Every error has a stable ``code`` (documented, machine-readable), a ``family`` that decides its HTTP status
and exit code in one place each, ``retryable``, and a text that is safe to show to anyone who caused it.
``next_step`` tells an operator what to do.
"""

from enum import Enum
from typing import ClassVar


class Family(Enum):
    """What kind of failure: (exit code of the command line, HTTP status)."""

    INTERNAL = (1, 500)
    USAGE = (2, 400)
    NOT_FOUND = (3, 404)
    CONFLICT = (4, 409)
    REFUSED = (5, 422)
    UNAUTHENTICATED = (6, 401)
    FORBIDDEN = (7, 403)
    INTEGRITY = (8, 502)
    TRUST = (9, 502)
    UNAVAILABLE = (10, 503)
    STORAGE = (11, 507)
    LIMITED = (12, 429)
    CANCELLED = (13, 409)

    @property
    def exit_code(self) -> int:
        """Exit code of the command line, 1 to 13."""
        return self.value[0]

    @property
    def status(self) -> int:
        """HTTP status code."""
        return self.value[1]


class EntrepotError(Exception):
    """Root of all errors that Entrepôt raises on purpose.

    Args:
        message: what happened, safe to show; no secrets, no key material.
        next_step: what the reader can do about it; may be empty.
    """

    code: ClassVar[str] = "internal"
    family: ClassVar[Family] = Family.INTERNAL
    retryable: ClassVar[bool] = False
    retry_after: ClassVar[int] = 0
    """Seconds after which trying again may help, where that is longer than usual; 0: as usual."""

    def __init__(self, message: str, *, next_step: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.next_step = next_step

    def __str__(self) -> str:
        return f"{self.message} {self.next_step}".strip()


class BadInputError(EntrepotError):
    """The caller's input is malformed: wrong shape, unknown option, impossible combination."""

    code = "bad_input"
    family = Family.USAGE


class TooLargeError(BadInputError):
    """A request has more bytes than are taken."""

    code = "too_large"


class NotFoundError(EntrepotError):
    """What was named does not exist, or the caller may not discover that it does."""

    code = "not_found"
    family = Family.NOT_FOUND


class ConflictError(EntrepotError):
    """The request contradicts the present state (exists already, busy, wrong state)."""

    code = "conflict"
    family = Family.CONFLICT


class RefusedError(EntrepotError):
    """Well-formed and allowed to ask, but a rule of the product forbids it (R14 to R20 and the like)."""

    code = "refused"
    family = Family.REFUSED


class UnauthenticatedError(EntrepotError):
    """No credential, or one that is not valid."""

    code = "unauthenticated"
    family = Family.UNAUTHENTICATED


class ForbiddenError(EntrepotError):
    """The credential is valid but does not allow this."""

    code = "forbidden"
    family = Family.FORBIDDEN


class IntegrityError(EntrepotError):
    """Bytes are not what their name, hash or tag says: flipped, truncated, swapped."""

    code = "integrity"
    family = Family.INTEGRITY


class FormatError(IntegrityError):
    """Bytes do not parse as the format they claim: unknown version, bad length, out of bounds."""

    code = "format"


class UnsupportedError(FormatError):
    """Bytes are of a version of a format, or of a kind, that this program is too old to know."""

    code = "unsupported"

    def __init__(self, message: str, *, next_step: str = "Update Entrepôt on this machine.") -> None:
        super().__init__(message, next_step=next_step)


class TrustError(EntrepotError):
    """A signature, certificate, chain or freshness check failed."""

    code = "trust"
    family = Family.TRUST


class ReplayError(TrustError):
    """A signed document is older than one already seen, or has expired."""

    code = "replay"


class UnavailableError(EntrepotError):
    """A server or store does not answer now; trying again later may work."""

    code = "unavailable"
    family = Family.UNAVAILABLE
    retryable = True


class StorageError(EntrepotError):
    """The local disk refuses: full, read-only, permission denied."""

    code = "storage"
    family = Family.STORAGE


class LimitedError(EntrepotError):
    """A rate, size or count limit was reached."""

    code = "limited"
    family = Family.LIMITED
    retryable = True


class QuotaError(LimitedError):
    """What an account may have is used up: waiting does not help."""

    code = "quota"
    retryable = False


class CancelledError(EntrepotError):
    """An administrator cancelled the work."""

    code = "cancelled"
    family = Family.CANCELLED


def error_classes() -> dict[str, type[EntrepotError]]:
    """Every error class that is loaded, by its code; of classes that share a code, the one nearest the root."""
    found: dict[str, type[EntrepotError]] = {}
    waiting: list[type[EntrepotError]] = [EntrepotError]
    while waiting:
        kind = waiting.pop(0)
        found.setdefault(kind.code, kind)
        waiting.extend(kind.__subclasses__())
    return found
