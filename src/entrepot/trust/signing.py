"""The one signed envelope: compact JWS (RFC 7515) with Ed25519 (RFC 9864), read strictly.

The header has exactly ``alg``, ``kid`` and ``typ`` (the trust document alone adds ``jwk``). Any other member, such as
``crit``, ``jku`` or ``x5u``, is refused, because what is not understood must not be ignored. Sizes are bounded before
anything is decoded. Verifying needs no choice of algorithm: there is one.
"""

import hashlib
from typing import Final, Self

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from entrepot.core.encoding import b64url, from_json, to_json, unb64url
from entrepot.core.errors import FormatError, TrustError
from entrepot.core.secret import Secret
from entrepot.core.sizes import KIB, MIB
from entrepot.core.times import iso
from entrepot.protocol import SignedType
from entrepot.protocol.tokens import MAX_TOKEN_BYTES
from entrepot.protocol.trust import KeyEntry, Role, TrustDocument

ALGORITHM: Final = "Ed25519"
KID_BYTES: Final = 12
PUBLIC_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64
MAX_HEADER: Final = 512
"""Characters of an encoded header; the longest real one, with ``jwk``, has about 230."""

LIMITS: Final[dict[SignedType, int]] = {
    SignedType.TRUST: 4 * MIB,
    SignedType.MANIFEST: 16 * MIB,
    SignedType.DELTA: 16 * MIB,
    SignedType.CONTROL: 8 * MIB,
    SignedType.POLICY: 8 * MIB,
    SignedType.LOCATION: 2 * MIB,
    SignedType.CONTENT_TOKEN: MAX_TOKEN_BYTES,
    SignedType.SITE_TOKEN: 2 * KIB,
    SignedType.DEVICE_ASSERTION: 2 * KIB,
}
"""Most characters of a whole document, per type."""


