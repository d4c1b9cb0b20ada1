"""The hierarchy root: an Ed25519 key, offline after set-up, that signs the trust document and nothing else.

Its file is text (PEM armour, label ``ENTREPOT ROOT KEY``) around a MessagePack array: version, raw public key,
scrypt parameters and salt, and the private key under AES-256-GCM with the public key as associated data. PKCS#8
was not taken because the common writers derive its key with 2,048 rounds of PBKDF2 only, too few for the one key
that a hierarchy cannot replace. The public key stands in clear so that the fingerprint can be read without the
passphrase.
"""

import base64
import binascii
import hashlib
import hmac
import os
import textwrap
from typing import Final, Self

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from entrepot.core.encoding import from_json, pack, to_json, unb64url, unpack
from entrepot.core.errors import BadInputError, FormatError, TrustError, UnsupportedError
from entrepot.core.secret import Secret
from entrepot.protocol import SignedType
from entrepot.protocol.trust import Role, TrustDocument
from entrepot.trust.signing import (
    PUBLIC_BYTES,
    SigningKey,
    check_signature,
    kid_of,
    sign,
    take_apart,
)

VERSION: Final = 1
MAX_KEYS: Final = 4096
MAX_CERTIFICATE: Final = 16 * 1024
MIN_PASSPHRASE: Final = 8
_BEGIN: Final = "-----BEGIN ENTREPOT ROOT KEY-----"
_END: Final = "-----END ENTREPOT ROOT KEY-----"
_SCRYPT: Final = (2**16, 8, 2)  # 64 MiB, about half a second a guess (OWASP's second choice)
_MAX_SCRYPT: Final = (2**20, 16, 16)
_MAX_SCRYPT_COST: Final = 2**23  # n times r: 1 GiB of memory
_MAX_FILE: Final = 4096
_LAST_SECOND: Final = 253_402_300_799  # of the year 9999


class _RootFile(msgspec.Struct, frozen=True, array_like=True):
    version: int
    public: bytes
    n: int
    r: int
    p: int
    salt: bytes
    nonce: bytes
    sealed: bytes


def fingerprint(public: bytes) -> bytes:
    """SHA-256 of the raw public key: what enrolment codes carry and everyone pins (32 bytes)."""
    return hashlib.sha256(public).digest()


def readable(print_bytes: bytes) -> str:
    """A fingerprint for people to compare: groups of four hexadecimal digits."""
    return "-".join(textwrap.wrap(print_bytes.hex().upper(), 4))


class RootKey:
    """The private root key, in memory for as long as it signs."""

    __slots__ = ("_key",)

    def __init__(self, key: SigningKey) -> None:
        self._key: Final = key

    @classmethod
    def generate(cls) -> Self:
        """A new root in memory; :meth:`to_pem` makes its file."""
        return cls(SigningKey.generate())

    @classmethod
    def create(cls, passphrase: Secret) -> bytes:
        """A new root, straight to its protected file.

        Raises:
            BadInputError: the passphrase is too short.
        """
        return cls.generate().to_pem(passphrase)

    @classmethod
    def load(cls, pem: bytes, passphrase: Secret) -> Self:
        """Open a root key file.

        Raises:
            FormatError: not a root key file.
            BadInputError: the passphrase does not open it.
        """
        file = _parse(pem)
        try:
            private = AESGCM(_derive(passphrase, file)).decrypt(file.nonce, file.sealed, _associated(file.public))
        except InvalidTag:
            raise BadInputError(
                "The passphrase does not open the root key file.", next_step="Check the passphrase and try again."
            ) from None
        root = cls(SigningKey.from_private(Secret(private)))
        if root.public != file.public:
            raise FormatError("The root key file names another public key than it holds.")
        return root

    def to_pem(self, passphrase: Secret) -> bytes:
        """The protected file of this key.

        Raises:
            BadInputError: the passphrase is too short.
        """
        if len(passphrase) < MIN_PASSPHRASE:
            raise BadInputError(
                "The passphrase of the root key is too short.",
                next_step=f"Use at least {MIN_PASSPHRASE} characters, better several words.",
            )
        n, r, p = _SCRYPT
        file = _RootFile(
            version=VERSION, public=self.public, n=n, r=r, p=p, salt=os.urandom(16), nonce=os.urandom(12), sealed=b""
        )
        private = self._key.private.reveal()
        sealed = AESGCM(_derive(passphrase, file)).encrypt(file.nonce, private, _associated(self.public))
        body = base64.b64encode(pack(msgspec.structs.replace(file, sealed=sealed))).decode()
        return "\n".join([_BEGIN, *textwrap.wrap(body, 64), _END, ""]).encode()

    @property
    def public(self) -> bytes:
        """Raw public key, 32 bytes."""
        return self._key.public

    @property
    def fingerprint(self) -> bytes:
        """SHA-256 of the raw public key."""
        return fingerprint(self.public)

    def sign_trust(self, document: TrustDocument) -> str:
        """Sign a trust document; its own rules are checked first.

        Raises:
            FormatError: the document breaks a rule of :func:`check_trust`.
        """
        check_trust(document)
        return sign(to_json(document), typ=SignedType.TRUST, key=self._key, show_key=True)

    def __repr__(self) -> str:
        return f"RootKey({self._key.kid})"


