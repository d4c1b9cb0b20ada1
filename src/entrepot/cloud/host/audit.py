"""The audit log: who changed what, as JSON lines, one durable line per change (``<home>/audit.log``).

Refused orders and sign-ins are in it too, so that a misused certificate shows; what comes without a good token is no
order. No line holds a token, a key or a request body.

The log is bounded: when it has grown to its size it is renamed to ``audit-<moment>-<number>.log``, and of such files
only so many stay. The host and its administrator's commands are processes that append to it; each holds the
file's lock while it writes or renames, and looks again when it was renamed meanwhile. Who reads holds it only to learn
which files there are: no order waits for a reader.
"""

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from entrepot.core.encoding import to_json
from entrepot.core.sizes import KIB, MIB
from entrepot.core.times import Clock, iso
from entrepot.durable.files import storage_errors, sync_folder

ROTATE_BYTES: Final = 16 * MIB
FILES: Final = 12
_LONGEST: Final = 500
_STAMP: Final = "%Y%m%dT%H%M%SZ"
_BLOCK: Final = 64 * KIB


class AuditLog:
    """Appends to the log. Thread-safe, and safe with other processes that append to it.

    Args:
        rotate_bytes: size at which the log is renamed and begun anew.
        files: how many renamed ones stay; the oldest go.
    """

    def __init__(self, path: Path, clock: Clock, *, rotate_bytes: int = ROTATE_BYTES, files: int = FILES) -> None:
        self._path = path
        self._clock = clock
        self._rotate_bytes = rotate_bytes
        self._files = files
        self._lock = threading.Lock()

    def note(self, action: str, *, actor: str, subject: str, outcome: str = "done", **details: str | int) -> None:
        """Add one line.

        Args:
            action: a verb and its object, such as ``service.stop``.
            actor: subscription and certificate thumbprint, or ``local`` for the host's own administrator.
            subject: what it was done to.
            outcome: ``done``, or the code of the error.

        Raises:
            StorageError: the disk refuses.
        """
        line = {
            "time": iso(self._clock()),
            "action": action,
            "actor": actor[:_LONGEST],
            "subject": subject[:_LONGEST],
            "outcome": outcome,
        } | {name: value[:_LONGEST] if isinstance(value, str) else value for name, value in details.items()}
        with self._lock, storage_errors("the audit log"), self._opened(os.O_RDWR | os.O_CREAT) as descriptor:
            self._give_to_owner(descriptor)
            _append(descriptor, to_json(line))
            os.fdatasync(descriptor)
            if os.fstat(descriptor).st_size >= self._rotate_bytes:
                self._rotate()

    def last(self, count: int) -> list[dict[str, str | int]]:
        """The newest so many lines of all files, oldest first. A line that a crash cut off is left out.

        Raises:
            StorageError: the disk refuses.
        """
        with storage_errors("the audit log"):
            return list(islice(filter(None, map(_decoded, self._newest_first())), count))[::-1]

    def _newest_first(self) -> Iterator[bytes]:
        """All lines of all files that there are when the first one is asked for."""
        log, renamed = self._files_now()
        if log is not None:
            with log:
                yield from _backwards(log)
        for path in reversed(renamed):
            with suppress(FileNotFoundError), path.open("rb") as file:  # the oldest may have gone meanwhile
                yield from _backwards(file)

    def _files_now(self) -> tuple[BinaryIO | None, list[Path]]:
        try:
            with self._opened(os.O_RDONLY):
                return self._path.open("rb"), self._renamed()
        except FileNotFoundError:  # it was renamed, and nothing was noted since
            return None, self._renamed()

    @contextmanager
    def _opened(self, how: int) -> Iterator[int]:
        """The log's descriptor, locked; it stays the log as long as it is held."""
        while True:
            descriptor = os.open(self._path, how | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                if self._is_the_log(descriptor):
                    yield descriptor
                    return
            finally:
                os.close(descriptor)

    def _is_the_log(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), self._path.stat())
        except FileNotFoundError:
            return False

    def _give_to_owner(self, descriptor: int) -> None:
        """What root does for the home's owner, who runs the host, must not lock the host out of its own log."""
        home = self._path.parent.stat()
        if os.geteuid() == 0 and os.fstat(descriptor).st_uid != home.st_uid:
            os.fchown(descriptor, home.st_uid, home.st_gid)

    def _renamed(self) -> list[Path]:
        """Files that are full, the oldest first."""
        return sorted(self._path.parent.glob(f"{self._path.stem}-*.log"))

    def _rotate(self) -> None:
        """Rename it, and drop the oldest of those that were renamed before."""
        stamp = datetime.fromtimestamp(self._clock(), UTC).strftime(_STAMP)
        same = sorted(self._path.parent.glob(f"{self._path.stem}-{stamp}-*.log"))
        number = int(same[-1].stem.rpartition("-")[2]) + 1 if same else 0  # the order of names is that of time
        self._path.rename(self._path.with_name(f"{self._path.stem}-{stamp}-{number:06}.log"))
        kept = self._renamed()
        for old in kept[: max(0, len(kept) - self._files)]:
            old.unlink(missing_ok=True)
        sync_folder(self._path.parent)


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


def _decoded(line: bytes) -> dict[str, str | int] | None:
    try:
        return msgspec.json.decode(line, type=dict[str, str | int])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
