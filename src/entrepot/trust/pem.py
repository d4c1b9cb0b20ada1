"""Certificates and keys in PEM text, as servers keep them."""

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from entrepot.core.errors import BadInputError
from entrepot.core.secret import Secret
from entrepot.trust.inspection import PrivateKey


def load_chain(pem: str) -> list[x509.Certificate]:
    """Certificates, the leaf first.

    Raises:
        BadInputError: no PEM text.
    """
    try:
        return x509.load_pem_x509_certificates(pem.encode())
    except ValueError:
        raise BadInputError("The certificate is not PEM text.") from None


def load_key(pem: Secret) -> PrivateKey:
    """A private key without passphrase.

    Raises:
        BadInputError: none that can be used.
    """
    try:
        key = load_pem_private_key(pem.reveal(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise BadInputError("The private key is not PEM text without passphrase.") from None
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise BadInputError("The private key is neither RSA nor elliptic-curve.")
    return key
