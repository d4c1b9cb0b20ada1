"""Which plaintext of the old version a chunk should be patched against: decisions only.

Small files that share a chunk: the files they grew from, neighbours merged into one range. A piece of a large file:
the same region of the file it grew from, found by *anchors*: chunks of the new file that the old file holds too.
Between two anchors the old and the new bytes correspond, so the window is their gap, moved by what the anchors moved.
"""

import itertools
from collections.abc import Sequence
from typing import Final

import msgspec

from entrepot.content.delta.format import MAX_RANGES, MAX_REFERENCE, PlainRange
from entrepot.core.sizes import KIB, MIB

SLACK: Final = 64 * KIB
_MERGE_GAP: Final = 32 * KIB
_MAX_GAP: Final = MIB


class Anchor(msgspec.Struct, frozen=True):
    """A place where new and old file correspond: offsets in both."""

    new: int
    old: int


def window(start: int, end: int, before: Anchor, after: Anchor, limit: int = MAX_REFERENCE) -> tuple[int, int]:
    """The region (offset, length) of the old file for new bytes ``start`` to ``end`` between two anchors.

    Insertions and deletions between the anchors move the bytes by anything up to the difference of the gaps, so the
    window is that much wider.
    """
    drift = (after.old - before.old) - (after.new - before.new)
    low = before.old + (start - before.new) + min(0, drift) - SLACK
    high = before.old + (end - before.new) + max(0, drift) + SLACK
    low = max(low, before.old - SLACK, 0)
    high = min(high, after.old + SLACK)
    if high - low > limit:  # too much moved: take the middle
        excess = high - low - limit
        low, high = low + excess // 2, high - (excess - excess // 2)
    return low, max(0, high - low)


def merge(ranges: Sequence[PlainRange]) -> tuple[PlainRange, ...]:
    """At most four ranges of at most 8 MiB together, in ascending order.

    Near ones become one; while there are too many, the smallest gap goes as long as it costs no more than 1 MiB; of
    those that remain the longest are kept.
    """
    joined = _join(sorted(ranges, key=lambda piece: piece.position), _MERGE_GAP)
    gaps = sorted(_gap(before, after) for before, after in itertools.pairwise(joined))
    surplus = len(joined) - MAX_RANGES
    if surplus > 0 and gaps[surplus - 1] <= _MAX_GAP:
        wider = _join(joined, gaps[surplus - 1])
        if sum(piece.length for piece in wider) <= MAX_REFERENCE:
            joined = wider
    kept: list[PlainRange] = []
    room = MAX_REFERENCE
    for piece in sorted(joined, key=lambda piece: -piece.length)[:MAX_RANGES]:
        length = min(piece.length, room)
        if length:
            kept.append(PlainRange(piece.position, length))
            room -= length
    return tuple(sorted(kept, key=lambda piece: piece.position))


def _join(ranges: Sequence[PlainRange], gap: int) -> list[PlainRange]:
    """Ranges in ascending order, those with at most ``gap`` between them as one."""
    joined: list[PlainRange] = []
    for piece in ranges:
        if joined and _gap(joined[-1], piece) <= gap:
            last = joined.pop()
            end = max(last.position + last.length, piece.position + piece.length)
            joined.append(PlainRange(last.position, end - last.position))
        else:
            joined.append(piece)
    return joined


def _gap(before: PlainRange, after: PlainRange) -> int:
    return after.position - (before.position + before.length)
