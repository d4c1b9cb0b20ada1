"""Exclusive lock on an instance's folder that also notices when the folder was removed meanwhile.

An instance holds the lock on its journal folder while it lives; the kernel releases it however the process ends. Who
gets the lock of another instance's folder has proof that it is dead, and adopts what it left. The last act of an
adopter is to remove the folder with the lock file in it: so a lock counts only if it is on the file that the path
still names.
"""

import contextlib
import fcntl
import os
import time
from pathlib import Path
from typing import Self

from entrepot.core.errors import ConflictError
from entrepot.durable.files import make_folder, storage_errors

LOCK_NAME = "lock"
_ATTEMPTS = 30
_PAUSE = 0.01


class FolderLock:
    """A held lock; release it by :meth:`release` or as a context manager."""

    def __init__(self, folder: Path, descriptor: int) -> None:
        self._folder = folder
        self._descriptor = descriptor

    @classmethod
    def try_take(cls, folder: Path) -> Self | None:
        """Lock an existing folder; None when somebody holds it or the folder is gone.

        Raises:
            StorageError: the disk, or the limit of open files, refuses.
        """
        path = folder / LOCK_NAME
        try:
            with storage_errors(str(path)):
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            named, held = path.stat(), os.fstat(descriptor)
            if (named.st_dev, named.st_ino) == (held.st_dev, held.st_ino):
                return cls(folder, descriptor)
        except (BlockingIOError, FileNotFoundError):
            pass
        except OSError:
            os.close(descriptor)
            raise
        os.close(descriptor)
        return None

    @classmethod
    def create(cls, folder: Path) -> Self:
        """Create a folder if need be, and lock it.

        Raises:
            ConflictError: another process has it.
            StorageError: the disk refuses.
        """
        for attempt in range(_ATTEMPTS):  # an adopter may be looking into the new folder, or removing it
            if attempt:
                time.sleep(_PAUSE)
            make_folder(folder, mode=0o700)
            lock = cls.try_take(folder)
            if lock is not None:
                return lock
        raise ConflictError(
            f"Another process is using the journal folder {folder.name}.", next_step="Start with a new instance id."
        )

    def remove_folder(self) -> None:
        """Remove the folder, which must hold nothing but the lock, while still holding it."""
        with contextlib.suppress(OSError):  # a new instance of the same name may be moving in
            (self._folder / LOCK_NAME).unlink()
            self._folder.rmdir()

    def release(self) -> None:
        """Give the lock up. Harmless when repeated."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
