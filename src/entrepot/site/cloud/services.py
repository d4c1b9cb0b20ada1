"""The use cases of cloud points: what the API, the console and the background loops call."""

import asyncio
import contextlib
import functools
from collections.abc import Awaitable
from pathlib import Path
from typing import Final

import msgspec
from sqlalchemy import Connection

from entrepot.core.errors import EntrepotError
from entrepot.core.times import Clock
from entrepot.database import cloud, clouddetails, grants
from entrepot.database.cloud import CloudPoint
from entrepot.database.engine import Database
from entrepot.database.tasks import Task
from entrepot.protocol.cloudapi import CloudPlan, OrphanRequest, RenewServiceCertificate, UpdatePlan, UpdateRequest
from entrepot.protocol.cloudhost import ServiceStatus
from entrepot.protocol.cloudpointapi import (
    CloudPointPatch,
    CloudPointRequest,
    CloudPointState,
    CollectSummary,
    DnsProof,
    Thresholds,
)
from entrepot.protocol.control import Delivery, GatewaySettings
from entrepot.rules.restrictions import PointKind, check_features, feature_named
from entrepot.rules.thresholds import StorageLimits, check_limits
from entrepot.site.cloud import delivery
from entrepot.site.cloud.actions import register_actions
from entrepot.site.cloud.books import Books
from entrepot.site.cloud.certificates import Certificates
from entrepot.site.cloud.collection import DEFAULT_LOGS, Collector
from entrepot.site.cloud.control import DEFAULT_GATEWAYS, ControlPublisher
from entrepot.site.cloud.creation import Creation
from entrepot.site.cloud.dns import Resolver, Texts, no_texts, system_resolver
from entrepot.site.cloud.hostpins import HostPins
from entrepot.site.cloud.judging import limits_of, upload_limits
from entrepot.site.cloud.lifecycle import LifeCycle
from entrepot.site.cloud.logfile import LogOptions
from entrepot.site.cloud.metering import Meter
from entrepot.site.cloud.monitor import Monitor
from entrepot.site.cloud.options import Options, plan_update
from entrepot.site.cloud.orders import Orders
from entrepot.site.cloud.orphans import REMOVE, Orphans
from entrepot.site.cloud.presenting import Ask, ask
from entrepot.site.cloud.proofs import look_for
from entrepot.site.cloud.providers import Providers
from entrepot.site.cloud.renewal import Renewal
from entrepot.site.cloud.states import CloudAction
from entrepot.site.cloud.waiting import InstancesError, Sleep, until_running
from entrepot.site.cloudport import ProviderFactory
from entrepot.site.keys.sitekeys import SiteKeys
from entrepot.site.tasks import TaskEngine

SHIPPED_SECONDS: Final = 1.0
"""After so many seconds of obeying a control document an instance has its records in the store."""


