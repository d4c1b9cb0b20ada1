"""The hierarchy's own issuer of TLS certificates, for sites, points and (where no PKI is at hand) services.

P-256 throughout. The issuer signs end certificates only (path length 0), and they are complete enough for OpenSSL's
strict mode, which Python 3.13 makes the default: subject and authority key identifiers, critical constraints and
usage. Names always come from the caller, never from a certificate request: a request proves possession of a key and
nothing else.
"""

import ipaddress
from collections.abc import Sequence
from typing import Final, Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from entrepot.core.errors import BadInputError, FormatError
from entrepot.core.secret import Secret
from entrepot.protocol.trust import KeyEntry, Role
from entrepot.trust.certificates import to_pfx
from entrepot.trust.inspection import (
    PrivateKey,
    PublicKey,
    common_name,
    expires,
    is_p256,
    is_strong_rsa,
    key_pem,
    load_cer,
    to_pem,
    validity,
)
from entrepot.trust.signing import kid_of

AUTHORITY_DAYS: Final = 3650
SERVER_DAYS: Final = 398
RENEW_DAYS: Final = 60
"""Server certificates are renewed when they have fewer days left than this."""
MAX_CSR: Final = 16 * 1024
MAX_NAMES: Final = 100
MAX_COMMON_NAME: Final = 64


