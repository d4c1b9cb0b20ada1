"""What a service specification must be before anything is done with it: the host believes no caller."""

from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from entrepot.cloud.host.services import MAX_INSTANCES
from entrepot.core.addresses import MAX_PORT
from entrepot.core.errors import BadInputError
from entrepot.core.ids import is_prefixed_id
from entrepot.protocol.cloudhost import ServiceSpec
from entrepot.trust.certificates import LoadedPfx, check_service_certificate
from entrepot.trust.inspection import PrivateKey, expires

MAX_PEM: Final = 64 * 1024


def check_spec(spec: ServiceSpec, *, now: float) -> int:
    """Check a specification, its certificate by all rules for service certificates (R4).

    Returns:
        when the certificate expires, seconds since 1970.

    Raises:
        BadInputError: what is wrong, and what to do.
    """
    if not is_prefixed_id(spec.point, "pt"):
        raise BadInputError("The specification names no distribution point.")
    if len(spec.root) != 32:
        raise BadInputError("The specification pins no proper hierarchy root: it has 32 bytes.")
    if not 1 <= spec.instances <= MAX_INSTANCES:
        raise BadInputError(f"A service has 1 to {MAX_INSTANCES} instances.")
    if not 0 <= spec.port <= MAX_PORT:
        raise BadInputError(f"A service's port is 1 to {MAX_PORT}, or 0: the host chooses one.")
    loaded = _loaded(spec)
    check_service_certificate(loaded, spec.fqdn, now)
    return expires(loaded.certificate)


def _loaded(spec: ServiceSpec) -> LoadedPfx:
    if max(len(spec.certificate), len(spec.private_key)) > MAX_PEM:
        raise BadInputError("The service certificate or its key is larger than 64 KiB.")
    try:
        chain = x509.load_pem_x509_certificates(spec.certificate.encode())
    except ValueError:
        raise BadInputError("The service certificate is not PEM text.") from None
    key = _key(spec.private_key)
    if key.public_key() != chain[0].public_key():
        raise BadInputError("The private key is not the key of the service certificate.")
    return LoadedPfx(key=key, certificate=chain[0], chain=tuple(chain[1:]))


def _key(pem: str) -> PrivateKey:
    problem = BadInputError("The service certificate's private key is not an RSA or EC key in PEM text.")
    try:
        key = load_pem_private_key(pem.encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise problem from None
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise problem
    return key
