"""Problem details for Litestar applications: the same answers as plain ASGI gives.

Pass :func:`exception_handlers` to ``Litestar(exception_handlers=…)``.
"""

from typing import Any

import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException

from entrepot.core.errors import (
    BadInputError,
    ConflictError,
    EntrepotError,
    ForbiddenError,
    LimitedError,
    NotFoundError,
    TooLargeError,
    UnauthenticatedError,
    UnavailableError,
)
from entrepot.web.problems import PROBLEM_TYPE, Problem, clean, problem_of

_log = structlog.get_logger("entrepot.web")
_KINDS: dict[int, type[EntrepotError]] = {
    401: UnauthenticatedError,
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
    413: TooLargeError,
    429: LimitedError,
    503: UnavailableError,
}


def exception_handlers() -> dict[int | type[Exception], Any]:
    """Handlers for our errors, the framework's own, and everything unexpected."""
    return {EntrepotError: _ours, HTTPException: _theirs, Exception: _unexpected}


def _ours(_request: Request[Any, Any, Any], error: EntrepotError) -> Response[bytes]:
    return _response(problem_of(error))


def _theirs(_request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    if error.status_code >= 500:
        return _response(problem_of(error, error.status_code))
    kind = _KINDS.get(error.status_code, BadInputError)
    detail = clean(f"{error.detail}{_fields(error)}")
    return _response(problem_of(kind(detail), error.status_code))


def _fields(error: HTTPException) -> str:
    """Which fields of the request are at fault, as far as the framework says."""
    extra = error.extra if isinstance(error.extra, list) else []
    found = [f"{item.get('key', '?')}: {item.get('message', '')}" for item in extra if isinstance(item, dict)]
    return f" ({'; '.join(found)})" if found else ""


def _unexpected(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    _log.error("request_failed", method=request.method, path=request.url.path, exc_info=error)
    return _response(problem_of(error))


def _response(problem: Problem) -> Response[bytes]:
    headers = {"Cache-Control": "no-store"}
    if problem.retry_after:
        headers["Retry-After"] = str(problem.retry_after)
    if problem.status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="entrepot"'
    return Response(
        problem.encode(),
        status_code=problem.status,
        media_type=PROBLEM_TYPE,
        headers=headers,
    )
