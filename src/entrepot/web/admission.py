"""Who gets in at the object plane: addresses and devices within their limits, with tokens that are good."""

import time
from typing import Final

from entrepot.core.errors import EntrepotError, ForbiddenError, LimitedError, UnauthenticatedError
from entrepot.core.ids import ObjectId
from entrepot.protocol.control import AddressLimits, GatewaySettings
from entrepot.web.addresses import AddressGate, AddressOf, peer_address
from entrepot.web.asgi import Scope
from entrepot.web.bearer import bearer_token
from entrepot.web.downloads import Downloads
from entrepot.web.grants import Authoriser, Grant
from entrepot.web.throttle import Throttle

_BEARER: Final = b"Bearer "


class Admission:
    """Decides about each request before anything is read for it.

    Args:
        authorise: judges tokens.
        downloads: what runs, with the limits of how many may.
        address_of: whose address a request comes from.

    Attributes:
        gate: limits of addresses.
        device_rate: requests a second that one device may make; 0 means no limit.
    """

    def __init__(self, authorise: Authoriser, downloads: Downloads, address_of: AddressOf = peer_address) -> None:
        self._authorise = authorise
        self._downloads = downloads
        self._throttle = Throttle()
        self.address_of = address_of
        self.gate = AddressGate()
        self.device_rate = 0.0

    def obey(self, settings: GatewaySettings) -> None:
        """Take over the limits that a control document sets."""
        self.device_rate = settings.device_requests_per_second
        self.gate.limits = settings.addresses or AddressLimits()
        self._downloads.minimum_rate = settings.minimum_rate
        self._downloads.most_of_address = self.gate.limits.downloads

    async def client(self, scope: Scope, object_id: ObjectId, address: str, *, now: float) -> Grant:
        """A client's grant.

        Args:
            now: seconds on a clock that never goes back.

        Raises:
            LimitedError: its device or its address asks too often, or the address has shown too many tokens that were
                not good.
            EntrepotError: as :meth:`Authoriser.client`.
        """
        self.gate.enter(address, now=now)
        try:
            token = bearer_token(scope)
            try:
                self.gate.trust(address, now=now)
            except LimitedError:
                if not self._authorise.knows(token):
                    raise
            grant = await self._grant(token, object_id)
        except (UnauthenticatedError, ForbiddenError):
            self.gate.failed(address, now=now)
            raise
        self._throttle.take(grant.device, rate=self.device_rate, now=now)
        return grant

    def at_once(self, authorization: bytes, object_id: ObjectId, address: str, *, now: float) -> Grant | None:
        """As :meth:`client`, where that needs no waiting and refuses no token; None otherwise, and nothing is counted.

        Args:
            authorization: value of the header.

        Raises:
            LimitedError: its device or its address asks too often.
        """
        if not authorization.startswith(_BEARER):
            return None
        grant = self._authorise.at_once(authorization[len(_BEARER) :], object_id)
        if grant is not None:
            self.gate.enter(address, now=now)
            self._throttle.take(grant.device, rate=self.device_rate, now=now)
        return grant

    async def site(self, scope: Scope) -> None:
        """The site's own. Failures count, but do not keep it out: it must reach a point whatever others at
        its address do.

        Raises:
            LimitedError: it is refused, and its address asks too often.
            EntrepotError: as :meth:`Authoriser.site`.
        """
        try:
            await self._authorise.site(bearer_token(scope))
        except EntrepotError as error:
            if isinstance(error, UnauthenticatedError | ForbiddenError):
                self.gate.failed(self.address_of(scope), now=time.monotonic())
            self.nobody(scope)
            raise

    def nobody(self, scope: Scope) -> None:
        """Count a request that nobody is asked about, since it cannot be answered well.

        Raises:
            LimitedError: its address asks too often.
        """
        self.gate.enter(self.address_of(scope), now=time.monotonic())

    async def _grant(self, token: str, object_id: ObjectId) -> Grant:
        """Authorise; again when something was cut meanwhile, since the answer may be older than the cut."""
        while True:
            generation = self._downloads.generation
            grant = await self._authorise.client(token, object_id)
            if generation == self._downloads.generation:
                return grant
