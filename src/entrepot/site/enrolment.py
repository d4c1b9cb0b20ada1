"""How devices and points become known (architecture 3, ``protocol.enrolment``).

Nonces need no memory: each carries its time and a MAC of the site; only those that were used are remembered, for as
long as they would be valid. A newcomer with an enrolment code is approved at once, one without waits for an
administrator who compares fingerprints. Enrolling again with the same key (the answer was lost) gives the same result.
"""

import hashlib
import hmac
import secrets
import struct
from collections.abc import Callable
from typing import Final

from sqlalchemy import Connection

from entrepot.core.addresses import server_url
from entrepot.core.errors import (
    BadInputError,
    ConflictError,
    LimitedError,
    UnauthenticatedError,
)
from entrepot.core.secret import Secret
from entrepot.core.times import HOUR, Clock
from entrepot.database import device_collections, devices, points
from entrepot.database.devices import Code, Device
from entrepot.database.engine import Database
from entrepot.database.points import Point
from entrepot.protocol.deviceapi import DeviceState, EnrolmentCodeReply, EnrolmentCodeRequest
from entrepot.protocol.enrolment import (
    SECRET_BYTES,
    EnrolmentCode,
    EnrolReply,
    EnrolRequest,
    Kind,
)
from entrepot.protocol.pointapi import PointRequest
from entrepot.site.keys.sitekeys import SiteKeys, new_id
from entrepot.site.renewal import issue_point_certificate
from entrepot.trust.authority import MAX_CSR
from entrepot.trust.enrolment import check_mac

NONCE_SECONDS: Final = 300
MAX_PENDING: Final = 1000
"""More newcomers without a code than this do not wait for approval at a time."""
_NONCE: Final = struct.Struct(">Q16s16s")
APPROVED: Final = "approved"


