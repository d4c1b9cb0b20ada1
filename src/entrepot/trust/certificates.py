"""X.509 for people: management certificates, PKCS#12 files, and what a service certificate must be (R3, R4).

Every refusal names the certificate, says what is wrong with it and what to do, because certificates are where setting
up a cloud point goes wrong most often. Passwords open a file once and are kept nowhere.
"""

import contextlib
from typing import Final, Literal

import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PrivateFormat, pkcs12
from cryptography.x509.oid import ExtendedKeyUsageOID

from entrepot.core.errors import BadInputError
from entrepot.core.secret import Secret
from entrepot.core.sizes import MIB
from entrepot.trust.certificaterules import check_same_name, check_service_certificate, ordered_chain
from entrepot.trust.inspection import (
    CertificateExpiredError,
    NoPrivateKeyError,
    NotPkcs12Error,
    PrivateKey,
    UnsuitableCertificateError,
    WrongPasswordError,
    certificate_name,
    check_validity,
    common_name,
    covers,
    days_left,
    describe,
    describe_key,
    dns_names,
    expires,
    is_p256,
    is_readable,
    is_strong_rsa,
    key_pem,
    load_cer,
    thumbprint,
    to_pem,
    validity,
)

__all__ = [
    "CertificateExpiredError",
    "LoadedPfx",
    "NoPrivateKeyError",
    "NotPkcs12Error",
    "Pair",
    "PrivateKey",
    "UnsuitableCertificateError",
    "WrongPasswordError",
    "assertion_algorithm",
    "certificate_name",
    "check_management_certificate",
    "check_same_name",
    "check_service_certificate",
    "check_validity",
    "covers",
    "days_left",
    "describe",
    "dns_names",
    "expires",
    "key_pem",
    "load_cer",
    "load_pfx",
    "new_management",
    "ordered_chain",
    "thumbprint",
    "to_pem",
    "to_pfx",
]

MAX_PFX: Final = MIB
MANAGEMENT_RSA_BITS: Final = 3072
_PKCS7_DATA: Final = bytes.fromhex("06092a864886f70d010701")


class LoadedPfx(msgspec.Struct, frozen=True):
    """An opened PKCS#12 file. ``chain`` are the further certificates, in the file's order."""

    key: PrivateKey
    certificate: x509.Certificate
    chain: tuple[x509.Certificate, ...] = ()

    def chain_pem(self) -> str:
        """PEM of the certificate and its issuers, in the order in which a TLS server sends them."""
        return to_pem(self.certificate, *ordered_chain(self))

    def key_pem(self) -> Secret:
        """PEM (PKCS#8, not encrypted) of the private key."""
        return key_pem(self.key)

    def __repr__(self) -> str:
        return f"LoadedPfx({describe(self.certificate)}, key=***)"


class Pair(msgspec.Struct, frozen=True):
    """A new management certificate with its key: ``.cer`` for the cloud subscription, ``.pfx`` for the site."""

    key: PrivateKey
    certificate: x509.Certificate
    name: str

    @property
    def cer(self) -> bytes:
        """The public half, DER."""
        return self.certificate.public_bytes(Encoding.DER)

    def pfx(self, password: Secret) -> bytes:
        """The private half, PKCS#12 under this password."""
        return to_pfx(self.name, self.key, self.certificate, password)

    def __repr__(self) -> str:
        return f"Pair({self.name}, key=***)"


