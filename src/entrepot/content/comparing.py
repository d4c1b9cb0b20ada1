"""What differs between two versions: a merge of their manifests, which are both in path order.

Memory: one part of each manifest. Whether an added path is a removed one that moved is for the caller to find, by the
hash of the file: that needs all differences at once.
"""

from collections.abc import Iterable, Iterator
from enum import StrEnum

import msgspec

from entrepot.content.manifest import Entry, EntryKind, Part
from entrepot.core.paths import path_key


class Kind(StrEnum):
    """How a path differs; ``SAME`` paths are given too, to be counted."""

    ADDED = "added"
    CHANGED = "changed"
    REMOVED = "removed"
    SAME = "same"


class Differing(msgspec.Struct, frozen=True, kw_only=True):
    """One path, with its entry in each version that has it."""

    kind: Kind
    path: str
    old: Entry | None = None
    new: Entry | None = None


def entries(parts: Iterable[Part]) -> Iterator[Entry]:
    """The entries of a manifest, each path once: the rest of a file that goes on in the next part is left out."""
    for part in parts:
        for entry in part.entries:
            if not entry.offset:
                yield entry


def differences(old: Iterable[Entry], new: Iterable[Entry]) -> Iterator[Differing]:
    """Merge two versions' entries, ascending in path order.

    A path whose kind, bytes, mode or target differ is *changed*.
    """
    older, newer = iter(old), iter(new)
    before, after = next(older, None), next(newer, None)
    while before is not None or after is not None:
        order = _order(before, after)
        if before is not None and order < 0:
            yield Differing(kind=Kind.REMOVED, path=before.path, old=before)
            before = next(older, None)
        elif after is not None and order > 0:
            yield Differing(kind=Kind.ADDED, path=after.path, new=after)
            after = next(newer, None)
        elif before is not None and after is not None:
            kind = Kind.SAME if _same(before, after) else Kind.CHANGED
            yield Differing(kind=kind, path=after.path, old=before, new=after)
            before, after = next(older, None), next(newer, None)


def _order(before: Entry | None, after: Entry | None) -> int:
    """Which comes first: negative for the older version's entry."""
    if before is None or after is None:
        return 1 if before is None else -1
    left, right = path_key(before.path), path_key(after.path)
    return (left > right) - (left < right)


def _same(before: Entry, after: Entry) -> bool:
    shown = (before.kind, before.size, before.digest, before.mode, before.target)
    return shown == (after.kind, after.size, after.digest, after.mode, after.target)


def can_move(entry: Entry) -> bool:
    """Whether finding the same bytes elsewhere says anything: files that are not empty."""
    return entry.kind == EntryKind.FILE and entry.size > 0
