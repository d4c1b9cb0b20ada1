"""One process per home: a lock that dies with its holder."""

import os
import sys
from pathlib import Path
from typing import Self

from entrepot.core.errors import ConflictError, StorageError
from entrepot.durable.files import storage_errors, sweep_temporary

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_FLAGS = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
"""No link is followed: where root locks another's home, its owner would choose by one which files root makes."""


class HomeLock:
    """Exclusive lock on ``<home>/lock``, released when the process ends, however it ends.

    Use as a context manager. Files that a holder was writing to the home when it was killed are removed: whoever
    writes there holds the lock.

    Raises:
        ConflictError: another process holds it.
        StorageError: the disk refuses.
    """

    def __init__(self, home: Path, what: str) -> None:
        self._path = home / "lock"
        self._what = what
        self._descriptor = -1

    def __enter__(self) -> Self:
        self._take(_FLAGS)
        sweep_temporary(self._path.parent)
        return self

    def check_free(self) -> None:
        """Refuse what taking it would be refused for now, in an existing home; nothing is made there, or removed.

        Raises:
            ConflictError: another process holds it.
            StorageError: the disk refuses.
        """
        try:
            self._take(_FLAGS & ~os.O_CREAT)
        except FileNotFoundError:
            return  # nobody took it yet
        os.close(self._descriptor)

    def _take(self, flags: int) -> None:
        with storage_errors(str(self._path)):
            try:
                self._descriptor = os.open(self._path, flags, 0o600)
            except IsADirectoryError:
                raise StorageError(
                    f"{self._path} is a folder, where a lock file belongs.", next_step="Move it away."
                ) from None
        try:
            if sys.platform == "win32":
                msvcrt.locking(self._descriptor, msvcrt.LK_NBLCK, 1)
            else:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._descriptor)
            raise ConflictError(
                f"Another process is using {self._path.parent} as {self._what}.",
                next_step="Stop it first, or choose another --home.",
            ) from None

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)
