"""The API's description: the OpenAPI 3.1 document, and the page that shows it, which loads nothing from elsewhere.

The page's viewer reads OpenAPI 3.0, so the page, and only the page, gets the document in that dialect: the two differ
in how a value that may be null is written.
"""

from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import swagger_ui_bundle
from litestar import Request
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.plugins import SwaggerRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme
from litestar.router import Router
from litestar.routes import HTTPRoute
from litestar.static_files import create_static_files_router

from entrepot.protocol.siteapi import PREFIX
from entrepot.web.problems import PROBLEM_TYPE, Problem

DOCS: Final = "/api/docs"
ASSETS: Final = "/api/assets"
_VIEWED: Final = "3.0.3"
_STYLE: Final = """<style>
  body { margin: 0; padding: 0 }
  .swagger-ui .topbar { display: none }
  @media (prefers-color-scheme: dark) {
    html { background: #1d1f21 }
    #swagger-container { filter: invert(0.88) hue-rotate(180deg) }
  }
</style>"""
_REFUSALS: Final = {
    400: "The request is not valid: which field, and why.",
    401: "No session, or one that has ended.",
    404: "There is no such thing.",
    409: "Not in the present state: it exists already, is in use, or is being worked on.",
    422: "Well-formed, but a rule of the product forbids it.",
    429: "Too many requests.",
    503: "A server that is needed does not answer now; try again later.",
}


def documentation() -> OpenAPIConfig:
    """What the description says beside the routes."""
    page = _Page(
        js_url=f"{ASSETS}/swagger-ui-bundle.js",
        css_url=f"{ASSETS}/swagger-ui.css",
        standalone_preset_js_url=f"{ASSETS}/swagger-ui-standalone-preset.js",
        path="/",
        favicon=f'<link rel="icon" type="image/png" href="{ASSETS}/favicon-32x32.png" sizes="32x32" />',
        style=_STYLE,
    )
    bearer = SecurityScheme(type="http", scheme="bearer", description=f"The token that POST {PREFIX}/login gives.")
    return OpenAPIConfig(
        title="Entrepôt site API",
        version=version("entrepot"),
        description="Administers a primary site: contents, distribution points, devices, deployments, the cloud.",
        path=DOCS,
        render_plugins=[page],
        components=Components(security_schemes={"session": bearer}),
        use_handler_docstrings=True,
    )


def described(routes: Iterable[Router | HTTPRouteHandler]) -> list[HTTPRouteHandler]:
    """All handlers, each noting what it is called, and how it refuses: with a problem document (RFC 9457).

    Routers are dissolved: the framework copies whatever a router holds each time it is nested into another.
    """
    handlers: list[HTTPRouteHandler] = []
    for route in routes:
        if isinstance(route, HTTPRouteHandler):
            handlers.append(route)
            continue
        for handler in _handlers(route):
            handler.tags = [*(handler.tags or ()), *route.tags]
            handlers.append(handler)
    refusals = _refusals()
    for handler in handlers:
        handler.responses = {**refusals, **(handler.responses or {})}
        handler.summary = handler.summary or handler.handler_name.replace("_", " ").capitalize()
    return handlers


def _handlers(router: Router) -> list[HTTPRouteHandler]:
    return [handler for route in router.routes if isinstance(route, HTTPRoute) for handler in route.route_handlers]


def _refusals() -> dict[int, ResponseSpec]:
    return {
        status: ResponseSpec(data_container=Problem, description=text, media_type=PROBLEM_TYPE, generate_examples=False)
        for status, text in _REFUSALS.items()
    }


def assets() -> Router:
    """The viewer's own files."""
    return create_static_files_router(
        path=ASSETS, directories=[Path(swagger_ui_bundle.swagger_ui_path)], include_in_schema=False
    )


class _Page(SwaggerRenderPlugin):
    """The page."""

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        """The page's HTML, with the description in it."""
        return super().render(request, {**as_viewed(openapi_schema), "openapi": _VIEWED})


def as_viewed(node: Any) -> Any:
    """A 3.1 schema as 3.0 writes it: ``nullable`` instead of the type ``null``, ``enum`` instead of ``const``."""
    if isinstance(node, list):
        return [as_viewed(each) for each in node]
    if not isinstance(node, dict):
        return node
    made = {name: as_viewed(value) for name, value in node.items()}
    if isinstance(made.get("type"), list):
        types = [each for each in made.pop("type") if each != "null"]
        made |= {"type": types[0]} if len(types) == 1 else {"anyOf": [{"type": each} for each in types]}
        made["nullable"] = True
    for word in ("oneOf", "anyOf"):
        choices = made.get(word)
        if isinstance(choices, list) and {"type": "null"} in choices:
            others = [each for each in choices if each != {"type": "null"}]
            del made[word]
            made |= {"nullable": True} | ({"allOf": others} if len(others) == 1 else {word: others})
    if "const" in made:
        made["enum"] = [made.pop("const")]
    return made
