"""Dry runs of renewals: everything that a renewal would look at is looked at, and nothing is changed."""

import pytest

from entrepot.core.errors import ConflictError, ForbiddenError
from entrepot.core.times import DAY
from entrepot.protocol.cloudapi import RenewManagementCertificate, RenewServiceCertificate
from entrepot.site.cloud.states import CloudAction
from entrepot.trust.certificates import UnsuitableCertificateError, new_management

from ..lightpfx import light_pfx, light_service_pfx
from .conftest import FQDN, PASSWORD, SiteUnderTest


def _service(site: SiteUnderTest, fqdn: str = FQDN, days: int = 300) -> RenewServiceCertificate:
    pfx = light_service_pfx(site.keys.authority, fqdn, PASSWORD, days=days, now=site.clock())
    return RenewServiceCertificate(service_pfx=pfx, service_password=PASSWORD)


def _management(site: SiteUnderTest, name: str = "Test management") -> RenewManagementCertificate:
    pfx = light_pfx(new_management(name, 700, "ec", now=site.clock()), PASSWORD)
    return RenewManagementCertificate(pfx=pfx, password=PASSWORD)


async def test_a_new_service_certificate_is_checked_and_shown_beside_the_old_one(site) -> None:
    before = await site.make_point()
    site.cloud.calls.clear()
    plan = await site.services.renewal.plan_service(before, _service(site, days=20))
    assert (plan.thumbprint, plan.expires) == (before.certificate_thumbprint, before.certificate_expires)
    assert plan.new_thumbprint != plan.thumbprint
    assert 19 * DAY < plan.new_expires - site.clock() < 21 * DAY
    assert FQDN in plan.checks[0]
    assert plan.remarks, "it ends soon"
    assert (await site.services.get("cloud1"), site.cloud.calls) == (before, [])


async def test_a_service_certificate_that_a_renewal_would_refuse_is_refused(site) -> None:
    before = await site.make_point()
    with pytest.raises(UnsuitableCertificateError):
        await site.services.renewal.plan_service(before, _service(site, "cloud2.contoso.com"))
    await site.services.act(CloudAction.DELETE, "cloud1")
    with pytest.raises(ConflictError):
        await site.services.renewal.plan_service(await site.services.get("cloud1"), _service(site))


async def test_a_new_management_certificate_is_tried_at_every_cloud_and_not_kept(site) -> None:
    await site.make_point()
    kept = site.services.certificates.management()
    plan = await site.services.renewal.plan_management("management", _management(site))
    assert plan.checks[1] == "The subscription sub-1 at https://127.0.0.1:9 accepts it."
    assert plan.new_thumbprint != plan.thumbprint == kept[0].thumbprint
    site.cloud.failures["check"] = [ForbiddenError("Unknown certificate.")]
    with pytest.raises(ForbiddenError, match="does not accept the new management certificate"):
        await site.services.renewal.plan_management("management", _management(site))
    assert site.services.certificates.management() == kept
