"""The management point: what devices and newcomers ask, below ``/mp`` (plain ASGI: these are the busy endpoints).

========= ========================== ==========================================================================
GET       ``/mp/trust``              the trust document (compact JWS, text)
POST      ``/mp/enrolment/nonce``    :class:`~entrepot.protocol.enrolment.NonceReply`
POST      ``/mp/enrolment``          :class:`~entrepot.protocol.enrolment.EnrolRequest` → ``EnrolReply``
GET       ``/mp/enrolment/{id}``     ``EnrolReply``; with the newcomer's assertion
POST      ``/mp/locations``          ``LocationRequest`` → signed ``LocationReply``; with the device's assertion
GET       ``/mp/policy``             signed ``Policy``; with the device's assertion
POST      ``/mp/certificate``        ``RenewalRequest`` → ``RenewalReply``; with the point's assertion
POST      ``/mp/reports``            ``DownloadReport`` → 204; with the device's assertion
========= ========================== ==========================================================================
"""

import asyncio
import time
from collections import OrderedDict
from typing import Final, TypeVar

import msgspec
from sqlalchemy import Connection

from entrepot.core.encoding import from_json, to_json
from entrepot.core.errors import BadInputError, ForbiddenError, IntegrityError, NotFoundError, UnauthenticatedError
from entrepot.core.sizes import KIB
from entrepot.core.times import Clock
from entrepot.database import devices, points, savings
from entrepot.database.devices import Device
from entrepot.database.engine import Database
from entrepot.database.locations import AskerRow
from entrepot.database.points import Point
from entrepot.protocol.deviceapi import DeviceState
from entrepot.protocol.enrolment import EnrolRequest, NonceReply, RenewalRequest
from entrepot.protocol.location import LocationRequest
from entrepot.protocol.policy import DownloadReport
from entrepot.protocol.tokens import site_audience
from entrepot.site.enrolment import Enrolment
from entrepot.site.keys.sitekeys import SiteKeys
from entrepot.site.locating import Locator
from entrepot.site.renewal import Renewal
from entrepot.trust.assertions import claimed_device, verify_device
from entrepot.web.asgi import Receive, Scope, Send, read_body, send_json, send_response
from entrepot.web.bearer import bearer_token
from entrepot.web.throttle import Throttle

T = TypeVar("T")

MAX_BODY: Final = 256 * KIB
MAX_REMEMBERED: Final = 200_000
MAX_TEXT: Final = 4096
MAX_SOURCES: Final = 1000
REPORTS_PER_SECOND: Final = 1.0
REPORTS_AT_ONCE: Final = 300
"""What one device may report, and after how long an absence: reports are kept, and no device may fill the disk. Agents
send at most 50 at a time, and the others later."""
_JOSE: Final = b"application/jose"


class Seen:
    """Ids of assertions that were used, until they expire; bounded, and of this process only: an assertion travels
    inside TLS, and a replayed one gains nothing but another answer to the same device."""

    def __init__(self) -> None:
        self._until: OrderedDict[tuple[str, str], int] = OrderedDict()

    def use(self, device: str, jti: str, *, expires: int, now: float) -> None:
        """Use an id up.

        Raises:
            UnauthenticatedError: it was used before.
        """
        while self._until and (next(iter(self._until.values())) <= now or len(self._until) >= MAX_REMEMBERED):
            self._until.popitem(last=False)
        if (device, jti) in self._until:
            raise UnauthenticatedError("This assertion was used before.")
        self._until[device, jti] = expires


class Newcomer(msgspec.Struct, frozen=True, kw_only=True):
    """A device or a point that a request claims to come from."""

    device: Device | None = None
    point: Point | None = None

    @property
    def public_key(self) -> bytes:
        """Its raw public key."""
        return self.device.public_key if self.device is not None else self.point.public_key if self.point else b""


