"""Transaction records and the segments that carry them (architecture 4.5).

A segment is ``MAGIC``, then frames. A frame is ``u32 length ‖ u32 CRC-32 ‖ payload`` (big-endian), so that a torn
tail is recognised. The first frame's payload is :class:`SegmentHeader`, each further one a MessagePack array of
:class:`Record`. Segments of one instance are chained: each names SHA-256 of its whole predecessor. Their key in the
store is ``tx/<hour>/<instance>/<seq>`` (see :func:`segment_key`).
"""

import struct
import zlib
from collections.abc import Iterator

import msgspec

from entrepot.core.encoding import pack, unpack
from entrepot.core.errors import FormatError

MAGIC = b"ENTTX\x00\x00\x01"
MAX_SEGMENT_BYTES = 16 * 1024 * 1024
MAX_FRAME_BYTES = 1024 * 1024
_FRAME = struct.Struct(">II")
TX_PREFIX = "tx/"


class Record(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One request of a client.

    ``time`` and ``duration`` in milliseconds (time since 1970); ``sent`` is bytes handed to the transport, an upper
    bound of what arrived; ``set_id`` is the charged object set (empty when none was proven), ``status`` the HTTP
    status. ``granted`` is bytes that the client may fetch from the store itself by the link that it was given; whether
    it did, only the store knows.
    """

    time: int
    device: str
    set_id: bytes
    object_id: bytes
    status: int
    sent: int
    duration: int
    method: str = "GET"
    delivery: str = "stream"  # or redirect: granted, not sent
    granted: int = 0  # with redirect only


class SegmentHeader(msgspec.Struct, frozen=True, array_like=True):
    """``sequence`` starts at 0 for each instance; ``previous`` is SHA-256 of the predecessor, 32 zero bytes for the
    first."""

    point: str
    instance: str
    sequence: int
    previous: bytes
    opened: int  # milliseconds since 1970


def segment_key(hour: int, instance: str, sequence: int) -> str:
    """Store key; ``hour`` is seconds since 1970 at the hour's start."""
    return f"{TX_PREFIX}{hour:010d}/{instance}/{sequence:08d}"


def frame(payload: bytes) -> bytes:
    """One frame, ready to append."""
    return _FRAME.pack(len(payload), zlib.crc32(payload)) + payload


def encode_header(header: SegmentHeader) -> bytes:
    """The beginning of a segment."""
    return MAGIC + frame(pack(header))


def encode_records(records: list[Record]) -> bytes:
    """One frame of records. Where nothing is granted the last field is left out, as it was before there was one."""
    return frame(pack([one if one.granted else msgspec.structs.astuple(one)[:-1] for one in records]))


def frames(data: bytes | memoryview, *, torn_tail: bool = False) -> Iterator[tuple[int, memoryview]]:
    """Yield (end offset, payload) per frame after the magic.

    Args:
        torn_tail: stop quietly at the first incomplete or damaged frame (recovery of a crashed journal).

    Raises:
        FormatError: no magic, or (without ``torn_tail``) a damaged frame.
    """
    view = memoryview(data)
    if bytes(view[: len(MAGIC)]) != MAGIC:
        raise FormatError("This is not a transaction segment of version 1.")
    at = len(MAGIC)
    while at < len(view):
        payload = _frame_at(view, at)
        if payload is None:
            if torn_tail:
                return
            raise FormatError(f"The transaction segment is damaged at byte {at}.")
        at += _FRAME.size + len(payload)
        yield at, payload


def goes_on(data: bytes, at: int) -> bool:
    """Tell whether a whole frame follows the damaged one at this offset: then it is no torn tail."""
    view = memoryview(data)
    if at + _FRAME.size > len(view):
        return False
    length, _ = _FRAME.unpack_from(view, at)
    return 0 < length <= MAX_FRAME_BYTES and _frame_at(view, at + _FRAME.size + length) is not None


def _frame_at(view: memoryview, at: int) -> memoryview | None:
    if at + _FRAME.size > len(view):
        return None
    length, checksum = _FRAME.unpack_from(view, at)
    payload = view[at + _FRAME.size : at + _FRAME.size + length]
    if not 0 < length <= MAX_FRAME_BYTES or len(payload) != length or zlib.crc32(payload) != checksum:
        return None  # length 0 too: a tail of zeros, as file systems leave after power loss, would pass its checksum
    return payload


def decode_segment(data: bytes) -> tuple[SegmentHeader, Iterator[list[Record]]]:
    """Header, and an iterator over the frames' records.

    Raises:
        FormatError: damaged or foreign bytes; also while iterating.
    """
    if len(data) > MAX_SEGMENT_BYTES:
        raise FormatError("The transaction segment is larger than 16 MiB.")
    parts = frames(data)
    first = next(parts, None)
    if first is None:
        raise FormatError("The transaction segment has no header.")
    header = unpack(first[1], SegmentHeader, "transaction segment header")
    return header, (unpack(payload, list[Record], "transaction frame") for _, payload in parts)


def records_behind(data: bytes, offset: int) -> list[Record]:
    """The records of a segment's frames that end behind ``offset`` bytes.

    Raises:
        FormatError: damaged or foreign bytes.
    """
    later = [payload for number, (end, payload) in enumerate(frames(data)) if number and end > offset]
    return [record for payload in later for record in unpack(payload, list[Record], "transaction frame")]
