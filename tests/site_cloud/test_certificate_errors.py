"""Every way in which a certificate can be wrong, at every door it can come in by: told, and no harm done."""

import datetime
import functools
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, pkcs12
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from entrepot.core.errors import BadInputError, ConflictError
from entrepot.core.secret import Secret
from entrepot.core.times import DAY
from entrepot.database import tasks
from entrepot.protocol.cloudapi import RenewManagementCertificate, RenewServiceCertificate
from entrepot.site.cloud.certificates import Certificates

from .conftest import FQDN, NOW, PASSWORD, SiteUnderTest

Made = tuple[Any, x509.Certificate, tuple[x509.Certificate, ...]]


@functools.cache
def key(kind: str) -> Any:
    """Keys are costly: each is made once."""
    return {
        "p256": lambda: ec.generate_private_key(ec.SECP256R1()),
        "other": lambda: ec.generate_private_key(ec.SECP256R1()),
        "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
        "rsa1024": lambda: rsa.generate_private_key(public_exponent=65537, key_size=1024),
        "ed25519": ed25519.Ed25519PrivateKey.generate,
    }[kind]()


def certificate(
    kind: str = "p256",
    *,
    cn: str = FQDN,
    names: tuple[str, ...] = (FQDN,),
    purpose: x509.ObjectIdentifier | None = ExtendedKeyUsageOID.SERVER_AUTH,
    begins: int = -DAY,
    days: int = 90,
    ca: bool = False,
    issuer: str = "",
    by: str = "",
) -> x509.Certificate:
    begin = datetime.datetime.fromtimestamp(NOW + begins, datetime.UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, cn)])
    above = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]) if issuer else subject
    builder = x509.CertificateBuilder(
        above, subject, key(kind).public_key(), 7, begin, begin + datetime.timedelta(days=days)
    ).add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(one) for one in names]), False)
    if purpose is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), False)
    signer = key(by or kind)
    return builder.sign(signer, None if isinstance(signer, ed25519.Ed25519PrivateKey) else hashes.SHA256())


def pfx(made: x509.Certificate, kind: str = "p256", chain: tuple[x509.Certificate, ...] = (), **how: Any) -> bytes:
    holder = None if how.get("without_key") else key(kind)
    protection = BestAvailableEncryption(PASSWORD.encode())
    return pkcs12.serialize_key_and_certificates(b"n", holder, made, list(chain) or None, protection)


# What is wrong, the file, its password, and what the error names.
ANY: dict[str, tuple[Callable[[], bytes], str, str]] = {
    "a wrong password": (lambda: pfx(certificate()), "wrong", "password does not open"),
    "no password": (lambda: pfx(certificate()), "", "password does not open"),
    "no private key": (
        lambda: pfx(certificate(), without_key=True),
        PASSWORD,
        "only the certificate cloud1",
    ),
    "a certificate alone": (lambda: certificate().public_bytes(Encoding.DER), PASSWORD, "certificate alone"),
    "PEM text": (lambda: certificate().public_bytes(Encoding.PEM), PASSWORD, "PEM text"),
    "something else": (lambda: b"MZ\x90\x00" * 40, PASSWORD, "not a .pfx"),
    "nothing": (lambda: b"", PASSWORD, "not a .pfx"),
    "a torn file": (lambda: pfx(certificate())[:-40], PASSWORD, "is cut off"),
    "one that has expired": (lambda: pfx(certificate(begins=-100 * DAY)), PASSWORD, "expired"),
    "one of the future": (lambda: pfx(certificate(begins=DAY)), PASSWORD, "valid"),
    "an RSA key of 1,024 bits": (lambda: pfx(certificate("rsa1024"), "rsa1024"), PASSWORD, "an RSA key of 1024 bits"),
    "a P-384 key": (lambda: pfx(certificate("p384"), "p384"), PASSWORD, "key on secp384r1"),
    "an Ed25519 key": (lambda: pfx(certificate("ed25519"), "ed25519"), PASSWORD, "neither RSA nor"),
}
SERVICE: dict[str, tuple[Callable[[], bytes], str, str]] = {
    "no purpose": (lambda: pfx(certificate(purpose=None)), PASSWORD, "server authentication"),
    "a client's purpose": (
        lambda: pfx(certificate(purpose=ExtendedKeyUsageOID.CLIENT_AUTH)),
        PASSWORD,
        "server authentication",
    ),
    "an issuer's own": (lambda: pfx(certificate(ca=True)), PASSWORD, "issuer's own"),
    "no alternative name": (lambda: pfx(certificate(names=())), PASSWORD, "no subject alternative name"),
    "other names only": (lambda: pfx(certificate(names=("other.contoso.com",))), PASSWORD, "but for other.contoso.com"),
    "double-byte characters": (lambda: pfx(certificate(cn="云.contoso.com")), PASSWORD, "double-byte"),
    "a foreign chain": (
        lambda: pfx(certificate(issuer="Root", by="p256"), chain=(certificate("other", cn="Other", ca=True),)),
        PASSWORD,
        "not issued by any",
    ),
    "an issuer that is none": (
        lambda: pfx(certificate(issuer="Root", by="other"), chain=(certificate("other", cn="Root"),)),
        PASSWORD,
        "not an issuer's certificate",
    ),
    "an issuer that has expired": (
        lambda: pfx(
            certificate(issuer="Root", by="other"),
            chain=(certificate("other", cn="Root", ca=True, begins=-100 * DAY),),
        ),
        PASSWORD,
        "Root",
    ),
}


async def _unchanged(site: SiteUnderTest, before: list[Any]) -> None:
    assert await site.database.read(tasks.listed) == before
    assert site.cloud.calls == []


def _told(refused: pytest.ExceptionInfo[BadInputError], named: str) -> None:
    assert named in refused.value.message
    assert refused.value.next_step or "valid" in refused.value.message
    assert PASSWORD not in str(refused.value)


@pytest.mark.parametrize("wrong", [*ANY, *SERVICE])
async def test_a_creation_with_it_is_refused_before_anything_is_made(site, wrong) -> None:
    site.import_certificate()
    make, password, named = (ANY | SERVICE)[wrong]
    request = site.request(service_pfx=make(), service_password=password)
    for call in (site.services.create, site.services.plan):
        with pytest.raises(BadInputError) as refused:
            await call(request)
        _told(refused, named)
    await _unchanged(site, [])
    assert await site.services.points() == []


@pytest.mark.parametrize("wrong", [*ANY, *SERVICE])
async def test_a_renewal_with_it_is_refused_and_the_service_goes_on_with_the_old_one(site, wrong) -> None:
    await site.make_point()
    before, done = await site.services.get("cloud1"), await site.database.read(tasks.listed)
    site.cloud.calls.clear()
    make, password, named = (ANY | SERVICE)[wrong]
    with pytest.raises(BadInputError) as refused:
        await site.services.renew("cloud1", RenewServiceCertificate(service_pfx=make(), service_password=password))
    _told(refused, named)
    await _unchanged(site, done)
    assert await site.services.get("cloud1") == before


@pytest.mark.parametrize("wrong", list(ANY))
async def test_a_management_certificate_like_that_is_neither_imported_nor_taken_as_a_renewal(site, wrong) -> None:
    make, password, named = ANY[wrong]
    certificates: Certificates = site.services.certificates
    with pytest.raises(BadInputError) as refused:
        certificates.import_management("m", make(), Secret(password))
    _told(refused, named)
    assert certificates.management() == []
    site.import_certificate()
    kept = certificates.management()
    with pytest.raises(BadInputError):
        await site.services.renewal.management("management", RenewManagementCertificate(pfx=make(), password=password))
    assert certificates.management() == kept
    await _unchanged(site, [])


async def test_a_wildcard_needs_a_name_and_is_told_which(site) -> None:
    site.import_certificate()
    wildcard = pfx(certificate(cn="*.contoso.com", names=("*.contoso.com",)))
    with pytest.raises(BadInputError, match="Name a host instead of the asterisk"):
        await site.services.create(site.request(service_pfx=wildcard))
    await site.services.create(msgspec.structs.replace(site.request(service_pfx=wildcard), fqdn=FQDN))
    await site.settle()
    assert (await site.services.get("cloud1")).fqdn == FQDN


async def test_two_services_may_share_a_wildcard_but_no_name(site) -> None:
    wildcard = pfx(certificate(cn="*.contoso.com", names=("*.contoso.com",)))
    site.import_certificate()
    await site.services.create(msgspec.structs.replace(site.request(service_pfx=wildcard), fqdn=FQDN))
    request = msgspec.structs.replace(site.request("cloud2", service_pfx=wildcard), fqdn=FQDN.upper())
    with pytest.raises(ConflictError, match="has the service name"):
        await site.services.create(request)
    await site.services.create(msgspec.structs.replace(request, fqdn="cloud2.contoso.com"))


async def test_a_certificate_that_expires_while_the_creation_waits_is_told_by_the_task(site) -> None:
    site.import_certificate()
    task = await site.services.create(site.request(service_pfx=pfx(certificate(days=2))))
    site.clock.advance(3 * DAY)
    await site.settle()
    ended = await site.task(task)
    assert "service certificate of cloud1 expired" in ended.error
    assert "create" not in site.cloud.calls


async def test_a_certificate_that_is_its_own_issuer_is_taken_with_a_remark(site) -> None:
    site.import_certificate()
    request = site.request(service_pfx=pfx(certificate()), service_password=PASSWORD)
    (remark,) = (await site.services.plan(request)).remarks
    assert "self-signed: clients accept it only if they trust that very certificate" in remark


async def test_a_certificate_that_ends_soon_is_taken_with_a_remark(site) -> None:
    site.import_certificate()
    issuer = certificate("other", cn="Contoso issuing CA", ca=True)
    brief = certificate(issuer="Contoso issuing CA", by="other", days=20)
    request = site.request(service_pfx=pfx(brief, chain=(issuer,)), service_password=PASSWORD)
    (remark,) = (await site.services.plan(request)).remarks
    assert "is valid only until" in remark
    assert "entrepot cloud renew-certificate" in remark
    task = await site.services.create(request)
    await site.settle()
    assert remark in (await site.task(task)).message


async def test_a_certificate_without_its_issuer_is_taken_with_a_remark(site) -> None:
    """A root that clients trust may have issued it; if it was not one, they will refuse the service."""
    site.import_certificate()
    alone = certificate(issuer="Contoso issuing CA", by="other")
    request = site.request(service_pfx=pfx(alone), service_password=PASSWORD)
    (remark,) = (await site.services.plan(request)).remarks
    assert "comes without its issuer, CN=Contoso issuing CA" in remark
    assert "with its chain" in remark
    task = await site.services.create(request)
    await site.settle()
    assert remark in (await site.database.read(tasks.get, task.id)).message
    issuer = certificate("other", cn="Contoso issuing CA", ca=True)
    whole = site.request(
        name="cloud2",
        service_pfx=pfx(
            certificate(
                cn="cloud2.contoso.com", names=("cloud2.contoso.com",), issuer="Contoso issuing CA", by="other"
            ),
            chain=(issuer,),
        ),
        service_password=PASSWORD,
    )
    assert (await site.services.plan(whole)).remarks == ()
