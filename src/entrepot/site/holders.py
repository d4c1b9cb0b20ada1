"""How the site reaches the data plane of each distribution point: on premises with site tokens, in the cloud through
whatever the cloud part registered.
"""

import asyncio
import secrets

from entrepot.core.errors import UnavailableError
from entrepot.core.times import Clock
from entrepot.database import points
from entrepot.database.engine import Database
from entrepot.database.points import Point
from entrepot.site.cloudport import HolderSource
from entrepot.site.keys.sitekeys import SiteKeys
from entrepot.trust.tokens import mint_site_token
from entrepot.web.dataplane import Holder, HttpHolder
from entrepot.web.http import HttpClient


class Holders:
    """A :data:`~entrepot.site.cloudport.HolderSource` for every point of the site.

    Args:
        http: trusts the hierarchy's CA: points on premises have certificates of it.
    """

    def __init__(self, database: Database, *, keys: SiteKeys, http: HttpClient, clock: Clock) -> None:
        self._database = database
        self._keys = keys
        self._http = http
        self._clock = clock
        self._cloud: HolderSource | None = None

    def register_cloud(self, source: HolderSource) -> None:
        """Say who gives the holders of cloud points."""
        self._cloud = source

    async def __call__(self, point_id: str) -> Holder:
        """The holder of a point.

        Raises:
            NotFoundError: there is no such point.
            UnavailableError: it has not enrolled, or its cloud cannot be reached.
        """
        point = await self._database.read(points.get_point, point_id)
        if point.kind == points.CLOUD:
            if self._cloud is None:
                raise UnavailableError("This server was started without cloud providers.")
            return await self._cloud(point_id)
        return self.of(point)

    def of(self, point: Point) -> Holder:
        """The holder of a point on premises.

        Raises:
            UnavailableError: it has not enrolled.
        """
        if point.state != points.ACTIVE or not point.url:
            raise UnavailableError(
                f"The distribution point {point.name} has not enrolled.", next_step="Run: entrepot point init"
            )

        def token() -> str:
            return mint_site_token(
                self._keys.token_for(point.id),
                site=self._keys.site.code,
                audience=point.id,
                now=self._clock(),
                jti=secrets.token_hex(16),
            )

        return HttpHolder(self._http, point.url, token)


async def wait_or(event: asyncio.Event, seconds: float) -> None:
    """Wait until the event is set, at most so long; then clear it. The pace of a background loop."""
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return
    finally:
        event.clear()
