"""The proof of an enrolment code: a MAC over what the newcomer sends; the secret itself never travels.

HMAC-SHA256 under the code's secret over ``"entrepot/enrol/1"`` and then nonce, kind, name, public key and CSR, each
after its length as a big-endian u32 (``protocol.enrolment``): no two requests have the same MAC input.
"""

import hashlib
import hmac
import struct

from entrepot.core.errors import UnauthenticatedError
from entrepot.core.secret import Secret
from entrepot.protocol.enrolment import EnrolRequest, Kind
from entrepot.trust.root import readable

_CONTEXT = b"entrepot/enrol/1"


def enrolment_mac(
    secret: Secret | bytes, *, nonce: bytes, kind: Kind, name: str, public_key: bytes, csr: bytes = b""
) -> bytes:
    """The 32-byte MAC that goes into :class:`EnrolRequest`."""
    raw = secret.reveal() if isinstance(secret, Secret) else secret
    fields = (nonce, str(kind).encode(), name.encode(), public_key, csr)
    message = _CONTEXT + b"".join(struct.pack(">I", len(field)) + field for field in fields)
    return hmac.digest(raw, message, "sha256")


def check_mac(secret: Secret | bytes, request: EnrolRequest) -> None:
    """Check that the newcomer knows the code's secret.

    Raises:
        UnauthenticatedError: it does not, or something was changed on the way.
    """
    expected = enrolment_mac(
        secret,
        nonce=request.nonce,
        kind=request.kind,
        name=request.name,
        public_key=request.public_key,
        csr=request.csr,
    )
    if not hmac.compare_digest(expected, request.mac):
        raise UnauthenticatedError(
            "The enrolment code is not valid for this request.",
            next_step="Ask an administrator for a new enrolment code.",
        )


def key_fingerprint(public_key: bytes) -> str:
    """What administrator and user compare before an approval without a code: SHA-256 in groups of four digits."""
    return readable(hashlib.sha256(public_key).digest())
