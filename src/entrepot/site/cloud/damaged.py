"""Segments of transaction records that were refused, kept to be looked at.

Whoever can write to a cloud point's store decides how many there are. So each cloud point has a folder and a number of
its own: nobody fills the site's disk, nor pushes out what was kept of others.
"""

import hashlib
from pathlib import Path
from typing import Final

from entrepot.durable.files import make_folder, storage_errors, write_file

MOST_DAMAGED: Final = 16
"""Of each cloud point, of at most 16 MiB each; the newest stay."""


class DamagedSegments:
    """Those of all cloud points, below a folder. Several processes may keep and drop at the same time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, point: str, key: str, data: bytes) -> None:
        """Keep one, instead of the oldest of its cloud point when there are too many.

        Raises:
            StorageError: the disk refuses.
        """
        folder = self._folder / point
        make_folder(folder)
        write_file(folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.segment", data)
        with storage_errors(str(folder)):
            kept = sorted(folder.glob("*.segment"), key=_written)
            for oldest in kept[:-MOST_DAMAGED]:
                oldest.unlink(missing_ok=True)

    def drop_old(self, before: float) -> int:
        """Drop what was kept before that moment, also of cloud points that were deleted; how many.

        Raises:
            StorageError: the disk refuses.
        """
        with storage_errors(str(self._folder)):
            old = [file for file in self._folder.rglob("*.segment") if _written(file) < before * 1e9]
            for file in old:
                file.unlink(missing_ok=True)
        return len(old)


def _written(file: Path) -> int:
    """When, in nanoseconds; 0 for one that another process has dropped since it was listed."""
    try:
        return file.stat().st_mtime_ns
    except FileNotFoundError:
        return 0
