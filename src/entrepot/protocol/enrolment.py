"""How a device or a point becomes known to its site (architecture 3, device identity).

1. ``GET /mp/trust``: the trust document, verified against the code's root fingerprint; it names the CA that the
   site's TLS certificate must chain to. Only this first request may go without TLS verification.
2. ``POST /mp/enrolment/nonce`` → :class:`NonceReply`.
3. ``POST /mp/enrolment`` with :class:`EnrolRequest`: a MAC (HMAC-SHA256 under the code's secret, never the secret
   itself) over ``"entrepot/enrol/1" ‖ nonce ‖ kind ‖ name ‖ public key ‖ csr``, each with its length. Without a code
   there is no MAC: then an administrator approves after comparing fingerprints.
"""

from enum import StrEnum

import msgspec

from entrepot.core.encoding import b64url, pack, unb64url, unpack
from entrepot.core.errors import BadInputError, FormatError

_PREFIX = "entrepot1."
SECRET_BYTES = 16


class Kind(StrEnum):
    """Who enrols."""

    DEVICE = "device"
    POINT = "point"


class EnrolmentCode(msgspec.Struct, frozen=True, array_like=True):
    """What an administrator hands to a new device: one line of text.

    ``fingerprint`` is SHA-256 of the hierarchy root's raw public key (32 bytes); ``secret`` 16 bytes.
    """

    url: str
    site: str
    code_id: str
    secret: bytes
    fingerprint: bytes

    def encode(self) -> str:
        """The one-line text form. It holds the secret: show it once."""
        return _PREFIX + b64url(pack(self))

    def __repr__(self) -> str:
        return f"EnrolmentCode({self.url}, {self.code_id}, secret=***)"


def parse_enrolment_code(text: str) -> EnrolmentCode:
    """Inverse of :meth:`EnrolmentCode.encode`.

    Raises:
        BadInputError: not an enrolment code (truncated when copied, most often).
    """
    problem = BadInputError(
        "This is not an enrolment code.", next_step="Copy the whole line that begins with entrepot1."
    )
    line = text.strip()
    if not line.startswith(_PREFIX):
        raise problem
    try:
        code = unpack(unb64url(line[len(_PREFIX) :]), EnrolmentCode, "enrolment code")
    except FormatError:
        raise problem from None
    if len(code.secret) != SECRET_BYTES or len(code.fingerprint) != 32 or not code.url.startswith("https://"):
        raise problem
    return code


class NonceReply(msgspec.Struct, frozen=True, kw_only=True):
    """A nonce to use once within five minutes."""

    nonce: bytes


class EnrolRequest(msgspec.Struct, frozen=True, kw_only=True):
    """``public_key`` raw Ed25519, 32 bytes. ``csr`` (points only): DER PKCS#10 for the TLS certificate."""

    nonce: bytes
    kind: Kind
    name: str
    public_key: bytes
    code_id: str = ""
    mac: bytes = b""
    csr: bytes = b""
    url: str = ""  # points only: where clients and the site reach it


class EnrolReply(msgspec.Struct, frozen=True, kw_only=True):
    """``state`` is ``approved`` or ``pending``. ``certificates`` (points): PEM chain for the CSR. ``name`` is what the
    site calls the newcomer, which a code may have decided; empty from a site that does not say.
    """

    id: str
    site: str
    state: str
    certificates: str = ""
    name: str = ""


class RenewalRequest(msgspec.Struct, frozen=True, kw_only=True):
    """``POST /mp/certificate``, with an assertion by the point's identity key: a point asks for its next TLS
    certificate. ``csr``: DER PKCS#10; the name stays the host of the point's url, whatever the request says."""

    csr: bytes


class RenewalReply(msgspec.Struct, frozen=True, kw_only=True):
    """PEM chain for the CSR."""

    certificates: str


class DeviceClaims(msgspec.Struct, frozen=True, kw_only=True):
    """A device's assertion for one request.

    ``sub`` device id, ``aud`` ``site:<code>``, ``bh`` SHA-256 of the request's body in base64url.
    """

    sub: str
    aud: str
    iat: int
    exp: int
    jti: str
    bh: str
