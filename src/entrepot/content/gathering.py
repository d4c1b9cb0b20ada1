"""Everything that is done to a source before its big files are cut: walk it, read and group what is small. A large
source is gathered in a process of its own (``content/apart.py``)."""

import os
from collections.abc import Iterator
from concurrent.futures import Executor
from pathlib import Path
from typing import Final

import msgspec

from entrepot.content.grouping import Piece, grouped
from entrepot.content.patterns import Excludes
from entrepot.content.snapshot import Warnings, walk
from entrepot.core.secret import Secret

_SHOWN: Final = 200
"""Characters of a pattern."""


class Asked(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """What to gather.

    Attributes:
        source: path of a folder or file, as the system has it.
        excludes: what to leave out (``content/patterns.py``).
        for_windows: refuse what Windows cannot store.
        grouping_key: decides where groups end.
        once: files that lay in a group before are not put into one again. Not unless asked for: a server that
            runs on after an upgrade would not understand it, and its next gathering process is the new program's.
    """

    source: bytes
    excludes: tuple[str, ...]
    for_windows: bool
    grouping_key: bytes
    once: bool = False

    def __repr__(self) -> str:
        """Without the key."""
        return f"Asked(source={self.source!r}, excludes={self.excludes!r}, for_windows={self.for_windows!r})"


class Findings(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """What there is to say of the whole, at its end: remarks on names and patterns, and whether Windows can store every
    name."""

    remarks: tuple[str, ...]
    windows_safe: bool


def gather(asked: Asked, pool: Executor) -> Iterator[Piece | Findings]:
    """All pieces of a source in path order, then the findings.

    Args:
        pool: reads small files where the source lets one wait.

    Raises:
        NotFoundError: the source does not exist.
        RefusedError: something in it cannot be published; the text names it.
    """
    warnings = Warnings(for_windows=asked.for_windows)
    source = Path(os.fsdecode(asked.source))
    excludes = Excludes(asked.excludes)
    items = walk(source, excludes, warnings)
    yield from grouped(items, Secret(asked.grouping_key), pool, once=asked.once)
    idle = (f"The pattern {pattern[:_SHOWN]!r} left nothing out." for pattern in excludes.idle)
    yield Findings((*warnings.texts(), *idle), not warnings.count)
