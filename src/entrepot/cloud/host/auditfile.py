"""One file of the audit log and the full ones before it: bounded, JSON lines, each durable when it is written.

A file that has grown to its size is renamed to ``<name>-<moment>-<number>.log``; of such files only so many stay. The
host and its administrator's commands are processes that append to it; each holds the file's lock while it writes or
renames, and looks again when it was renamed meanwhile. Who reads holds it only to learn which files there are: no order
waits for a reader.

An administrator's command may run as root, and whoever runs the host may put anything into the home. So every file is
opened in the one folder that was opened first, and counts only if it is a plain file; in a home that is another's, with
no name elsewhere. In a home of one's own a second name does no harm: a snapshot may have made it.
"""

import errno
import fcntl
import os
import re
import stat
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path, PurePath
from typing import BinaryIO, Final

import msgspec

from entrepot.core.encoding import to_json
from entrepot.core.errors import StorageError
from entrepot.core.sizes import KIB
from entrepot.core.times import Clock
from entrepot.durable.files import storage_errors

Line = dict[str, str | int]
NAME: Final = r"(?:-[0-9]{8}T[0-9]{6}Z-[0-9]{6})?\.log"
"""How the names of such a file and of the full ones before it end."""
_STAMP: Final = "%Y%m%dT%H%M%SZ"
_FULL: Final = re.compile(r"-[0-9]{8}T[0-9]{6}Z-[0-9]{6}\.log")
"""How the name of a full log ends. Others lie there unnoticed: not everything in the home need be the host's."""
_BLOCK: Final = 64 * KIB
_SAFELY: Final = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
"""No link is followed, and no pipe waited for."""