def public_of_file(pem: bytes) -> bytes:
    """The public key of a root key file, without its passphrase.

    Raises:
        FormatError: not a root key file.
    """
    return _parse(pem).public


def verify_trust(document: str | bytes, root_public: bytes) -> TrustDocument:
    """Believe a trust document that this root signed.

    Raises:
        FormatError: not a trust document, or one that breaks a rule of :func:`check_trust`.
        TrustError: another root signed it, or nobody did.
    """
    return verify_trust_by_fingerprint(document, fingerprint(root_public))


def verify_trust_by_fingerprint(document: str | bytes, pinned: bytes) -> TrustDocument:
    """Believe a trust document whose root key has this fingerprint (SHA-256 of the raw public key).

    Raises:
        FormatError: not a trust document, or one that breaks a rule of :func:`check_trust`.
        TrustError: another root signed it, or nobody did.
    """
    envelope = take_apart(document, typ=SignedType.TRUST)
    jwk = envelope.header.jwk
    assert jwk is not None  # take_apart demands it of this type
    public = unb64url(jwk.x, "root key")
    if (jwk.kty, jwk.crv, len(public)) != ("OKP", "Ed25519", PUBLIC_BYTES) or kid_of(public) != envelope.header.kid:
        raise TrustError("The trust document's header does not carry a proper root key.")
    if not hmac.compare_digest(fingerprint(public), pinned):
        raise TrustError(
            f"The trust document is signed by another root than the pinned one: {readable(fingerprint(public))}.",
            next_step="This server belongs to another hierarchy, or somebody stands in between.",
        )
    check_signature(envelope, public)
    trust = from_json(envelope.payload, TrustDocument, "trust document")
    check_trust(trust)
    if any(entry.public == public for entry in trust.keys):
        raise FormatError("The trust document gives the root key a second role.")
    return trust


def check_trust(document: TrustDocument) -> None:
    """Check the rules of a trust document: bounds, and that no key has two roles, two sites or two names.

    Raises:
        FormatError: the rule that is broken.
    """
    if document.version != VERSION:
        raise UnsupportedError(
            f"The trust document has version {document.version}; this version of Entrepôt reads version {VERSION}."
        )
    if len(document.keys) > MAX_KEYS or document.number < 1 or document.epoch < 0 or not document.hierarchy:
        raise FormatError("The trust document is out of bounds.")
    seen: set[bytes | str] = set()
    for entry in document.keys:
        if entry.kid != kid_of(entry.public) or entry.kid in seen:
            raise FormatError(f"The trust document lists the key {entry.kid[:32]!r} twice or under a wrong name.")
        seen.add(entry.kid)
        right_size = 0 < len(entry.public) <= MAX_CERTIFICATE if entry.role is Role.CA else len(entry.public) == 32
        window = 0 <= entry.not_before < entry.not_after <= _LAST_SECOND
        if not (right_size and window and entry.site):
            raise FormatError(f"The entry of the key {entry.kid} in the trust document is malformed.")


def _associated(public: bytes) -> bytes:
    return b"entrepot/root-key/1" + public


def _derive(passphrase: Secret, file: _RootFile) -> bytes:
    return Scrypt(salt=file.salt, length=32, n=file.n, r=file.r, p=file.p).derive(passphrase.reveal())


def _parse(pem: bytes) -> _RootFile:
    wrong = FormatError(
        "This is not a root key file of Entrepôt.", next_step="It begins with -----BEGIN ENTREPOT ROOT KEY-----."
    )
    lines = pem[: _MAX_FILE + 1].decode("ascii", "replace").split()
    text = " ".join(lines)
    if len(pem) > _MAX_FILE or not (text.startswith(_BEGIN) and text.endswith(_END)):
        raise wrong
    try:
        body = base64.b64decode(text[len(_BEGIN) : -len(_END)].replace(" ", ""), validate=True)
    except (binascii.Error, ValueError):
        raise wrong from None
    file = unpack(body, _RootFile, "root key file")
    if file.version != VERSION:
        raise UnsupportedError(f"The root key file has version {file.version}; this version reads version {VERSION}.")
    most_n, most_r, most_p = _MAX_SCRYPT
    power_of_two = 2 <= file.n <= most_n and not file.n & (file.n - 1)
    bounded = power_of_two and 1 <= file.r <= most_r and 1 <= file.p <= most_p and file.n * file.r <= _MAX_SCRYPT_COST
    if not bounded or (len(file.public), len(file.salt), len(file.nonce)) != (32, 16, 12):
        raise FormatError("The root key file is out of bounds.")
    return file
