"""The management point, as the agent sees it: device assertions out, signed replies in.

A reply is believed only if its signature is the site's policy key's under the pinned root, it names this device and
site, echoes the nonce of this very request where there is one, has not expired, and is not older than one seen before.
"""

import secrets
from collections.abc import Callable
from typing import Final, TypeVar

from entrepot.client.home import Home
from entrepot.client.identity import Identity
from entrepot.client.records import is_meant
from entrepot.core.encoding import from_json, to_json
from entrepot.core.errors import TrustError, UnauthenticatedError
from entrepot.core.sizes import MIB
from entrepot.core.times import Clock
from entrepot.protocol import Freshness, SignedType
from entrepot.protocol.location import LocationReply, LocationRequest
from entrepot.protocol.policy import DownloadReport, Policy
from entrepot.protocol.trust import Role
from entrepot.trust.assertions import make_device_assertion
from entrepot.trust.pins import FreshnessLog, TrustStore
from entrepot.web.http import HttpClient

T = TypeVar("T")

_MAX_REPLY: Final = 8 * MIB


def random_name() -> str:
    """A nonce or id: 128 random bits as hexadecimal digits."""
    return secrets.token_hex(16)


class ManagementPoint:
    """Asks the site on behalf of this device.

    Args:
        http: a client that trusts the hierarchy's issuers only.
        url: the site's address.
        identity: of this device.
        trust: the pinned root and its document.
        seen: what freshness was seen so far.
        clock: seconds since 1970.
        draw: makes nonces.
    """

    def __init__(
        self,
        http: HttpClient,
        url: str,
        identity: Identity,
        trust: TrustStore,
        seen: FreshnessLog,
        *,
        clock: Clock,
        draw: Callable[[], str] = random_name,
    ) -> None:
        self._http = http
        self._url = url
        self._identity = identity
        self._trust = trust
        self._seen = seen
        self._clock = clock
        self._draw = draw

    @property
    def site(self) -> str:
        """Site code."""
        return self._identity.registration.site

    async def refresh_trust(self) -> bool:
        """Take in the site's present trust document; True when it is newer than the one held.

        Raises:
            TrustError: it is not the pinned root's, or older.
            UnavailableError: no answer.
        """
        reply = await self._http.request("GET", f"{self._url}/mp/trust", limit=_MAX_REPLY)
        return self._trust.accept(reply.body.strip())

    async def locate(
        self, content: str, *, version: int = 0, addresses: tuple[str, ...] = (), held: tuple[int, ...] = ()
    ) -> LocationReply:
        """Ask where content is.

        Args:
            content: its id or name.
            version: 0 for the current one.
            addresses: of this device.
            held: versions that this device has whole.

        Raises:
            NotFoundError: the site has no such content, or none for this device.
            TrustError: the reply is not to be believed; ReplayError when it is old.
            UnavailableError: no answer.
        """
        nonce = self._draw()
        request = LocationRequest(nonce=nonce, content=content, version=version, addresses=addresses, held=held)
        document = await self._ask("POST", "/mp/locations", to_json(request))
        payload = await self._verified(document, SignedType.LOCATION)
        reply = from_json(payload, LocationReply, "location reply")
        if reply.nonce != nonce:
            raise TrustError("The location reply answers another request than this one.")
        wrong_content = not is_meant(content, reply.content, reply.name)
        if reply.site != self.site or wrong_content or (version and reply.version != version):
            raise TrustError("The location reply is about another site, content or version than was asked for.")
        self._check(reply.device, f"location:{reply.content}", reply.fresh)
        if reply.trust_number > self._trust.document.number:  # the content may be signed with a key that is new in it
            await self.refresh_trust()
        return reply

    async def policy(self) -> Policy:
        """What this device is to do.

        Raises:
            TrustError: the policy is not to be believed; ReplayError when it is old.
            UnavailableError: no answer.
        """
        document = await self._ask("GET", "/mp/policy", b"")
        policy = from_json(await self._verified(document, SignedType.POLICY), Policy, "policy")
        self._check(policy.device, "policy", policy.fresh)
        return policy

    async def report(self, report: DownloadReport) -> None:
        """Tell how a download went.

        Raises:
            EntrepotError: it was not taken.
        """
        await self._ask("POST", "/mp/reports", to_json(report))

    async def _ask(self, method: str, path: str, body: bytes) -> bytes:
        assertion = make_device_assertion(
            self._identity.key,
            device=self._identity.device,
            site=self.site,
            body=body,
            now=self._clock(),
            jti=self._draw(),
        )
        headers = {"Content-Type": "application/json"} if body else {}
        try:
            reply = await self._http.request(
                method, self._url + path, body=body or None, bearer=assertion, headers=headers, limit=_MAX_REPLY
            )
        except UnauthenticatedError as error:
            raise UnauthenticatedError(
                error.message,
                next_step=error.next_step or "Check that the device is approved and this computer's clock.",
            ) from error
        return reply.body.strip()

    async def _verified(self, document: bytes, typ: SignedType) -> bytes:
        """Payload of a reply; an unknown key is looked up once in the site's present trust document."""
        try:
            return self._verify(document, typ)
        except TrustError:
            if not await self.refresh_trust():
                raise
        return self._verify(document, typ)

    def _verify(self, document: bytes, typ: SignedType) -> bytes:
        found = self._trust.ring.verify(document, typ=typ, role=Role.POLICY, now=self._clock(), site=self.site)
        return found.payload

    def _check(self, device: str, subject: str, fresh: Freshness) -> None:
        if device != self._identity.device:
            raise TrustError("The reply is meant for another device.")
        epoch = self._trust.document.epoch
        self._seen.accept(subject, fresh, now=self._clock(), minimum_epoch=epoch)

    def verify_content(self, document: bytes, typ: SignedType) -> bytes:
        """Payload of a signed manifest root or delta root of this site or another one of the hierarchy.

        Raises:
            TrustError, FormatError: it is not to be believed.
        """
        found = self._trust.ring.verify(document, typ=typ, role=Role.MANIFEST, now=self._clock())
        return found.payload


def open_trust(home: Home, fingerprint: bytes) -> TrustStore:
    """The trust store of a home.

    Raises:
        TrustError: it pins another root.
        FormatError: it is damaged.
    """
    return TrustStore(home.trust, fingerprint=fingerprint)
