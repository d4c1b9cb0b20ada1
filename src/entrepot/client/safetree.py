"""A folder tree in which no link is ever followed, so that nothing is read or written outside it.

On POSIX every folder on the way is opened relative to its parent with ``O_NOFOLLOW``: even a link planted between
two system calls is not followed. Where the system has no such calls (Windows) each folder on the way is checked
before use to be a real folder, neither link nor junction. Whatever stands where the content has a folder (a file, a
link) is removed itself; what a link leads to is never touched.

A :class:`SafeTree` is used by one thread at a time; it keeps the folders on its current path open, which makes
neighbouring paths cheap. Opening another one on the same root costs one system call.
"""

import contextlib
import errno
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Self

from entrepot.client.folders import (
    FILE_FLAGS,
    NONBLOCK,
    Found,
    find,
    folder_errors,
    folder_mode,
    open_new,
    open_to_write,
    read_all,
    unlink,
)
from entrepot.client.holes import write_all, write_at
from entrepot.client.way import HAS_DIR_FD, Way
from entrepot.content.digests import Digester
from entrepot.core.errors import ConflictError
from entrepot.durable.sharing import insist

_READ: Final = 1024 * 1024


class SafeTree:
    """See the module's text. A context manager.

    Args:
        root: the tree's folder; it must exist. Links *up to* it are the caller's choice and are followed.
        descriptors: open relative to folders (False forces the variant for Windows, for its tests).

    Raises:
        StorageError: the root cannot be opened.
    """

    def __init__(self, root: Path, *, descriptors: bool = HAS_DIR_FD) -> None:
        self.root = root
        with folder_errors(str(root)):
            self.way: Final = Way(root, descriptors=descriptors)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give back all descriptors."""
        self.way.close()

    # -- looking -------------------------------------------------------------------------------------------------

    def find(self, path: str) -> Found | None:
        """What stands at ``path``; None when nothing does, or when a folder on the way is none.

        Raises:
            StorageError: the disk refuses.
        """
        with folder_errors(path):
            place = self.way.to(path, create=False)
            return None if place is None else find(*place)

    def read(self, path: str, at: int, length: int) -> bytes | None:
        """Bytes of a file; None when there is no such file; shorter when it ends before.

        Raises:
            StorageError: the disk refuses.
        """
        with folder_errors(path):
            descriptor = self._open(path)
            if descriptor is None:
                return None
            with os.fdopen(descriptor, "rb", buffering=0) as file:
                file.seek(at)
                return read_all(file.fileno(), length)

    def holds(self, path: str, size: int, digest: bytes) -> bool:
        """Whether there is a file of exactly ``size`` bytes that has this digest.

        Raises:
            StorageError: the disk refuses.
        """
        with folder_errors(path):
            descriptor = self._open(path)
            if descriptor is None:
                return False
            with os.fdopen(descriptor, "rb", buffering=0) as file:
                if os.fstat(file.fileno()).st_size != size:
                    return False
                found = Digester(like=digest)
                buffer = bytearray(min(_READ, max(size, 1)))
                while count := file.readinto(buffer):
                    found.update(memoryview(buffer)[:count])
                return found.digest() == digest

    def link_target(self, path: str) -> str | None:
        """Where a link points, with ``/``; None when it is no link.

        Raises:
            StorageError: the disk refuses.
        """
        with folder_errors(path):
            place = self.way.to(path, create=False)
            found = find(*place) if place else None
            if place is None or found is None or found.kind != "link":
                return None
            target = os.readlink(place[0].at(place[1]), dir_fd=place[0].descriptor)
            return target.replace("\\", "/") if sys.platform == "win32" else target

    def _open(self, path: str) -> int | None:
        """A regular file for reading, or None."""
        place = self.way.to(path, create=False)
        if place is None:
            return None
        level, name = place
        found = find(level, name)
        if found is None or found.kind != "file":
            return None
        try:
            descriptor = os.open(level.at(name), os.O_RDONLY | FILE_FLAGS | NONBLOCK, dir_fd=level.descriptor)
        except (FileNotFoundError, PermissionError):
            return None
        except OSError as error:
            if error.errno == errno.ELOOP:  # a link was put there just now
                return None
            raise
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            return None
        return descriptor

    # -- writing -------------------------------------------------------------------------------------------------

    def put(self, path: str, data: bytes | memoryview, mode: int) -> None:
        """Write a whole file with its permissions, in place of whatever stands there: it is opened once.

        It has its permissions only when all of it is written.

        Raises:
            StorageError: the disk refuses.
        """
        with folder_errors(path):
            place = self.way.to(path, create=True)
            assert place is not None
            descriptor = open_new(*place)
            try:
                write_all(descriptor, data)
                if sys.platform != "win32":
                    os.fchmod(descriptor, mode | stat.S_IRUSR)
            finally:
                os.close(descriptor)

    def write(self, path: str, at: int, data: bytes | memoryview) -> None:
        """Write into a file at an offset; the file and folders on the way are made as needed. Long zeros leave a hole
        where nothing else stands; one at the end is there when the file is :meth:`cut` to its size.

        What stands there and is no plain file of its own (a link, a second name of another file) is replaced.

        Raises:
            StorageError: the disk refuses.
        """
        with self._opened(path) as descriptor:
            write_at(descriptor, at, data)

    def cut(self, path: str, size: int) -> None:
        """Make a file exactly ``size`` bytes long.

        Raises:
            StorageError: the disk refuses.
        """
        with self._opened(path) as descriptor:
            os.ftruncate(descriptor, size)

    @contextlib.contextmanager
    def _opened(self, path: str) -> Iterator[int]:
        with folder_errors(path):
            place = self.way.to(path, create=True)
            assert place is not None
            descriptor = open_to_write(*place)
            try:
                yield descriptor
            finally:
                os.close(descriptor)

    def finish(self, path: str, mode: int, *, sync: bool = False) -> None:
        """Give a file its permissions (POSIX; its owner may always read it), and make it durable if asked.

        Raises:
            StorageError: the disk refuses.
        """
        with folder_errors(path):
            place = self.way.to(path, create=False)
            if place is None:
                raise FileNotFoundError(errno.ENOENT, "gone", path)
            level, name = place
            if not sync and sys.platform == "win32":
                if find(level, name) is None:
                    raise FileNotFoundError(errno.ENOENT, "gone", path)
                return
            access = os.O_RDWR if sys.platform == "win32" else os.O_RDONLY
            descriptor = os.open(level.at(name), access | FILE_FLAGS | NONBLOCK, dir_fd=level.descriptor)
            try:
                if sys.platform != "win32":
                    os.fchmod(descriptor, mode | stat.S_IRUSR)
                if sync:
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def make_folder(self, path: str, mode: int) -> None:
        """Make a folder and those on the way, and give it its permissions (POSIX; :func:`folder_mode`).

        Raises:
            StorageError: the disk refuses.
        """
        with folder_errors(path):
            level = self.way.enter(path, create=True)
            assert level is not None
            if sys.platform == "win32":
                return
            if level.descriptor is not None:
                os.fchmod(level.descriptor, folder_mode(mode))
            else:
                Path(level.prefix).chmod(folder_mode(mode))

    def make_link(self, path: str, target: str) -> None:
        """Make a symbolic link, replacing another.

        Raises:
            ConflictError: a folder with other things in it stands there.
            StorageError: the disk refuses, or (Windows) the account may not make links.
        """
        if self.link_target(path) == target:
            return
        if not self.remove(path):
            raise self._in_the_way(path)
        with folder_errors(path):
            place = self.way.to(path, create=True)
            assert place is not None
            level, name = place
            if sys.platform == "win32":
                full = Path(level.at(name))
                folder = (full.parent / target).is_dir()
                full.symlink_to(target.replace("/", "\\"), target_is_directory=folder)
            else:
                os.symlink(target, level.at(name), dir_fd=level.descriptor)  # relative to a folder

    def remove(self, path: str) -> bool:
        """Remove a file, a link itself or an empty folder; False when a folder is not empty.

        Raises:
            StorageError: the disk refuses.
        """
        with folder_errors(path):
            place = self.way.to(path, create=False)
            found = find(*place) if place else None
            if place is None or found is None:
                return True
            level, name = place
            if found.kind != "folder":
                unlink(level, name)
                return True
            try:
                os.rmdir(level.at(name), dir_fd=level.descriptor)
            except OSError as error:
                if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                    return False
                raise
            return True

    def take(self, other: "SafeTree", path: str) -> None:
        """Move a file from another tree on the same disk to the same path here, replacing what is there.

        Raises:
            ConflictError: a folder with other things in it stands there.
            StorageError: the disk refuses.
        """
        found = self.find(path)
        if found is not None and found.kind == "folder" and not self.remove(path):
            raise self._in_the_way(path)
        with folder_errors(path):
            there = other.way.to(path, create=False)
            here = self.way.to(path, create=True)
            if there is None:
                raise FileNotFoundError(errno.ENOENT, "gone", path)
            assert here is not None
            source, target = there[0].at(there[1]), here[0].at(here[1])
            left, entered = there[0].descriptor, here[0].descriptor
            insist(lambda: os.replace(source, target, src_dir_fd=left, dst_dir_fd=entered))

    def _in_the_way(self, path: str) -> ConflictError:
        return ConflictError(
            f"{str(self.root / path)!r} is a folder with files that are not part of the content.",
            next_step="Move them elsewhere, or choose another folder.",
        )