class Authority:
    """The issuer: its certificate and its private key, in memory for as long as it issues."""

    __slots__ = ("_key", "certificate")

    def __init__(self, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        self._key: Final = key
        self.certificate: Final = certificate

    @classmethod
    def load(cls, certificate: bytes, key: Secret) -> Self:
        """The issuer of a certificate (DER or PEM) and its key (PEM, PKCS#8).

        Raises:
            FormatError: the key is not P-256, cannot be read, or is not the certificate's.
        """
        loaded = load_cer(certificate)
        try:
            private = load_pem_private_key(key.reveal(), password=None)
        except (ValueError, TypeError):
            private = None
        if not isinstance(private, ec.EllipticCurvePrivateKey) or private.public_key() != loaded.public_key():
            raise FormatError("The issuer's key is not the key of its certificate.")
        return cls(private, loaded)

    def key_pem(self) -> Secret:
        """PEM of the private key, for the vault."""
        return key_pem(self._key)

    def pem(self) -> str:
        """PEM of the issuer's certificate: what its subjects' peers must trust."""
        return to_pem(self.certificate)

    def key_entry(self, site: str) -> KeyEntry:
        """How the trust document lists this issuer."""
        der = self.certificate.public_bytes(Encoding.DER)
        begins = int(self.certificate.not_valid_before_utc.timestamp())
        return KeyEntry(
            kid=kid_of(der),
            role=Role.CA,
            site=site,
            public=der,
            not_before=begins,
            not_after=expires(self.certificate),
        )

    def issue_server(
        self,
        csr_or_key: bytes | PublicKey,
        *,
        names: Sequence[str],
        ips: Sequence[str] = (),
        days: int = SERVER_DAYS,
        now: float,
    ) -> x509.Certificate:
        """Issue a TLS server certificate; it never outlives the issuer.

        Args:
            csr_or_key: DER PKCS#10 request (only its key is taken), or a public key.
            names: DNS names.
            ips: IPv4 or IPv6 addresses, as text.
            days: validity.
            now: seconds since 1970.

        Raises:
            BadInputError: no names, malformed ones, a request that cannot be read, or too weak a key.
        """
        public = public_key_of(csr_or_key) if isinstance(csr_or_key, bytes) else csr_or_key
        _check_public(public)
        alternatives = _alternative_names(names, ips)
        begin, end = validity(now, days)
        end = min(end, self.certificate.not_valid_after_utc)
        begin = max(begin, self.certificate.not_valid_before_utc)
        if end <= begin:
            raise BadInputError("The hierarchy's issuer has expired.", next_step="Make a new issuer at the site first.")
        title = next((text for text in (*names, *ips) if len(text) <= MAX_COMMON_NAME), "")
        subject = common_name(title) if title else x509.Name([])
        usage = _usage(digital_signature=True, key_encipherment=isinstance(public, rsa.RSAPublicKey))
        identifier = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(
            self.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        )
        return (
            x509.CertificateBuilder(subject_name=subject, issuer_name=self.certificate.subject, public_key=public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(alternatives, critical=not title)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(identifier, critical=False)
            .sign(self._key, hashes.SHA256())
        )

    def issue_service_pfx(self, fqdn: str, *, days: int = SERVER_DAYS, password: Secret, now: float) -> bytes:
        """A service certificate with its key and this issuer, as PKCS#12 (for a service FQDN without a PKI).

        Raises:
            BadInputError: no proper name, or an empty password.
        """
        key = new_tls_key()
        certificate = self.issue_server(key.public_key(), names=[fqdn], days=days, now=now)
        return to_pfx(fqdn, key, certificate, password, (self.certificate,))

    def __repr__(self) -> str:
        return f"Authority({self.certificate.subject.rfc4514_string()}, key=***)"


def issued_by_any(certificate: x509.Certificate, authorities: str) -> bool:
    """Whether one of these issuers (PEM) has issued a certificate."""
    for one in x509.load_pem_x509_certificates(authorities.encode()) if authorities else ():
        try:
            certificate.verify_directly_issued_by(one)
        except (ValueError, TypeError, InvalidSignature):
            continue
        return True
    return False


def create_authority(hierarchy: str, days: int = AUTHORITY_DAYS, *, now: float) -> Authority:
    """Make a new issuer for a hierarchy.

    Raises:
        BadInputError: no proper name or number of days.
    """
    key = new_tls_key()
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Entrepot"),
            *common_name(f"{hierarchy[:54]} authority"),
        ]
    )
    begin, end = validity(now, days)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    certificate = (
        x509.CertificateBuilder(subject_name=subject, issuer_name=subject, public_key=key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(identifier, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Authority(key, certificate)


def new_tls_key() -> ec.EllipticCurvePrivateKey:
    """A P-256 key for a TLS server."""
    return ec.generate_private_key(ec.SECP256R1())


def make_csr(key: PrivateKey) -> bytes:
    """A DER PKCS#10 request that proves possession of a key; the issuer decides the names."""
    request = x509.CertificateSigningRequestBuilder(subject_name=x509.Name([]))
    return request.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def public_key_of(csr: bytes) -> PublicKey:
    """The key of a DER PKCS#10 request, whose own signature is checked.

    Raises:
        BadInputError: not a request, or signed by another key.
    """
    try:
        request = x509.load_der_x509_csr(csr) if len(csr) <= MAX_CSR else None
        public = request.public_key() if request is not None and request.is_signature_valid else None
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion):
        public = None
    if not isinstance(public, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
        raise BadInputError("This is not a valid certificate request.")
    return public


def _check_public(public: PublicKey) -> None:
    if not (is_strong_rsa(public) or is_p256(public)):
        raise BadInputError("The key of the certificate request is too weak.", next_step="Use P-256, or RSA with 2048.")


def _alternative_names(names: Sequence[str], ips: Sequence[str]) -> x509.SubjectAlternativeName:
    if not 1 <= len(names) + len(ips) <= MAX_NAMES:
        raise BadInputError(f"A server certificate has 1 to {MAX_NAMES} names.")
    try:
        addresses = [x509.IPAddress(ipaddress.ip_address(ip)) for ip in ips]
        hosts = [x509.DNSName(name) for name in names]
    except ValueError as error:
        raise BadInputError(f"A server certificate cannot have this name: {error}.") from None
    if any(not name or len(name) > 253 or "*" in name or not name.isprintable() or " " in name for name in names):
        raise BadInputError("A server certificate's names are host names, without wildcards.")
    return x509.SubjectAlternativeName([*hosts, *addresses])


def _usage(
    *,
    digital_signature: bool = False,
    key_encipherment: bool = False,
    key_cert_sign: bool = False,
    crl_sign: bool = False,
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=key_encipherment,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )
