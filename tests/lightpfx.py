"""Certificates whose files and keys open at once. What the product makes costs a guesser, and every test, a tenth of a
second."""

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import PrivateFormat, pkcs12

from entrepot.core.secret import Secret
from entrepot.trust.authority import Authority, new_tls_key
from entrepot.trust.certificates import Pair, new_management


def light_pfx(pair: Pair, password: str, chain: tuple[x509.Certificate, ...] = ()) -> bytes:
    """A certificate with its key, protected as the product's are, but with a single round of key derivation."""
    protection = (
        PrivateFormat.PKCS12.encryption_builder()
        .kdf_rounds(1)
        .key_cert_algorithm(pkcs12.PBES.PBESv2SHA256AndAES256CBC)
        .hmac_hash(hashes.SHA256())
        .build(Secret(password).reveal())
    )
    name = pair.name.encode()
    return pkcs12.serialize_key_and_certificates(name, pair.key, pair.certificate, chain or None, protection)


def light_service_pfx(authority: Authority, fqdn: str, password: str, *, days: int, now: float) -> bytes:
    """A service certificate of this issuer, as ``Authority.issue_service_pfx`` makes them."""
    key = new_tls_key()
    certificate = authority.issue_server(key.public_key(), names=[fqdn], days=days, now=now)
    return light_pfx(Pair(key=key, certificate=certificate, name=fqdn), password, (authority.certificate,))


def light_management(name: str, days: int, *, now: float) -> Pair:
    """A management certificate that Azure takes, as ``new_management`` makes them, but with the smallest key that will
    do: Azure's packages check a key each time they load it, and one of 2048 bits in a third of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("entrepot.trust.certificates.MANAGEMENT_RSA_BITS", 2048)
        return new_management(name, days, "rsa", now=now)