class ManagementPoint:
    """Answers devices and newcomers."""

    def __init__(
        self,
        database: Database,
        *,
        keys: SiteKeys,
        locator: Locator,
        enrolment: Enrolment,
        renewal: Renewal,
        clock: Clock,
    ) -> None:
        self._database = database
        self._keys = keys
        self._locator = locator
        self._enrolment = enrolment
        self._renewal = renewal
        self._clock = clock
        self._seen = Seen()
        self._reports = Throttle(what="reports", burst_seconds=REPORTS_AT_ONCE / REPORTS_PER_SECOND)
        self._heard: dict[str, tuple[int, str]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request below ``/mp``.

        Raises:
            EntrepotError: the server makes a problem document of it.
        """
        method, path = scope["method"], scope["path"].removeprefix("/mp")
        match method, path:
            case ("GET" | "HEAD", "/trust"):
                await send_response(send, 200, self._keys.trust_document.encode(), media_type=_JOSE)
            case ("POST", "/enrolment/nonce"):
                await send_json(send, to_json(NonceReply(nonce=self._enrolment.nonce())))
            case ("POST", "/enrolment"):
                await self._enrol(scope, receive, send)
            case ("POST", "/locations"):
                await self._locate(scope, receive, send)
            case ("GET", "/policy"):
                row = await self._device(scope, await read_body(scope, receive, MAX_BODY))
                await send_response(send, 200, (await self._locator.policy(row)).encode(), media_type=_JOSE)
            case ("POST", "/reports"):
                await self._report(scope, receive, send)
            case ("POST", "/certificate"):
                await self._renew(scope, receive, send)
            case ("GET", _) if path.startswith("/enrolment/"):
                await self._enrolment_state(scope, receive, send, path.removeprefix("/enrolment/"))
            case _:
                raise NotFoundError("There is nothing at this address.")

    async def flush(self) -> None:
        """Write down when devices were last heard of."""
        heard, self._heard = self._heard, {}
        if heard:
            await self._database.write(devices.note_seen, heard)

    async def _enrol(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = _decoded(await read_body(scope, receive, MAX_BODY), EnrolRequest)
        reply = await self._enrolment.enrol(request, address=_peer(scope))
        await send_json(send, to_json(reply), headers=[(b"cache-control", b"no-store")])

    async def _enrolment_state(self, scope: Scope, receive: Receive, send: Send, newcomer: str) -> None:
        body = await read_body(scope, receive, MAX_BODY)
        token = bearer_token(scope)
        if claimed_device(token) != newcomer:
            raise UnauthenticatedError("The assertion is of another device.")
        known = await self._database.read(_newcomer, newcomer)
        if not known.public_key:
            raise NotFoundError("This newcomer is not known.", next_step="Enrol again.")
        verify_device(token, known.public_key, site_audience(self._keys.site.code), body, self._clock())
        reply = await self._enrolment.state_of(newcomer, known.device, known.point)
        await send_json(send, to_json(reply), headers=[(b"cache-control", b"no-store")])

    async def _renew(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await read_body(scope, receive, MAX_BODY)
        token, now = bearer_token(scope), self._clock()
        known = await self._database.read(points.find_point, claimed_device(token))
        if known is None or not known.public_key:
            raise UnauthenticatedError("This point is not known here.", next_step="Enrol it.")
        audience = site_audience(self._keys.site.code)
        claims = await asyncio.to_thread(verify_device, token, known.public_key, audience, body, now)
        self._seen.use(claims.sub, claims.jti, expires=claims.exp, now=now)
        reply = await self._renewal.renew(known.id, _decoded(body, RenewalRequest))
        await send_json(send, to_json(reply), headers=[(b"cache-control", b"no-store")])

    async def _locate(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await read_body(scope, receive, MAX_BODY)
        row = await self._device(scope, body)
        request = _decoded(body, LocationRequest)
        if not 0 < len(request.nonce) <= 256 or len(request.content) > MAX_TEXT:
            raise BadInputError("The location request is out of bounds.")
        if not 0 <= request.version < 2**31:
            raise BadInputError("The version is out of bounds.")
        answer = await self._locator.locate(row, request, peer=_peer(scope))
        await send_response(send, 200, answer.encode(), media_type=_JOSE, headers=[(b"cache-control", b"no-store")])

    async def _report(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await read_body(scope, receive, MAX_BODY)
        row = await self._device(scope, body)
        assert row.device is not None
        report = _decoded(body, DownloadReport)
        _check_report(report)
        self._reports.take(row.device.id, rate=REPORTS_PER_SECOND, now=time.monotonic())
        await self._database.write(savings.take_report, row.device.id, report, now=self._clock())
        await send_response(send, 204)

    async def _device(self, scope: Scope, body: bytes) -> AskerRow:
        """The device that a request comes from: its assertion verified, its approval checked.

        Raises:
            UnauthenticatedError: no valid assertion.
            ForbiddenError: blocked, or not approved yet.
        """
        token = bearer_token(scope)
        row = await self._locator.asker(claimed_device(token))
        if row.device is None:
            raise UnauthenticatedError("This device is not known here.", next_step="Enrol it.")
        now = self._clock()
        audience = site_audience(self._keys.site.code)
        claims = await asyncio.to_thread(verify_device, token, row.device.public_key, audience, body, now)
        self._seen.use(claims.sub, claims.jti, expires=claims.exp, now=now)
        if row.device.state is DeviceState.BLOCKED:
            raise ForbiddenError("This device is blocked.", next_step="Ask an administrator.")
        if row.device.state is not DeviceState.APPROVED:
            raise ForbiddenError("This device is not approved yet.", next_step="Ask an administrator to approve it.")
        self._heard[row.device.id] = (int(now), _peer(scope))
        return row


def _newcomer(connection: Connection, newcomer: str) -> Newcomer:
    return Newcomer(device=devices.find_device(connection, newcomer), point=points.find_point(connection, newcomer))


def _decoded(body: bytes, kind: type[T]) -> T:
    """What a client sent; malformed is its own fault, not damage on the way."""
    try:
        return from_json(body, kind, "request")
    except IntegrityError as error:
        raise BadInputError(error.message) from None


def _peer(scope: Scope) -> str:
    client = scope.get("client") or ("", 0)
    return str(client[0])


def _check_report(report: DownloadReport) -> None:
    numbers = [report.version, report.started, report.finished, report.plain_size]
    numbers += [number for source in report.sources for number in (source.bytes, source.requests)]
    texts = [report.id, report.content, report.network, report.outcome]
    texts += [text for source in report.sources for text in (source.kind, source.form, source.point)]
    if any(not 0 <= number < 2**62 for number in numbers) or any(len(text) > 128 for text in texts):
        raise BadInputError("The report is out of bounds.")
    if not 0 < len(report.id) <= 64 or len(report.content) > 40 or max(map(len, (report.network, report.outcome))) > 16:
        raise BadInputError("The report is out of bounds.")
    if len(report.error) > MAX_TEXT or len(report.sources) > MAX_SOURCES:
        raise BadInputError("The report is out of bounds.")
