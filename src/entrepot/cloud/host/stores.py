"""The store endpoint: each service's objects and documents, for its site, also while the service is stopped (R27).

The object plane of ``web`` over the service's store, a folder or a prefix in S3 or Azure Blob. The caller was
authorised by the management API before it gets here; clients never get here, so ``GET /objects/{id}`` is not served. A
stored ``control`` or ``trust`` document is passed on to the instances at once.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any

import structlog

from entrepot.cloud.host.services import ServiceRow, Services, Wanted
from entrepot.cloud.host.storage import HostStorage
from entrepot.cloud.host.subscriptions import Subscriptions
from entrepot.cloud.host.usage import CountingStore, Usage
from entrepot.cloud.storage import ServiceStore
from entrepot.core.errors import ConflictError, EntrepotError, ForbiddenError, NotFoundError
from entrepot.core.ids import ObjectId
from entrepot.core.times import DAY
from entrepot.objects.shelf import Shelf
from entrepot.protocol.control import CONTROL_KEY, TRUST_KEY
from entrepot.web.asgi import Receive, Scope, Send
from entrepot.web.grants import Grant
from entrepot.web.objects import ObjectPlane

_log = structlog.get_logger("entrepot.host")


class StoreEndpoints:
    """All services' stores. Belongs to the event loop.

    Args:
        signal: called with a service's id when its instances should look at their documents.
    """

    def __init__(
        self,
        storage: HostStorage,
        services: Services,
        subscriptions: Subscriptions,
        signal: Callable[[str], None],
    ) -> None:
        self._storage = storage
        self._services = services
        self._subscriptions = subscriptions
        self._signal = signal
        self._open: dict[str, _Open] = {}
        self._closed: set[str] = set()  # ids are never used again
        self._opening: dict[str, asyncio.Lock] = {}  # by subscription: one that is counted holds up no other

    async def usage(self, row: ServiceRow) -> Usage:
        """What a service stores now; of one that is being deleted, what was known last."""
        if row.state is Wanted.DELETING or row.id in self._closed:
            known = self._open.get(row.id)
            return known.store.usage if known else Usage()
        return (await self._endpoint(row)).store.usage

    async def serve(self, row: ServiceRow, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request of the site.

        Args:
            path: what follows ``/store``, beginning with a slash.

        Raises:
            ConflictError: the service is being deleted.
        """
        if row.state is Wanted.DELETING:
            raise ConflictError(f"The service {row.name!r} is being deleted.")
        endpoint = await self._endpoint(row)
        inner = dict(scope) | {"path": path, "raw_path": path.encode(), "root_path": ""}
        task = asyncio.current_task()
        assert task is not None
        endpoint.running.add(task)
        try:
            await endpoint.plane(inner, receive, send)
        finally:
            endpoint.running.discard(task)

    async def check_new(self, subscription: str, name: str) -> None:
        """Try the store out in which a new service would keep its content; nothing to do for one that exists.

        Raises:
            EntrepotError: the store cannot be opened, does not answer, or refuses.
        """
        try:
            await asyncio.to_thread(self._services.find, subscription, name)
        except NotFoundError:
            await asyncio.to_thread(self._storage.probe)

    async def recount(self) -> None:
        """Walk over all stores again; those far away, where it costs requests, once a day. What they cost is logged."""
        now = time.monotonic()
        for endpoint in list(self._open.values()):
            if endpoint.remote:
                endpoint.log_meter()
            if endpoint.remote and now < endpoint.counted + DAY:
                continue
            try:
                usage = await asyncio.to_thread(self._storage.measure, endpoint.row)
            except (EntrepotError, OSError) as error:
                _log.warning("usage.not_counted", service=endpoint.row.name, problem=str(error))
                continue
            endpoint.store.recount(usage)
            endpoint.counted = now

    async def note(self) -> None:
        """Keep all counts for the next start: nothing is stored any more."""
        for endpoint in self._open.values():
            if endpoint.remote:
                endpoint.log_meter()
            with contextlib.suppress(EntrepotError):  # then it is counted anew
                await asyncio.to_thread(self._storage.note, endpoint.row, endpoint.store.usage, final=True)

    async def note_changed(self) -> None:
        """Keep the counts that have changed, for those who look while the host runs. None is kept of a service whose
        removal has begun: that would bring its folder back."""
        for endpoint in list(self._open.values()):
            usage = endpoint.store.usage
            async with self._lock(endpoint.row.subscription):
                if usage == endpoint.noted or endpoint.row.id not in self._open:
                    continue
                try:
                    await asyncio.to_thread(self._storage.note, endpoint.row, usage, final=False)
                except EntrepotError as error:
                    _log.warning("usage.not_noted", service=endpoint.row.name, problem=str(error))
                    continue
                endpoint.noted = usage

    async def close(self, row: ServiceRow) -> None:
        """Break off the requests of a service that is being deleted; on return nothing of it is written any more."""
        async with self._lock(row.subscription):
            self._closed.add(row.id)
            endpoint = self._open.pop(row.id, None)
        if endpoint is None:
            return
        while endpoint.running:
            for task in endpoint.running:
                task.cancel()
            await asyncio.wait(set(endpoint.running))
        endpoint.plane.close()

    async def _endpoint(self, row: ServiceRow) -> "_Open":
        async with self._lock(row.subscription):
            if row.id not in self._open and row.id not in self._closed:
                # The others of the subscription too: they share its quota.
                self._open |= await asyncio.to_thread(self._make_all, row.subscription)
            found = self._open.get(row.id)
            if found is None:
                raise ConflictError(f"The service {row.name!r} is being deleted.")
            return found

    def _lock(self, subscription: str) -> asyncio.Lock:
        return self._opening.setdefault(subscription, asyncio.Lock())

    def _make_all(self, subscription: str) -> dict[str, "_Open"]:
        rows = [row for row in self._services.all(subscription) if row.state is not Wanted.DELETING]
        return {row.id: self._make(row) for row in rows if row.id not in self._open and row.id not in self._closed}

    def _make(self, row: ServiceRow) -> "_Open":
        opened = self._storage.open(row)
        store = CountingStore(opened.store, self._storage.known(row), lambda: self._allowance(row))
        guard = _Guard(lambda: self._signal(row.id))
        plane = ObjectPlane(Shelf(store, lookups=opened.lookups), _SiteOnly(), guard=guard)
        return _Open(row, store, plane, opened)

    def _allowance(self, row: ServiceRow) -> int:
        """Bytes that the subscription may still store, over all its services; negative when it has too many."""
        quota = self._subscriptions.find(row.subscription).storage_quota
        mine = {service.id for service in self._services.all(row.subscription)}
        used = sum(self._open[service_id].store.usage.charged for service_id in mine if service_id in self._open)
        return quota - used


