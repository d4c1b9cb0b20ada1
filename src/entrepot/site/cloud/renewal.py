"""Renewal of management and service certificates: the name stays, everything else is new (R3, R4).

A management certificate is tried at every cloud that it opens before it is kept: the site never locks itself out.
"""

import msgspec
from cryptography.hazmat.primitives.serialization import Encoding

from entrepot.core.errors import ForbiddenError, UnauthenticatedError
from entrepot.core.secret import Secret
from entrepot.core.times import Clock
from entrepot.database import cloud, clouddetails
from entrepot.database.cloud import CloudPoint, ManagementCertificate
from entrepot.database.engine import Database
from entrepot.protocol.cloudapi import (
    CloudAccount,
    RenewalPlan,
    RenewManagementCertificate,
    RenewServiceCertificate,
)
from entrepot.site.cloud.accounts import check_key_kind
from entrepot.site.cloud.certificates import sealed_certificate
from entrepot.site.cloud.providers import Providers, close_provider, service_secret
from entrepot.site.cloud.states import CloudAction, check_allowed
from entrepot.site.keys.sitekeys import SiteKeys
from entrepot.trust.certificaterules import chain_remarks
from entrepot.trust.certificates import (
    LoadedPfx,
    assertion_algorithm,
    certificate_name,
    check_same_name,
    check_service_certificate,
    expires,
    load_cer,
    load_pfx,
    thumbprint,
)
from entrepot.trust.pem import load_chain


class Renewal:
    """Renews certificates of one site."""

    def __init__(self, database: Database, keys: SiteKeys, providers: Providers, *, clock: Clock) -> None:
        self._database = database
        self._keys = keys
        self._providers = providers
        self._clock = clock

    async def service(self, point: CloudPoint, request: RenewServiceCertificate) -> CloudPoint:
        """The cloud point with its new service certificate, checked and sealed; nothing is kept yet.

        Raises:
            BadInputError: a certificate that will not do, or of another name.
        """
        now = self._clock()
        loaded = load_pfx(request.service_pfx, Secret(request.service_password), now)
        check_service_certificate(loaded, point.fqdn, now)
        before = certificate_name(load_cer(point.certificate.encode()))
        check_same_name("service", before, loaded.certificate)
        return msgspec.structs.replace(
            point,
            certificate=loaded.chain_pem(),
            certificate_subject=loaded.certificate.subject.rfc4514_string(),
            certificate_thumbprint=thumbprint(loaded.certificate).hex(),
            certificate_expires=expires(loaded.certificate),
            sealed_key=self._keys.vault.seal(service_secret(point.point), loaded.key_pem()),
        )

    async def plan_service(self, point: CloudPoint, request: RenewServiceCertificate) -> RenewalPlan:
        """What a renewal of a service certificate would exchange; nothing is changed.

        Raises:
            ConflictError: not in the point's present state.
            BadInputError: as :meth:`service`.
        """
        check_allowed(CloudAction.RENEW, point.state, point.name)
        renewed = await self.service(point, request)
        return RenewalPlan(
            subject=renewed.certificate_subject,
            thumbprint=point.certificate_thumbprint,
            expires=point.certificate_expires,
            new_thumbprint=renewed.certificate_thumbprint,
            new_expires=renewed.certificate_expires,
            checks=(f"The new certificate serves {point.fqdn}.", "It has the name of the old one."),
            remarks=chain_remarks(load_chain(renewed.certificate), self._clock()),
        )

    async def plan_management(self, name_or_id: str, request: RenewManagementCertificate) -> RenewalPlan:
        """What a renewal of a management certificate would exchange; every cloud is asked, and nothing is changed.

        Raises:
            EntrepotError: as :meth:`management`.
        """
        kept, renewed, clouds = await self._tried(name_or_id, request)
        return RenewalPlan(
            subject=renewed.subject,
            thumbprint=kept.thumbprint,
            expires=kept.not_after,
            new_thumbprint=renewed.thumbprint,
            new_expires=renewed.not_after,
            checks=("It has the name of the old one.", *(f"{each} accepts it." for each in clouds)),
        )

    async def management(self, name_or_id: str, request: RenewManagementCertificate) -> None:
        """Exchange a management certificate for a new one of the same name.

        Raises:
            NotFoundError: there is none with this id or name.
            BadInputError: a certificate that will not do, or of another name.
            ForbiddenError: a cloud does not know the new one yet; nothing was changed.
            UnavailableError: a cloud does not answer; nothing was changed.
        """
        kept, renewed, _ = await self._tried(name_or_id, request)
        await self._database.write(clouddetails.exchange_management, renewed, before=kept.thumbprint)

    async def _tried(
        self, name_or_id: str, request: RenewManagementCertificate
    ) -> tuple[ManagementCertificate, ManagementCertificate, tuple[str, ...]]:
        """The certificate that is kept, the new one, and the clouds that accept it: all that the old one opens."""
        now = self._clock()
        kept = await self._database.read(cloud.certificate, name_or_id)
        loaded = load_pfx(request.pfx, Secret(request.password), now)
        assertion_algorithm(loaded.certificate)
        check_same_name("management", certificate_name(load_cer(kept.certificate)), loaded.certificate)
        renewed = sealed_certificate(kept.id, kept.name, loaded, self._keys.vault, now)
        points = await self._database.read(clouddetails.points_of_certificate, kept.id)
        tried: dict[tuple[str, str, str], str] = {}
        for point_id in points:
            point = await self._database.read(cloud.get_cloud_point, point_id)
            check_key_kind(point.provider, renewed)
            where = (point.provider, point.host_url, point.subscription)
            if where not in tried:
                await self._try(await self._providers.account_of(point), loaded)
                place = f" at {point.host_url}" if point.host_url else ""
                tried[where] = f"The subscription {point.subscription}{place}"
        return kept, renewed, tuple(tried.values())

    async def _try(self, account: CloudAccount, loaded: LoadedPfx) -> None:
        provider = self._providers.connect(account, loaded.certificate.public_bytes(Encoding.DER), loaded.key_pem())
        try:
            await provider.check()
        except (ForbiddenError, UnauthenticatedError) as error:
            raise ForbiddenError(
                f"The cloud does not accept the new management certificate for {account.subscription}: {error.message}",
                next_step="Upload its .cer file to the subscription first. The old certificate stays in use meanwhile.",
            ) from error
        finally:
            await close_provider(provider)
