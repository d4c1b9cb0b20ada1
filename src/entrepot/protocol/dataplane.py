"""The data plane between clients, sites and the holders of objects (architecture 5).

For clients, with a content token:

- ``GET|HEAD /objects/{id}`` (64 hexadecimal digits): single ranges, ETag ``"{id}"``. Where the control document says
  so, a GET may be answered 307: its ``Location`` is a link to this one object in the store, good for 60 seconds. The
  client sends nothing of its token there. With ``Prefer: delivery=stream`` it is streamed all the same.

For the site, with a site token:

- ``POST /objects/missing``, at most 4,096 ids of 32 bytes → a bitmap: bit ``i & 7`` of byte ``i >> 3`` is set when
  object i is missing;
- ``POST /objects/verify``, at most 1,024 ids → a byte for each: 0 good, 1 missing, 2 damaged: the holder reads them
  again and compares them with their ids;
- ``PUT`` and ``DELETE /objects/{id}``: what is there already is read again, and replaced only if it is damaged;
- ``GET /copies/{id}`` → the object's bytes, to repair the site's library with;
- ``GET /objects?after={id}&limit={n}`` → :class:`ObjectPage`;
- documents by key: ``GET|PUT|DELETE /documents/{key}``, and ``GET /documents?prefix=&after=&limit=`` →
  :class:`DocumentPage`.
"""

import msgspec

MAX_MISSING_IDS = 4096
MAX_VERIFY_IDS = 1024
MAX_OBJECT_BYTES = 64 * 1024 * 1024
MAX_DOCUMENT_BYTES = 16 * 1024 * 1024
PAGE = 1000
PREFER_STREAM = "delivery=stream"
"""Value of the header ``Prefer`` (RFC 7240): send the bytes, not a link to them."""


class ObjectPage(msgspec.Struct, frozen=True, kw_only=True):
    """Object ids in ascending order with sealed sizes; ``more`` when the next page is worth asking for."""

    ids: tuple[str, ...]
    sizes: tuple[int, ...]
    more: bool


class DocumentPage(msgspec.Struct, frozen=True, kw_only=True):
    """Document keys in ascending order with sizes."""

    keys: tuple[str, ...]
    sizes: tuple[int, ...]
    more: bool


def missing_bitmap(flags: list[bool]) -> bytes:
    """Encode one bit per object, set when it is missing."""
    out = bytearray((len(flags) + 7) // 8)
    for index, flag in enumerate(flags):
        if flag:
            out[index >> 3] |= 1 << (index & 7)
    return bytes(out)


def is_missing(bitmap: bytes, index: int) -> bool:
    """Read one bit of :func:`missing_bitmap`."""
    return bool(bitmap[index >> 3] >> (index & 7) & 1)
