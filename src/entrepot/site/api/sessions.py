"""Login, logout, and what the site is."""

from importlib.metadata import version
from typing import Any, cast

from litestar import Request, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import JSONBody
from sqlalchemy import Connection, func, select

from entrepot.core.secret import Secret
from entrepot.database.engine import Database
from entrepot.database.hierarchy import get_hierarchy
from entrepot.database.tables.alerts import alert
from entrepot.database.tables.content import content
from entrepot.database.tables.devices import device
from entrepot.database.tables.points import point
from entrepot.database.tables.tasks import task
from entrepot.database.tasks import ACTIVE
from entrepot.protocol.alertapi import AlertState
from entrepot.protocol.deviceapi import DeviceState
from entrepot.protocol.siteapi import LoginRequest, Session, SiteCounts, SiteInfo
from entrepot.site.auth import Sessions
from entrepot.site.keys.sitekeys import SiteKeys
from entrepot.trust.root import readable
from entrepot.web.asgi import Scope
from entrepot.web.bearer import bearer_token


def login_routes(sessions: Sessions) -> list[HTTPRouteHandler]:
    """What is open to everyone."""

    @post("/login", status_code=200, tags=["Session"])
    async def login(request: Request[Any, Any, Any], data: JSONBody[LoginRequest]) -> Session:
        """Begin a session; its token is the bearer token of all other requests."""
        address = request.client.host if request.client else ""
        return await sessions.login(data.name, Secret(data.password), address=address)

    return [login]


def session_routes(sessions: Sessions, database: Database, keys: SiteKeys) -> list[HTTPRouteHandler]:
    """Logout and the site's description."""

    @post("/logout", status_code=204, tags=["Session"])
    async def logout(request: Request[Any, Any, Any]) -> None:
        """End this session."""
        await sessions.logout(bearer_token(cast("Scope", request.scope)))

    @get("/site", tags=["Site"])
    async def get_site() -> SiteInfo:
        """What this site is, and how much it manages."""
        return await database.read(_site_info, keys)

    return [logout, get_site]


def _site_info(connection: Connection, keys: SiteKeys) -> SiteInfo:
    def count(table: Any, *conditions: Any) -> int:
        return int(connection.execute(select(func.count()).select_from(table).where(*conditions)).scalar_one())

    record = get_hierarchy(connection)
    return SiteInfo(
        code=keys.site.code,
        name=keys.site.name,
        url=keys.site.url,
        version=version("entrepot"),
        hierarchy=record.name,
        root_fingerprint=readable(keys.root_fingerprint),
        trust_number=record.trust_number,
        epoch=record.epoch,
        counts=SiteCounts(
            contents=count(content),
            points=count(point, point.c.kind == "standard"),
            cloud_points=count(point, point.c.kind == "cloud"),
            devices=count(device),
            pending_devices=count(device, device.c.state == DeviceState.PENDING.value),
            active_tasks=count(task, task.c.state.in_(ACTIVE)),
            open_alerts=count(alert, alert.c.state == AlertState.ACTIVE.value),
        ),
    )
