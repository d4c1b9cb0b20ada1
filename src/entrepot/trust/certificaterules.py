"""What a service certificate must be (R4; domain page, "Service certificate"), and what a renewal must keep.

Every refusal names the certificate, says what is wrong with it and what to request instead.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID

from entrepot.core.times import DAY, iso
from entrepot.trust.inspection import (
    CertificateExpiredError,
    UnsuitableCertificateError,
    certificate_name,
    check_fqdn,
    check_validity,
    covers,
    describe,
    describe_key,
    dns_names,
    expires,
    is_p256,
    is_readable,
    is_strong_rsa,
)

if TYPE_CHECKING:
    from entrepot.trust.certificates import LoadedPfx

SOON: Final = 30 * DAY
"""Seconds. A service certificate that ends sooner is remarked on when it is brought."""


def check_service_certificate(loaded: "LoadedPfx", fqdn: str, now: float) -> str:
    """Check that a certificate can serve clients as a cloud point (R4; domain page, "Service certificate").

    Args:
        loaded: the opened ``.pfx``.
        fqdn: the service's name; empty takes the certificate's own.
        now: seconds since 1970.

    Returns:
        the service FQDN in lower case.

    Raises:
        UnsuitableCertificateError: what is wrong with it, and what to request instead.
        CertificateExpiredError: expired or not yet valid.
    """
    certificate = loaded.certificate
    check_validity(certificate, now)
    _check_key(certificate)
    _check_usage(certificate)
    _check_characters(certificate)
    _check_chain(loaded, now)
    return _check_name(certificate, fqdn or _own_name(certificate))


def check_same_name(kind: str, before: str, certificate: x509.Certificate) -> None:
    """Check that a renewed certificate has the name of the one before; upper and lower case do not count.

    Args:
        kind: ``management`` or ``service``, for the error.
        before: the name of the certificate that it replaces.

    Raises:
        UnsuitableCertificateError: another name.
    """
    name = certificate_name(certificate)
    if name.casefold() != before.casefold():
        raise UnsuitableCertificateError(
            f"The new {kind} certificate {describe(certificate)} is not for {before[:80]}: a renewal keeps the name.",
            next_step=f"Request a certificate with the common name {before[:80]}, and give that one.",
        )


def ordered_chain(loaded: "LoadedPfx") -> tuple[x509.Certificate, ...]:
    """The issuers in the file, in the order in which a TLS server sends them; what does not belong is left out."""
    chain: list[x509.Certificate] = []
    last, left = loaded.certificate, list(loaded.chain)
    while last.issuer != last.subject:
        issuer = next((one for one in left if one.subject == last.issuer and _issued(last, one)), None)
        if issuer is None:
            break
        chain.append(issuer)
        left.remove(issuer)
        last = issuer
    return tuple(chain)


def chain_remarks(chain: Sequence[x509.Certificate], now: float) -> tuple[str, ...]:
    """What should be thought over about a service certificate and the issuers that are sent with it.

    Args:
        chain: the service certificate first.
        now: seconds since 1970.
    """
    first, remarks = chain[0], []
    if expires(first) - now < SOON:
        remarks.append(
            f"The service certificate {describe(first)} is valid only until {iso(expires(first))}: have its successor "
            "ready, and bring it with `entrepot cloud renew-certificate`."
        )
    if len(chain) > 1:
        return tuple(remarks)
    if first.issuer == first.subject:
        return (
            *remarks,
            f"The service certificate {describe(first)} is self-signed: clients accept it only if they trust that very "
            "certificate as a root.",
        )
    return (
        *remarks,
        f"The service certificate {describe(first)} comes without its issuer, {first.issuer.rfc4514_string()[:200]}: "
        "clients accept it only if they trust that one as a root. If not, export it with its chain.",
    )


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _check_chain(loaded: "LoadedPfx", now: float) -> None:
    """Issuers that travel in the file must be the right ones: with others, clients refuse the service."""
    if not loaded.chain:
        return
    chain = ordered_chain(loaded)
    if not chain and loaded.certificate.issuer != loaded.certificate.subject:
        raise _unsuitable(
            loaded.certificate,
            "was not issued by any of the other certificates in the file",
            "Export it again with its own chain (all certificates in the certification path).",
        )
    for issuer in chain:
        if not _is_authority(issuer):
            raise _unsuitable(
                loaded.certificate,
                f"was issued by {describe(issuer)}, which is not an issuer's certificate",
                "Export it again with its own chain.",
            )
        if issuer.issuer != issuer.subject and _is_weakly_signed(issuer):
            raise _unsuitable(
                loaded.certificate,
                f"was issued by {describe(issuer)}, which is signed with an outdated hash",
                "Request it from an issuer whose certificate is signed with SHA-2.",
            )
        if not is_readable(issuer) or not issuer.not_valid_before_utc.timestamp() <= now < expires(issuer):
            raise CertificateExpiredError(
                f"The issuer {describe(issuer)} of the service certificate {describe(loaded.certificate)} is not "
                f"valid now: its validity ends at {iso(expires(issuer))}.",
                next_step="Request the service certificate from an issuer that is valid, and export it with its chain.",
            )


def _unsuitable(certificate: x509.Certificate, problem: str, next_step: str) -> UnsuitableCertificateError:
    return UnsuitableCertificateError(
        f"The service certificate {describe(certificate)} {problem}.", next_step=next_step
    )


def _check_key(certificate: x509.Certificate) -> None:
    if not (is_strong_rsa(certificate.public_key()) or is_p256(certificate.public_key())):
        raise _unsuitable(
            certificate,
            f"has {describe_key(certificate)}",
            "Request RSA with 2048 bits or more, or P-256.",
        )
    if _is_weakly_signed(certificate):
        raise _unsuitable(certificate, "is signed with an outdated hash", "Request one signed with SHA-2.")


def _is_weakly_signed(certificate: x509.Certificate) -> bool:
    try:
        return isinstance(certificate.signature_hash_algorithm, hashes.SHA1 | hashes.MD5)
    except UnsupportedAlgorithm:
        return True


def _check_usage(certificate: x509.Certificate) -> None:
    try:
        purposes = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        purposes = x509.ExtendedKeyUsage([])
    if ExtendedKeyUsageOID.SERVER_AUTH not in purposes:
        raise _unsuitable(
            certificate,
            "is not meant for server authentication",
            "Request one with the extended key usage Server Authentication (1.3.6.1.5.5.7.3.1).",
        )
    if not _may_sign(certificate):
        raise _unsuitable(
            certificate,
            "may not sign, which TLS 1.3 asks of a server",
            "Request one with the key usage Digital Signature.",
        )
    if _is_authority(certificate):
        raise _unsuitable(certificate, "is an issuer's own certificate", "Request one for the service itself.")


def _may_sign(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.KeyUsage).value.digital_signature
    except x509.ExtensionNotFound:
        return True


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _check_characters(certificate: x509.Certificate) -> None:
    texts = [str(attribute.value) for attribute in certificate.subject] + list(dns_names(certificate))
    if any(ord(character) > 0xFF for text in texts for character in text):
        raise _unsuitable(
            certificate,
            "has double-byte characters in its subject or names",
            "Request one with single-byte characters only.",
        )


def _own_name(certificate: x509.Certificate) -> str:
    """The name of a certificate, for a service that was given none."""
    name = certificate_name(certificate)
    if "." not in name.rstrip("."):
        raise _unsuitable(
            certificate,
            "has no name that clients could resolve",
            "Name the service by one of its DNS names (--fqdn), or request one for a name such as cloud1.contoso.com.",
        )
    return name


def _check_name(certificate: x509.Certificate, fqdn: str) -> str:
    if fqdn.startswith("*."):
        raise _unsuitable(
            certificate,
            f"is for the wildcard {fqdn}, which is no service name",
            f"Name a host instead of the asterisk, such as cloud{fqdn[1:]}.",
        )
    wanted = check_fqdn(fqdn)
    names = dns_names(certificate)
    if not names:
        raise _unsuitable(
            certificate,
            "has no subject alternative name, which TLS clients require",
            f"Request one with the DNS name {wanted}.",
        )
    if not any(covers(name, wanted) for name in names):
        raise _unsuitable(
            certificate,
            f"is not for {wanted} but for {', '.join(names[:4])}",
            "Give a service name that the certificate has, or request a certificate for this name.",
        )
    return wanted