class Enrolment:
    """Enrols devices and points.

    Args:
        pushed: called when a point became active: its control document and content can go there.
    """

    def __init__(self, database: Database, *, keys: SiteKeys, clock: Clock, pushed: Callable[[], None]) -> None:
        self._database = database
        self._keys = keys
        self._clock = clock
        self._pushed = pushed

    # ------------------------------------------------------------------------------------------------------- codes

    async def code_for_devices(self, request: EnrolmentCodeRequest) -> EnrolmentCodeReply:
        """Make a code for devices.

        Raises:
            BadInputError: a kind that has no codes of its own.
            NotFoundError: no such collection.
        """
        if request.kind != Kind.DEVICE:
            raise BadInputError("Only devices get codes here.", next_step="A point gets its code when it is added.")
        return await self._database.write(self._code_for_devices, request)

    def _code_for_devices(self, connection: Connection, request: EnrolmentCodeRequest) -> EnrolmentCodeReply:
        collection = ""
        if request.collection is not None:
            found = device_collections.get(connection, request.collection)
            collection = "" if found.built_in else found.id
        expires_at = int(self._clock() + request.hours * HOUR)
        code_id, text = self._new_code(
            connection,
            Kind.DEVICE,
            name=request.name,
            uses=request.uses,
            expires_at=expires_at,
            collection=collection,
        )
        return EnrolmentCodeReply(id=code_id, code=text, expires=expires_at)

    async def add_point(self, request: PointRequest) -> tuple[Point, str]:
        """Announce a point on premises, and make its code.

        Raises:
            ConflictError: the name is taken.
        """
        return await self._database.write(self._add_point, request)

    def _add_point(self, connection: Connection, request: PointRequest) -> tuple[Point, str]:
        now = self._clock()
        new = Point(
            id=new_id("pt"),
            name=request.name,
            kind=points.STANDARD,
            site=self._keys.site.code,
            state=points.AWAITING,
            url="",
            fallback=request.fallback,
            internet_facing=request.internet_facing,
            created=int(now),
        )
        point = points.add_point(connection, new)
        expires_at = int(now + request.hours * HOUR)
        _, text = self._new_code(connection, Kind.POINT, name=point.name, uses=1, expires_at=expires_at, point=point.id)
        return point, text

    def _new_code(
        self,
        connection: Connection,
        kind: Kind,
        *,
        name: str,
        uses: int,
        expires_at: int,
        collection: str = "",
        point: str = "",
    ) -> tuple[str, str]:
        code_id = new_id("code")
        secret = secrets.token_bytes(SECRET_BYTES)
        row = Code(
            id=code_id,
            kind=kind,
            name=name,
            sealed=self._keys.vault.seal(code_secret(code_id), Secret(secret)),
            uses_left=uses,
            expires=expires_at,
            collection=collection,
            point=point,
        )
        devices.add_code(connection, row, now=self._clock())
        code = EnrolmentCode(
            url=self._keys.site.url,
            site=self._keys.site.code,
            code_id=code_id,
            secret=secret,
            fingerprint=self._keys.root_fingerprint,
        )
        return code_id, code.encode()

    # ------------------------------------------------------------------------------------------------------ nonces

    def nonce(self) -> bytes:
        """A nonce for one enrolment within five minutes."""
        moment, random = int(self._clock()), secrets.token_bytes(16)
        return _NONCE.pack(moment, random, self._nonce_mac(moment, random))

    def _nonce_mac(self, moment: int, random: bytes) -> bytes:
        message = b"entrepot/nonce/1" + struct.pack(">Q", moment) + random
        return hmac.digest(self._keys.nonce_secret.reveal(), message, hashlib.sha256)[:16]

    def _check_nonce(self, nonce: bytes, now: float) -> float:
        """Until when the nonce is valid."""
        if len(nonce) != _NONCE.size:
            raise UnauthenticatedError("The nonce is not one of this site.")
        moment, random, mac = _NONCE.unpack(nonce)
        if not hmac.compare_digest(mac, self._nonce_mac(moment, random)):
            raise UnauthenticatedError("The nonce is not one of this site.")
        if not moment <= now + 1 < moment + NONCE_SECONDS:
            raise UnauthenticatedError("The nonce has expired.", next_step="Ask for a new one.")
        return float(moment + NONCE_SECONDS)

    # -------------------------------------------------------------------------------------------------- enrolments

    async def enrol(self, request: EnrolRequest, *, address: str) -> EnrolReply:
        """Enrol a newcomer.

        Raises:
            UnauthenticatedError: nonce, code or MAC is not valid.
            ConflictError: the name or the key is taken.
            BadInputError: a malformed request.
            LimitedError: too many newcomers wait for approval.
        """
        if len(request.public_key) != 32:
            raise BadInputError("An Ed25519 public key has 32 bytes.")
        if request.kind is Kind.POINT and not 0 < len(request.csr) <= MAX_CSR:
            raise BadInputError("A point sends a certificate request.")
        await self._database.read(self._check, request)  # strangers must not hold up whoever has something to write
        reply = await self._database.write(self._enrol, request, address)
        if request.kind is Kind.POINT and reply.state == APPROVED:
            self._pushed()
        return reply

    def _check(self, connection: Connection, request: EnrolRequest) -> None:
        """What can be refused without writing."""
        now = self._clock()
        self._check_nonce(request.nonce, now)
        if request.code_id:
            self._checked_code(connection, request, now, locked=False)
            return
        of_this_key = devices.device_of_key, points.point_of_key
        if all(known(connection, request.public_key) is None for known in of_this_key):
            _refuse_crowd(connection)

    def _enrol(self, connection: Connection, request: EnrolRequest, address: str) -> EnrolReply:
        now = self._clock()
        valid_until = self._check_nonce(request.nonce, now)
        code = self._checked_code(connection, request, now) if request.code_id else None
        devices.use_nonce(connection, request.nonce, now=now, expires=valid_until)
        if request.kind is Kind.POINT:
            return self._enrol_point(connection, request, code)
        return self._enrol_device(connection, request, code, address)

    def _checked_code(self, connection: Connection, request: EnrolRequest, now: float, *, locked: bool = True) -> Code:
        code = devices.find_code(connection, request.code_id, now=now, locked=locked)
        if code is None or code.kind is not request.kind:
            raise UnauthenticatedError(
                "The enrolment code is unknown, used up or expired.", next_step="Ask an administrator for a new one."
            )
        check_mac(self._keys.vault.open(code_secret(code.id), code.sealed), request)
        return code

    def _use(self, connection: Connection, code: Code) -> None:
        if code.uses_left < 1:
            raise UnauthenticatedError(
                "The enrolment code is used up.", next_step="Ask an administrator for a new one."
            )
        devices.use_code(connection, code.id)

    def _enrol_device(
        self, connection: Connection, request: EnrolRequest, code: Code | None, address: str
    ) -> EnrolReply:
        known = devices.device_of_key(connection, request.public_key)
        if known is None and code is not None:
            self._use(connection, code)
        if known is None and code is None:
            _refuse_crowd(connection)
        now = int(self._clock())
        state = DeviceState.PENDING if code is None else DeviceState.APPROVED
        new = Device(
            id=new_id("dev"),
            name=request.name,
            public_key=request.public_key,
            state=state,
            changed=now,
            site=self._keys.site.code,
            enrolled=now,
            seen=now,
            address=address[:64],
        )
        device = devices.add_device(connection, new, collection="" if code is None else code.collection)
        if device.state is DeviceState.PENDING and code is not None:
            self._use(connection, code)
            device = devices.set_state(connection, device.id, DeviceState.APPROVED, now=now)
            devices.join(connection, device.id, code.collection)
        return EnrolReply(id=device.id, site=self._keys.site.code, state=device.state.value, name=device.name)

    def _enrol_point(self, connection: Connection, request: EnrolRequest, code: Code | None) -> EnrolReply:
        url = server_url(request.url.rstrip("/"), "a point")
        known = points.point_of_key(connection, request.public_key)
        if code is None:
            if known is None:
                _refuse_crowd(connection)
                known = points.add_point(connection, self._pending_point(request, url))
            elif known.state == points.ACTIVE and (known.csr, known.url) == (request.csr, url):
                return self._point_reply(known)  # approved meanwhile: only whoever has the key can use the certificate
            elif known.state == points.PENDING:
                known = points.change_point(connection, known.id, csr=request.csr, url=url)
            return EnrolReply(id=known.id, site=self._keys.site.code, state=points.PENDING, name=known.name)
        if known is None:
            self._use(connection, code)
        elif known.id != code.point:
            raise ConflictError("This point has enrolled already, as another one.")
        point = points.get_point(connection, code.point)
        if known is None and point.public_key:
            raise ConflictError("Another machine has enrolled as this point already.")
        return self._point_reply(self._activate(connection, point, request.public_key, request.csr, url))

    def _pending_point(self, request: EnrolRequest, url: str) -> Point:
        return Point(
            id=new_id("pt"),
            name=request.name,
            kind=points.STANDARD,
            site=self._keys.site.code,
            state=points.PENDING,
            url=url,
            public_key=request.public_key,
            csr=request.csr,
            created=int(self._clock()),
        )

    async def approve_point(self, name_or_id: str) -> Point:
        """Approve a point that enrolled without a code.

        Raises:
            ConflictError: it does not wait for approval.
        """
        point = await self._database.write(self._approve_point, name_or_id)
        self._pushed()
        return point

    def _approve_point(self, connection: Connection, name_or_id: str) -> Point:
        point = points.get_point(connection, name_or_id)
        if point.state != points.PENDING or point.kind != points.STANDARD:
            raise ConflictError(f"The point {point.name!r} does not wait for approval: it is {point.state}.")
        return self._activate(connection, point, point.public_key, point.csr, point.url)

    def _activate(self, connection: Connection, point: Point, public_key: bytes, csr: bytes, url: str) -> Point:
        certificates, ends = issue_point_certificate(self._keys, url, csr, now=self._clock())
        return points.change_point(
            connection,
            point.id,
            state=points.ACTIVE,
            public_key=public_key,
            url=url,
            csr=csr,
            certificates=certificates,
            certificate_expires=ends,
            message="",
        )

    def _point_reply(self, point: Point) -> EnrolReply:
        site = self._keys.site.code
        return EnrolReply(id=point.id, site=site, state=APPROVED, certificates=point.certificates, name=point.name)

    async def state_of(self, newcomer: str, device: Device | None, point: Point | None) -> EnrolReply:
        """What became of a newcomer that has proven its key."""
        if device is not None:
            return EnrolReply(id=newcomer, site=self._keys.site.code, state=device.state.value, name=device.name)
        assert point is not None
        if point.state == points.ACTIVE:
            return self._point_reply(point)
        return EnrolReply(id=newcomer, site=self._keys.site.code, state=point.state, name=point.name)


def code_secret(code: str) -> str:
    """The name under which the secret of an enrolment code is sealed."""
    return f"enrolment/{code}"


def _refuse_crowd(connection: Connection) -> None:
    if devices.count_pending(connection) + points.count_pending(connection) >= MAX_PENDING:
        raise LimitedError(
            "Too many newcomers wait for approval.", next_step="Enrol with a code, or have some of them approved."
        )
