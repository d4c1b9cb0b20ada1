"""Making cloud points: created, only planned, or taken over from what is in the cloud already (R1)."""

import secrets
from typing import Final

import msgspec
from sqlalchemy import Connection

from entrepot.core.errors import BadInputError, ConflictError
from entrepot.core.ids import prefixed_id, service_name
from entrepot.core.secret import Secret
from entrepot.core.times import Clock
from entrepot.database import cloud, points, prices
from entrepot.database.budgets import NEW_POINT
from entrepot.database.cloud import CloudPoint, ManagementCertificate
from entrepot.database.engine import Database
from entrepot.database.tasks import Task
from entrepot.protocol.cloudapi import CloudPlan
from entrepot.protocol.cloudpointapi import CloudPointRequest, CloudPointState
from entrepot.protocol.control import ServiceState
from entrepot.rules.restrictions import PointKind, check_features, feature_named
from entrepot.rules.thresholds import StorageLimits, check_limits
from entrepot.site.cloud import crowding, delivery
from entrepot.site.cloud.accounts import account_of, check_account, check_key_kind
from entrepot.site.cloud.checks import check_subscription
from entrepot.site.cloud.judging import create_alerts, limits_of, upload_limits
from entrepot.site.cloud.options import Options, image_remarks
from entrepot.site.cloud.orders import Orders
from entrepot.site.cloud.orphans import Orphans
from entrepot.site.cloud.planning import priced
from entrepot.site.cloud.providers import Providers, service_secret
from entrepot.site.cloud.states import UNFINISHED, WORKING, CloudAction
from entrepot.site.keys.sitekeys import SiteKeys
from entrepot.trust.certificaterules import chain_remarks, ordered_chain
from entrepot.trust.certificates import (
    LoadedPfx,
    certificate_name,
    check_service_certificate,
    expires,
    load_pfx,
    thumbprint,
)

MAX_SERVICE_NAME: Final = 40


