"""Management and service certificates at the site (R3, R4, R39)."""

import msgspec
import pytest

from entrepot.core.errors import BadInputError, ConflictError, NotFoundError
from entrepot.core.secret import Secret
from entrepot.core.times import DAY
from entrepot.protocol.cloudapi import RenewServiceCertificate
from entrepot.protocol.cloudpointapi import CertificateInfo
from entrepot.site.keys.sitekeys import SiteKeys
from entrepot.trust.certificates import (
    CertificateExpiredError,
    NoPrivateKeyError,
    NotPkcs12Error,
    WrongPasswordError,
    load_cer,
    load_pfx,
    new_management,
    thumbprint,
)
from entrepot.trust.vault import ServerVault

from .conftest import NOW, PASSWORD, SiteUnderTest
from .test_cloud_life_cycle import _add_device


def _import(site: SiteUnderTest, name: str = "management", kind: str = "ec", days: int = 365) -> CertificateInfo:
    pair = new_management(f"Certificate {name}", days, kind, now=NOW)
    return site.services.certificates.import_management(name, pair.pfx(Secret(PASSWORD)), Secret(PASSWORD))


@pytest.mark.parametrize(("kind", "key"), [("rsa", "rsa-3072"), ("ec", "ec-secp256r1")])
def test_a_management_certificate_is_imported_and_listed(site, kind, key) -> None:
    info = _import(site, kind=kind)
    assert (info.name, info.key, info.usable, info.imported) == ("management", key, True, NOW)
    assert site.services.certificates.management() == [info]


def test_errors_say_what_is_wrong_with_the_file(site) -> None:
    certificates = site.services.certificates
    pair = new_management("Test", 365, "ec", now=NOW)
    pfx = pair.pfx(Secret(PASSWORD))
    with pytest.raises(WrongPasswordError):
        certificates.import_management("m", pfx, Secret("wrong"))
    with pytest.raises(NotPkcs12Error):
        certificates.import_management("m", pair.cer, Secret(PASSWORD))
    site.clock.advance(400 * DAY)
    with pytest.raises(CertificateExpiredError):
        certificates.import_management("m", pfx, Secret(PASSWORD))
    assert certificates.management() == []
    assert issubclass(NoPrivateKeyError, BadInputError)


def test_names_and_certificates_are_kept_once(site) -> None:
    pair = new_management("Test", 365, "ec", now=NOW)
    pfx = pair.pfx(Secret(PASSWORD))
    certificates = site.services.certificates
    certificates.import_management("one", pfx, Secret(PASSWORD))
    with pytest.raises(ConflictError, match="as 'one'"):
        certificates.import_management("two", pfx, Secret(PASSWORD))
    with pytest.raises(ConflictError, match="named"):
        _import(site, "ONE")
    with pytest.raises(BadInputError):
        _import(site, "  ")


def test_after_a_restore_the_certificate_is_unusable_until_imported_again(site, tmp_path) -> None:
    pair = new_management("Test", 365, "ec", now=NOW)
    pfx = pair.pfx(Secret(PASSWORD))
    first = site.services.certificates.import_management("management", pfx, Secret(PASSWORD))
    vault = ServerVault.create(tmp_path / "new-vault.key")
    site.services.certificates._keys = SiteKeys(msgspec.structs.replace(site.keys.now, vault=vault), {})
    assert [one.usable for one in site.services.certificates.management()] == [False]
    again = site.services.certificates.import_management("management", pfx, Secret(PASSWORD))
    assert (again.id, again.usable) == (first.id, True)
    assert [one.usable for one in site.services.certificates.management()] == [True]


async def test_a_certificate_in_use_is_not_deleted(site) -> None:
    await site.make_point()
    with pytest.raises(ConflictError, match="cloud1"):
        site.services.certificates.delete_management("management")
    _import(site, "spare")
    site.services.certificates.delete_management("spare")
    with pytest.raises(NotFoundError):
        site.services.certificates.delete_management("spare")


def test_the_internal_issuer_makes_service_certificates_that_pass_its_own_rules(site) -> None:
    made = site.services.certificates.issue_service("Cloud9.contoso.com", 90, Secret(PASSWORD))
    assert made.fqdn == "cloud9.contoso.com"
    assert "BEGIN CERTIFICATE" in made.certificate
    loaded = load_pfx(made.pfx, Secret(PASSWORD), NOW)
    assert loaded.chain == (site.keys.authority.certificate,)


@pytest.mark.parametrize("name", ["*.contoso.com", "nodots", "", "spaced name.com", "10.0.0.1"])
def test_names_that_no_service_can_have_are_refused(site, name) -> None:
    with pytest.raises(BadInputError):
        site.services.certificates.issue_service(name, 90, Secret(PASSWORD))


async def test_a_name_that_is_taken_is_not_issued_again(site) -> None:
    await site.make_point()
    with pytest.raises(ConflictError):
        site.services.certificates.issue_service("cloud1.contoso.com", 90, Secret(PASSWORD))
    await site.database.write(_add_device, "laptop.contoso.com")
    with pytest.raises(ConflictError):
        site.services.certificates.issue_service("laptop.contoso.com", 90, Secret(PASSWORD))


async def test_the_internal_issuer_renews_the_certificate_of_the_point_that_has_the_name(site) -> None:
    point = await site.make_point()
    made = site.services.certificates.issue_service(point.fqdn, 90, Secret(PASSWORD), renews=point.name)
    renewal = RenewServiceCertificate(service_pfx=made.pfx, service_password=PASSWORD)
    assert (await site.services.renewal.service(point, renewal)).certificate_expires == made.not_after
    with pytest.raises(BadInputError, match=f"serves by the name {point.fqdn}"):
        site.services.certificates.issue_service("cloud9.contoso.com", 90, Secret(PASSWORD), renews=point.name)
    with pytest.raises(NotFoundError):
        site.services.certificates.issue_service(point.fqdn, 90, Secret(PASSWORD), renews="nobody")
    with pytest.raises(ConflictError) as refused:
        site.services.certificates.issue_service(point.fqdn, 90, Secret(PASSWORD))
    assert f"--renews {point.service}" in (refused.value.next_step or "")


def test_the_cloud_is_given_the_public_half_of_what_was_imported(site) -> None:
    kept = _import(site)
    public = site.services.certificates.public(kept.name)
    assert thumbprint(load_cer(public.certificate)).hex() == public.thumbprint == kept.thumbprint
    with pytest.raises(NotFoundError):
        site.services.certificates.public("nobody")


def test_nothing_prints_a_secret(site) -> None:
    info = _import(site)
    request = site.request()
    assert PASSWORD not in repr(request)
    assert PASSWORD not in repr(info)
