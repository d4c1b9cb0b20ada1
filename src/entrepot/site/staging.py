"""Where a publish reads from: what administrators may name, and what is unpacked of an archive meanwhile: a folder of
its own on the site's disk, gone afterwards.

The disk also holds the database and the library, so some of it always stays free (:class:`LibraryRoom`). What a killed
server left here is removed before the first task is run again; unpacked anew, it is the same bytes, of which the
library has what it had.
"""

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Final

from entrepot.content.archives import check_archive, is_archive, unpack
from entrepot.core.errors import BadInputError, RefusedError, StorageError
from entrepot.core.sizes import GIB, MIB, format_size
from entrepot.durable.files import storage_errors
from entrepot.objects.store import ObjectStore
from entrepot.objects.wrapper import StoreWrapper

KEPT_FREE: Final = GIB
"""Bytes of the site's disk that unpacking leaves free."""
LIBRARY_KEPT_FREE: Final = 128 * MIB
"""The same for the library, whoever stores there (a publish, versions sealed anew, deltas): what is there already is
worth more than what is to come, and a database that cannot be written could not even order a sweep."""
REPAIR_KEPT_FREE: Final = 32 * MIB
"""The same for a repair: what it brings back was there before, and clients wait for it."""


def free_space(folder: Path) -> int:
    """Bytes that are free on a folder's disk."""
    return shutil.disk_usage(folder).free


class LibraryRoom:
    """How much may still be stored in the library. Thread-safe.

    Args:
        folder: the library's.
        free: how many bytes are free on a folder's disk.
        kept: bytes of the disk that stay free.
    """

    def __init__(self, folder: Path, *, free: Callable[[Path], int], kept: int = LIBRARY_KEPT_FREE) -> None:
        self._folder = folder
        self._free = free
        self._kept = kept

    def left(self) -> int:
        """Bytes that may be stored now."""
        with storage_errors(str(self._folder)):
            return self._free(self._folder) - self._kept

    def insist(self) -> None:
        """Go on only where there is room.

        Raises:
            StorageError: the rest of the disk is the database's.
        """
        if (left := self.left()) < 0:
            raise StorageError(
                f"The library's disk has {format_size(left + self._kept)} left; "
                f"{format_size(self._kept)} are kept for the database.",
                next_step="Free space on it (`entrepot library sweep --now` deletes what no version needs), then do "
                "this again.",
            )

    def remark(self, wanted: int) -> str:
        """That so many bytes have no room; empty when they have."""
        left = max(0, self.left())
        if wanted <= left:
            return ""
        return f"The library's disk has room for {format_size(left)}, and it would grow by {format_size(wanted)}."


class RoomyStore(StoreWrapper):
    """The library's store: takes nothing that would leave the database no room."""

    def __init__(self, inner: ObjectStore, room: LibraryRoom) -> None:
        super().__init__(inner)
        self.room: Final = room

    def put(self, key: str, data: bytes | Iterable[bytes], *, if_absent: bool = False, durable: bool = True) -> bool:
        """See :meth:`ObjectStore.put`.

        Raises:
            StorageError: the disk refuses, or has too little room.
        """
        self.room.insist()
        return super().put(key, data, if_absent=if_absent, durable=durable)


class Staging:
    """Folders that live as long as a publish, or its rehearsal.

    Args:
        folder: where; made when needed, private to the server.
        home: the server's own folder: nothing of it is a source.
        free: how many bytes are free on a folder's disk.
    """

    def __init__(self, folder: Path, *, home: Path, free: Callable[[Path], int]) -> None:
        self._folder = folder
        self._home = home
        self._free = free

    def room(self) -> int:
        """Bytes that may be written here now."""
        return self._free(self._folder) - KEPT_FREE

    @contextlib.contextmanager
    def folder(self) -> Iterator[Path]:
        """A new, empty folder.

        Raises:
            StorageError: the disk refuses.
        """
        with storage_errors(str(self._folder)):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            made = Path(tempfile.mkdtemp(dir=self._folder))
        try:
            yield made
        finally:
            shutil.rmtree(made, ignore_errors=True)

    @contextlib.contextmanager
    def source(
        self,
        path: Path,
        *,
        unpacked: bool,
        progress: Callable[[int, int], None] = lambda _done, _total: None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Iterator[Path]:
        """What is to be published: the path itself, or a folder with what the archive there holds.

        Raises:
            RefusedError: it leads to the server's own folder by now; or it is no archive, or holds what is not to be
                unpacked; the text names it.
            StorageError: there is no room for it.
            CancelledError: ``cancelled`` said so.
        """
        real = _checked_apart(path, self._home)  # again: whoever may change a link on the way had time to do so
        if not unpacked:
            yield real if real.is_dir() else path
            return
        with self.folder() as made:
            unpack(path, made, room=self.room, progress=progress, cancelled=cancelled)
            yield made


def checked_source(text: str, home: Path, *, unpack: bool = False) -> str:
    """A source that may be published.

    Raises:
        BadInputError: no absolute path, or it cannot be read.
        RefusedError: it has to do with the server's own folder; or it is to be unpacked, and no archive.
    """
    path = Path(text)
    if not path.is_absolute() or "\x00" in text or ".." in PurePosixPath(text).parts:
        raise BadInputError("The source is an absolute path on the site server.")
    try:
        path.lstat()
    except OSError:
        raise BadInputError(
            f"The site server cannot read {text!r}.", next_step="Give a path on the site server."
        ) from None
    _checked_apart(path, home)
    if unpack:
        check_archive(path)
    return text


def _checked_apart(path: Path, home: Path) -> Path:
    """Where a source really is."""
    real, own = path.resolve(), home.resolve()
    if real.is_relative_to(own) or own.is_relative_to(real):
        raise RefusedError("The site server's own folder, with its keys, cannot be published.")
    return real


def packed_remark(source: Path, *, unpacked: bool) -> str:
    """A remark about an archive that is published as the file it is; empty for anything else."""
    if unpacked or not is_archive(source) or not source.is_file():
        return ""
    return (
        f"{source.name!r} is an archive: clients fetch nearly all of its next version anew. Publish what it holds "
        "instead (--unpack)."
    )