def new_management(name: str, days: int, kind: Literal["rsa", "ec"] = "rsa", *, now: float) -> Pair:
    """Make a self-signed management certificate (R3): RSA 3072 (what Azure takes) or EC P-256.

    Raises:
        BadInputError: no proper name, or not 1 to 3,650 days.
    """
    key: PrivateKey
    if kind == "rsa":
        key = rsa.generate_private_key(public_exponent=65537, key_size=MANAGEMENT_RSA_BITS)
    else:
        key = ec.generate_private_key(ec.SECP256R1())
    subject = common_name(name)
    begin, end = validity(now, days)
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        x509.CertificateBuilder(subject_name=subject, issuer_name=subject, public_key=key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Pair(key=key, certificate=certificate, name=name)


def to_pfx(
    name: str,
    key: PrivateKey,
    certificate: x509.Certificate,
    password: Secret,
    chain: tuple[x509.Certificate, ...] = (),
) -> bytes:
    """A PKCS#12 file: AES-256-CBC, HMAC-SHA-256, which Windows reads since Server 2019.

    Raises:
        BadInputError: the password is empty.
    """
    if not len(password):
        raise BadInputError("A .pfx file needs a password.")
    protection = (
        PrivateFormat.PKCS12.encryption_builder()
        .kdf_rounds(100_000)
        .key_cert_algorithm(pkcs12.PBES.PBESv2SHA256AndAES256CBC)
        .hmac_hash(hashes.SHA256())
        .build(password.reveal())
    )
    return pkcs12.serialize_key_and_certificates(name.encode(), key, certificate, chain or None, protection)


def load_pfx(data: bytes, password: Secret, now: float) -> LoadedPfx:
    """Open a ``.pfx`` file, of modern (AES) or legacy (RC2, 3DES) encryption.

    Args:
        data: the file, at most 1 MiB.
        password: used here and kept nowhere.
        now: seconds since 1970; the certificate must be valid.

    Raises:
        NotPkcs12Error: another kind of file.
        WrongPasswordError: the password does not open it.
        NoPrivateKeyError: certificates only, or a key that does not fit.
        UnsuitableCertificateError: its key is neither RSA nor elliptic-curve, or its encryption cannot be read.
        CertificateExpiredError: expired or not yet valid.
    """
    _check_shape(data)
    key, certificate, chain = _open_pfx(data, password)
    if key is None or certificate is None:
        held = f", only the certificate {describe(chain[0])}" if chain else ""
        raise NoPrivateKeyError(
            f"The .pfx file holds no private key{held}.",
            next_step="Export the certificate again, with its private key (marked exportable) and a password.",
        )
    if not is_readable(certificate):
        raise UnsuitableCertificateError(
            "The certificate in the .pfx file cannot be read: its key, a name or an extension is of an unknown kind.",
            next_step="Request a plain server or client certificate with an RSA or P-256 key.",
        )
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise UnsuitableCertificateError(
            f"The key of {describe(certificate)} is neither RSA nor elliptic-curve.",
            next_step="Request a certificate with an RSA key of at least 2048 bits, or P-256.",
        )
    if key.public_key() != certificate.public_key():
        raise NoPrivateKeyError(f"The private key in the .pfx file is not the key of {describe(certificate)}.")
    check_validity(certificate, now)
    return LoadedPfx(key=key, certificate=certificate, chain=chain)


def _open_pfx(data: bytes, password: Secret) -> tuple[object, x509.Certificate | None, tuple[x509.Certificate, ...]]:
    # An empty password has two encodings in the wild: no password at all, and a password of no characters.
    candidates = [password.reveal()] if len(password) else [None, b""]
    for candidate in candidates:
        try:
            key, certificate, chain = pkcs12.load_key_and_certificates(data, candidate)
        except UnsupportedAlgorithm:
            raise UnsuitableCertificateError(
                "The .pfx file uses an encryption that this computer cannot read.",
                next_step="Export it again with AES-256 encryption.",
            ) from None
        except ValueError:
            continue
        return key, certificate, tuple(chain)
    if len(password) and _opens_without(data):
        raise WrongPasswordError(
            "The .pfx file is protected by no password at all, and one was given.",
            next_step="Export it again with a password: whoever can read this file has the private key.",
        )
    raise WrongPasswordError(
        "The password does not open the .pfx file.",
        next_step="Check the password; if it is right, the file is damaged: export it again.",
    )


def _opens_without(data: bytes) -> bool:
    for none in (None, b""):
        with contextlib.suppress(ValueError, UnsupportedAlgorithm):
            pkcs12.load_key_and_certificates(data, none)
            return True
    return False


def _announced_size(data: bytes) -> int:
    """How many bytes a DER value has by its own account (X.690 8.1.3, a definite length); 0: that cannot be told."""
    if len(data) < 2 or data[1] == 0x80:
        return 0
    if data[1] < 0x80:
        return 2 + data[1]
    digits = data[1] & 0x7F
    return 2 + digits + int.from_bytes(data[2 : 2 + digits])


def _check_shape(data: bytes) -> None:
    """Tell what is no PKCS#12 (RFC 7292: SEQUENCE, version 3, content type *data*) from what does not open."""
    if len(data) > MAX_PFX:
        raise NotPkcs12Error("A .pfx file has at most 1 MiB.")
    advice = "Give the .pfx file (PKCS#12) that holds the certificate with its private key."
    if data.lstrip().startswith(b"-----BEGIN"):
        raise NotPkcs12Error("This is a PEM text file, not a .pfx file.", next_step=advice)
    try:
        certificate = load_cer(data)
    except BadInputError:
        pass
    else:
        raise NotPkcs12Error(
            f"This is a certificate alone ({describe(certificate)}), without private key.", next_step=advice
        )
    if data[:1] != b"\x30" or b"\x02\x01\x03" not in data[:8] or _PKCS7_DATA not in data[:64]:
        raise NotPkcs12Error("This is not a .pfx file (PKCS#12).", next_step=advice)
    if len(data) < (whole := _announced_size(data)) <= MAX_PFX:
        raise NotPkcs12Error(
            f"The .pfx file is cut off: only {len(data)} of its {whole} bytes are there.",
            next_step="Copy or export it again.",
        )


def check_management_certificate(loaded: LoadedPfx) -> str:
    """Check that a certificate can authenticate the site to a cloud (R3).

    Returns:
        the algorithm of its client assertions: ``PS256`` or ``ES256``.

    Raises:
        UnsuitableCertificateError: its key is neither RSA of 2048 bits or more nor P-256.
    """
    return assertion_algorithm(loaded.certificate)


def assertion_algorithm(certificate: x509.Certificate) -> str:
    """``PS256`` for RSA, ``ES256`` for P-256.

    Raises:
        UnsuitableCertificateError: another kind of key, or too weak a one.
    """
    if is_strong_rsa(certificate.public_key()):
        return "PS256"
    if is_p256(certificate.public_key()):
        return "ES256"
    raise UnsuitableCertificateError(
        f"The management certificate {describe(certificate)} has {describe_key(certificate)}.",
        next_step="Use RSA with 2048 bits or more, or P-256.",
    )
