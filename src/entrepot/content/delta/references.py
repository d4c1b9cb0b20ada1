"""Which plaintext of the old version a chunk should be patched against: decisions only.

Small files that share a chunk: the files they grew from, neighbours merged into one range. A piece of a large file:
the same region of the file it grew from, found by *anchors*: chunks of the new file that the old file holds too.
Between two anchors the old and the new bytes correspond, so the window is their gap, moved by what the anchors moved.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from entrepot.content.delta.format import MAX_RANGES, MAX_REFERENCE, PlainRange
from entrepot.core.sizes import KIB

SLACK: Final = 64 * KIB
_MERGE_GAP: Final = 32 * KIB


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
    """At most four ranges of at most 8 MiB together, in ascending order: near ones merged, the longest kept."""
    merged: list[PlainRange] = []
    for piece in sorted(ranges, key=lambda piece: piece.position):
        if merged and piece.position <= merged[-1].position + merged[-1].length + _MERGE_GAP:
            last = merged.pop()
            end = max(last.position + last.length, piece.position + piece.length)
            merged.append(PlainRange(last.position, end - last.position))
        else:
            merged.append(piece)
    kept: list[PlainRange] = []
    room = MAX_REFERENCE
    for piece in sorted(merged, key=lambda piece: -piece.length)[:MAX_RANGES]:
        length = min(piece.length, room)
        if length:
            kept.append(PlainRange(piece.position, length))
            room -= length
    return tuple(sorted(kept, key=lambda piece: piece.position))
