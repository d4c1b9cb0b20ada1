"""The port's face of the Azure adapter: asynchronous methods over the SDK's synchronous calls, in worker threads."""

import asyncio
import contextvars
import functools
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from obstore.store import AzureStore

from entrepot.cloud.providers.azure import bodies, look, names
from entrepot.cloud.providers.azure.account import AzureAccess, AzureAccount, Progress, watched
from entrepot.cloud.providers.azure.deployment import Deployment
from entrepot.cloud.providers.azure.errors import azure_errors
from entrepot.cloud.providers.azure.ownership import Claim
from entrepot.cloud.providers.azure.removal import Removal
from entrepot.cloud.providers.azure.storage import blob_endpoint
from entrepot.core.errors import BadInputError, NotFoundError
from entrepot.objects.receiving import ReceivingStore
from entrepot.objects.remote import RemoteStore
from entrepot.objects.retrying import RetryingStore
from entrepot.objects.shelf import Shelf
from entrepot.objects.store import ObjectStore
from entrepot.protocol.cloudapi import CloudMetrics, PlannedResource
from entrepot.protocol.cloudhost import Remains, ServiceSpec, ServiceStatus, Subscription
from entrepot.trust.inspection import expires, load_cer
from entrepot.web.answers import Count, uncounted
from entrepot.web.dataplane import Holder, ShelfHolder

MONTH_HOURS: Final = 730
MAX_REPLICAS: Final = 64
STORAGE_BOUND: Final = 5 * 10**15
"""A storage account's default bound, 5 PB."""
LOOKS: Final = 16
ORDERS: Final = 1000
"""Threads of its own for each subscription: what waits half an hour for Azure holds up nobody else's work, and no look.
Those for orders are made as they are needed, and there are more than a site carries out at the same time."""
STOPPED: Final = "Stopped"
UNDER_WAY: Final = "InProgress"
"""How Azure calls the state of an app of which an operation is under way."""
T = TypeVar("T")
OpenStore = Callable[[str, str, AzureAccount], ObjectStore]
"""Opens the container of a storage account (name, Blob address)."""


async def _in_thread(threads: ThreadPoolExecutor, work: Callable[..., T], *args: Any) -> T:
    call = functools.partial(contextvars.copy_context().run, work, *args)
    return await asyncio.get_running_loop().run_in_executor(threads, call)


def _unwatched(_: str) -> None:
    """Nobody looks."""