class _Open:
    def __init__(self, row: ServiceRow, store: CountingStore, plane: ObjectPlane, opened: ServiceStore) -> None:
        self.row = row
        self.store = store
        self.plane = plane
        self.remote = opened.remote
        self.meter = opened.meter
        self.counted = time.monotonic()
        self.noted: Usage | None = None
        self.running: set[asyncio.Task[Any]] = set()

    def log_meter(self) -> None:
        """What the host itself has exchanged with the store since it opened it."""
        total = self.meter.total
        operations = {name: count.requests for name, count in self.meter.counts.items() if count.requests}
        _log.info("store.metered", service=self.row.name, sent=total.sent, received=total.received, requests=operations)


class _SiteOnly:
    """The management API has authorised the caller already."""

    async def client(self, token: str, object_id: ObjectId) -> Grant:  # noqa: ARG002  # the port's shape
        """Clients go to the gateways."""
        raise ForbiddenError("The store endpoint serves no clients.", next_step="Ask the service's own address.")

    def at_once(self, token: bytes, object_id: ObjectId) -> Grant | None:  # noqa: ARG002  # the port's shape
        """See :class:`~entrepot.web.grants.Authoriser`."""
        return None

    def knows(self, token: str) -> bool:  # noqa: ARG002  # the port's shape
        """See :class:`~entrepot.web.grants.Authoriser`."""
        return False

    async def site(self, token: str) -> None:
        """Checked before."""


class _Guard:
    """Passes changed documents on."""

    def __init__(self, signal: Callable[[], None]) -> None:
        self._signal = signal

    async def check(self, key: str, data: bytes) -> None:
        """Instances judge documents themselves: the host is not trusted to."""

    async def changed(self, key: str) -> None:
        """Tell the instances at once."""
        if key in (CONTROL_KEY, TRUST_KEY):
            self._signal()
