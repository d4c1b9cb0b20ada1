"""Two service certificates with the same end are told apart, at every kind of cloud."""

import msgspec
import pytest
from cryptography.hazmat.primitives import hashes

from entrepot.database.tasks import Task
from entrepot.protocol.cloudapi import RenewServiceCertificate
from entrepot.protocol.cloudpointapi import CloudPointState
from entrepot.site.cloud.checks import has_certificate
from entrepot.trust.certificates import load_cer

from ..lightpfx import light_service_pfx
from .conftest import FQDN, NOW, PASSWORD, SiteUnderTest


async def _renew_with_the_same_end(site: SiteUnderTest) -> tuple[str, Task]:
    """Order a renewal; the thumbprint before, and the order's task."""
    before = await site.services.get("cloud1")
    pfx = light_service_pfx(site.keys.authority, FQDN, PASSWORD, days=200, now=NOW)
    task = await site.services.renew("cloud1", RenewServiceCertificate(service_pfx=pfx, service_password=PASSWORD))
    after = await site.services.get("cloud1")
    assert after.certificate_expires == before.certificate_expires
    return before.certificate_thumbprint, task


async def test_a_cloud_that_goes_on_using_the_old_certificate_is_found_out(site) -> None:
    await site.make_point()
    site.cloud.thumbprint, task = await _renew_with_the_same_end(site)
    await site.settle(tries=1)
    kept = await site.services.get("cloud1")
    assert kept.state is CloudPointState.UPGRADING
    error = (await site.task(task)).error
    assert f"another service certificate (thumbprint {site.cloud.thumbprint}" in error
    assert kept.certificate_thumbprint in error
    site.cloud.thumbprint = None
    site.clock.advance(2000)
    await site.settle()
    assert (await site.services.get("cloud1")).state is CloudPointState.READY


@pytest.mark.parametrize("told", ["sha256", "SHA1 as Azure tells it", "nothing, as older hosts do"])
async def test_the_right_one_is_known_whatever_the_cloud_tells(site, told) -> None:
    point = await site.make_point()
    leaf = load_cer(point.certificate.encode())
    status = await site.cloud._status("cloud1")
    digits = {"s": leaf.fingerprint(hashes.SHA256()).hex(), "S": leaf.fingerprint(hashes.SHA1()).hex().upper()}
    status = msgspec.structs.replace(status, certificate_thumbprint=digits.get(told[0], ""))
    assert has_certificate(status, point)
    if told[0] in digits:
        other = ("0" if digits[told[0]][0] != "0" else "1") + digits[told[0]][1:]
        assert not has_certificate(msgspec.structs.replace(status, certificate_thumbprint=other), point)
    assert not has_certificate(msgspec.structs.replace(status, certificate_thumbprint="", certificate_expires=1), point)


async def test_a_health_check_sees_a_certificate_that_somebody_else_brought(site) -> None:
    point = await site.make_point()
    site.cloud.thumbprint = "ab" * 32
    await site.services.monitor.check(point.point)
    seen = await site.services.get("cloud1")
    assert seen.state is CloudPointState.DEGRADED
    assert seen.message == (
        "The service has another certificate at the cloud than the one that is kept here; "
        "entrepot cloud update cloud1 brings it."
    )
    site.cloud.thumbprint = None
    await site.services.monitor.check(point.point)
    assert (await site.services.get("cloud1")).state is CloudPointState.READY
