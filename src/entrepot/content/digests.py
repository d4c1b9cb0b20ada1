"""Digests of plain bytes: chunks, manifest parts, whole files; and of payloads (``docs/formats/sealed-object.md``).

A digest names its function, as a multihash does: ``1e 20`` and BLAKE3. What was published before that was chosen has
bare SHA-256; it is read as ever, and never written any more (``docs/adr/0025-blake3.md``).
"""

import hashlib
from typing import Final, Protocol

from blake3 import blake3

_BLAKE3: Final = bytes.fromhex("1e20")
"""Of a multihash: the function, and that 32 bytes follow."""
_SHA256_SIZE: Final = 32
_BLAKE3_SIZE: Final = len(_BLAKE3) + 32


class _Hash(Protocol):
    """What both libraries give."""

    def update(self, data: bytes | memoryview, /) -> object: ...

    def digest(self) -> bytes: ...


def is_digest(digest: bytes) -> bool:
    """Whether these bytes, which came from elsewhere, have the form of a digest."""
    return is_former(digest) or (len(digest) == _BLAKE3_SIZE and digest.startswith(_BLAKE3))


def is_former(digest: bytes) -> bool:
    """Whether a digest is by SHA-256: it does not equal the digest of the same bytes by BLAKE3."""
    return len(digest) == _SHA256_SIZE


def digest_of(plain: bytes | memoryview) -> bytes:
    """The digest of plain bytes (34 bytes)."""
    return _BLAKE3 + blake3(plain).digest()


def matches(digest: bytes, plain: bytes | memoryview) -> bool:
    """Whether this is the digest of these bytes."""
    return Digester(like=digest).update(plain).digest() == digest


class Digester:
    """The digest of bytes that come one piece after the other.

    Args:
        like: a digest to compare the result with, which says by what function it was made.
    """

    def __init__(self, *, like: bytes = b"") -> None:
        self._prefix = b"" if is_former(like) else _BLAKE3
        self._hash: _Hash = blake3() if self._prefix else hashlib.sha256()

    def update(self, piece: bytes | memoryview) -> "Digester":
        """Take the next piece."""
        self._hash.update(piece)
        return self

    def digest(self) -> bytes:
        """Of all pieces so far."""
        return self._prefix + self._hash.digest()
