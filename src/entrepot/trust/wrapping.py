"""Secrets under a wrapping key: what a rotation replaces without touching what the secrets have sealed.

``VERSION ‖ number of the wrapping key (4 bytes) ‖ nonce (12) ‖ AES-256-GCM(wrapping key, nonce, name, secret)``, with
``"entrepot/wrap/1" ‖ number ‖ name`` authenticated, so that no wrapped value passes for another one's or for one of an
older wrapping key. Nonces are random: a wrapping key wraps some dozens of values before it is retired. The wrapping key
itself is sealed to each server's vault (``trust/vault.py``); first bytes differ, so neither passes for the other.
"""

import os
import struct
from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from entrepot.core.errors import FormatError, IntegrityError
from entrepot.core.secret import Secret
from entrepot.core.sizes import KIB

VERSION: Final = b"\x02"
KEY_BYTES: Final = 32
MAX_SECRET: Final = 64 * KIB
_HEAD: Final = struct.Struct(">cI12s")
_TAG: Final = 16
_INFO: Final = b"entrepot/wrap/1"


class WrappingKey(msgspec.Struct, frozen=True):
    """A wrapping key and its number; numbers only grow."""

    number: int
    secret: Secret

    @classmethod
    def generate(cls, number: int) -> "WrappingKey":
        """A new one."""
        return cls(number, Secret(os.urandom(KEY_BYTES)))

    def wrap(self, name: str, secret: Secret) -> bytes:
        """Wrap a secret under a name that :meth:`unwrap` must repeat.

        Raises:
            FormatError: a secret of more than 64 KiB.
        """
        if len(secret) > MAX_SECRET:
            raise FormatError("A wrapped secret has at most 64 KiB.")
        nonce = os.urandom(12)
        sealed = AESGCM(self.secret.reveal()).encrypt(nonce, secret.reveal(), self._associated(name))
        return _HEAD.pack(VERSION, self.number, nonce) + sealed

    def unwrap(self, name: str, wrapped: bytes) -> Secret:
        """Inverse of :meth:`wrap`.

        Raises:
            FormatError: not a wrapped secret.
            IntegrityError: wrapped by another key, under another name, or damaged.
        """
        if wrapping_number(wrapped) != self.number:
            raise IntegrityError(f"The secret {name!r} is wrapped by another key than number {self.number}.")
        nonce = wrapped[_HEAD.size - 12 : _HEAD.size]
        try:
            plain = AESGCM(self.secret.reveal()).decrypt(nonce, wrapped[_HEAD.size :], self._associated(name))
        except InvalidTag:
            raise IntegrityError(
                f"The secret {name!r} does not open with the wrapping key {self.number}.",
                next_step="It is damaged: import the exported keys again.",
            ) from None
        return Secret(plain)

    def _associated(self, name: str) -> bytes:
        return _INFO + struct.pack(">I", self.number) + name.encode()


def is_wrapped(sealed: bytes) -> bool:
    """Whether this is wrapped, and not sealed to a vault directly, as the first sites did."""
    return sealed[:1] == VERSION


def wrapping_number(wrapped: bytes) -> int:
    """The number of the wrapping key that a secret is wrapped by.

    Raises:
        FormatError: not a wrapped secret.
    """
    if not is_wrapped(wrapped) or not _HEAD.size + _TAG <= len(wrapped) <= _HEAD.size + _TAG + MAX_SECRET:
        raise FormatError("This is not a wrapped secret of version 2.")
    number: int = _HEAD.unpack_from(wrapped)[1]
    return number
