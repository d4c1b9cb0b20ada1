"""From a cloud point to its provider and its store."""

import contextlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

import msgspec
import structlog
from sqlalchemy import Connection

from entrepot.core.errors import EntrepotError, IntegrityError, TrustError, UnavailableError
from entrepot.core.secret import Secret
from entrepot.core.times import DAY, Clock
from entrepot.database import cloud, clouddetails
from entrepot.database.cloud import CloudPoint, ManagementCertificate
from entrepot.database.engine import Database
from entrepot.protocol.cloudapi import CloudAccount, UploadSchedule
from entrepot.site.cloud.metering import Meter, MeteredHolder
from entrepot.site.cloud.states import TRANSFERS
from entrepot.site.cloud.uploading import PacedHolder, Pacer
from entrepot.site.cloudport import Cloud, CloudConnection, ProviderFactory
from entrepot.trust.vault import ServerVault

if TYPE_CHECKING:
    from entrepot.web.dataplane import Holder

UNUSED_SECONDS: Final = DAY
"""A provider that nobody asked for so long has no work under way either: the longest is a large transfer."""

log = structlog.get_logger("site.cloud")


def management_secret(certificate_id: str) -> str:
    """The name under which a management certificate's key is sealed."""
    return f"management-certificate/{certificate_id}"


def registry_secret(point: str) -> str:
    """The name under which the password of an image registry is sealed."""
    return f"registry-password/{point}"


def service_secret(point: str) -> str:
    """The name under which a service certificate's key is sealed."""
    return f"service-certificate/{point}"


class _Kept(msgspec.Struct, kw_only=True):
    """A provider, and when it was last asked for."""

    cloud: Cloud
    asked: float


