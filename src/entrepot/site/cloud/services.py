"""The use cases of cloud points: what the API, the console and the background loops call."""

import asyncio
import contextlib
import secrets
from pathlib import Path
from typing import Final

import msgspec
from sqlalchemy import Connection

from entrepot.core.errors import BadInputError, ConflictError
from entrepot.core.ids import prefixed_id, service_name
from entrepot.core.secret import Secret
from entrepot.core.times import Clock
from entrepot.database import cloud, clouddetails, prices, tasks
from entrepot.database.cloud import CloudPoint
from entrepot.database.engine import Database
from entrepot.database.tasks import Task
from entrepot.protocol.cloudapi import CloudPlan, OrphanRequest, RenewServiceCertificate
from entrepot.protocol.cloudhost import ServiceStatus
from entrepot.protocol.cloudpointapi import (
    CloudPointPatch,
    CloudPointRequest,
    CloudPointState,
    CollectSummary,
    Thresholds,
)
from entrepot.protocol.control import GatewaySettings, ServiceState
from entrepot.rules.restrictions import PointKind, check_features, feature_named
from entrepot.rules.thresholds import StorageLimits, check_limits
from entrepot.site.cloud.accounts import account_of, check_account, check_key_kind
from entrepot.site.cloud.actions import register_actions
from entrepot.site.cloud.certificates import Certificates
from entrepot.site.cloud.collection import DEFAULT_LOGS, Collector
from entrepot.site.cloud.control import DEFAULT_GATEWAYS, ControlPublisher
from entrepot.site.cloud.dns import Resolver, system_resolver
from entrepot.site.cloud.judging import create_alerts, limits_of, upload_limits
from entrepot.site.cloud.lifecycle import LifeCycle
from entrepot.site.cloud.logfile import LogOptions
from entrepot.site.cloud.metering import Meter
from entrepot.site.cloud.monitor import Monitor
from entrepot.site.cloud.orphans import REMOVE, Orphans
from entrepot.site.cloud.planning import Prices, no_prices, priced, sheet_prices
from entrepot.site.cloud.providers import Providers, registry_secret, service_secret
from entrepot.site.cloud.renewal import Renewal
from entrepot.site.cloud.states import WORKING, CloudAction, check_allowed
from entrepot.site.cloud.waiting import InstancesError, Sleep, until_running
from entrepot.site.cloudport import ProviderFactory
from entrepot.site.keys import SiteKeys
from entrepot.site.tasks import TaskEngine
from entrepot.trust.certificates import (
    LoadedPfx,
    check_service_certificate,
    expires,
    load_pfx,
    thumbprint,
)

