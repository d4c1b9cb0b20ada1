"""From a cloud point to its provider and its store, and what the site sends there, metered (R25)."""

import threading
from typing import TYPE_CHECKING

from sqlalchemy import Connection

from entrepot.core.errors import IntegrityError, TrustError, UnavailableError
from entrepot.core.ids import ObjectId
from entrepot.core.secret import Secret
from entrepot.core.times import Clock, hour_of
from entrepot.database import cloud, usage
from entrepot.database.cloud import CloudPoint, ManagementCertificate
from entrepot.database.engine import Database
from entrepot.protocol.dataplane import MAX_DOCUMENT_BYTES, PAGE, DocumentPage, ObjectPage
from entrepot.site.cloud.states import TRANSFERS
from entrepot.site.cloudport import CloudConnection, CloudProvider, ProviderFactory
from entrepot.trust.vault import ServerVault

if TYPE_CHECKING:
    from collections.abc import Sequence

    from entrepot.web.dataplane import Count, Holder, Pieces


def management_secret(certificate_id: str) -> str:
    """The name under which a management certificate's key is sealed."""
    return f"management-certificate/{certificate_id}"


def service_secret(point: str) -> str:
    """The name under which a service certificate's key is sealed."""
    return f"service-certificate/{point}"


class Meter:
    """Counts bytes that the site sends to cloud points; :meth:`flush` writes them down hour by hour.

    Counting happens in memory, so a SIGKILL loses what was counted since the last flush (a second's worth).
    """

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._lock = threading.Lock()
        self._counted: dict[tuple[str, int], int] = {}

    def add(self, point: str, count: int) -> None:
        """Count bytes; from any thread."""
        key = (point, hour_of(self._clock()))
        with self._lock:
            self._counted[key] = self._counted.get(key, 0) + count

    def flush(self) -> None:
        """Write down what was counted. What cannot be written stays counted."""
        with self._lock:
            counted, self._counted = self._counted, {}
        if not counted:
            return
        try:
            with self._database.transaction() as connection:
                for (point, hour), count in sorted(counted.items()):
                    usage.add_to_hour(connection, point, hour, uploaded=count)
        except BaseException:
            with self._lock:
                for key, count in counted.items():
                    self._counted[key] = self._counted.get(key, 0) + count
            raise


class MeteredHolder:
    """A holder whose uploads are counted."""

    def __init__(self, inner: "Holder", point: str, meter: Meter) -> None:
        self._inner = inner
        self._point = point
        self._meter = meter

    def _counting(self, also: "Count | None") -> "Count":
        def count(amount: int) -> None:
            self._meter.add(self._point, amount)
            if also is not None:
                also(amount)

        return count

    async def missing(self, ids: "Sequence[ObjectId]") -> list[ObjectId]:
        """See :class:`entrepot.web.dataplane.Holder`; what is asked travels too."""
        self._meter.add(self._point, sum(len(object_id) for object_id in ids))
        return await self._inner.missing(ids)

    async def put(self, object_id: ObjectId, size: int, pieces: "Pieces", *, count: "Count | None" = None) -> None:
        """See :class:`entrepot.web.dataplane.Holder`."""
        await self._inner.put(object_id, size, pieces, count=self._counting(count))

    async def delete(self, object_id: ObjectId) -> None:
        """See :class:`entrepot.web.dataplane.Holder`."""
        await self._inner.delete(object_id)

    async def page(self, after: ObjectId | None = None, limit: int = PAGE) -> ObjectPage:
        """See :class:`entrepot.web.dataplane.Holder`."""
        return await self._inner.page(after, limit)

    async def put_document(self, key: str, data: bytes, *, count: "Count | None" = None) -> None:
        """See :class:`entrepot.web.dataplane.Holder`."""
        await self._inner.put_document(key, data, count=self._counting(count))

    async def get_document(self, key: str, limit: int = MAX_DOCUMENT_BYTES) -> bytes:
        """See :class:`entrepot.web.dataplane.Holder`."""
        return await self._inner.get_document(key, limit)

    async def delete_document(self, key: str) -> None:
        """See :class:`entrepot.web.dataplane.Holder`."""
        await self._inner.delete_document(key)

    async def list_documents(self, prefix: str = "", after: str = "", limit: int = PAGE) -> DocumentPage:
        """See :class:`entrepot.web.dataplane.Holder`."""
        return await self._inner.list_documents(prefix, after, limit)


