"""The doors of a site server: the management point for devices, a page for people who come by, the admin API."""

import asyncio
from typing import TYPE_CHECKING, Any

from entrepot.core.errors import EntrepotError
from entrepot.database.engine import CHANGES
from entrepot.database.hierarchy import count
from entrepot.protocol.keysapi import KeysInfo
from entrepot.site.api.app import MAX_BODY, build_app
from entrepot.site.api.contents import content_routes
from entrepot.site.api.deployments import deployment_routes
from entrepot.site.api.devices import device_routes
from entrepot.site.api.headers import with_protection
from entrepot.site.api.keys import key_routes
from entrepot.site.api.library import library_routes
from entrepot.site.api.points import point_routes
from entrepot.site.api.sessions import login_routes, session_routes
from entrepot.site.api.tasks import task_routes
from entrepot.site.api.versions import version_routes
from entrepot.site.cloud.careroutes import care_router
from entrepot.site.cloud.routes import cloud_router
from entrepot.site.cost.routes import cost_router
from entrepot.site.drills.permits import Drills
from entrepot.site.drills.routes import drill_router
from entrepot.site.front import FrontPage
from entrepot.site.keys.info import keys_info
from entrepot.site.notifications.routes import notification_router
from entrepot.site.removals.routes import removal_routes
from entrepot.site.upkeep import load_tls_certificate
from entrepot.trust.inspection import expires
from entrepot.web.asgi import App, Receive, Scope, Send, in_time
from entrepot.web.health import Health

if TYPE_CHECKING:
    from entrepot.site.server import SiteServer


def site_app(server: "SiteServer") -> App:
    """The ASGI application: health, the management point, the front page, the admin API."""
    database, clock = server.database, server.clock

    async def keys() -> KeysInfo:
        certificate = await asyncio.to_thread(load_tls_certificate, server.home)
        return await database.read(keys_info, server.keys, certificate, now=clock())

    async def health() -> dict[str, Any]:
        try:
            await database.read(count, CHANGES)
        except EntrepotError as error:
            return {"status": "database", "detail": error.message, "site": server.keys.site.code}
        certificate = await asyncio.to_thread(load_tls_certificate, server.home)
        return {"status": "ok", "site": server.keys.site.code, "certificate_expires": expires(certificate)}

    api = build_app(
        server.sessions,
        open_routes=login_routes(server.sessions),
        routes=[
            *session_routes(server.sessions, database, server.keys),
            *content_routes(server.contents, server.rehearsals, database),
            *version_routes(server.versions, server.comparisons),
            *library_routes(server.library_care),
            *point_routes(database, server.enrolment, server.controls.retire),
            *device_routes(database, server.enrolment, server.locator, clock),
            *deployment_routes(database, clock),
            *task_routes(database, server.cancel, clock),
            *key_routes(server.rotation, server.signers, keys),
            cloud_router(server.clouds),
            notification_router(server.subscriptions),
            cost_router(database, site=server.keys.site.code, clock=clock),
            care_router(server.clouds),
            drill_router(Drills(database, server.keys, clock=clock, lag=server.lag)),
            *removal_routes(database, server.clouds.orders, clock),
        ],
    )
    front = FrontPage(site=server.keys.site.code, url=server.keys.site.url)
    return Health(_Doors(server.management_point, front, api), check=health)  # type: ignore[arg-type]  # Litestar's own ASGI types


class _Doors:
    """The management point for devices, a page for people who come by, the admin API for everyone else."""

    def __init__(self, management_point: App, front: App, api: App) -> None:
        self._management_point = management_point
        self._front = front
        self._api = api

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._behind(scope)
        if app is self._api and scope["type"] == "http":
            receive = in_time(scope, receive, MAX_BODY)  # the framework would wait for a body as long as it takes
            send = with_protection(scope, send)
        await app(scope, receive, send)

    def _behind(self, scope: Scope) -> App:
        if scope["type"] == "http" and scope["path"].startswith("/mp/"):
            return self._management_point
        if scope["type"] == "http" and scope["path"] == "/" and scope["method"] in ("GET", "HEAD"):
            return self._front
        return self._api
