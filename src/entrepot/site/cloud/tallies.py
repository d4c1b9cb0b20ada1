"""Counts that outlive SIGKILL: each is appended to a file, in one system call, before anything else is done with it.

Whoever counts turns to a new file, adds up what the earlier ones hold in a database transaction, notes in that same
transaction below which number files are counted, and then drops them. So a file that is found after a crash is either
counted, and known to be, or is counted then. What the kernel has taken outlives the process; a loss of power may cost
the last seconds.
"""

import os
import secrets
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog

from entrepot.core.errors import StorageError
from entrepot.durable.files import make_folder, storage_errors, write_file

FIGURES: Final = ("uploaded", "site_writes", "site_reads", "fetched")
_FIRST: Final = 3
"""Figures in a line of the first versions, which may have left files."""
_SUFFIX: Final = ".tally"
_ID: Final = "id"
_OPEN: Final = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)

log = structlog.get_logger("site.cloud.tallies")

Counts = dict[tuple[str, int], Counter[str]]
"""By point and hour, what was counted of each of :data:`FIGURES`."""


def folder_id(folder: Path) -> str:
    """A random name, kept in the folder: processes that share a database, each with a folder of its own, number their
    files independently. A folder that cannot be written has another one each time, and no files either."""
    path = folder / _ID
    with suppress(OSError):
        if found := path.read_text("ascii").strip():
            return found
    made = secrets.token_hex(8)
    try:
        make_folder(folder, mode=0o700)
        write_file(path, made.encode(), mode=0o600)
    except (OSError, StorageError) as error:
        log.warning("tallies_not_named", error=str(error))
    return made


class Tallies:
    """The files of one site. Not thread-safe.

    Args:
        folder: made with the first count.
        counted: files with a lower number are in the database already.
    """

    def __init__(self, folder: Path, counted: int) -> None:
        self._folder = folder
        self._file = -1
        self._refused = False
        numbers = self._numbers()
        self._number = max([counted, *(number + 1 for number in numbers)])
        self.drop(counted)

    def left(self) -> Counts:
        """What the files hold that are there; lines that were torn are left out.

        Raises:
            StorageError: they cannot be read.
        """
        found: Counts = {}
        with storage_errors(str(self._folder)):
            for number in self._numbers():
                for line in self._path(number).read_bytes().split(b"\n")[:-1]:
                    fields = line.decode("ascii", "replace").split(" ")
                    if len(fields) - 2 in (_FIRST, len(FIGURES)) and all(one.isdecimal() for one in fields[1:]):
                        figures = dict(zip(FIGURES, map(int, fields[2:]), strict=False))
                        found.setdefault((fields[0], int(fields[1])), Counter()).update(figures)
        return found

    def add(self, point: str, hour: int, *figures: int) -> None:
        """Append a count, in the order of :data:`FIGURES`. A disk that refuses holds no transfer up."""
        try:
            if self._file < 0:
                make_folder(self._folder, mode=0o700)
                self._file = os.open(self._path(self._number), _OPEN, 0o600)
            os.write(self._file, f"{point} {hour} {' '.join(map(str, figures))}\n".encode())
            self._refused = False
        except (OSError, StorageError) as error:
            if not self._refused:  # once, not with every request that the disk stays full for
                log.warning("counts_not_kept", error=str(error))
            self._refused = True

    def turn(self) -> int:
        """Begin a new file; all that was added is in files with numbers below the result."""
        self.close()
        self._number += 1
        return self._number

    def drop(self, below: int) -> None:
        """Remove files that are counted."""
        for number in self._numbers():
            if number < below:
                self._path(number).unlink(missing_ok=True)

    def close(self) -> None:
        """Close the present file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _numbers(self) -> list[int]:
        names = (path.stem for path in self._folder.glob(f"*{_SUFFIX}"))
        return sorted(int(name) for name in names if name.isdecimal())

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:010d}{_SUFFIX}"