class AzureProvider:
    """One subscription of Azure (``site.cloudport.Cloud``).

    Args:
        open_store: how the container is opened; tests may put another store there.

    Raises:
        BadInputError: the management certificate is none that Azure takes.
    """

    def __init__(self, access: AzureAccess, *, open_store: OpenStore | None = None) -> None:
        self._account = AzureAccount(access)
        self._open = open_store or open_container
        self._stores: dict[str, _Found] = {}
        self._looks = ThreadPoolExecutor(LOOKS, thread_name_prefix="azure-look")
        self._orders = ThreadPoolExecutor(ORDERS, thread_name_prefix="azure-order")

    async def _run(self, work: Callable[..., T], *args: Any) -> T:
        """Do it in a thread of ours, as it does not take long."""
        return await _in_thread(self._looks, work, *args)

    async def _watched(self, progress: Progress, work: Callable[[], T]) -> T:
        """As :meth:`_run`, for work that may take long: ``progress`` is told, and may end it."""

        def told() -> T:
            with watched(progress):
                return work()

        return await _in_thread(self._orders, told)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Wake whoever waits for Azure, and close all connections. Idempotent."""
        await asyncio.to_thread(self._account.close)
        self._looks.shutdown(wait=False, cancel_futures=True)
        self._orders.shutdown(wait=False, cancel_futures=True)

    async def check(self) -> Subscription:
        """The subscription as it is now: proves certificate, tenant, application and subscription at once (R1)."""
        found, now = await self._run(self._account.subscription)
        state = str(found.get("state", "")).lower()
        access = self._account.access
        return Subscription(
            id=access.subscription,
            name=str(found.get("displayName", "")),
            state="active" if state in ("enabled", "warned", "pastdue") else state,
            region=access.region,
            storage_quota=STORAGE_BOUND,
            instance_quota=MAX_REPLICAS,
            certificate_expires=expires(load_cer(access.certificate)),
            time=now,
            redirects=True,
        )

    async def create(self, service: str, spec: ServiceSpec, progress: Progress = _unwatched) -> ServiceStatus:
        """Create the service, or bring it to ``spec`` (also renews its certificate); stopped stays stopped."""
        await self._watched(progress, Deployment(self._account, service, spec, progress).run)
        return await self.status(service)

    async def status(self, service: str) -> ServiceStatus:
        """The service as it is now."""
        return await self._run(look.status, self._account, service)

    async def services(self) -> list[ServiceStatus]:
        """All services of the subscription with a hierarchy's mark."""
        return await self._run(look.services, self._account)

    async def start(self, service: str, progress: Progress = _unwatched) -> ServiceStatus:
        """Serve clients; nothing happens when it does already."""
        return await self._turn(service, self._account.apps.container_apps.begin_start, progress, stopping=False)

    async def stop(self, service: str, progress: Progress = _unwatched) -> ServiceStatus:
        """Cut clients off; content stays, and Blob storage is not touched (R27)."""
        return await self._turn(service, self._account.apps.container_apps.begin_stop, progress, stopping=True)

    async def _turn(
        self, service: str, begin: Callable[..., Any], progress: Progress, *, stopping: bool
    ) -> ServiceStatus:
        def turned(app: Any) -> bool:
            told = app.properties.running_status
            return told == STOPPED if stopping else told not in (STOPPED, "Suspended", "Progressing")

        return await self._change(service, turned, lambda group: begin(group, service), progress)

    async def scale(self, service: str, instances: int, progress: Progress = _unwatched) -> ServiceStatus:
        """Run so many replicas; running downloads may go on for some minutes in those that go (R12)."""

        def scaled(app: Any) -> bool:
            return bool(app.properties.template.scale.min_replicas == instances)

        update = self._account.apps.container_apps.begin_update
        return await self._change(
            service, scaled, lambda group: update(group, service, bodies.scale(instances)), progress
        )

    async def _change(
        self, service: str, done: Callable[[Any], bool], begin: Callable[[str], Any], progress: Progress
    ) -> ServiceStatus:
        """Change the container app, unless it is as wanted and at rest: what an operation that is still under way makes
        of it is not known before that has ended."""
        group, what = self._group(service), f"the container app {service}"

        def begun() -> Any | None:
            app = self._account.apps.container_apps.get(group, service)
            return None if done(app) and app.properties.provisioning_state != UNDER_WAY else begin(group)

        await self._watched(progress, lambda: self._account.order(begun, what, progress))
        return await self.status(service)

    async def delete(self, service: str, progress: Progress = _unwatched) -> Remains:
        """Remove the service and all it stored, and say what is left (R40)."""
        left = await self._watched(progress, Removal(self._account, service, progress).run)
        self._stores.pop(service, None)
        return Remains(left=left)

    async def plan(self, service: str, point: str, instances: int) -> Sequence[PlannedResource]:
        """What the service is, or would be, made of. Names are checked in Azure as they are before a creation."""
        named = names.names_of(service, point, self._account.access.options.resource_group)
        await self._run(Claim(self._account, service, point, named).check_all)
        return _parts(self._account, named, instances)

    async def metrics(self, service: str, since: int, until: int) -> CloudMetrics:
        """What Azure Monitor counted between two moments (seconds since 1970)."""
        return await self._run(look.metrics, self._account, service, since, until)

    def holder(self, service: str, *, fetched: Count = uncounted) -> Holder:
        """The container of the service, reached with the site's own identity (no I/O yet)."""
        if service not in self._stores:
            self._stores[service] = _Found(lambda: self._store(service))
        return _BlobHolder(self._stores[service], fetched)

    def _store(self, service: str) -> ObjectStore:
        group = self._group(service)
        with azure_errors(f"the storage of {service}"):
            listed = list(self._account.storage.storage_accounts.list_by_resource_group(group))
        ours = [one for one in listed if names.is_ours(one.tags, service, self._account.access.mark)]
        if len(ours) != 1:
            raise NotFoundError(f"There is no storage account of {service} in the resource group {group}.")
        return self._open(str(ours[0].name), blob_endpoint(ours[0]), self._account)

    def _group(self, service: str) -> str:
        return names.names_of(service, "", self._account.access.options.resource_group).group


