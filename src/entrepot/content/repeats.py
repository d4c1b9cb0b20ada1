"""Small files that a version holds more than once, as two releases side by side do: their bytes are kept once.

A file of a group may lie in an earlier group's chunk. That is worth it only where the group has a good part of that
chunk: whoever wants one file of it needs all of it. What lies where depends on nothing but the files and their order,
so that the same source gives the same chunks again.

Memory: the digests of the last :data:`FILES` to twice as many files (15 MiB at most), and a number for each group.
"""

from collections import Counter, deque
from collections.abc import Sequence
from typing import Final

from entrepot.content.manifest import Extent

GROUPS: Final = 4096
"""So many groups back, its own counted, a file's bytes may lie: that many references are at hand (``writing.py``)."""
FILES: Final = 32_768
_WORTH: Final = 4
"""Of an earlier group's bytes a group must have one in so many."""

File = tuple[bytes, int]
"""Digest and size."""


class Repeats:
    """Where the bytes of files lie: in which group, by its number, and from which offset in it."""

    def __init__(self) -> None:
        self._number = 0  # of the next group
        self._sizes: deque[int] = deque(maxlen=GROUPS)  # of the chunks of groups, the last one first
        self._recent: dict[bytes, tuple[int, int]] = {}
        self._before: dict[bytes, tuple[int, int]] = {}

    def place(self, files: Sequence[File]) -> list[Extent | None]:
        """Decide for the files of the next group, which are not empty, which of them lie in a group already.

        Returns:
            for each file its extent, whose ``chunk`` says how many groups back, 0 for this one; None where its bytes
            are to be put into this group's chunk, after those of the files before.
        """
        self._sizes.appendleft(0)
        worth = self._worth(files)
        placed: list[Extent | None] = []
        for digest, size in files:
            back, offset = self._found(digest)
            if back == 0 or back in worth:
                placed.append(Extent(back, offset, size))
            else:
                placed.append(None)
                self._recent[digest] = (self._number, self._sizes[0])
                self._sizes[0] += size
        self._number += 1
        if len(self._recent) >= FILES:
            self._before, self._recent = self._recent, {}
        return placed

    def _worth(self, files: Sequence[File]) -> set[int]:
        """The groups, by how far back, of which the files are a good part."""
        there = Counter[int]()
        for digest, size in files:
            there[self._found(digest)[0]] += size
        return {back for back, size in there.items() if back > 0 and _WORTH * size >= self._sizes[back]}

    def _found(self, digest: bytes) -> tuple[int, int]:
        """How many groups back a file lies, and at which offset there; -1 for nowhere."""
        found = self._recent.get(digest) or self._before.get(digest)
        if found is None or self._number - found[0] >= GROUPS:
            return -1, 0
        return self._number - found[0], found[1]
