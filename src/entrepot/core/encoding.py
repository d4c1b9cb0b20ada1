"""The canonical encoders.

Bulk formats (manifest, delta index, packs, transaction records) are MessagePack arrays of frozen structs in
field order; documents that people debug (trust, control, policy, location) are JSON. Both encodings are
deterministic, both decoders refuse unknown fields of the wrong type and name the format that failed.
"""

import base64
import binascii
from functools import lru_cache
from typing import Any, TypeVar

import msgspec

from entrepot.core.errors import FormatError

T = TypeVar("T")

_PACK = msgspec.msgpack.Encoder(order="deterministic")
_JSON = msgspec.json.Encoder(order="deterministic")


@lru_cache(maxsize=256)
def _unpacker(kind: Any) -> msgspec.msgpack.Decoder[Any]:
    return msgspec.msgpack.Decoder(kind)


@lru_cache(maxsize=256)
def _unjson(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)


def pack(value: object) -> bytes:
    """Canonical MessagePack."""
    return _PACK.encode(value)


def unpack(data: bytes | memoryview, kind: type[T], what: str) -> T:
    """Decode MessagePack into ``kind``; ``what`` names the format in the error.

    Raises:
        FormatError: not that format.
    """
    try:
        result: T = _unpacker(kind).decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FormatError(f"The {what} cannot be read: {error}") from None
    return result


def to_json(value: object) -> bytes:
    """Canonical JSON, UTF-8; bytes fields become base64."""
    return _JSON.encode(value)


def from_json(data: bytes | str, kind: type[T], what: str) -> T:
    """Decode JSON into ``kind``; ``what`` names the document in the error.

    Raises:
        FormatError: not that document.
    """
    try:
        result: T = _unjson(kind).decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FormatError(f"The {what} cannot be read: {error}") from None
    return result


def b64url(data: bytes) -> str:
    """Base64url without padding (RFC 4648 section 5, as JOSE uses it)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64url(text: str, what: str = "value") -> bytes:
    """Inverse of :func:`b64url`; strict.

    Raises:
        FormatError: not base64url.
    """
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise FormatError(f"The {what} is not base64url.") from None
    if b64url(raw) != text:
        raise FormatError(f"The {what} is not canonical base64url.")
    return raw
