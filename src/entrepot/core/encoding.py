"""The canonical encoders.

Bulk formats (manifest, delta index, packs, transaction records) are MessagePack arrays of frozen structs in
field order; documents that people debug (trust, control, policy, location) are JSON. Both encodings are
deterministic, both decoders refuse fields of the wrong type and name the format that failed.
"""

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec

from entrepot.core.errors import FormatError

T = TypeVar("T")

_PACK = msgspec.msgpack.Encoder(order="deterministic")
_JSON = msgspec.json.Encoder(order="deterministic")


_unpackers: dict[Any, msgspec.msgpack.Decoder[Any]] = {}
_unjsons: dict[Any, msgspec.json.Decoder[Any]] = {}


def _decoder(made: dict[Any, Any], make: Callable[[Any], Any], kind: Any) -> Any:
    """Decoders are costly to build, cheap to keep, and as many as there are formats."""
    decoder = made.get(kind)
    if decoder is None:
        decoder = made[kind] = make(kind)
    return decoder


def pack(value: object) -> bytes:
    """Canonical MessagePack."""
    return _PACK.encode(value)


def unpack(data: bytes | memoryview, kind: type[T], what: str) -> T:
    """Decode MessagePack into ``kind``; ``what`` names the format in the error.

    Raises:
        FormatError: not that format.
    """
    try:
        result: T = _decoder(_unpackers, msgspec.msgpack.Decoder, kind).decode(data)
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
        result: T = _decoder(_unjsons, msgspec.json.Decoder, kind).decode(data)
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


def toml_value(value: bool | float | str | Sequence[str]) -> str:
    """A value as TOML writes it, for settings files that we make; a string also serves as a quoted key.

    TOML's basic strings, numbers, booleans and arrays are JSON's, but for two things: no character may be written as
    two surrogates, and DEL must be escaped.
    """
    plain = value if isinstance(value, bool | int | float | str) else list(value)
    return json.dumps(plain, ensure_ascii=False, allow_nan=False).replace("\x7f", "\\u007f")
