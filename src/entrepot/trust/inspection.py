"""What a certificate says: its names, its validity, its thumbprint, its text forms; and how errors speak of it."""

import re
from datetime import UTC, datetime, timedelta
from typing import ClassVar, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from entrepot.core.errors import BadInputError
from entrepot.core.secret import Secret
from entrepot.core.terminal import harmless
from entrepot.core.times import DAY, iso

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey

MAX_CERTIFICATE: Final = 64 * 1024
MIN_RSA_BITS: Final = 2048
MAX_FQDN: Final = 253
_FQDN: Final = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
MAX_DAYS: Final = 3650
BACKDATE: Final = timedelta(minutes=10)
"""A new certificate is valid from a little earlier, for computers whose clock is behind."""


class WrongPasswordError(BadInputError):
    """The password does not open the PKCS#12 file."""

    code: ClassVar[str] = "wrong_password"


class NotPkcs12Error(BadInputError):
    """The file is no PKCS#12 file at all."""

    code: ClassVar[str] = "not_pkcs12"


class NoPrivateKeyError(BadInputError):
    """The PKCS#12 file holds no private key, or none that fits its certificate."""

    code: ClassVar[str] = "no_private_key"


class CertificateExpiredError(BadInputError):
    """The certificate's validity has ended, or has not begun."""

    code: ClassVar[str] = "certificate_expired"


class UnsuitableCertificateError(BadInputError):
    """The certificate is valid but not of the kind that is needed."""

    code: ClassVar[str] = "unsuitable_certificate"


def common_name(name: str) -> x509.Name:
    """A subject with this common name only.

    Raises:
        BadInputError: empty, or over 64 characters (X.520's bound).
    """
    if not 1 <= len(name) <= 64 or not name.isprintable():
        raise BadInputError("A certificate's name has 1 to 64 printable characters.")
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def validity(now: float, days: int) -> tuple[datetime, datetime]:
    """Begin and end of a new certificate's validity.

    Raises:
        BadInputError: not 1 to 3,650 days.
    """
    if not 1 <= days <= MAX_DAYS:
        raise BadInputError(f"A certificate is valid for 1 to {MAX_DAYS} days.")
    start = datetime.fromtimestamp(int(now), UTC)
    return start - BACKDATE, start + timedelta(days=days)


def check_validity(certificate: x509.Certificate, now: float) -> None:
    """Check that a certificate is valid now.

    Raises:
        CertificateExpiredError: it has expired, or is not yet valid.
    """
    if now >= expires(certificate):
        raise CertificateExpiredError(
            f"The certificate {describe(certificate)} expired at {iso(expires(certificate))}.",
            next_step="Request or make a new one and import that.",
        )
    begins = certificate.not_valid_before_utc.timestamp()
    if now < begins:
        raise CertificateExpiredError(
            f"The certificate {describe(certificate)} is valid only from {iso(begins)}.",
            next_step="Check this computer's clock, or wait.",
        )


def expires(certificate: x509.Certificate) -> int:
    """End of validity, seconds since 1970."""
    return int(certificate.not_valid_after_utc.timestamp())


def days_left(certificate: x509.Certificate, now: float) -> int:
    """Whole days until it expires; negative when it has."""
    return int((expires(certificate) - now) // DAY)


def load_cer(data: bytes) -> x509.Certificate:
    """Read a ``.cer`` file, DER or PEM.

    Raises:
        BadInputError: not a certificate, or one that :func:`is_readable` refuses.
    """
    try:
        if len(data) <= MAX_CERTIFICATE:
            pem = data.lstrip().startswith(b"-----BEGIN CERTIFICATE")
            certificate = x509.load_pem_x509_certificate(data) if pem else x509.load_der_x509_certificate(data)
            if is_readable(certificate):
                return certificate
    except (ValueError, x509.InvalidVersion):
        pass
    raise BadInputError(
        "This is not an X.509 certificate.",
        next_step="Give the .cer file, which holds the public certificate only, not the .pfx with the key.",
    )


def is_readable(certificate: x509.Certificate) -> bool:
    """Tell whether all that this room asks of a certificate can be read: its parts are parsed only when asked for."""
    try:
        parts = (certificate.subject, certificate.extensions, certificate.public_key())
    except (ValueError, UnsupportedAlgorithm, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return False
    return all(part is not None for part in parts)


def thumbprint(certificate: x509.Certificate) -> bytes:
    """SHA-256 of the whole DER certificate (RFC 7515 ``x5t#S256``, raw)."""
    return certificate.fingerprint(hashes.SHA256())


def certificate_name(certificate: x509.Certificate) -> str:
    """The name that the service FQDN is prefilled with (R1): the common name, else the first DNS name, else empty."""
    for attribute in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME):
        return str(attribute.value)
    names = dns_names(certificate)
    return names[0] if names else ""


def dns_names(certificate: x509.Certificate) -> tuple[str, ...]:
    """DNS names of the subject alternative name extension."""
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return ()
    return tuple(extension.value.get_values_for_type(x509.DNSName))


def describe(certificate: x509.Certificate) -> str:
    """How errors name a certificate: its subject, which anybody may have chosen, and its thumbprint's beginning."""
    name = certificate_name(certificate) or certificate.subject.rfc4514_string() or "without name"
    return f"{harmless(name[:80])} (SHA-256 {thumbprint(certificate).hex()[:16]}…)"


def to_pem(*certificates: x509.Certificate) -> str:
    """PEM of certificates, one after the other."""
    return "".join(certificate.public_bytes(Encoding.PEM).decode() for certificate in certificates)


def key_pem(key: PrivateKey) -> Secret:
    """PEM (PKCS#8, not encrypted) of a private key; keep it in the vault or in a 0600 file."""
    return Secret(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def fits(certificate: x509.Certificate, key: bytes) -> bool:
    """Whether a PEM private key, unencrypted, is the certificate's."""
    try:
        private = load_pem_private_key(key, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return False
    return private.public_key() == certificate.public_key()


def describe_key(certificate: x509.Certificate) -> str:
    """A certificate's kind of key, for errors that refuse it."""
    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        return f"an RSA key of {key.key_size} bits"
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"an elliptic-curve key on {key.curve.name}"
    return "a key that is neither RSA nor elliptic-curve"


def is_strong_rsa(key: object) -> bool:
    """Tell whether a public key is RSA of 2048 bits or more."""
    return isinstance(key, rsa.RSAPublicKey) and key.key_size >= MIN_RSA_BITS


def is_p256(key: object) -> bool:
    """Tell whether a public key is on the curve P-256."""
    return isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1)


def check_fqdn(text: str) -> str:
    """A fully qualified domain name in lower case, without a final dot. An IPv4 address is none, though it looks like
    one: no DNS record can lead from it.

    Raises:
        BadInputError: anything else.
    """
    name = text.lower().rstrip(".")
    if len(name) > MAX_FQDN or not _FQDN.fullmatch(name) or name.rpartition(".")[2].isdigit():
        raise BadInputError(
            f"{text[:100]!r} is not a fully qualified domain name.",
            next_step="Give the service name as clients resolve it, such as cloud1.contoso.com.",
        )
    return name


def covers(name: str, host: str) -> bool:
    """Tell whether a certificate's DNS name stands for this host (RFC 6125: ``*`` is one whole leftmost label)."""
    name, host = name.lower().rstrip("."), host.lower()
    if name.startswith("*."):
        label, _, rest = host.partition(".")
        return bool(label) and rest == name[2:] and "." in rest
    return name == host
