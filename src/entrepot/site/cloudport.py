"""The port to clouds: what a site needs of whoever runs cloud services, named for the need.

``entrepot.cloud.providers`` has adapters of this shape; the command line wires them, because sites and clouds are
strangers to each other. Every method is asynchronous, idempotent, safe to repeat after a crash in the middle, and
bounded
in time. Errors: ``UnavailableError`` (retryable), ``UnauthenticatedError`` and ``ForbiddenError`` (certificate or
subscription), ``TrustError`` (the cloud is not the pinned one), ``NotFoundError`` (no such service), ``QuotaError``,
``RefusedError``.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import msgspec

from entrepot.core.secret import Secret
from entrepot.protocol.cloudapi import AzureOptions, CloudMetrics, PlannedResource
from entrepot.protocol.cloudhost import Remains, ServiceSpec, ServiceStatus, Subscription
from entrepot.web.answers import Count, uncounted

if TYPE_CHECKING:
    from entrepot.web.dataplane import Holder


class CloudConnection(msgspec.Struct, frozen=True, kw_only=True):
    """How to reach a subscription: the management certificate authenticates, the pin identifies the cloud.

    ``pin`` is SHA-256 of the cloud host's TLS certificate (DER, 32 bytes), ``next_pin`` that of the next one that the
    host has announced, or empty; ``certificate`` DER; ``private_key`` PEM
    PKCS#8. ``region`` and ``azure`` are for clouds that have them; ``mark`` is the hierarchy root's public key, which
    tells the hierarchy's services from others.
    """

    provider: str
    url: str
    pin: bytes
    subscription: str
    certificate: bytes
    private_key: Secret
    region: str = ""
    azure: AzureOptions | None = None
    mark: bytes = b""
    next_pin: bytes = b""


Progress = Callable[[str], None]
"""Told what is being done, from any thread; raises ``CancelledError`` when the work is to stop before that."""


def unwatched(_: str) -> None:
    """Nobody looks."""


class CloudProvider(Protocol):
    """One subscription of one cloud."""

    async def check(self) -> Subscription:
        """The subscription as it is now: proves address, pin, certificate and subscription at once (R1)."""

    async def create(self, service: str, spec: ServiceSpec, progress: Progress = unwatched) -> ServiceStatus:
        """Create the service, or bring it to ``spec`` (also renews its certificate); stopped stays stopped."""

    async def status(self, service: str) -> ServiceStatus:
        """The service as it is now."""

    async def start(self, service: str, progress: Progress = unwatched) -> ServiceStatus:
        """Serve clients; nothing happens when it does already."""

    async def stop(self, service: str, progress: Progress = unwatched) -> ServiceStatus:
        """Cut clients off at once; content stays, the store endpoint goes on (R27)."""

    async def scale(self, service: str, instances: int, progress: Progress = unwatched) -> ServiceStatus:
        """Run so many instances; running downloads go on (R12)."""

    async def delete(self, service: str, progress: Progress = unwatched) -> Remains:
        """Remove the service and all it stored, and say what is left; a service that is gone leaves nothing (R40)."""

    def holder(self, service: str, *, fetched: Count = uncounted) -> "Holder":
        """The store endpoint of the service, as the distribution engine uses points (no I/O yet).

        Args:
            fetched: told, from any thread, of bytes that come from there: the cloud charges them as egress.
        """


class CloudInventory(Protocol):
    """What there is in a subscription, and what a service there is made of. Reads only."""

    async def services(self) -> list[ServiceStatus]:
        """All services of the subscription that carry a mark of ours, also those that no site knows any more."""

    async def plan(self, service: str, point: str, instances: int) -> Sequence[PlannedResource]:
        """What the service is, or would be, made of, without prices. Checks what can be checked without creating.

        Raises:
            ConflictError: a name that it needs is taken.
        """

    async def metrics(self, service: str, since: int, until: int) -> CloudMetrics:
        """What the cloud itself counted between two moments (seconds since 1970)."""


class Cloud(CloudProvider, CloudInventory, Protocol):
    """Both, as every adapter has them."""


ProviderFactory = Callable[[CloudConnection], Cloud]
"""Makes the adapter for a connection; the command line passes it to the site. Raises ``BadInputError`` for a provider
that is not known."""

HolderSource = Callable[[str], Awaitable["Holder"]]
"""Gives the data plane of a distribution point by its id, ready to use; raises ``UnavailableError`` while it cannot be
reached (not enrolled, being created), ``NotFoundError`` when there is no such point."""
