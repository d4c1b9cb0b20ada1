"""Where a folder store writes before a key appears: one private folder per process, which dies with its holder.

``<root>/.staging/<random>/lock`` is locked while its process lives. A folder whose lock can be taken is a dead
process's: whoever starts next removes it with the half-written files inside.
"""

import contextlib
import itertools
import secrets
import shutil
import sys
import weakref
from pathlib import Path
from typing import Final

from entrepot.core.errors import ConflictError, StorageError
from entrepot.durable.files import make_folder
from entrepot.durable.locks import HomeLock

STAGING: Final = ".staging"


class Staging:
    """This process's private folder below a store's root; made on first use, so that readers never write.

    Not thread-safe: the store calls it under its own lock.
    """

    def __init__(self, root: Path) -> None:
        self._home = root / STAGING
        self._mine: Path | None = None
        self._numbers = itertools.count()

    def new_file(self) -> str:
        """A path for a new temporary file.

        Raises:
            StorageError: the disk refuses.
        """
        if self._mine is None:
            make_folder(self._home)
            sweep(self._home)
            self._mine = self._claim()
        return f"{self._mine}/{next(self._numbers)}"

    def _claim(self) -> Path:
        while True:
            folder = self._home / secrets.token_hex(8)
            folder.mkdir()
            lock = HomeLock(folder, "the staging folder of a store")
            # Another process may sweep the new folder before the lock is ours: then the lock fails, or was taken on
            # a name that is gone. A new name settles it.
            with contextlib.suppress(ConflictError, FileNotFoundError):
                lock.__enter__()
                if (folder / "lock").exists():
                    weakref.finalize(self, _release, lock, folder)
                    return folder
                lock.__exit__()


def _release(lock: HomeLock, folder: Path) -> None:
    # The lock first: Windows removes no open file.
    lock.__exit__()
    shutil.rmtree(folder, ignore_errors=True)


def sweep(home: Path) -> int:
    """Remove the staging folders of processes that are gone; returns how many."""
    removed = 0
    with contextlib.suppress(FileNotFoundError):
        for folder in list(home.iterdir()):
            dead = folder.with_name(f"{folder.name}.dead")
            with contextlib.suppress(ConflictError, StorageError, OSError):
                with HomeLock(folder, "the staging folder of a store"):
                    if sys.platform != "win32":  # Windows moves no folder with an open file in it
                        folder.rename(dead)  # under the lock: whoever waits for it finds the name gone
                if sys.platform == "win32":
                    folder.rename(dead)
                shutil.rmtree(dead, ignore_errors=True)
                removed += 1
    return removed
