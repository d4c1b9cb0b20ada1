"""Appending to a log exactly once.

Whoever appends remembers, durably and beforehand, the batch and the length of the file before it. However the process
ends, the batch is then written again from that length on: what was written of it is cut off first. Only one process
appends to a file. A file that became shorter meanwhile was rotated or cleared by an administrator, one that is
longer than the whole batch was written by a later life of the site (the database was restored): the batch then
goes to its end, unless it stands in its place already.

A log is rotated when its last line is of an earlier UTC day, or when it has become too large: it is renamed to
``CloudDP-<service>-<moment>.log``, and such files go after so many days. That is done between batches only, so no
batch is ever torn.
"""

import itertools
import os
import re
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path

import msgspec

from entrepot.core.errors import BadInputError
from entrepot.core.sizes import MIB
from entrepot.core.times import DAY
from entrepot.durable.files import make_folder, storage_errors, sync_folder

_ROTATED = re.compile(r"-(\d{8}T\d{6})Z(?:-\d+)?\.log")
_STAMP = "%Y%m%dT%H%M%S"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,120}\.log")
_OPEN = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)


class LogOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How logs are kept: days that a rotated one stays, bytes at which one is rotated before its day is over, and
    whether every transaction has a line of its own."""

    days: int = 35
    rotate_bytes: int = 250 * MIB
    verbose: bool = False


class LogFolder:
    """The folder of a site server's logs. Synchronous; safe to open twice, but one writer a file.

    Args:
        folder: created when missing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, name: str) -> Path:
        """Where the log of that name is.

        Raises:
            BadInputError: not a plain name ending in ``.log``.
        """
        if not _NAME.fullmatch(name):
            raise BadInputError(f"{name!r} is not the name of a log.")
        return self._folder / name

    def length(self, name: str) -> int:
        """Bytes in the log; 0 when there is none."""
        try:
            return self.path(name).stat().st_size
        except FileNotFoundError:
            return 0

    def write(self, name: str, start: int, data: bytes) -> None:
        """Make sure that the log has ``data``, once, durably: at ``start`` unless the file tells another story.

        Raises:
            StorageError: the disk refuses.
        """
        path = self.path(name)
        with storage_errors(str(path)):
            make_folder(self._folder)
            descriptor = os.open(path, _OPEN, 0o644)
            try:
                with os.fdopen(descriptor, "r+b", buffering=0, closefd=False) as file:
                    _place(file, start, data)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            sync_folder(self._folder)

    def rotate(self, name: str, *, now: float, options: LogOptions) -> Path | None:
        """Rotate the log if it is due, and drop rotated ones that are too old; the new name of what was rotated.

        Raises:
            StorageError: the disk refuses.
        """
        path = self.path(name)
        with storage_errors(str(path)):
            self._drop_old(path, now - options.days * DAY)
            try:
                found = path.stat()
            except FileNotFoundError:
                return None
            due = int(found.st_mtime) // DAY < int(now) // DAY or found.st_size >= options.rotate_bytes
            if not found.st_size or not due:
                return None
            stamp = datetime.fromtimestamp(now, UTC).strftime(_STAMP)
            target = next(
                one
                for number in itertools.count()
                if not (one := path.with_name(f"{path.stem}-{stamp}Z{f'-{number}' if number else ''}.log")).exists()
            )
            path.rename(target)
            sync_folder(self._folder)
        return target

    def _drop_old(self, path: Path, before: float) -> None:
        oldest = datetime.fromtimestamp(max(0.0, before), UTC).strftime(_STAMP)  # stamps sort as their moments do
        for file in self._folder.glob(f"{path.stem}-*.log"):
            match = _ROTATED.fullmatch(file.name.removeprefix(path.stem))
            if match is None:
                continue
            if match[1] < oldest:
                file.unlink(missing_ok=True)


def _place(file: FileIO, start: int, data: bytes) -> None:
    length = file.seek(0, os.SEEK_END)
    if length > start + len(data):
        file.seek(start)
        if _read(file, len(data)) == data:
            return
        start = length
    at = min(start, length)
    file.truncate(at)
    file.seek(at)
    view = memoryview(data)
    while view:
        view = view[file.write(view) or 0 :]


def _read(file: FileIO, count: int) -> bytes:
    pieces = bytearray()
    while len(pieces) < count and (piece := file.read(count - len(pieces))):
        pieces += piece
    return bytes(pieces)
