"""From one segment of transaction records to what is counted: pure, bounded by the segment (16 MiB).

A record is charged to its UTC hour, device, object set and class of status. Bytes are what was handed to the transport,
an upper bound of what arrived; a redirect (3xx, and no other status) counts what was granted: bytes that the client may
fetch from the store itself. One whose moment cannot be (:func:`dated`) is counted in the hour in which it is collected:
what was sent was sent, and an instance with a wrong clock does not serve for nothing. A segment with a record that is
impossible otherwise is refused whole: half a segment would be neither exact nor explainable. Either way its place in
its instance's chain is taken, so it holds no later segment up. The synthetic devices of a load drill are counted as
one.
"""

import hashlib

import msgspec

from entrepot.core.errors import FormatError
from entrepot.core.times import DAY, hour_of
from entrepot.protocol.drillapi import drill_of
from entrepot.protocol.transactions import TX_PREFIX, Record, SegmentHeader, decode_segment, segment_key

MAX_DEVICE = 64
MAX_INSTANCE = 100
MAX_SENT = 1 << 40
REDIRECTION = 3
MAX_SEQUENCE = 99_999_999
_EARLIEST = 1_577_836_800_000  # milliseconds, 2020-01-01: before there was a gateway to record anything


class TallyKey(msgspec.Struct, frozen=True, kw_only=True):
    """What figures are kept by. ``hour`` seconds since 1970; ``set_id`` empty when none was proven; ``status``: 2xx."""

    hour: int
    device: str
    set_id: bytes
    status: str


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """Requests, and bytes handed to the transport or granted."""

    requests: int
    bytes: int


class SegmentTally(msgspec.Struct, frozen=True, kw_only=True):
    """A verified segment. ``digest`` is SHA-256 of the whole segment, what its successor names as ``previous``."""

    header: SegmentHeader
    digest: bytes
    records: int
    figures: dict[TallyKey, Figures]

    @property
    def sent(self) -> int:
        """Bytes of all records."""
        return sum(figure.bytes for figure in self.figures.values())


def split_key(key: str) -> tuple[int, str, int]:
    """Hour, instance and sequence of a segment's key.

    Raises:
        FormatError: not the key of a segment.
    """
    parts = key.removeprefix(TX_PREFIX).split("/")
    if key.startswith(TX_PREFIX) and len(parts) == 3 and all(part.isascii() for part in parts):
        hour, instance, sequence = parts
        if hour.isdigit() and sequence.isdigit() and 0 < len(instance) <= MAX_INSTANCE and len(key) <= 200:
            parsed = (int(hour), instance, int(sequence))
            if parsed[2] <= MAX_SEQUENCE and segment_key(*parsed) == key:
                return parsed
    raise FormatError(f"{key[:200]!r} is not the key of a transaction segment.")


def tally_segment(key: str, data: bytes, *, point: str, now: float) -> SegmentTally:
    """Verify a segment against its key and its cloud point, and add it up.

    Raises:
        FormatError: damaged, foreign, of another cloud point or instance, or with an impossible record.
    """
    hour, instance, sequence = split_key(key)
    header, frames = decode_segment(data)
    named = (header.point, hour_of(header.opened / 1000), header.instance, header.sequence)
    if named != (point, hour, instance, sequence) or len(header.previous) != 32:
        raise FormatError(f"The transaction segment {key} says that it is another one.")
    counted: dict[tuple[int, str, bytes, int], list[int]] = {}
    records = 0
    for frame in frames:
        records += len(frame)
        for record in frame:
            _check(record)
            when = hour_of(dated(record, now).time // 1000)
            slot = counted.setdefault((when, drill_of(record.device), record.set_id, record.status // 100), [0, 0])
            slot[0] += 1
            slot[1] += record.sent + record.granted
    return SegmentTally(
        header=header,
        digest=hashlib.sha256(data).digest(),
        records=records,
        figures={
            TallyKey(hour=hour, device=device, set_id=set_id, status=f"{status}xx"): Figures(
                requests=requests, bytes=sent
            )
            for (hour, device, set_id, status), (requests, sent) in counted.items()
        },
    )


def dated(record: Record, now: float) -> Record:
    """The record, at this moment if it cannot have been at its own: before there was a gateway, or more than a day
    ahead."""
    if _EARLIEST <= record.time <= (now + DAY) * 1000:
        return record
    return msgspec.structs.replace(record, time=int(now * 1000))


def _check(record: Record) -> None:
    possible = (
        0 <= record.sent <= MAX_SENT
        and 0 <= record.granted <= MAX_SENT
        and (not record.granted or record.status // 100 == REDIRECTION)
        and 100 <= record.status <= 599
        and len(record.device) <= MAX_DEVICE
        and len(record.set_id) in (0, 32)
    )
    if not possible:
        raise FormatError("The transaction segment holds an impossible record.")