class Providers:
    """Makes providers from what the database knows, and keeps them: each has its own connections and tokens.

    A changed subscription, certificate or option makes another provider; the old one works on for whoever has it, and
    :meth:`tidy` closes it when nobody can have it any more.

    Args:
        factory: wired by the command line; None where this process was given no clouds.
        mark: the hierarchy root's public key, which marks the hierarchy's services.
    """

    def __init__(
        self,
        database: Database,
        vault: ServerVault,
        factory: ProviderFactory | None,
        meter: Meter,
        *,
        clock: Clock,
        mark: bytes = b"",
    ) -> None:
        self._database = database
        self._vault = vault
        self._factory = factory
        self._meter = meter
        self._mark = mark
        self._clock = clock
        self._made: dict[tuple[object, ...], _Kept] = {}
        self._pacers: dict[str, Pacer] = {}

    async def of(self, point: CloudPoint) -> Cloud:
        """The provider of a cloud point.

        Raises:
            TrustError: the management certificate's key does not open here: import it again (R39).
            UnavailableError: no clouds are wired.
            BadInputError: a provider that is not known.
        """
        certificate = await self._database.read(cloud.certificate, point.management_certificate)
        account = await self.account_of(point)
        return self._kept(account, certificate)

    async def account_of(self, point: CloudPoint) -> CloudAccount:
        """The subscription of a cloud point, with everything that opens it but the management certificate's key.

        Raises:
            TrustError: the registry's password was sealed to another server.
        """
        kept = await self._database.read(clouddetails.detail, point.point)
        azure = kept.azure
        if azure is not None and kept.sealed_secret:
            password = self._open(registry_secret(point.point), kept.sealed_secret, "password of the image registry")
            azure = msgspec.structs.replace(azure, registry_password=password.reveal_text())
        return CloudAccount(
            subscription=point.subscription,
            management_certificate=point.management_certificate,
            provider=point.provider,
            host_url=point.host_url,
            host_pin=point.host_pin,
            host_next_pin=point.host_next_pin,
            region=point.region,
            azure=azure,
        )

    async def of_account(self, account: CloudAccount) -> Cloud:
        """The provider of a subscription, whether a cloud point uses it or not.

        Raises:
            NotFoundError: no such management certificate.
            EntrepotError: as :meth:`of`.
        """
        certificate = await self._database.read(cloud.certificate, account.management_certificate)
        return self._kept(account, certificate)

    def _kept(self, account: CloudAccount, certificate: ManagementCertificate) -> Cloud:
        pins = (account.host_pin.lower(), account.host_next_pin.lower())
        where = (account.provider, account.host_url.rstrip("/"), account.subscription)
        key = (*where, *pins, certificate.thumbprint, account.region, account.azure)
        if key not in self._made:
            made = self.connect(account, certificate.certificate, self.open_management_key(certificate))
            self._made[key] = _Kept(cloud=made, asked=0)
        kept = self._made[key]
        kept.asked = self._clock()
        return kept.cloud

    def connect(self, account: CloudAccount, certificate: bytes, private_key: Secret) -> Cloud:
        """A provider of its own, which the caller closes: to try a certificate before it is kept.

        Raises:
            UnavailableError: no clouds are wired.
            BadInputError: a provider that is not known, or that cannot be reached so.
        """
        if self._factory is None:
            raise UnavailableError("This server was started without cloud providers.")
        return self._factory(
            CloudConnection(
                provider=account.provider,
                url=account.host_url.rstrip("/"),
                pin=bytes.fromhex(account.host_pin),
                next_pin=bytes.fromhex(account.host_next_pin),
                subscription=account.subscription,
                certificate=certificate,
                private_key=private_key,
                region=account.region,
                azure=account.azure,
                mark=self._mark,
            )
        )

    async def close(self) -> None:
        """Give the connections of the providers back, where they have any."""
        made, self._made = self._made, {}
        await _close_all(made.values())

    async def tidy(self, points: Sequence[CloudPoint]) -> None:
        """Close the providers of accounts that are none any more, and forget how fast deleted points were sent to.

        Args:
            points: all cloud points of the site; their providers stay.
        """
        for point in points:
            with contextlib.suppress(EntrepotError):  # one that cannot be made is not kept either
                await self.of(point)
        oldest = self._clock() - UNUSED_SECONDS
        # taken out all at once, before anything is awaited: what is to be closed can no more be handed out
        unused = [self._made.pop(key) for key, kept in list(self._made.items()) if kept.asked < oldest]
        await _close_all(unused)
        there = {point.point for point in points}
        self._pacers = {point: pacer for point, pacer in self._pacers.items() if point in there}

    def open_management_key(self, certificate: ManagementCertificate) -> Secret:
        """The private key of a management certificate.

        Raises:
            TrustError: it was sealed to another server.
        """
        what = f"key of the management certificate {certificate.name}"
        return self._open(management_secret(certificate.id), certificate.sealed_key, what)

    def open_service_key(self, point: CloudPoint) -> Secret:
        """The private key of a cloud point's service certificate.

        Raises:
            TrustError: it was sealed to another server.
        """
        return self._open(
            service_secret(point.point), point.sealed_key, f"key of the service certificate of {point.name}"
        )

    def _open(self, name: str, sealed: bytes, what: str) -> Secret:
        try:
            return self._vault.open(name, sealed)
        except IntegrityError:
            raise TrustError(
                f"The {what} does not open on this server.",
                next_step="After a restore onto another computer, import certificates and passwords again.",
            ) from None

    async def store_of(self, point: CloudPoint) -> "Holder":
        """The store of a cloud point, whatever its state."""
        provider = await self.of(point)
        holder = provider.holder(point.service, fetched=self._meter.fetching(point.point))
        return MeteredHolder(holder, point.point, self._meter)

    async def holder(self, point_id: str) -> "Holder":
        """A ``HolderSource`` (site.cloudport): the store as the distribution engine may use it (R8, R27).

        Raises:
            NotFoundError: there is no such cloud point.
            UnavailableError: it is being created or deleted.
        """
        point = await self._database.read(_by_id, point_id)
        if point.state not in TRANSFERS or not point.address:
            raise UnavailableError(f"The cloud point {point.name} takes no content: it is {point.state.value}.")
        kept = await self._database.read(clouddetails.detail, point_id)
        pacer = self._pacers.setdefault(point_id, Pacer(kept.upload))
        pacer.schedule = kept.upload
        return PacedHolder(await self.store_of(point), point.name, pacer)

    def pace(self, point_id: str, schedule: UploadSchedule) -> None:
        """Let uploads that are running obey a schedule that was changed."""
        if pacer := self._pacers.get(point_id):
            pacer.schedule = schedule


async def _close_all(unused: Iterable[_Kept]) -> None:
    for kept in unused:
        try:
            await close_provider(kept.cloud)
        except Exception as error:  # noqa: BLE001  # whatever its adapter meets, the others are closed all the same
            log.warning("provider_not_closed", error=str(error))


async def close_provider(provider: Cloud) -> None:
    """Give its connections back, if it has any."""
    close = getattr(provider, "close", None)  # not in the port: only some adapters hold connections
    if close is not None:
        await close()


def _by_id(connection: Connection, point_id: str) -> CloudPoint:
    return cloud.get_cloud_point(connection, point_id)
