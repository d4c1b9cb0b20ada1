"""Parts of the new manifest as patches: a release that changes a dozen files changes a few lines of its file list.

*The plaintext of a manifest* is its parts' plain bytes one after the other; a reference is a range of it. New and old
parts that list the same paths belong together, where version numbers in paths do not count.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Final

import msgspec

from entrepot.content.delta.folding import fold
from entrepot.content.delta.format import MAX_REFERENCE, PlainRange
from entrepot.content.manifest import Part, decode_part
from entrepot.core.errors import FormatError
from entrepot.core.paths import path_key
from entrepot.protocol import SealedRef

Span = tuple[tuple[bytes, ...], tuple[bytes, ...]]
"""First and last path of a part, without what changes from release to release, in path order."""
_EMPTY: Final[Span] = ((), ())


class PartJob(msgspec.Struct, frozen=True):
    """A part of the new manifest that the old one lacks, and the ranges to patch it against."""

    ref: SealedRef
    ranges: tuple[PlainRange, ...]


def span(part: Part) -> Span:
    """What a part lists."""
    if not part.entries:
        return _EMPTY
    return path_key(fold(part.entries[0].path)), path_key(fold(part.entries[-1].path))


def part_jobs(
    old: Sequence[SealedRef], spans: Sequence[Span], new: Sequence[SealedRef], read: Callable[[SealedRef], bytes]
) -> Iterator[PartJob]:
    """Work for each new part that the old manifest lacks.

    Args:
        old: references of the old manifest's parts.
        spans: what they list, in the same order.
        new: references of the new manifest's parts.
        read: opens a new part.
    """
    held = {ref.object_id for ref in old}
    for number, ref in enumerate(new):
        if ref.object_id in held:
            continue
        first, last = span(decode_part(read(ref)))
        chosen = [index for index, (begin, end) in enumerate(spans) if begin <= last and end >= first]
        if not chosen and old:  # nothing alike by name: what stands at the same place
            chosen = [min(number * len(old) // max(1, len(new)), len(old) - 1)]
        yield PartJob(ref, _range(old, chosen))


def _range(old: Sequence[SealedRef], chosen: list[int]) -> tuple[PlainRange, ...]:
    if not chosen:
        return ()
    position = sum(ref.plain_size for ref in old[: chosen[0]])
    length = sum(ref.plain_size for ref in old[chosen[0] : chosen[-1] + 1])
    return (PlainRange(position, min(length, MAX_REFERENCE)),) if length else ()


def manifest_bytes(
    parts: Sequence[SealedRef], ranges: Sequence[PlainRange], read: Callable[[int], bytes | None]
) -> bytes | None:
    """The plaintext of ranges of a manifest, concatenated; None when a part of it cannot be had.

    Args:
        parts: references of the manifest's parts.
        read: plain bytes of a part by its number, or None.

    Raises:
        FormatError: a range reaches beyond the end.
    """
    gathered = []
    for wanted in ranges:
        at, end, position = wanted.position, wanted.position + wanted.length, 0
        for number, ref in enumerate(parts):
            stop = position + ref.plain_size
            if position < end and stop > at:
                plain = read(number)
                if plain is None:
                    return None
                gathered.append(plain[at - position : end - position])
                at = min(stop, end)
            position = stop
        if at != end:
            raise FormatError("A range reaches beyond the end of the old manifest.")
    return b"".join(gathered)
