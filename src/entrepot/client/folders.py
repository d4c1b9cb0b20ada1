"""System calls relative to one open folder, none of which follows a link.

A :class:`Level` is a folder that was opened: by descriptor where the system can (POSIX), else by path.
"""

import contextlib
import errno
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from entrepot.core.errors import StorageError
from entrepot.durable.files import storage_errors
from entrepot.durable.sharing import insist

_READ: Final = 1024 * 1024
FILE_FLAGS: Final = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
NONBLOCK: Final = getattr(os, "O_NONBLOCK", 0)  # a FIFO in the way must not hang us
FOLDER_FLAGS: Final = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | FILE_FLAGS

RACES: Final = 100
"""How often something may be put in our way before we give up."""
_REPLACED: Final = (errno.ELOOP, errno.EMLINK, errno.EISDIR, errno.ENXIO)
"""What opening says when a link, a folder or a FIFO appeared just before."""


class Found(msgspec.Struct, frozen=True):
    """What stands at a path, itself and not what it leads to. ``kind``: file, folder, link or other."""

    kind: str
    size: int
    mode: int
    names: int  # hard links to it


class Level(msgspec.Struct):
    """One open folder: its name, and a descriptor or (without descriptors) its path."""

    name: str
    descriptor: int | None
    prefix: str

    def at(self, name: str) -> str:
        """How a child is named in a system call."""
        return self.prefix + name


class NotRealError(Exception):
    """A folder on the way is a link, a junction or a file."""


def folder_mode(mode: int) -> int:
    """Permissions of a folder of the content, as it stands in a tree: its owner may always use and empty it, or neither
    a later version nor removal could do its work."""
    return mode | stat.S_IRWXU


def open_folder(parent: Level, name: str) -> Level:
    """Open a child folder.

    Raises:
        FileNotFoundError: there is none.
        NotRealError, NotADirectoryError: what stands there leads elsewhere or is no folder.
    """
    if parent.descriptor is not None:
        try:
            return Level(name, os.open(name, FOLDER_FLAGS, dir_fd=parent.descriptor), "")
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.EMLINK):
                raise NotRealError from None
            raise
    found = find(parent, name)
    if found is None:
        raise FileNotFoundError(errno.ENOENT, "no such folder", name)
    if found.kind != "folder":
        raise NotRealError
    return Level(name, None, parent.at(name) + os.sep)


def find(level: Level, name: str) -> Found | None:
    """What stands at a name, itself; None when nothing does."""
    try:
        status = os.stat(level.at(name), dir_fd=level.descriptor, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return None
    kind = "other"
    if stat.S_ISREG(status.st_mode):
        kind = "file"
    elif stat.S_ISDIR(status.st_mode):
        kind = "folder"
    if stat.S_ISLNK(status.st_mode) or _is_reparse_point(status):
        kind = "link"
    return Found(kind, status.st_size, stat.S_IMODE(status.st_mode), status.st_nlink)


if sys.platform == "win32":

    def _is_reparse_point(status: os.stat_result) -> bool:
        """Junctions and other reparse points lead elsewhere as links do."""
        return bool(status.st_file_attributes & stat.FILE_ATTRIBUTE_REPARSE_POINT)

else:

    def _is_reparse_point(_: os.stat_result) -> bool:
        """Only Windows has them."""
        return False


def unlink(level: Level, name: str) -> None:
    """Remove a file or a link itself."""
    try:
        os.unlink(level.at(name), dir_fd=level.descriptor)
    except PermissionError:
        if sys.platform == "win32":
            _unlink_windows(Path(level.at(name)))
        else:
            raise


if sys.platform == "win32":

    def _unlink_windows(path: Path) -> None:
        """A junction or folder link is removed as a folder, a read-only file must be made writable."""
        if path.is_dir():
            insist(path.rmdir)
        else:
            path.chmod(stat.S_IWRITE)
            insist(path.unlink)


def open_to_write(level: Level, name: str) -> int:
    """A plain file of one name, open for writing; anything else there is replaced, also what appears meanwhile.

    Raises:
        StorageError: somebody keeps putting something else there.
    """
    flags = os.O_RDWR | os.O_CREAT | FILE_FLAGS | NONBLOCK
    for _ in range(RACES):
        _clear(level, name)
        try:
            descriptor = os.open(level.at(name), flags, 0o600, dir_fd=level.descriptor)
        except PermissionError:  # a read-only leftover of an earlier attempt: its bytes may be counted on
            _make_writable(level, name)
            continue
        except OSError as error:
            if error.errno in _REPLACED:
                continue
            raise
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode) and status.st_nlink == 1:
            return descriptor
        os.close(descriptor)
    raise StorageError(f"Something keeps replacing {name!r} while it is written.")


def open_new(level: Level, name: str) -> int:
    """A new plain file, open for writing; whatever stands there is removed first, also what appears meanwhile.

    Raises:
        StorageError: somebody keeps putting something else there.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | FILE_FLAGS
    for _ in range(RACES):
        try:
            return os.open(level.at(name), flags, 0o600, dir_fd=level.descriptor)
        except FileExistsError:
            _clear_away(level, name)
    raise StorageError(f"Something keeps replacing {name!r} while it is written.")


def _make_writable(level: Level, name: str) -> None:
    """Let the owner write a file; what appeared in its place meanwhile, or cannot be changed, is removed."""
    if sys.platform == "win32":
        unlink(level, name)
        return
    try:
        descriptor = os.open(level.at(name), os.O_RDONLY | FILE_FLAGS | NONBLOCK, dir_fd=level.descriptor)
    except OSError:
        unlink(level, name)
        return
    try:
        os.fchmod(descriptor, 0o600)
    except OSError:
        unlink(level, name)
    finally:
        os.close(descriptor)


def _clear(level: Level, name: str) -> None:
    """Remove what is no plain file of one name."""
    found = find(level, name)
    if found is not None and (found.kind != "file" or found.names != 1):
        _clear_away(level, name)


def _clear_away(level: Level, name: str) -> None:
    """Remove a file, a link itself or an empty folder."""
    found = find(level, name)
    with contextlib.suppress(FileNotFoundError):
        if found is not None and found.kind == "folder":
            os.rmdir(level.at(name), dir_fd=level.descriptor)
        elif found is not None:
            unlink(level, name)


def read_all(descriptor: int, length: int) -> bytes:
    """Read until ``length`` bytes or the end of the file."""
    pieces = []
    while length:
        piece = os.read(descriptor, min(length, 4 * _READ))
        if not piece:
            break
        pieces.append(piece)
        length -= len(piece)
    return b"".join(pieces)


@contextlib.contextmanager
def folder_errors(what: str) -> Iterator[None]:
    """Translate every refusal of the system into :class:`StorageError`: no ``OSError`` leaves the block.

    A file that may be missing is looked for inside the block.
    """
    try:
        with storage_errors(what):
            yield
    except OSError as error:
        raise StorageError(
            f"Cannot use {what!r}: {error.strerror or error}.",
            next_step="Look at what stands there: something else than the client left it. Move it away and try again.",
        ) from error
