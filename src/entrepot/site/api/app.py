"""The Litestar application: authentication, errors, documentation."""

from collections.abc import Sequence
from typing import Any, Final, Self, cast

import msgspec
import structlog
from litestar import Litestar, Request, Response, Router
from litestar.connection import ASGIConnection
from litestar.exceptions import HTTPException, SerializationException, ValidationException
from litestar.handlers import BaseRouteHandler, HTTPRouteHandler
from litestar.plugins import PluginProtocol
from litestar.plugins.core import MsgspecDIPlugin

from entrepot.core.errors import BadInputError, EntrepotError, NotFoundError, TooLargeError
from entrepot.core.sizes import MIB
from entrepot.protocol.siteapi import PREFIX
from entrepot.site.acting import act_for
from entrepot.site.api.documentation import DOCS, assets, described, documentation
from entrepot.site.auth import Sessions
from entrepot.web.asgi import Scope
from entrepot.web.bearer import bearer_token
from entrepot.web.problems import PROBLEM_TYPE, problem_of

MAX_BODY: Final = MIB

AnyRequest = Request[Any, Any, Any]
AnyConnection = ASGIConnection[Any, Any, Any, Any]
Routes = Sequence[Router | HTTPRouteHandler]

log = structlog.get_logger("site.api")


def build_app(sessions: Sessions, *, open_routes: Routes, routes: Routes) -> Litestar:
    """The application.

    Args:
        sessions: checks bearer tokens.
        open_routes: below the prefix, for everyone (the login).
        routes: below the prefix, for administrators.
    """

    async def require_session(connection: AnyConnection, _: BaseRouteHandler) -> None:
        administrator = await sessions.check(bearer_token(cast("Scope", connection.scope)))
        connection.scope["user"] = administrator
        act_for(administrator.name)

    guarded = _Branch(PREFIX, route_handlers=described(routes), guards=[require_session], security=[{"session": []}])
    return _Application(
        route_handlers=[_Branch(PREFIX, route_handlers=described(open_routes)), guarded, assets()],
        exception_handlers={
            EntrepotError: _on_error,
            HTTPException: _on_http,
            Exception: _on_defect,
        },
        request_class=_Request,
        openapi_config=documentation(),
        request_max_body_size=MAX_BODY,
        logging_config=None,
        debug=False,
    )


class _Application(Litestar):
    """Without the plugins for other kinds of models than ours: loading pydantic's takes a tenth of a site's start, and
    8 MiB. Should the framework no longer ask here, a start takes that long again."""

    @staticmethod
    def _get_default_plugins(plugins: list[PluginProtocol]) -> list[PluginProtocol]:
        return [*plugins, MsgspecDIPlugin()]


class _Branch(Router):
    """A router that is made for one application, and given to it as it is: copying a few hundred routes with all they
    hold, in case somebody else has them, takes a third of the application's start."""

    def __deepcopy__(self, _: dict[int, Any]) -> Self:
        return self


class _Request(Request[Any, Any, Any]):
    """Decodes a body into its model at once, and strictly: the framework itself would take 1 for true, "5" for 5."""

    async def json(self) -> Any:
        """The model that the route takes.

        Raises:
            BadInputError: the body is JSON, but not this model.
            SerializationException: it is no JSON.
        """
        field = self.route_handler.parsed_data_field
        if field is None:
            return await super().json()
        try:
            return msgspec.json.decode(await self.body(), type=field.annotation)
        except msgspec.ValidationError as error:
            what, _, place = str(error).partition(" - at ")
            name = place.strip("`").removeprefix("$").removeprefix(".")
            told = f"{name}: {what}" if name else what
            raise BadInputError(f"The request is not valid: {told}.", next_step=_READ) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise SerializationException(str(error)) from None


_READ: Final = f"{DOCS} describes every address, and what it takes."


def problem_response(error: EntrepotError, status: int | None = None) -> Response[bytes]:
    """An error as problem details (RFC 9457)."""
    problem = problem_of(error, status)
    headers = {"Cache-Control": "no-store"}
    if problem.retry_after:
        headers["Retry-After"] = str(problem.retry_after)
    if problem.status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="entrepot"'
    return Response(problem.encode(), status_code=problem.status, media_type=PROBLEM_TYPE, headers=headers)


def _on_error(request: AnyRequest, error: EntrepotError) -> Response[bytes]:
    response = problem_response(error)
    if error.family.status >= 500:
        log.warning("request_failed", path=request.scope["path"], error=str(error), code=error.code)
    return response


def _on_http(_: AnyRequest, error: HTTPException) -> Response[bytes]:
    """What the framework refuses, in our words."""
    status: int = error.status_code
    if status == 404:
        return problem_response(NotFoundError("There is nothing at this address.", next_step=_READ))
    if status == 405:
        return problem_response(BadInputError("This method is not available at this address.", next_step=_READ), 405)
    if status == 413:
        return problem_response(TooLargeError(f"The request body is larger than {MAX_BODY} bytes."))
    if status < 500:
        return problem_response(BadInputError(_explain(error), next_step=_READ), status)
    return problem_response(EntrepotError("The server failed to answer this request."), status)


def _explain(error: HTTPException) -> str:
    """Which field is wrong, and why."""
    missing, _, _ = error.detail.partition(" for path ")
    if missing.startswith("Missing required "):
        return f"The request is not valid: {missing.replace('M', 'm', 1)}."
    if not isinstance(error, ValidationException) or not isinstance(error.extra, list):
        return "The request cannot be read: it is not the JSON that is expected here."
    found = []
    for each in error.extra[:10]:
        if isinstance(each, dict):
            place = str(each.get("key", "")) or str(each.get("source", ""))
            found.append(f"{place}: {each.get('message', '')}".strip(": "))
    return f"The request is not valid: {'; '.join(found)}." if found else "The request is not valid."


def _on_defect(request: AnyRequest, error: Exception) -> Response[bytes]:
    log.error("request_broke", path=request.scope["path"], method=request.scope["method"], exc_info=error)
    return problem_response(EntrepotError("The server failed to answer this request.", next_step="See its log."))