class Creation:
    """Reserves names, keeps certificates, and orders what is to be made."""

    def __init__(
        self,
        database: Database,
        keys: SiteKeys,
        providers: Providers,
        *,
        orders: Orders,
        orphans: Orphans,
        options: Options,
        clock: Clock,
    ) -> None:
        self._database = database
        self._keys = keys
        self._providers = providers
        self._orders = orders
        self._orphans = orphans
        self._options = options
        self._clock = clock

    async def create(self, request: CloudPointRequest, *, adopted: str = "") -> Task:
        """Reserve the name, keep the certificate and start the creation (R1).

        Args:
            adopted: the id of an orphan in the cloud that the point takes over.

        Raises:
            BadInputError: a certificate, a name or a threshold that will not do.
            RefusedError: a feature that cloud points do not have (R15, R19, R20); redirects, or too many instances,
                under a budget.
            ConflictError: a name that is taken.
            NotFoundError: no such management certificate.
        """
        request, service, loaded, fqdn = self._checked(request)
        point = adopted or prefixed_id("pt", secrets.token_bytes(8))
        return await self._database.write(self._add, request, service, fqdn, loaded, point, bool(adopted))

    def _checked(self, request: CloudPointRequest) -> tuple[CloudPointRequest, str, LoadedPfx, str]:
        """The request with its defaults, the service's name, its certificate and the name that it serves: everything
        that can be refused without asking the database or the cloud has been looked at."""
        now = int(self._clock())
        service = _checked_service(request.name)
        check_features(PointKind.CLOUD, map(feature_named, request.features))
        check_limits(*limits_of(request.thresholds))
        check_limits(StorageLimits(), upload_limits(request.thresholds))
        request = check_account(request)
        loaded = load_pfx(request.service_pfx, Secret(request.service_password), now)
        return request, service, loaded, check_service_certificate(loaded, request.fqdn, now)

    async def adopt(self, request: CloudPointRequest) -> Task:
        """Take an orphan over as a cloud point: what it stores stays, everything else becomes as in the request.

        Raises:
            NotFoundError: there is no such orphan.
            EntrepotError: as :meth:`create`.
        """
        orphan = await self._orphans.one(account_of(check_account(request)), _checked_service(request.name))
        if orphan.parts:
            raise ConflictError(
                f"Only a part of the service {orphan.service} is left: {', '.join(orphan.parts)}.",
                next_step="Remove it with `entrepot cloud orphans --remove`, then create the cloud point anew.",
            )
        return await self.create(request, adopted=orphan.point)

    async def plan(self, request: CloudPointRequest) -> CloudPlan:
        """What a creation would make, with prices; everything is checked and nothing is created (R1, R29).

        Raises:
            EntrepotError: as :meth:`create`, and what the cloud says.
        """
        request, service, loaded, fqdn = self._checked(request)
        await self._database.read(self._refused, request, fqdn, loaded)
        provider = await self._providers.of_account(account_of(request))
        subscription = await provider.check()
        check_subscription(
            subscription,
            name=request.name,
            instances=request.instances,
            expires=expires(loaded.certificate),
            now=self._clock(),
        )
        delivery.check_store(request.delivery, redirects=subscription.redirects)
        parts = await provider.plan(service, "", request.instances)
        told = f"The subscription {subscription.name or subscription.id} is {subscription.state}."
        sheet = await self._database.read(prices.sheet_of, "")
        plan = priced(parts, sheet, (told, f"The service certificate serves {fqdn}."))
        chain = (loaded.certificate, *ordered_chain(loaded))
        remarks = (*image_remarks(request.azure), *chain_remarks(chain, self._clock()))
        return msgspec.structs.replace(plan, remarks=remarks)

    def _refused(
        self, connection: Connection, request: CloudPointRequest, fqdn: str, loaded: LoadedPfx
    ) -> ManagementCertificate:
        """Refuse what the database knows to be taken or forbidden; returns the management certificate."""
        certificate = self._management(connection, request)
        points.refuse_name(connection, request.name)
        _refuse_names(connection, fqdn, loaded)
        delivery.check_budgets(connection, NEW_POINT, request.delivery)
        crowding.check_instances(connection, NEW_POINT, request.instances)
        return certificate

    def _management(self, connection: Connection, request: CloudPointRequest) -> ManagementCertificate:
        """The management certificate of a request, which opens here and is of a kind that its cloud takes."""
        certificate = cloud.certificate(connection, request.management_certificate)
        self._providers.open_management_key(certificate)
        check_key_kind(request.provider, certificate)
        return certificate

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
        now = int(self._clock())
        certificate = self._refused(connection, request, fqdn, loaded)
        point = self._new_point(request, service, fqdn, loaded, certificate.id, point_id)
        cloud.add_cloud_point(connection, point)
        if request.azure is not None:
            self._options.keep_first(connection, point_id, request.azure)
        create_alerts(connection, point, now)
        if not adopted:
            return self._orders.order(connection, CloudAction.CREATE, point)
        # What it stores is there already: a failure must not clean it away, as a creation's does.
        state = WORKING[CloudAction.UPDATE]
        cloud.update_cloud_point(connection, point_id, state=state, begun=True, ready=now, behind=UNFINISHED)
        return self._orders.order(connection, CloudAction.UPDATE, point)

    def _new_point(
        self, request: CloudPointRequest, service: str, fqdn: str, loaded: LoadedPfx, certificate: str, point_id: str
    ) -> CloudPoint:
        return CloudPoint(
            point=point_id,
            name=request.name,
            site=self._keys.site.code,
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
            sealed_key=self._keys.vault.seal(service_secret(point_id), loaded.key_pem()),
            thresholds=request.thresholds,
            delivery=request.delivery,
            created=int(self._clock()),
        )


def _refuse_names(connection: Connection, fqdn: str, loaded: LoadedPfx) -> None:
    """Check that nobody else has the service's name, nor the common name where its certificate has another (R4).

    Raises:
        ConflictError: who has it.
    """
    for name in dict.fromkeys((fqdn, certificate_name(loaded.certificate).lower())):
        if not name.startswith("*."):
            cloud.refuse_fqdn(connection, name)


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
