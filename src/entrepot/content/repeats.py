"""Small files that a version holds more than once, as two releases side by side do: their bytes are kept once.

Memory: the digests of the last :data:`FILES` to twice as many files. What was found depends on nothing but the files
and their order, so that the same source gives the same chunks again.
"""

from typing import Final

from entrepot.core.sizes import KIB

LEAST: Final = 4 * KIB
"""A smaller file is not worth that another chunk is needed for it."""
GROUPS: Final = 4096
"""So many groups back, its own counted, a file's bytes may lie: that many references are at hand (``writing.py``)."""
FILES: Final = 32_768


class Repeats:
    """Where the bytes of files lie: in which group, by its number, and from which offset in it."""

    def __init__(self) -> None:
        self._recent: dict[bytes, tuple[int, int]] = {}
        self._before: dict[bytes, tuple[int, int]] = {}

    def find(self, digest: bytes, group: int) -> tuple[int, int] | None:
        """Where a file of group number ``group`` lies already."""
        found = self._recent.get(digest) or self._before.get(digest)
        return found if found is not None and group - found[0] < GROUPS else None

    def note(self, digest: bytes, group: int, offset: int) -> None:
        """Remember a file."""
        self._recent[digest] = (group, offset)
        if len(self._recent) >= FILES:
            self._before, self._recent = self._recent, {}
