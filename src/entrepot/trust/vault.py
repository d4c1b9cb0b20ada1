"""Secrets at rest, sealed to one server's key.

``VERSION ‖ ephemeral X25519 public key ‖ AES-256-GCM(key, zero nonce, name, secret)`` with ``key =
HKDF-SHA256(shared secret, info = "entrepot/vault/1" ‖ ephemeral ‖ recipient)``. Every sealing has its own ephemeral
key, hence its own AES key: the zero nonce never repeats under one. The name is authenticated, so that a sealed value
copied to another row does not open there. Anyone can wrap to a server's public key; only that server opens.
"""

from pathlib import Path
from typing import Final, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from entrepot.core.errors import ConflictError, FormatError, IntegrityError, NotFoundError
from entrepot.core.secret import Secret
from entrepot.core.sizes import MIB
from entrepot.durable.files import write_private

VERSION: Final = b"\x01"
KEY_BYTES: Final = 32
OVERHEAD: Final = 1 + KEY_BYTES + 16
MAX_SECRET: Final = MIB
_INFO: Final = b"entrepot/vault/1"
_NONCE: Final = bytes(12)


def wrap(recipient: bytes, name: str, secret: Secret) -> bytes:
    """Seal a secret to a server's raw X25519 public key.

    Raises:
        FormatError: no proper public key, or a secret of more than 1 MiB.
    """
    return _seal(X25519PrivateKey.generate(), recipient, name, secret)


def _seal(ephemeral: X25519PrivateKey, recipient: bytes, name: str, secret: Secret) -> bytes:
    if len(secret) > MAX_SECRET:
        raise FormatError("A sealed secret has at most 1 MiB.")
    try:
        shared = ephemeral.exchange(X25519PublicKey.from_public_bytes(recipient))
    except ValueError:
        raise FormatError("The recipient's public key is not a proper X25519 key.") from None
    own = ephemeral.public_key().public_bytes_raw()
    return VERSION + own + AESGCM(_derive(shared, own, recipient)).encrypt(_NONCE, secret.reveal(), name.encode())


def _derive(shared: bytes, ephemeral: bytes, recipient: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=_INFO + ephemeral + recipient).derive(shared)


class ServerVault:
    """The private half: a 0600 file beside the server, never in a backup (R39)."""

    __slots__ = ("_private", "public")

    def __init__(self, private: X25519PrivateKey) -> None:
        self._private: Final = private
        self.public: Final = private.public_key().public_bytes_raw()

    @classmethod
    def create(cls, path: Path) -> Self:
        """Make a new key file.

        Raises:
            ConflictError: there is one already; replacing it would lose everything sealed to it.
            StorageError: the disk refuses.
        """
        if path.exists():
            raise ConflictError(f"{path} exists already; what is sealed to it would be lost.")
        private = X25519PrivateKey.generate()
        write_private(path, private.private_bytes_raw())
        return cls(private)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Open the key file.

        Raises:
            NotFoundError: there is none.
            FormatError: it is damaged.
        """
        try:
            with path.open("rb") as file:
                raw = file.read(KEY_BYTES + 1)
        except FileNotFoundError:
            raise NotFoundError(
                f"The vault key {path} is missing.",
                next_step="Bring it back from where it was kept; a site that lost it: entrepot key import FILE",
            ) from None
        if len(raw) != KEY_BYTES:
            raise FormatError(f"The vault key {path} is damaged: it has not 32 bytes.")
        return cls(X25519PrivateKey.from_private_bytes(raw))

    def seal(self, name: str, secret: Secret) -> bytes:
        """Seal a secret to this server under a name that :meth:`open` must repeat."""
        return wrap(self.public, name, secret)

    def open(self, name: str, sealed: bytes) -> Secret:
        """Open what was sealed to this server under this name.

        Raises:
            FormatError: not a sealed secret of version 1.
            IntegrityError: sealed to another server, under another name, or damaged.
        """
        if sealed[:1] != VERSION or not OVERHEAD <= len(sealed) <= OVERHEAD + MAX_SECRET:
            raise FormatError(f"The sealed secret {name!r} is not of version 1.")
        ephemeral = sealed[1 : 1 + KEY_BYTES]
        try:
            shared = self._private.exchange(X25519PublicKey.from_public_bytes(ephemeral))
            key = _derive(shared, ephemeral, self.public)
            return Secret(AESGCM(key).decrypt(_NONCE, sealed[1 + KEY_BYTES :], name.encode()))
        except (InvalidTag, ValueError):
            raise IntegrityError(
                f"The sealed secret {name!r} does not open on this server.",
                next_step="It was sealed to another server or is damaged. A site's: entrepot key import FILE; "
                "a certificate: import it again.",
            ) from None

    def __repr__(self) -> str:
        return "ServerVault(***)"