class AuditFile:
    """Appends lines. Safe with other threads and processes that append to the same file.

    Args:
        rotate_bytes: size at which the file is renamed and begun anew.
        files: how many renamed ones stay; the oldest go.
    """

    def __init__(self, path: Path, clock: Clock, *, rotate_bytes: int, files: int) -> None:
        self._path = path
        self._clock = clock
        self._rotate_bytes = rotate_bytes
        self._files = files

    def append(self, line: Line) -> None:
        """Add one line.

        Raises:
            StorageError: the disk refuses.
        """
        with (
            storage_errors("the audit log"),
            _folder(self._path.parent) as folder,
            self._opened(folder, os.O_RDWR | os.O_CREAT) as descriptor,
        ):
            _give_to_owner(descriptor, folder)
            begun = not os.fstat(descriptor).st_size
            _append(descriptor, to_json(line))
            os.fdatasync(descriptor)
            if begun:
                os.fsync(folder)  # its name is as durable as its line
            if os.fstat(descriptor).st_size >= self._rotate_bytes:
                self._rotate(folder)

    def newest_first(self) -> Generator[Line]:
        """The lines of all files that there are when the first one is asked for; one that a crash cut off is left out.

        Raises:
            StorageError: the disk refuses.
        """
        with storage_errors("the audit log"):
            yield from filter(None, map(_decoded, self._newest_first()))

    def _newest_first(self) -> Iterator[bytes]:
        """All lines of all files that there are when the first one is asked for."""
        with _folder(self._path.parent) as folder:
            log, renamed = self._files_now(folder)
            if log is not None:
                with log:
                    yield from _backwards(log)
            for name in reversed(renamed):
                with suppress(FileNotFoundError), _reading(name, folder) as file:  # the oldest may have gone meanwhile
                    yield from _backwards(file)

    def _files_now(self, folder: int) -> tuple[BinaryIO | None, list[str]]:
        try:
            with self._opened(folder, os.O_RDONLY) as descriptor:
                log, renamed = os.fdopen(os.dup(descriptor), "rb"), self._renamed(folder)
                fcntl.flock(
                    descriptor, fcntl.LOCK_UN
                )  # closing it would not be enough: the other one has the lock, too
                return log, renamed
        except FileNotFoundError:  # it was renamed, and nothing was noted since
            return None, self._renamed(folder)

    @contextmanager
    def _opened(self, folder: int, how: int) -> Iterator[int]:
        """The log's descriptor, locked; it stays the log as long as it is held."""
        while True:
            with _plain_file(self._path.name, folder, how | os.O_APPEND) as descriptor:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                if self._is_the_log(descriptor, folder):
                    yield descriptor
                    return

    def _is_the_log(self, descriptor: int, folder: int) -> bool:
        try:
            named = os.stat(self._path.name, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return os.path.samestat(os.fstat(descriptor), named)

    def _renamed(self, folder: int, stamp: str = "") -> list[str]:
        """Files that are full (at that moment), the oldest first."""
        log = self._path.stem
        found = (name for name in os.listdir(folder) if name.startswith(f"{log}-{stamp}"))
        return sorted(name for name in found if _FULL.fullmatch(name, len(log)))

    def _rotate(self, folder: int) -> None:
        """Rename it, and drop the oldest of those that were renamed before."""
        stamp = datetime.fromtimestamp(self._clock(), UTC).strftime(_STAMP) + "-"
        same = self._renamed(folder, stamp)
        number = int(PurePath(same[-1]).stem.rpartition("-")[2]) + 1 if same else 0  # the order of names is time's
        full = f"{self._path.stem}-{stamp}{number:06}.log"
        os.rename(self._path.name, full, src_dir_fd=folder, dst_dir_fd=folder)
        kept = self._renamed(folder)
        for old in kept[: max(0, len(kept) - self._files)]:
            with suppress(FileNotFoundError):
                os.unlink(old, dir_fd=folder)
        os.fsync(folder)


@contextmanager
def _folder(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _plain_file(name: str, folder: int, how: int) -> Iterator[int]:
    """Open a file in a folder.

    Raises:
        StorageError: what has the name is a link, or no plain file, or has a name elsewhere in another's home.
    """
    try:
        descriptor = os.open(name, how | _SAFELY, 0o600, dir_fd=folder)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):  # a link; a pipe's or a socket's end
            raise _not_plain(name) from None
        raise
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise _not_plain(name)
        if found.st_nlink > 1 and os.fstat(folder).st_uid != os.geteuid():  # 0: it was removed meanwhile
            raise StorageError(
                f"{name} has another name, too (a hard link); nothing is read from it, and nothing written.",
                next_step="Find out who gave it to it; in a home that is another's it may be anybody's file.",
            )
        yield descriptor
    finally:
        os.close(descriptor)


def _not_plain(name: str) -> StorageError:
    return StorageError(
        f"{name} is a link or no plain file; nothing is read from it, and nothing written.",
        next_step="Find out who put it there, and move it away.",
    )


@contextmanager
def _reading(name: str, folder: int) -> Iterator[BinaryIO]:
    with _plain_file(name, folder, os.O_RDONLY) as descriptor, os.fdopen(descriptor, "rb", closefd=False) as file:
        yield file


def _give_to_owner(descriptor: int, folder: int) -> None:
    """What root makes for the home's owner, who runs the host, must not lock the host out of its own log.

    Only what is empty is given away: it tells nothing to whoever gets it, wherever it came from.
    """
    home, log = os.fstat(folder), os.fstat(descriptor)
    if os.geteuid() == 0 and log.st_uid != home.st_uid and not log.st_size:
        os.fchown(descriptor, home.st_uid, home.st_gid)


def _append(descriptor: int, line: bytes) -> None:
    """Add a line. One that a crash or a full disk cut off stays alone: it must not take this one with it."""
    size = os.fstat(descriptor).st_size
    torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
    data = b"\n" * torn + line + b"\n"
    while data:
        data = data[os.write(descriptor, data) :]


def _backwards(file: BinaryIO) -> Iterator[bytes]:
    """A file's lines, the last first; of the file one block at a time is in memory."""
    end = file.seek(0, os.SEEK_END)
    rest = b""
    while end:
        begin = max(0, end - _BLOCK)
        file.seek(begin)
        rest, *lines = (file.read(end - begin) + rest).split(b"\n")
        yield from reversed(lines)
        end = begin
    yield rest


def _decoded(line: bytes) -> Line | None:
    try:
        return msgspec.json.decode(line, type=Line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