class Jwk(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A public key in a header (RFC 8037); only the trust document carries one."""

    kty: str
    crv: str
    x: str


class Header(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The protected header; nothing else may stand in it."""

    alg: str
    kid: str
    typ: str
    jwk: Jwk | None = None


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """A document taken apart but not yet believed. ``signed`` are the bytes under the signature."""

    header: Header
    payload: bytes
    signed: bytes
    signature: bytes


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """What a valid signature covers, and who made it."""

    payload: bytes
    kid: str
    site: str


def kid_of(public: bytes) -> str:
    """Key id of a raw public key: base64url of the first 12 bytes of its SHA-256."""
    return b64url(hashlib.sha256(public).digest()[:KID_BYTES])


class SigningKey:
    """An Ed25519 private key; prints as its key id."""

    __slots__ = ("_private", "kid", "public")

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private: Final = private
        self.public: Final = private.public_key().public_bytes_raw()
        self.kid: Final = kid_of(self.public)

    @classmethod
    def generate(cls) -> Self:
        """A new key."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_private(cls, private: Secret) -> Self:
        """The key of 32 raw private bytes.

        Raises:
            FormatError: not 32 bytes.
        """
        if len(private) != PUBLIC_BYTES:
            raise FormatError("An Ed25519 private key has 32 bytes.")
        return cls(Ed25519PrivateKey.from_private_bytes(private.reveal()))

    @property
    def private(self) -> Secret:
        """The 32 raw private bytes."""
        return Secret(self._private.private_bytes_raw())

    def sign_bytes(self, data: bytes) -> bytes:
        """The 64-byte signature of these bytes."""
        return self._private.sign(data)

    def __repr__(self) -> str:
        return f"SigningKey({self.kid})"


def sign(payload: bytes, *, typ: SignedType, key: SigningKey, show_key: bool = False) -> str:
    """Make a signed document.

    Args:
        payload: canonical encoding of the model that ``typ`` promises.
        typ: what the document is.
        key: who says it.
        show_key: put the public key into the header (trust documents only).

    Raises:
        FormatError: the document would exceed what verifiers accept.
    """
    jwk = Jwk(kty="OKP", crv=ALGORITHM, x=b64url(key.public)) if show_key else None
    header = to_json(Header(alg=ALGORITHM, kid=key.kid, typ=typ, jwk=jwk))
    signed = f"{b64url(header)}.{b64url(payload)}"
    document = f"{signed}.{b64url(key.sign_bytes(signed.encode()))}"
    if len(document) > LIMITS[typ]:
        raise FormatError(f"The {typ} document would have {len(document)} bytes; {LIMITS[typ]} are allowed.")
    return document


def take_apart(document: str | bytes, *, typ: SignedType) -> Envelope:
    """Check size, shape and header of a signed document; the signature is *not* checked.

    Raises:
        FormatError: too large, not a compact JWS, or not base64url.
        TrustError: another type or algorithm, or a header that says more than it may.
    """
    if len(document) > LIMITS[typ]:
        raise FormatError(f"The {typ} document is larger than {LIMITS[typ]} bytes.")
    try:
        text = document.decode("ascii") if isinstance(document, bytes) else document
    except UnicodeDecodeError:
        raise FormatError(f"The {typ} document is not a compact JWS.") from None
    parts = text.split(".", 3)
    if len(parts) != 3 or len(parts[0]) > MAX_HEADER or not text.isascii():
        raise FormatError(f"The {typ} document is not a compact JWS.")
    try:
        header = from_json(unb64url(parts[0], "header"), Header, "header")
    except FormatError as error:
        raise TrustError(f"The header of the {typ} document is not acceptable: {error.message}") from None
    if header.alg != ALGORITHM:
        raise TrustError(f"The {typ} document is signed with another algorithm than {ALGORITHM}.")
    if header.typ != typ:
        raise TrustError(f"This is not a {typ} document but a document of another type.")
    if (header.jwk is not None) != (typ is SignedType.TRUST):
        raise TrustError(f"The header of the {typ} document may not carry a key, or misses the one it must carry.")
    signature = unb64url(parts[2], "signature")
    if len(signature) != SIGNATURE_BYTES:
        raise FormatError(f"The signature of the {typ} document has not 64 bytes.")
    signed = text[: len(parts[0]) + 1 + len(parts[1])].encode()
    return Envelope(header=header, payload=unb64url(parts[1], "payload"), signed=signed, signature=signature)


def check_signature(envelope: Envelope, public: bytes | Ed25519PublicKey) -> None:
    """Check the signature of an envelope against one key.

    Raises:
        TrustError: it is not this key's signature of these bytes.
    """
    try:
        key = Ed25519PublicKey.from_public_bytes(public) if isinstance(public, bytes) else public
        key.verify(envelope.signature, envelope.signed)
    except (InvalidSignature, ValueError):
        raise TrustError(f"The signature of the {envelope.header.typ} document is not valid.") from None


class Ring:
    """The signing keys of a trust document, ready to verify with. Immutable; share it between threads."""

    def __init__(self, document: TrustDocument) -> None:
        self.document: Final = document
        self._entries: dict[str, KeyEntry] = {}
        self._keys: dict[str, Ed25519PublicKey] = {}
        for entry in document.keys:
            if entry.role is not Role.CA:
                self._entries[entry.kid] = entry
                self._keys[entry.kid] = Ed25519PublicKey.from_public_bytes(entry.public)

    def kids(self, role: Role, *, site: str, now: float) -> tuple[str, ...]:
        """Key ids of a site that are valid now for this role, in the document's order."""
        return tuple(
            entry.kid
            for entry in self._entries.values()
            if entry.role is role and entry.site == site and entry.not_before <= now < entry.not_after
        )

    def verify(
        self, document: str | bytes, *, typ: SignedType, role: Role, now: float, site: str | None = None
    ) -> Verified:
        """Believe a document, or refuse it.

        Args:
            document: compact JWS.
            typ: the type that is expected; no other passes.
            role: the role that the signing key must have.
            now: seconds since 1970; the key's validity window must hold it.
            site: the site whose key it must be; None accepts every site of the hierarchy.

        Raises:
            FormatError: not a signed document at all, or too large.
            TrustError: type, key, role, site, validity or signature are not what is expected.
        """
        envelope = take_apart(document, typ=typ)
        kid = envelope.header.kid
        entry = self._entries.get(kid)
        if entry is None:
            raise TrustError(
                f"The {typ} document is signed with a key that the trust document does not list.",
                next_step="Fetch the present trust document; if it persists, the signer is not of this hierarchy.",
            )
        if entry.role is not role:
            raise TrustError(f"The key {kid} is for {entry.role}, not for {role}.")
        if site is not None and entry.site != site:
            raise TrustError(f"The key {kid} belongs to site {entry.site}, not to {site}.")
        if not entry.not_before <= now < entry.not_after:
            raise TrustError(
                f"The key {kid} is valid from {iso(entry.not_before)} to {iso(entry.not_after)}, not now.",
                next_step="Check the clock of this computer; if it is right, the site must renew its keys.",
            )
        check_signature(envelope, self._keys[kid])
        return Verified(payload=envelope.payload, kid=kid, site=entry.site)
