"""TLS certificates of points: issued at enrolment, and again whenever a point asks well before the last one ends."""

import ipaddress
from urllib.parse import urlsplit

import structlog
from sqlalchemy import Connection

from entrepot.core.errors import BadInputError, ForbiddenError
from entrepot.core.times import Clock
from entrepot.database import points
from entrepot.database.engine import Database
from entrepot.protocol.enrolment import RenewalReply, RenewalRequest
from entrepot.site.keys.sitekeys import SiteKeys
from entrepot.trust.authority import MAX_CSR, SERVER_DAYS
from entrepot.trust.inspection import expires, to_pem

log = structlog.get_logger("site.renewal")


class Renewal:
    """Renews the certificates of a site's points."""

    def __init__(self, database: Database, *, keys: SiteKeys, clock: Clock) -> None:
        self._database = database
        self._keys = keys
        self._clock = clock

    async def renew(self, point: str, request: RenewalRequest) -> RenewalReply:
        """A new certificate for a point that has proven its identity key.

        Raises:
            ForbiddenError: the point was removed, or is not approved.
            BadInputError: no proper request.
        """
        if not 0 < len(request.csr) <= MAX_CSR:
            raise BadInputError("A point sends a certificate request.")
        reply = await self._database.write(self._renew, point, request.csr)
        log.info("point_certificate_renewed", point=point)
        return reply

    def _renew(self, connection: Connection, point_id: str, csr: bytes) -> RenewalReply:
        point = points.get_point(connection, point_id)
        if point.state != points.ACTIVE or point.kind != points.STANDARD:
            raise ForbiddenError(
                f"The point {point.name!r} is {point.state}: it gets no certificate.",
                next_step="Ask an administrator of the site.",
            )
        certificates, ends = issue_point_certificate(self._keys, point.url, csr, now=self._clock())
        points.change_point(connection, point.id, csr=csr, certificates=certificates, certificate_expires=ends)
        return RenewalReply(certificates=certificates)


def issue_point_certificate(keys: SiteKeys, url: str, csr: bytes, *, now: float) -> tuple[str, int]:
    """A PEM chain for the host that the point's url names, and when it ends; names in the request do not count.

    Raises:
        BadInputError: the request cannot be read, or its key is too weak.
    """
    host = urlsplit(url).hostname or ""
    try:
        names, ips = [], [str(ipaddress.ip_address(host))]
    except ValueError:
        names, ips = [host], []
    issued = keys.authority.issue_server(csr, names=names, ips=ips, days=SERVER_DAYS, now=now)
    return to_pem(issued) + keys.authority.pem(), expires(issued)