class _Found:
    """A store that is found at the first call: until then nothing need exist."""

    def __init__(self, find: Callable[[], ObjectStore]) -> None:
        self._find = find
        self._made: ObjectStore | None = None
        self._lock = asyncio.Lock()

    async def store(self) -> ObjectStore:
        """The store, open."""
        async with self._lock:
            if self._made is None:
                self._made = await asyncio.to_thread(self._find)
            return self._made


class _BlobHolder:
    """A holder in this process over a store far away, whose bytes are counted as they come."""

    def __init__(self, found: _Found, fetched: Count) -> None:
        self._found = found
        self._fetched = fetched

    async def _holder(self) -> ShelfHolder:
        return ShelfHolder(Shelf(ReceivingStore(await self._found.store(), self._fetched)))

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):
            raise AttributeError(name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            return await getattr(await self._holder(), name)(*args, **kwargs)

        return call


def open_container(name: str, endpoint: str, account: AzureAccount) -> ObjectStore:
    """The container through obstore, with Entra ID tokens of the site's own identity; no key, no signature."""
    options: Any = {"connect_timeout": "10s", "timeout": "300s"}
    if account.access.proxy:
        options["proxy_url"] = account.access.proxy
    if account.access.ca:
        options["root_certificate"] = Path(account.access.ca).read_bytes()
    config: Any = {"account_name": name, "endpoint": endpoint}
    retries: Any = {"max_retries": 0}
    try:
        store = AzureStore(
            names.CONTAINER,
            config=config,
            client_options=options,
            retry_config=retries,
            credential_provider=account.storage_token,  # type: ignore[arg-type]  # a plain dictionary does
        )
    except ValueError as error:
        raise BadInputError(f"The storage account {name} cannot be opened: {error}.") from None
    return RetryingStore(RemoteStore(lambda: store, prefix="", tells_deletions=True, clock=time.time))


def _parts(account: AzureAccount, named: names.Names, instances: int) -> tuple[PlannedResource, ...]:
    options = account.access.options
    return (
        *([PlannedResource(kind="Resource group", name=named.group)] if named.own_group else []),
        PlannedResource(kind="Container Apps environment", name=named.environment),
        PlannedResource(
            kind=f"Container app, {options.cpu:g} vCPU and {options.memory_gib:g} GiB a replica",
            name=named.app,
            meter="instance_hour",
            unit="replica-hour",
            quantity=instances * MONTH_HOURS,
            stays=False,
        ),
        PlannedResource(
            kind=f"Storage account ({options.redundancy}), content",
            name=named.storage or "(named after the cloud point's id)",
            meter="storage_gb_month",
            unit="GB-month",
        ),
        PlannedResource(
            kind=f"Storage account ({options.redundancy}), operations",
            name=named.storage or "(named after the cloud point's id)",
            meter="writes_per_10000",
            unit="10,000 operations",
        ),
        PlannedResource(kind="Transfers to clients", name=named.app, meter="egress_gb", unit="GB", stays=False),
    )
