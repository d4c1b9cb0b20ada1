"""The one place where errors become HTTP answers (RFC 9457 problem details) and answers become errors again.

The ``type`` is ``urn:entrepot:error:<code>``; ``code``, ``next_step`` and ``retryable`` are extension members. What
is not an :class:`EntrepotError` shows nothing of itself: its text may hold what the caller must not see.
"""

import re

import msgspec

from entrepot.core.encoding import to_json
from entrepot.core.errors import (
    BadInputError,
    ConflictError,
    EntrepotError,
    ForbiddenError,
    LimitedError,
    NotFoundError,
    RefusedError,
    StorageError,
    TooLargeError,
    UnauthenticatedError,
    UnavailableError,
    error_classes,
)

PROBLEM_TYPE = "application/problem+json"
URN = "urn:entrepot:error:"
MAX_PROBLEM_BYTES = 64 * 1024
MAX_TEXT = 2000

_RETRY_AFTER = {429: 1, 503: 5}
_STATUS_OF_CODE = {"too_large": 413}
"""Where HTTP has a better word than for the family."""
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")

_BY_STATUS: dict[int, type[EntrepotError]] = {
    400: BadInputError,
    401: UnauthenticatedError,
    403: ForbiddenError,
    404: NotFoundError,
    405: BadInputError,
    408: UnavailableError,
    409: ConflictError,
    412: BadInputError,
    413: TooLargeError,
    416: BadInputError,
    422: RefusedError,
    429: LimitedError,
    502: UnavailableError,
    503: UnavailableError,
    504: UnavailableError,
    507: StorageError,
}


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A problem details document. ``retry_after`` (seconds) travels as a header, too."""

    type: str
    title: str
    status: int
    detail: str = ""
    code: str = "internal"
    next_step: str = ""
    retryable: bool = False
    retry_after: int = 0

    def encode(self) -> bytes:
        """JSON, UTF-8."""
        return to_json(self)


def problem_of(error: BaseException, status: int | None = None) -> Problem:
    """Describe an error to its caller.

    Args:
        status: an HTTP status that fits better than the error's family (413, 416 …).
    """
    if not isinstance(error, EntrepotError):
        error = EntrepotError("The server failed to answer this request.", next_step="See the server's log.")
    status = status or _STATUS_OF_CODE.get(error.code) or error.family.status
    return Problem(
        type=URN + error.code,
        title=error.code.replace("_", " ").capitalize(),
        status=status,
        detail=error.message,
        code=error.code,
        next_step=error.next_step,
        retryable=error.retryable,
        retry_after=error.retry_after or _RETRY_AFTER.get(status, 0),
    )


def error_from_problem(status: int, body: bytes, *, who: str = "The server") -> EntrepotError:
    """Rebuild the error that a server answered with; the class follows the problem's ``code``.

    Texts from elsewhere are bounded and lose control characters before anyone shows them. A body that is no
    problem document gives the class that fits the status.
    """
    try:
        problem = msgspec.json.decode(body[:MAX_PROBLEM_BYTES], type=Problem)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        kind = _BY_STATUS.get(status, UnavailableError if status >= 500 else EntrepotError)
        return kind(f"{who} answered with HTTP status {status}.")
    known = error_classes().get(problem.code) or _BY_STATUS.get(status, EntrepotError)
    detail = clean(problem.detail) or f"{who} answered with HTTP status {status}."
    return known(detail, next_step=clean(problem.next_step))


def clean(text: str) -> str:
    """Text from elsewhere, safe to print: bounded, without control characters."""
    return _CONTROL.sub(" ", text[:MAX_TEXT])