MAX_SERVICE_NAME: Final = 40
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
        gateways: what every gateway instance is set to.
        log: how the logs are kept.
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
        gateways: GatewaySettings = DEFAULT_GATEWAYS,
        sleep: Sleep = asyncio.sleep,
        rates: Prices = no_prices,
        log: LogOptions = DEFAULT_LOGS,
    ) -> None:
        self.database = database
        self.prices = rates
        self.keys = keys
        self.clock = clock
        self.resolver = resolver
        self.certificates = Certificates(database, keys, clock=clock)
        self.meter = Meter(database, clock=clock)
        self.providers = Providers(database, keys.vault, factory, self.meter, mark=keys.hierarchy.root_public)
        self.control = ControlPublisher(database, keys, clock=clock, gateways=gateways)
        self.collector = Collector(database, logs, holder=holder, clock=clock, options=log)
        self.monitor = Monitor(
            database,
            providers=self.providers,
            collector=self.collector,
            meter=self.meter,
            clock=clock,
            sleep=sleep,
            resolver=resolver,
        )
        self.cycle = LifeCycle(
            database,
            providers=self.providers,
            control=self.control,
            collector=self.collector,
            root=keys.hierarchy.root_public,
            clock=clock,
            sleep=sleep,
        )
        self._engine = engine
        self._sleep = sleep
        self.renewal = Renewal(database, keys, self.providers, clock=clock)
        self.orphans = Orphans(database, self.providers, site=keys.site.code, mark=keys.hierarchy.root_public)
        register_actions(engine, self.cycle, self.monitor.check)
        engine.register(REMOVE, self.orphans)

    async def create(self, request: CloudPointRequest, *, adopted: str = "") -> Task:
        """Reserve the name, keep the certificate and start the creation (R1).

        Args:
            adopted: the id of an orphan in the cloud that the point takes over.

        Raises:
            BadInputError: a certificate, a name or a threshold that will not do.
            RefusedError: a feature that cloud points do not have (R15, R19, R20).
            ConflictError: a name that is taken.
            NotFoundError: no such management certificate.
        """
        now = int(self.clock())
        service = _checked_service(request.name)
        check_features(PointKind.CLOUD, map(feature_named, request.features))
        check_limits(*limits_of(request.thresholds))
        check_limits(StorageLimits(), upload_limits(request.thresholds))
        request = check_account(request)
        password = Secret(request.service_password)
        loaded = load_pfx(request.service_pfx, password, now)
        fqdn = check_service_certificate(loaded, request.fqdn, now)
        point = adopted or prefixed_id("pt", secrets.token_bytes(8))
        task = await self.database.write(self._add, request, service, fqdn, loaded, point, bool(adopted))
        self._engine.wake()
        return task

    async def adopt(self, request: CloudPointRequest) -> Task:
        """Take an orphan over as a cloud point: what it stores stays, everything else becomes as in the request.

        Raises:
            NotFoundError: there is no such orphan.
            EntrepotError: as :meth:`create`.
        """
        orphan = await self.orphans.one(account_of(check_account(request)), _checked_service(request.name))
        if orphan.parts:
            raise ConflictError(
                f"Only a part of the service {orphan.service} is left: {', '.join(orphan.parts)}.",
                next_step="Remove it with `entrepot cloud orphans --remove`, then create the cloud point anew.",
            )
        return await self.create(request, adopted=orphan.point)

    async def remove_orphan(self, request: OrphanRequest) -> Task:
        """Start the removal of an orphan and all that it stores.

        Raises:
            NotFoundError: there is no such orphan.
            ConflictError: it is being removed already.
        """
        task = await self.orphans.order(request, self.clock())
        self._engine.wake()
        return task

    async def plan(self, request: CloudPointRequest) -> CloudPlan:
        """What a creation would make, with prices; everything is checked and nothing is created (R1, R29).

        Raises:
            EntrepotError: as :meth:`create`, and what the cloud says.
        """
        now = int(self.clock())
        request, service = check_account(request), _checked_service(request.name)
        loaded = load_pfx(request.service_pfx, Secret(request.service_password), now)
        fqdn = check_service_certificate(loaded, request.fqdn, now)
        await self.database.read(cloud.refuse_fqdn, fqdn)
        provider = await self.providers.of_account(account_of(request))
        subscription = await provider.check()
        parts = await provider.plan(service, "", request.instances)
        told = f"The subscription {subscription.name or subscription.id} is {subscription.state}."
        sheet = await self.database.read(prices.sheet_of, "")
        rates = self.prices if sheet is None else sheet_prices(sheet)
        return priced(parts, rates, request.region, (told, f"The service certificate serves {fqdn}."))

    def _add(
        self,
        connection: Connection,
        request: CloudPointRequest,
        service: str,
        fqdn: str,
        loaded: LoadedPfx,
        point_id: str,
        adopted: bool,
    ) -> Task:
        now = int(self.clock())
        certificate = cloud.certificate(connection, request.management_certificate)
        self.providers.open_management_key(certificate)
        check_key_kind(request.provider, certificate)
        point = self._new_point(request, service, fqdn, loaded, certificate.id, point_id)
        cloud.add_cloud_point(connection, point)
        if request.azure is not None:
            password = Secret(request.azure.registry_password)
            sealed = self.keys.vault.seal(registry_secret(point_id), password) if len(password) else b""
            clouddetails.keep_options(connection, point_id, request.azure, sealed)
        create_alerts(connection, point, now)
        if not adopted:
            return self._order(connection, CloudAction.CREATE, point)
        # What it stores is there already: a failure must not clean it away, as a creation's does.
        state = WORKING[CloudAction.UPDATE]
        cloud.update_cloud_point(connection, point_id, state=state, begun=True, ready=now)
        return self._order(connection, CloudAction.UPDATE, point)

    def _new_point(
        self, request: CloudPointRequest, service: str, fqdn: str, loaded: LoadedPfx, certificate: str, point_id: str
    ) -> CloudPoint:
        return CloudPoint(
            point=point_id,
            name=request.name,
            site=self.keys.site.code,
            service=service,
            description=request.description,
            provider=request.provider,
            host_url=request.host_url.rstrip("/"),
            host_pin=request.host_pin.lower(),
            subscription=request.subscription,
            management_certificate=certificate,
            region=request.region,
            fqdn=fqdn,
            port=request.port,
            address="",
            state=CloudPointState.PROVISIONING,
            wanted=ServiceState.RUNNING,
            message="",
            instances_wanted=request.instances,
            instances=(),
            certificate_subject=loaded.certificate.subject.rfc4514_string(),
            certificate_thumbprint=thumbprint(loaded.certificate).hex(),
            certificate_expires=expires(loaded.certificate),
            certificate=loaded.chain_pem(),
            sealed_key=self.keys.vault.seal(service_secret(point_id), loaded.key_pem()),
            thresholds=request.thresholds,
            created=int(self.clock()),
        )

    async def renew(self, name_or_id: str, request: RenewServiceCertificate) -> Task:
        """Keep a new service certificate with the name of the old one, and bring it to the running instances (R4).

        Raises:
            NotFoundError: there is no such cloud point.
            BadInputError: a certificate that will not do, or of another name.
            ConflictError: not in its present state.
        """
        renewed = await self.renewal.service(await self.get(name_or_id), request)
        return await self.act(CloudAction.RENEW, name_or_id, renewed=renewed)

    async def act(
        self, action: CloudAction, name_or_id: str, *, instances: int = 0, renewed: CloudPoint | None = None
    ) -> Task:
        """Stop, start, scale, update, renew or delete a cloud point. What was under way before gives way.

        Raises:
            NotFoundError: there is no such cloud point.
            ConflictError: not in its present state.
        """
        task, replaced = await self.database.write(self._act, action, name_or_id, instances, renewed)
        for other in replaced:
            self._engine.cancel(other)
        self._engine.wake()
        return task

    def _act(
        self,
        connection: Connection,
        action: CloudAction,
        name_or_id: str,
        instances: int,
        renewed: CloudPoint | None,
    ) -> tuple[Task, list[str]]:
        point = cloud.get_cloud_point(connection, name_or_id)
        check_allowed(action, point.state, point.name)
        if renewed is not None:
            clouddetails.keep_service_certificate(connection, renewed)
        replaced = [task for kind in CloudAction if (task := self._supersede(connection, kind, point)) is not None]
        wanted = {
            CloudAction.STOP: ServiceState.STOPPED,
            CloudAction.DELETE: ServiceState.STOPPED,
            CloudAction.START: ServiceState.RUNNING,
        }.get(action, point.wanted)
        changes = {"instances_wanted": instances} if action is CloudAction.SCALE else {}
        cloud.update_cloud_point(connection, point.point, state=WORKING[action], wanted=wanted, message="", **changes)
        return self._order(connection, action, point), replaced

    def _supersede(self, connection: Connection, kind: CloudAction, point: CloudPoint) -> str | None:
        task = tasks.active(connection, kind.value, point.point)
        return None if task is None else self._cancelled(connection, task, kind)

    def _cancelled(self, connection: Connection, task: Task, kind: CloudAction) -> str:
        if kind is CloudAction.DELETE:
            raise ConflictError("The cloud point is being deleted already.", next_step="Wait for it.")
        tasks.request_cancel(connection, task.id, now=self.clock())
        return task.id

    def _order(self, connection: Connection, action: CloudAction, point: CloudPoint) -> Task:
        task = tasks.create(
            connection,
            site=self.keys.site.code,
            kind=action.value,
            subject=point.point,
            title=f"{action.verb.capitalize()} the cloud point {point.name}",
            now=self.clock(),
        )
        cloud.update_cloud_point(connection, point.point, task=task.id)
        return task

    async def patch(self, name_or_id: str, patch: CloudPointPatch) -> CloudPoint:
        """Change thresholds and description; thresholds are evaluated at once (R24).

        Raises:
            NotFoundError: there is no such cloud point.
            BadInputError: thresholds that contradict each other.
            RefusedError: a feature that cloud points do not have (R15, R19, R20).
        """
        point = await self.database.write(_patch, name_or_id, patch)
        await self.monitor.evaluate(point.point, strict=True)
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


def _checked_service(name: str) -> str:
    """The name becomes the service's name and the first label of its address.

    Raises:
        BadInputError: not a DNS label, or longer than clouds allow.
    """
    service = service_name(name)
    if len(service) > MAX_SERVICE_NAME:
        raise BadInputError(
            f"The name of a cloud point has at most {MAX_SERVICE_NAME} characters.", next_step="Choose a shorter one."
        )
    return service


def _patch(connection: Connection, name_or_id: str, patch: CloudPointPatch) -> CloudPoint:
    point = cloud.get_cloud_point(connection, name_or_id)
    given = {name: value for name, value in msgspec.structs.asdict(patch).items() if value is not None}
    check_features(PointKind.CLOUD, map(feature_named, given.pop("features")))
    description = given.pop("description", point.description)
    thresholds: Thresholds = msgspec.structs.replace(point.thresholds, **given)
    check_limits(*limits_of(thresholds))
    check_limits(StorageLimits(), upload_limits(thresholds))
    return cloud.update_cloud_point(connection, point.point, thresholds=thresholds, description=description)
