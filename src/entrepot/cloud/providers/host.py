"""The site's adapter to a cloud host: its management API, authenticated by the management certificate (R3).

The host is recognised by the pinned SHA-256 of its TLS certificate, and by nothing else; while it announces a next one,
by either. Access tokens are kept until shortly before they expire; one that is refused early (the certificate was
revoked, the host was restored) is replaced once, then the refusal stands.
"""

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Final, Self, TypeVar
from urllib.parse import quote, urlsplit

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from entrepot.cloud.oauth import FORM_TYPE, TOKEN_PATH, token_form
from entrepot.core.encoding import from_json
from entrepot.core.errors import BadInputError, ConflictError, NotFoundError, UnauthenticatedError
from entrepot.core.secret import Secret
from entrepot.core.times import Clock
from entrepot.protocol.cloudapi import MACHINE, CloudMetrics, PlannedResource
from entrepot.protocol.cloudhost import AccessToken, Remains, Scale, ServiceSpec, ServiceStatus, Subscription
from entrepot.trust.assertions import make_client_assertion
from entrepot.trust.inspection import PrivateKey, load_cer
from entrepot.web.answers import Count, uncounted
from entrepot.web.dataplane import Holder, HttpHolder
from entrepot.web.http import HttpClient, Timeouts
from entrepot.web.tls import TlsTrust

T = TypeVar("T")
MONTH_HOURS: Final = 730
EARLY_SECONDS: Final = 60
"""A token is replaced this long before it expires, so that none expires on its way."""
_CALL: Final = Timeouts(total=60.0)
Progress = Callable[[str], None]
_DELETE: Final = Timeouts(stall=600.0, total=900.0)


def _unwatched(_: str) -> None:
    """Nobody looks."""


