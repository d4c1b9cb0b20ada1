"""Finds the reference of a sealed object again, from the content secret and what the index says of it.

A reference holds the object's key, so databases keep it sealed to one server. When that server is lost, the key follows
from the content secret and the hash of the payload, and the object itself tells the rest.
"""

from typing import Final

import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from entrepot.content.digests import digest_of
from entrepot.content.references import MAX_PLAIN
from entrepot.content.sealing import Codec, Generation, Purpose, derive_key, open_sealed
from entrepot.core.errors import FormatError, IntegrityError, UnsupportedError
from entrepot.objects.hashing import object_id_of
from entrepot.protocol import SealedRef

_NONCE: Final = bytes(12)


def recover_ref(data: bytes, *, purpose: Purpose, generation: Generation, payload_hash: bytes) -> SealedRef:
    """The reference that opens a sealed object.

    Args:
        data: its sealed bytes.
        generation: of the content secret, in the object's dedupe domain.
        payload_hash: what the index says.

    Raises:
        IntegrityError: the secret, the index and the object do not belong together.
        FormatError: a codec that is not known, or an impossible size.
    """
    key = derive_key(generation, purpose, payload_hash)
    try:
        payload = AESGCM(key).decrypt(_NONCE, data, None)
    except InvalidTag:
        raise IntegrityError("The content secret does not open this object.") from None
    plain = _plain(payload)
    ref = SealedRef(
        object_id=object_id_of(data),
        sealed_size=len(data),
        plain_size=len(plain),
        key=key,
        digest=digest_of(plain),
    )
    open_sealed(data, ref)
    return ref


def _plain(payload: bytes) -> bytes:
    if payload[:1] == bytes([Codec.RAW]):
        return payload[1:]
    if payload[:1] != bytes([Codec.ZSTD]):
        raise UnsupportedError("The object uses a compression that this version does not know.")
    try:
        size = zstandard.get_frame_parameters(payload[1:]).content_size
        if not 0 <= size <= MAX_PLAIN:
            raise FormatError("The object claims to open to more than any object can.")
        return zstandard.ZstdDecompressor(max_window_size=MAX_PLAIN).decompress(payload[1:], max_output_size=size)
    except zstandard.ZstdError:
        raise IntegrityError("The object does not decompress.") from None