class CloudServices:
    """All that a site does with clouds, wired. Construct one a process.

    Args:
        engine: gets the handlers of cloud tasks.
        factory: makes providers; None where no clouds are wired.
        logs: folder of ``CloudDP-<service>.log``.
        holder: names this process among those that share the database.
        resolver: how DNS records are checked.
        texts: asks DNS for TXT records.
        gateways: what every gateway instance is set to.
        log: how the logs are kept.
        ask: asks an address for the certificate that it shows to clients.
    """

    def __init__(
        self,
        database: Database,
        keys: SiteKeys,
        engine: TaskEngine,
        *,
        factory: ProviderFactory | None,
        logs: Path,
        holder: str,
        clock: Clock,
        resolver: Resolver = system_resolver,
        texts: Texts = no_texts,
        gateways: GatewaySettings = DEFAULT_GATEWAYS,
        sleep: Sleep = asyncio.sleep,
        log: LogOptions = DEFAULT_LOGS,
        ask: Ask = ask,
    ) -> None:
        self.database = database
        self.keys = keys
        self.clock = clock
        self.resolver = resolver
        self.texts = texts
        self.certificates = Certificates(database, keys, clock=clock)
        self.meter = Meter(database, clock=clock, folder=logs.parent / "tallies", site=keys.site.code)
        self.providers = Providers(
            database, keys.vault, factory, self.meter, clock=clock, mark=keys.hierarchy.root_public
        )
        self.control = ControlPublisher(database, keys, clock=clock, gateways=gateways)
        self.collector = Collector(database, logs, holder=holder, clock=clock, options=log)
        self.orders = Orders(database, engine, site=keys.site.code, clock=clock)
        self.cycle = LifeCycle(
            database,
            providers=self.providers,
            control=self.control,
            collector=self.collector,
            root=keys.hierarchy.root_public,
            clock=clock,
            sleep=sleep,
        )
        self.monitor = Monitor(
            database,
            providers=self.providers,
            collector=self.collector,
            meter=self.meter,
            clock=clock,
            ask=ask,
            bind=self.orders.bind,
            stop=self.cycle.stop_unordered,
            sleep=sleep,
            resolver=resolver,
            texts=texts,
            lag=grants.known_after(gateways.segment_seconds),
        )
        self.options = Options(keys.vault)
        self._engine = engine
        self._sleep = sleep
        self.renewal = Renewal(database, keys, self.providers, clock=clock)
        self.pins = HostPins(database, self.providers, functools.partial(cloud.cloud_points, site=keys.site.code))
        self.orphans = Orphans(database, self.providers, site=keys.site.code, mark=keys.hierarchy.root_public)
        self.creation = Creation(
            database,
            keys,
            self.providers,
            orders=self.orders,
            orphans=self.orphans,
            options=self.options,
            clock=clock,
        )
        self.books = Books(database, self.providers, clock=clock)
        register_actions(engine, self.cycle, self.monitor.check)
        engine.register(REMOVE, self.orphans, waits=True)

    async def create(self, request: CloudPointRequest) -> Task:
        """Reserve the name, keep the certificate and start the creation (R1).

        Raises:
            EntrepotError: as :meth:`Creation.create`.
        """
        return await self._woken(self.creation.create(request))

    async def adopt(self, request: CloudPointRequest) -> Task:
        """Take an orphan over as a cloud point: what it stores stays, everything else becomes as in the request.

        Raises:
            EntrepotError: as :meth:`Creation.adopt`.
        """
        return await self._woken(self.creation.adopt(request))

    async def plan(self, request: CloudPointRequest) -> CloudPlan:
        """What a creation would make, with prices; everything is checked and nothing is created (R1, R29).

        Raises:
            EntrepotError: as :meth:`Creation.plan`.
        """
        return await self.creation.plan(request)

    async def _woken(self, ordered: Awaitable[Task]) -> Task:
        task = await ordered
        self._engine.wake()
        return task

    async def remove_orphan(self, request: OrphanRequest) -> Task:
        """Start the removal of an orphan and all that it stores.

        Raises:
            NotFoundError: there is no such orphan.
            ConflictError: it is being removed already.
        """
        return await self._woken(self.orphans.order(request, self.clock()))

    async def renew(self, name_or_id: str, request: RenewServiceCertificate) -> Task:
        """Keep a new service certificate with the name of the old one, and bring it to the running instances (R4).

        Raises:
            NotFoundError: there is no such cloud point.
            BadInputError: a certificate that will not do, or of another name.
            ConflictError: not in its present state.
        """
        renewed = await self.renewal.service(await self.get(name_or_id), request)

        def keep(connection: Connection, _: CloudPoint) -> None:
            clouddetails.keep_service_certificate(connection, renewed)

        return await self.orders.act(CloudAction.RENEW, name_or_id, keep=keep)

    async def update(self, name_or_id: str, request: UpdateRequest) -> Task:
        """Keep the options that were given, and bring the service to what is wanted; running downloads go on.

        Raises:
            NotFoundError: there is no such cloud point.
            ConflictError: not in its present state.
            BadInputError: options that will not do, or of a point that is not in Azure.
        """

        def keep(connection: Connection, point: CloudPoint) -> None:
            self.options.keep_changed(connection, point, request)

        return await self.orders.act(CloudAction.UPDATE, name_or_id, keep=keep)

    async def plan_update(self, name_or_id: str, request: UpdateRequest) -> UpdatePlan:
        """What :meth:`update` would change; nothing is changed.

        Raises:
            EntrepotError: as :meth:`update`.
        """
        return await self.database.read(plan_update, name_or_id, request)

    async def act(self, action: CloudAction, name_or_id: str, *, instances: int = 0, forced: bool = False) -> Task:
        """Stop, start, scale, update or delete a cloud point. What was under way before gives way.

        Raises:
            NotFoundError: there is no such cloud point.
            ConflictError: not in its present state.
            RefusedError: more instances than can serve one client under a budget, and not ``forced``.
        """
        return await self.orders.act(action, name_or_id, instances=instances, forced=forced)

    async def patch(self, name_or_id: str, patch: CloudPointPatch) -> CloudPoint:
        """Change thresholds, description and delivery; they count at once (R24).

        Raises:
            NotFoundError: there is no such cloud point.
            BadInputError: thresholds that contradict each other.
            RefusedError: a feature that cloud points do not have (R15, R19, R20), or redirects that its store or a
                budget forbids.
            EntrepotError: the cloud that is to say what its store can does not answer.
        """
        if patch.delivery is Delivery.REDIRECT:
            before = await self.get(name_or_id)
            if before.ready:
                status = await (await self.providers.of(before)).status(before.service)
                delivery.check_store(patch.delivery, redirects=status.redirects)
        point = await self.database.write(_patch, name_or_id, patch)
        await self.monitor.evaluate(point.point, strict=True)
        if patch.delivery is not None and point.ready:
            with contextlib.suppress(EntrepotError):  # else the control loop brings it
                await self.control.publish(point.point, await self.providers.store_of(point))
        return point

    async def collect(self, name_or_id: str) -> CollectSummary:
        """Collect now (R26): the instances are asked for what they have recorded, not only what they shipped.

        Raises:
            NotFoundError: there is no such cloud point.
            EntrepotError: the cloud does not answer; what was collected stays.
        """
        point = await self.get(name_or_id)
        if point.state is CloudPointState.READY:
            await self._ask_for_records(point)
        return await self.monitor.collect(point.point)

    async def _ask_for_records(self, point: CloudPoint) -> None:
        """Sign a new control document: with it, every instance ships its records at once."""
        counter = await self.control.publish(point.point, await self.providers.store_of(point), always=True)

        async def look(_: ServiceStatus) -> None:
            return None

        with contextlib.suppress(InstancesError):  # whoever is late is collected next time
            provider = await self.providers.of(point)
            await until_running(provider, point.service, control=counter, seen=look, sleep=self._sleep, seconds=6.0)
        await self._sleep(SHIPPED_SECONDS)

    async def awaited_proofs(self, point: CloudPoint) -> tuple[DnsProof, ...]:
        """The DNS records that the cloud wants to see before it serves the point's name; none when it does, or does
        not tell."""
        if point.state is not CloudPointState.DEGRADED:
            return ()
        with contextlib.suppress(EntrepotError):
            status = await (await self.providers.of(point)).status(point.service)
            return await look_for(status.records if status.notes else (), self.texts)
        return ()

    async def get(self, name_or_id: str) -> CloudPoint:
        """One cloud point.

        Raises:
            NotFoundError: there is none with this id or name.
        """
        return await self.database.read(cloud.get_cloud_point, name_or_id)

    async def close(self) -> None:
        """Call once, when the loops have ended."""
        await self.providers.close()

    async def points(self) -> list[CloudPoint]:
        """The cloud points that this site manages."""
        return await self.database.read(_of_site, self.keys.site.code)


def _of_site(connection: Connection, site: str) -> list[CloudPoint]:
    return cloud.cloud_points(connection, site=site)


def _patch(connection: Connection, name_or_id: str, patch: CloudPointPatch) -> CloudPoint:
    point = cloud.get_cloud_point(connection, name_or_id, locked=True)
    given = {name: value for name, value in msgspec.structs.asdict(patch).items() if value is not None}
    check_features(PointKind.CLOUD, map(feature_named, given.pop("features")))
    description = given.pop("description", point.description)
    wanted = given.pop("delivery", point.delivery)
    if patch.delivery is not None:
        delivery.check_budgets(connection, point.point, patch.delivery)
    thresholds: Thresholds = msgspec.structs.replace(point.thresholds, **given)
    check_limits(*limits_of(thresholds))
    check_limits(StorageLimits(), upload_limits(thresholds))
    return cloud.update_cloud_point(
        connection, point.point, thresholds=thresholds, description=description, delivery=wanted
    )