class HostProvider:
    """One subscription of one cloud host. Use as an async context manager, or :meth:`close` it.

    Args:
        url: the host's base address, exactly as it is configured there.
        pin: SHA-256 of its TLS certificate (DER), 32 bytes.
        next_pin: that of the next one, which the host has announced; empty: none.
        subscription: its id.
        certificate: the management certificate, DER or PEM.
        private_key: its key, PEM PKCS#8.
        proxy: URL of an HTTP proxy on the way out, if any.

    Raises:
        BadInputError: certificate, key or pin cannot be used.
    """

    def __init__(
        self,
        *,
        url: str,
        pin: bytes,
        subscription: str,
        certificate: bytes,
        private_key: Secret,
        next_pin: bytes = b"",
        proxy: str | None = None,
        clock: Clock = time.time,
    ) -> None:
        self._url = url.rstrip("/")
        self._subscription = subscription
        self._certificate = load_cer(certificate)
        self._key = _load_key(private_key)
        self._http = HttpClient(TlsTrust.pinned(*filter(None, (pin, next_pin))), proxy=proxy)
        self._knows = f"?knows={next_pin.hex()}" if next_pin else ""
        self._clock = clock
        self._token: tuple[Secret, float] | None = None
        self._asking = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections. Idempotent."""
        await self._http.close()

    async def check(self) -> Subscription:
        """The subscription as it is now: proves address, pin, certificate and subscription at once (R1).

        The host is told which next pin is known here.
        """
        return await self._call("GET", f"/{self._knows}", None, Subscription)

    async def create(self, service: str, spec: ServiceSpec, progress: Progress = _unwatched) -> ServiceStatus:
        """Create the service, or bring it to ``spec`` (also renews its certificate); stopped stays stopped."""
        progress("Sending the specification to the cloud host")
        return await self._call("PUT", _path(service), spec, ServiceStatus)

    async def status(self, service: str) -> ServiceStatus:
        """The service as it is now."""
        return await self._call("GET", _path(service), None, ServiceStatus)

    async def services(self) -> list[ServiceStatus]:
        """All services of the subscription, by name: also those that no site knows any more."""
        return await self._call("GET", "/services", None, list[ServiceStatus])

    async def start(self, service: str, progress: Progress = _unwatched) -> ServiceStatus:
        """Serve clients; nothing happens when it does already."""
        progress("Sending the order to the cloud host")
        return await self._call("POST", _path(service) + "/start", None, ServiceStatus)

    async def stop(self, service: str, progress: Progress = _unwatched) -> ServiceStatus:
        """Cut clients off at once; content stays, the store endpoint goes on (R27)."""
        progress("Sending the order to the cloud host")
        return await self._call("POST", _path(service) + "/stop", None, ServiceStatus)

    async def scale(self, service: str, instances: int, progress: Progress = _unwatched) -> ServiceStatus:
        """Run so many instances; running downloads go on (R12)."""
        progress("Sending the order to the cloud host")
        return await self._call("POST", _path(service) + "/scale", Scale(instances=instances), ServiceStatus)

    async def delete(self, service: str, progress: Progress = _unwatched) -> Remains:
        """Remove the service and all it stored, and say what is left; a service that is gone leaves nothing (R40)."""
        progress("Sending the order to the cloud host")
        try:
            return await self._call("DELETE", _path(service), None, Remains, timeouts=_DELETE)
        except NotFoundError:
            await self.check()  # it is the service that does not exist, not the subscription
            return Remains(left=())

    async def plan(self, service: str, point: str, instances: int) -> Sequence[PlannedResource]:
        """What the service is made of, and the machine that it runs on, which is paid for whether it runs services or
        not, at a price that whoever rents it knows.

        Raises:
            ConflictError: another point has a service of that name.
        """
        try:
            other = (await self.status(service)).point
        except NotFoundError:
            other = point
        if other != point:
            raise ConflictError(
                f"The subscription has a service named {service} already, of {other}.", next_step="Choose another name."
            )
        return (
            PlannedResource(kind="the host's machine", name=urlsplit(self._url).hostname or "", meter=MACHINE),
            PlannedResource(
                kind="gateway instance",
                name=service,
                meter="instance_hour",
                unit="instance-hour",
                quantity=instances * MONTH_HOURS,
                stays=False,
            ),
            PlannedResource(kind="stored content", name=f"{service}/store", meter="storage_gb_month", unit="GB-month"),
            PlannedResource(kind="transfers to clients", name=service, meter="egress_gb", unit="GB", stays=False),
        )

    async def metrics(self, service: str, since: int, until: int) -> CloudMetrics:
        """What the host measures now; it keeps no history, and transfers are counted by the gateways' records only."""
        status = await self.status(service)
        return CloudMetrics(
            stored_bytes=status.stored_bytes,
            stored_objects=status.stored_objects,
            egress_bytes=None,
            since=since,
            until=until,
        )

    def holder(self, service: str, *, fetched: Count = uncounted) -> Holder:
        """The store endpoint of the service, as the distribution engine uses points (no I/O yet)."""
        return HttpHolder(self._http, f"{self._account}{_path(service)}/store", self._bearer, fetched=fetched)

    @property
    def _account(self) -> str:
        return f"{self._url}/subscriptions/{quote(self._subscription, safe='')}"

    async def _call(
        self, method: str, path: str, body: object | None, reply: type[T], *, timeouts: Timeouts = _CALL
    ) -> T:
        for attempt in (1, 2):
            token = await self._bearer()
            try:
                return await self._http.request_json(
                    method, self._account + path, body, reply, bearer=token, timeouts=timeouts
                )
            except UnauthenticatedError:
                if attempt == 2:
                    raise
                self._forget(token)
        raise AssertionError("unreachable")

    async def _bearer(self) -> Secret:
        """An access token that is valid now; concurrent callers share one request."""
        async with self._asking:
            if self._token is None or self._clock() >= self._token[1]:
                self._token = await self._fetch_token()
            return self._token[0]

    def _forget(self, token: Secret) -> None:
        if self._token is not None and self._token[0] is token:
            self._token = None

    async def _fetch_token(self) -> tuple[Secret, float]:
        now = self._clock()
        audience = self._url + TOKEN_PATH
        assertion = make_client_assertion(
            self._key, self._certificate, self._subscription, audience, now, secrets.token_urlsafe(16)
        )
        answer = await self._http.request(
            "POST",
            audience,
            body=token_form(self._subscription, assertion),
            headers={"Content-Type": FORM_TYPE, "Accept": "application/json"},
            limit=16 * 1024,
        )
        token = from_json(answer.body, AccessToken, "access token")
        return Secret(token.access_token), now + max(1, token.expires_in - EARLY_SECONDS)


def _path(service: str) -> str:
    return f"/services/{quote(service, safe='')}"


def _load_key(private_key: Secret) -> PrivateKey:
    try:
        key = load_pem_private_key(private_key.reveal(), None)
    except (ValueError, TypeError):
        raise BadInputError("The management certificate's private key cannot be read.") from None
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise BadInputError("The management certificate's key is neither RSA nor elliptic-curve.")
    return key
