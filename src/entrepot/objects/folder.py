"""A store in a folder of a local disk: a key is a file, whole or absent, also after power loss.

Bytes reach the disk before their name appears: each file is written below ``.staging``, synced, then renamed (or
linked, when only one writer may win). With ``durable=False`` the rename waits for :meth:`FolderStore.flush`, which
syncs all waiting files at once (``syncfs`` on Linux) and then names them: a *group commit*. Until then this store
object alone sees them, so no reader anywhere can find a name whose bytes may still be lost.
"""

import contextlib
import os
import stat
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from entrepot.core.errors import NotFoundError, StorageError
from entrepot.durable.files import make_folder, storage_errors, sync_folder
from entrepot.durable.sharing import insist
from entrepot.objects.keys import check_key, check_range, check_seconds, check_size
from entrepot.objects.listing import list_keys
from entrepot.objects.staging import Staging
from entrepot.objects.store import Fetched, NoUrl, Page, Stored, Unchanged
from entrepot.objects.syncing import sync_all

PIECE: Final = 256 * 1024
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
MAX_WAITING: Final = 4096
"""As many files wait for a flush at most; then the store flushes by itself."""


class FolderStore:
    """An :class:`~entrepot.objects.store.ObjectStore` over a folder.

    Several processes may share the folder; each sees what the others have flushed. A key cannot be a file and a folder
    at once (``a`` and ``a/b``): the second is a :class:`StorageError`.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._staging = Staging(root)
        self._lock = threading.Lock()
        self._flushing = threading.Lock()
        self._above = f"{root}/"  # a key's path is this and the key: a Path for each would double what a put takes
        self._waiting: dict[str, str] = {}
        self._dirty: set[str] = set()  # folders that gained or lost a name since the last flush

    @property
    def root(self) -> Path:
        """The folder."""
        return self._root

    def put(self, key: str, data: bytes | Iterable[bytes], *, if_absent: bool = False, durable: bool = True) -> bool:
        """See :meth:`ObjectStore.put`. ``if_absent`` is always durable: a race is decided on the disk."""
        target = self._path(key)
        if if_absent and (key in self._waiting or _found(target)):
            return False
        with storage_errors(key):
            if not durable and not if_absent:
                self._prepare(target)
            temporary = self._write(data, sync=durable or if_absent)
            if durable or if_absent:
                return self._publish(key, temporary, if_absent=if_absent)
            with self._lock:
                replaced = self._waiting.pop(key, None)
                self._waiting[key] = temporary
                full = len(self._waiting) >= MAX_WAITING
            if replaced:
                _remove(replaced)
        if full:
            self.flush()
        return True

    def flush(self) -> None:
        """See :meth:`ObjectStore.flush`. Deletions become durable too.

        Raises:
            StorageError: the disk refuses; what waited still waits.
        """
        with self._flushing:
            with self._lock:
                batch = dict(self._waiting)
                dirty, self._dirty = self._dirty, set()
            if not batch and not dirty:
                return
            try:
                with storage_errors(str(self._root)):
                    if batch:
                        sync_all(self._root, files=map(Path, batch.values()), folders=())
                    for key, temporary in batch.items():
                        dirty.add(self._name_waiting(key, temporary))
                    sync_all(self._root, files=(), folders=map(Path, dirty))
            except BaseException:
                with self._lock:
                    self._dirty |= dirty
                raise

    def read(self, key: str, *, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """See :meth:`ObjectStore.read`."""
        check_range(start, length)
        with self._open(key) as descriptor, storage_errors(key):
            if start:
                os.lseek(descriptor, start, os.SEEK_SET)
            while length is None or length > 0:
                piece = os.read(descriptor, PIECE if length is None else min(PIECE, length))
                if not piece:
                    return
                if length is not None:
                    length -= len(piece)
                yield piece

    def fetch(self, key: str, *, known: str = "", limit: int) -> Fetched | Unchanged:
        """See :meth:`ObjectStore.fetch`."""
        with self._open(key) as descriptor, storage_errors(key):
            found = os.fstat(descriptor)
            # A put makes a new file. The time alone would not do: a clock may be set back, an inode is used again.
            version = f"{found.st_ino:x}-{found.st_mtime_ns:x}-{found.st_ctime_ns:x}-{found.st_size:x}"
            if known == version:
                return Unchanged()
            check_size(key, found.st_size, limit)
            gathered = bytearray()
            while piece := os.read(descriptor, PIECE):
                gathered += piece
            return Fetched(data=bytes(gathered), version=version)

    def stat(self, key: str) -> Stored:
        """See :meth:`ObjectStore.stat`."""
        for candidate in self._candidates(key):
            with storage_errors(key):
                found = _found(candidate)
            if found and stat.S_ISREG(found.st_mode):
                return Stored(key=key, size=found.st_size, modified=found.st_mtime)
        raise NotFoundError(f"The store has no {key}.")

    def delete(self, key: str) -> bool:
        """See :meth:`ObjectStore.delete`. It survives power loss after the next :meth:`flush`."""
        path = self._path(key)
        with self._lock:
            waiting = self._waiting.pop(key, None)
            if waiting:
                _remove(waiting)
            try:
                with storage_errors(key):
                    os.unlink(path)  # noqa: PTH108 - paths are text here
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                return waiting is not None
            self._dirty.add(str(self._prune(Path(path).parent)))
        return True

    def list(self, prefix: str = "", *, after: str = "", limit: int = 1000) -> Page:
        """See :meth:`ObjectStore.list`. Memory: the names of one folder per level."""
        with self._lock:
            waiting = dict(self._waiting)
        return list_keys(self._root, waiting, prefix=prefix, after=after, limit=limit)

    def link(self, key: str, *, seconds: int) -> NoUrl:
        """See :meth:`ObjectStore.link`."""
        check_key(key)
        check_seconds(seconds)
        return NoUrl()

    def _path(self, key: str) -> str:
        return self._above + check_key(key)

    def _candidates(self, key: str) -> Iterator[str]:
        """Where a key's bytes may be: waiting or named, and again, since a put may have replaced what waited."""
        path = self._path(key)
        for _ in range(2):
            with self._lock:
                waiting = self._waiting.get(key)
            if waiting:
                yield waiting
            yield path
            if not waiting:
                return

    def open_file(self, key: str) -> int:
        """A descriptor of the file that holds it, for reading; the caller closes it.

        Raises:
            NotFoundError: there is no such key.
            StorageError: the disk refuses.
        """
        for candidate in self._candidates(key):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError), storage_errors(key):
                descriptor = os.open(candidate, os.O_RDONLY | getattr(os, "O_BINARY", 0))
                if stat.S_ISREG(os.fstat(descriptor).st_mode):
                    return descriptor
                os.close(descriptor)
        raise NotFoundError(f"The store has no {key}.")

    @contextlib.contextmanager
    def _open(self, key: str) -> Iterator[int]:
        descriptor = self.open_file(key)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _write(self, data: bytes | Iterable[bytes], *, sync: bool) -> str:
        with self._lock:
            temporary = self._staging.new_file()
        try:
            descriptor = os.open(temporary, _NEW, 0o644)
            try:
                for piece in (data,) if isinstance(data, bytes | bytearray | memoryview) else data:
                    view = memoryview(piece)
                    while view:
                        view = view[os.write(descriptor, view) :]
                if sync:
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except BaseException:
            with contextlib.suppress(OSError):
                _remove(temporary)
            raise
        return temporary

    def _publish(self, key: str, temporary: str, *, if_absent: bool) -> bool:
        """Name one synced file, durably; what waited under this key is older and goes."""
        try:
            with self._lock:
                won = self._move(key, temporary, if_absent=if_absent)
                older = self._waiting.pop(key, None)
            if older:
                _remove(older)
        finally:
            _remove(temporary)
        if won:
            sync_folder(Path(self._path(key)).parent)
        return won

    def _name_waiting(self, key: str, temporary: str) -> str:
        """Name one file of a flush, unless it was replaced or deleted while the disk was busy; its folder."""
        with self._lock:
            if self._waiting.get(key) is temporary:
                self._move(key, temporary, if_absent=False)
                del self._waiting[key]
        return _folder_of(self._above + key)

    def _prepare(self, target: str) -> None:
        """Make the folder of a key that will wait; it becomes durable with the flush. A clash shows now, not then."""
        if _is_folder(_folder_of(target)):
            if _is_folder(target):
                raise StorageError(f"{Path(target).name} is a key and a folder of keys at once.")
            return
        parents = Path(target).parents
        try:
            parents[0].mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise StorageError(f"{Path(target).name} lies below a key that is a file.") from None
        with self._lock:
            self._dirty.update(str(each) for each in parents if each == self._root or self._root in each.parents)

    def _prune(self, folder: Path) -> Path:
        """Remove folders that became empty, or they would outlive their keys; the first that stays."""
        while folder != self._root:
            try:
                folder.rmdir()
            except OSError:
                break
            folder = folder.parent
        return folder

    def _move(self, key: str, temporary: str, *, if_absent: bool) -> bool:
        target = self._path(key)
        while True:
            try:
                if not if_absent:
                    insist(lambda: os.replace(temporary, target))  # noqa: PTH105 - paths are text here
                    return True
                os.link(temporary, target)
            except FileNotFoundError:
                if not _found(temporary):
                    raise
                make_folder(Path(target).parent)  # there was none yet, or a delete removed it when it became empty
                continue
            except FileExistsError:
                if _is_folder(_folder_of(target)):
                    return False
                raise StorageError(f"{key} lies below a key that is a file.") from None
            except (NotADirectoryError, IsADirectoryError):
                raise StorageError(f"{key} is a key and a folder of keys at once.") from None
            return True


def _folder_of(path: str) -> str:
    return path.rpartition("/")[0]


def _found(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)  # noqa: PTH116 - paths are text here
    except (FileNotFoundError, NotADirectoryError):
        return None


def _is_folder(path: str) -> bool:
    found = _found(path)
    return found is not None and stat.S_ISDIR(found.st_mode)


def _remove(path: str) -> None:
    """Remove a file, if it is there."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)  # noqa: PTH108 - paths are text here
