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
from collections.abc import Collection
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path

import msgspec

from entrepot.core.errors import BadInputError
from entrepot.core.sizes import MIB
from entrepot.core.times import DAY
from entrepot.durable.files import make_folder, storage_errors, sync_folder

_ROTATED = re.compile(r"-(\d{8}T\d{6})Z(?:-\d+)?\.log$")
PREFIX = "CloudDP-"
"""What the names of all these logs begin with."""
_BEGIN = b"<![LOG["
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
            stamp = _stamp(now)
            target = next(
                one
                for number in itertools.count()
                if not (one := path.with_name(f"{path.stem}-{stamp}Z{f'-{number}' if number else ''}.log")).exists()
            )
            path.rename(target)
            sync_folder(self._folder)
        return target

    def drop_left(self, living: Collection[str], *, now: float, options: LogOptions) -> list[str]:
        """Drop what is left of logs that nobody writes to any more (their cloud point was deleted), once it is as old
        as rotated ones become; names of what was dropped.

        Args:
            living: names of the logs that are still written: these and what they were rotated to stay as they are.

        Raises:
            StorageError: the disk refuses.
        """
        oldest, dropped = now - options.days * DAY, []
        stems = {name.removesuffix(".log") for name in living}
        with storage_errors(str(self._folder)):
            for file in sorted(self._folder.glob(f"{PREFIX}*.log")):
                stem, rotated = _parted(file)
                if stem in stems or file.stem in stems:
                    continue
                old = rotated < _stamp(oldest) if rotated else file.stat().st_mtime < oldest and _is_log(file)
                if old:
                    file.unlink(missing_ok=True)
                    dropped.append(file.name)
        return dropped

    def _drop_old(self, path: Path, before: float) -> None:
        for file in self._folder.glob(f"{path.stem}-*.log"):
            stem, rotated = _parted(file)
            if stem == path.stem and rotated and rotated < _stamp(before):
                file.unlink(missing_ok=True)


def _stamp(seconds: float) -> str:
    """Of a rotated file; they sort as their moments do."""
    return datetime.fromtimestamp(max(0.0, seconds), UTC).strftime(_STAMP)


def _is_log(file: Path) -> bool:
    """Whether this log wrote it: somebody may keep notes beside it."""
    with file.open("rb") as opened:
        return opened.read(len(_BEGIN)) == _BEGIN


def _parted(file: Path) -> tuple[str, str]:
    """The stem of the log that a file was, and the moment at which it was rotated; none when it was not."""
    match = _ROTATED.search(file.name)
    return (file.name[: match.start()], match[1]) if match else (file.stem, "")


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