class Providers:
    """Makes providers from what the database knows, and keeps them: each has its own connections and tokens.

    Args:
        factory: wired by the command line; None where this process was given no clouds.
    """

    def __init__(self, database: Database, vault: ServerVault, factory: ProviderFactory | None, meter: Meter) -> None:
        self._database = database
        self._vault = vault
        self._factory = factory
        self._meter = meter
        self._made: dict[tuple[str, str, str, str, str], CloudProvider] = {}

    async def of(self, point: CloudPoint) -> CloudProvider:
        """The provider of a cloud point.

        Raises:
            TrustError: the management certificate's key does not open here: import it again (R39).
            UnavailableError: no clouds are wired.
            BadInputError: a provider that is not known.
        """
        certificate = await self._database.read(cloud.certificate, point.management_certificate)
        key = (point.provider, point.host_url, point.host_pin, point.subscription, certificate.thumbprint)
        if key not in self._made:
            if self._factory is None:
                raise UnavailableError("This server was started without cloud providers.")
            self._made[key] = self._factory(
                CloudConnection(
                    provider=point.provider,
                    url=point.host_url,
                    pin=bytes.fromhex(point.host_pin),
                    subscription=point.subscription,
                    certificate=certificate.certificate,
                    private_key=self.open_management_key(certificate),
                )
            )
        return self._made[key]

    async def close(self) -> None:
        """Give the connections of the providers back, where they have any."""
        made, self._made = self._made, {}
        for provider in made.values():
            close = getattr(provider, "close", None)  # not in the port: only some adapters hold connections
            if close is not None:
                await close()

    def open_management_key(self, certificate: ManagementCertificate) -> Secret:
        """The private key of a management certificate.

        Raises:
            TrustError: it was sealed to another server.
        """
        try:
            return self._vault.open(management_secret(certificate.id), certificate.sealed_key)
        except IntegrityError:
            raise TrustError(
                f"The key of the management certificate {certificate.name} does not open on this server.",
                next_step="After a restore onto another computer, import its .pfx file again.",
            ) from None

    def open_service_key(self, point: CloudPoint) -> Secret:
        """The private key of a cloud point's service certificate.

        Raises:
            TrustError: it was sealed to another server.
        """
        try:
            return self._vault.open(service_secret(point.point), point.sealed_key)
        except IntegrityError:
            raise TrustError(
                f"The key of the service certificate of {point.name} does not open on this server.",
                next_step="After a restore onto another computer, import its .pfx file again.",
            ) from None

    async def store_of(self, point: CloudPoint) -> "Holder":
        """The store of a cloud point, whatever its state."""
        provider = await self.of(point)
        return MeteredHolder(provider.holder(point.service), point.point, self._meter)

    async def holder(self, point_id: str) -> "Holder":
        """A ``HolderSource`` (site.cloudport): the store as the distribution engine may use it (R8, R27).

        Raises:
            NotFoundError: there is no such cloud point.
            UnavailableError: it is being created or deleted.
        """
        point = await self._database.read(_by_id, point_id)
        if point.state not in TRANSFERS or not point.address:
            raise UnavailableError(f"The cloud point {point.name} takes no content: it is {point.state.value}.")
        return await self.store_of(point)


def _by_id(connection: Connection, point_id: str) -> CloudPoint:
    return cloud.get_cloud_point(connection, point_id)
