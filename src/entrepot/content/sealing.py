"""Sealing: the one function for everything that is stored (architecture 2.2, ``docs/formats/sealed-object.md``).

``P = codec byte ‖ payload``; ``key = HKDF-SHA256(content secret, info = "entrepot/seal/1" ‖ purpose ‖ generation ‖
digest of P)``; sealed = AES-256-GCM(key, zero nonce, no associated data, P). The key depends on P, so one key never
meets two plaintexts, and equal chunks of any two packages give one object.
"""

import struct
from enum import IntEnum
from typing import Final

import msgspec
import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from entrepot.content.compressing import DEFAULT_LEVEL, Effort, Way, compress
from entrepot.content.digests import digest_of, matches
from entrepot.content.references import MAX_PLAIN, check_ref
from entrepot.core.errors import FormatError, IntegrityError, UnsupportedError
from entrepot.core.secret import Secret
from entrepot.objects.hashing import object_id_of
from entrepot.protocol import SealedRef

_INFO: Final = b"entrepot/seal/1"
_NONCE: Final = bytes(12)


class Purpose(IntEnum):
    """What a sealed object is; part of key derivation, so one can never pass for another."""

    CHUNK = 1
    MANIFEST_PART = 2
    MANIFEST_ROOT = 3
    DELTA_PACK = 4
    DELTA_PART = 5
    DELTA_ROOT = 6


class Codec(IntEnum):
    """First byte of P."""

    RAW = 0
    ZSTD = 1


class Generation(msgspec.Struct, frozen=True):
    """One generation of a content secret (32 bytes)."""

    number: int
    secret: Secret


class Sealed(msgspec.Struct, frozen=True):
    """A sealed object. ``payload_hash`` is the digest of P: with the secret it gives the key back."""

    data: bytes
    ref: SealedRef
    payload_hash: bytes


def derive_key(generation: Generation, purpose: Purpose, payload_hash: bytes) -> bytes:
    """The AES-256 key of the object whose P has this digest; what was sealed by its SHA-256 opens as well."""
    info = _INFO + struct.pack(">BI", purpose, generation.number) + payload_hash
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(generation.secret.reveal())


def seal(
    plain: bytes | memoryview,
    *,
    purpose: Purpose,
    generation: Generation,
    level: Way = DEFAULT_LEVEL,
    digest: bytes = b"",
) -> Sealed:
    """Compress if that helps, encrypt, name.

    Args:
        plain: a private, immutable buffer (never a map of the source), at most 16 MiB.
        level: how to compress (``content/compressing.py``); 0 and NONE store raw.
        digest: of ``plain``, when the caller has computed it already.
    """
    payload = b""
    if level not in (0, Effort.NONE):
        squeezed = compress(plain, level)
        if len(squeezed) < len(plain):
            payload = bytes([Codec.ZSTD]) + squeezed
    if not payload:
        payload = bytes([Codec.RAW]) + plain
    payload_hash = digest_of(payload)
    key = derive_key(generation, purpose, payload_hash)
    data = AESGCM(key).encrypt(_NONCE, payload, None)
    ref = SealedRef(
        object_id=object_id_of(data),
        sealed_size=len(data),
        plain_size=len(plain),
        key=key,
        digest=digest or digest_of(plain),
    )
    return Sealed(data=data, ref=ref, payload_hash=payload_hash)


def open_sealed(data: bytes | memoryview, ref: SealedRef, what: str = "object") -> bytes:
    """Verify, decrypt and decompress. The output is never larger than ``ref.plain_size``.

    Raises:
        IntegrityError: the bytes are not the object that ``ref`` names, or the key is not its key.
        FormatError: the reference is out of bounds.
        UnsupportedError: the codec is not known.
    """
    check_ref(ref, what)
    if len(data) != ref.sealed_size or object_id_of(data) != ref.object_id:
        raise IntegrityError(f"The {what} {ref.object_id.hex()[:16]} is damaged: its bytes do not match its id.")
    try:
        payload = AESGCM(ref.key).decrypt(_NONCE, data, None)
    except InvalidTag:
        raise IntegrityError(f"The {what} {ref.object_id.hex()[:16]} does not open with its key.") from None
    plain = _decode(payload, ref.plain_size, what)
    if len(plain) != ref.plain_size or not matches(ref.digest, plain):
        raise IntegrityError(f"The {what} {ref.object_id.hex()[:16]} opened to other bytes than the manifest promises.")
    return plain


def _decode(payload: bytes, plain_size: int, what: str) -> bytes:
    if payload[0] == Codec.RAW:
        return payload[1:]
    if payload[0] != Codec.ZSTD:
        raise UnsupportedError(f"The {what} uses compression {payload[0]}, which this version does not know.")
    try:
        frame = zstandard.get_frame_parameters(payload[1:])
        if frame.content_size != plain_size or frame.window_size > MAX_PLAIN:
            raise FormatError(f"The {what} claims to open to another size than the manifest promises.")
        return zstandard.ZstdDecompressor(max_window_size=MAX_PLAIN).decompress(payload[1:], max_output_size=plain_size)
    except zstandard.ZstdError:
        raise IntegrityError(f"The {what} does not decompress.") from None
