"""The way from a root to a path: the folders on it, opened one by one, none of them by following a link."""

import contextlib
import errno
import os
from pathlib import Path
from typing import Final

from entrepot.client.folders import FOLDER_FLAGS, RACES, Level, NotRealError, open_folder, unlink
from entrepot.client.home import native
from entrepot.core.errors import StorageError

HAS_DIR_FD: Final = os.open in os.supports_dir_fd and hasattr(os, "O_NOFOLLOW")


class Way:
    """The folders on the current path, kept open: neighbouring paths cost no system call. Used by one thread at a time.

    Args:
        root: must exist. Links *up to* it are the caller's choice and are followed.
        descriptors: open relative to folders (False forces the variant for Windows, for its tests).

    Raises:
        OSError: the root cannot be opened.
    """

    def __init__(self, root: Path, *, descriptors: bool = HAS_DIR_FD) -> None:
        path = native(root)
        if descriptors:
            flags = FOLDER_FLAGS & ~getattr(os, "O_NOFOLLOW", 0)
            top = Level("", os.open(path, flags), "")
        else:
            if not path.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, "not a folder", str(root))
            top = Level("", None, str(path) + os.sep)
        self._levels = [top]
        self._folder = ""  # that the last level is

    def close(self) -> None:
        """Give back all descriptors."""
        while self._levels:
            self._leave()

    def _leave(self) -> None:
        level = self._levels.pop()
        if level.descriptor is not None:
            os.close(level.descriptor)

    def to(self, path: str, *, create: bool) -> tuple[Level, str] | None:
        """The open folder that holds ``path`` and the last name; None when there is none and ``create`` is False.

        Raises:
            OSError: the disk refuses.
            StorageError: somebody keeps putting something else in the way.
        """
        folder, _, name = path.rpartition("/")
        if folder == self._folder:
            return self._levels[-1], name
        level = self.enter(folder, create=create)
        return None if level is None else (level, name)

    def enter(self, folder: str, *, create: bool) -> Level | None:
        """Open a folder; the same rules as for :meth:`to`."""
        folders = folder.split("/") if folder else []
        depth = 0
        while depth < len(folders) and depth + 1 < len(self._levels):
            if self._levels[depth + 1].name != folders[depth]:
                break
            depth += 1
        while len(self._levels) > depth + 1:
            self._leave()
        self._folder = "/".join(folders[:depth])
        for name in folders[depth:]:
            level = self._open_child(self._levels[-1], name, create=create)
            if level is None:
                return None
            self._levels.append(level)
            self._folder = f"{self._folder}/{name}" if self._folder else name
        return self._levels[-1]

    def _open_child(self, parent: Level, name: str, *, create: bool) -> Level | None:
        for _ in range(RACES):  # what is in the way is removed, then made, then opened; others may interfere
            try:
                return open_folder(parent, name)
            except FileNotFoundError:
                if not create:
                    return None
                with contextlib.suppress(FileExistsError):
                    os.mkdir(parent.at(name), 0o755, dir_fd=parent.descriptor)
            except (NotADirectoryError, NotRealError):
                if not create:
                    return None
                with contextlib.suppress(FileNotFoundError):
                    unlink(parent, name)
        raise StorageError(f"Something keeps replacing the folder {name!r} while it is written.")
