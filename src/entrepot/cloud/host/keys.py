"""Private keys of service certificates in clear, for as long as instances need them.

The server reads a key from a file that is not encrypted. Such a file has mode 0600 in a folder of mode 0700, on a
memory file system where there is one (``/dev/shm``), so that it never reaches a disk; else below the host's home. What
lies there is made anew at every start: the durable copy is sealed in the database. A host holds a lock in its folder
while it lives; a folder whose lock can be taken is a dead host's, and whichever host starts next removes it.
"""

import contextlib
import hashlib
import os
import secrets
import shutil
import stat
from pathlib import Path
from typing import Final

import msgspec
import structlog

from entrepot.cloud.gateway.folderlock import LOCK_NAME, FolderLock
from entrepot.core.errors import ConflictError, StorageError
from entrepot.core.secret import Secret
from entrepot.durable.files import make_folder, storage_errors, write_file, write_private
from entrepot.web.embedded import TlsFiles

MEMORY: Final = Path("/dev/shm")  # noqa: S108  # on purpose: never on a disk; the folder below is private and checked
_log = structlog.get_logger("entrepot.host")


class KeyFolder(msgspec.Struct, frozen=True, kw_only=True):
    """Where one host keeps the keys of all its services; ``in_memory`` says whether a disk never sees them."""

    path: Path
    in_memory: bool
    lock: FolderLock

    def service(self, service_id: str) -> Path:
        """The folder of one service."""
        return self.path / service_id

    def write(self, service_id: str, revision: int, certificate: str, key: Secret) -> TlsFiles:
        """Write what the instances of one revision read; older revisions go.

        Raises:
            StorageError: the disk refuses.
        """
        folder = self.service(service_id)
        make_folder(folder, mode=0o700)
        files = TlsFiles(cert=folder / f"{revision}.crt", key=folder / f"{revision}.key")
        write_private(files.key, key.reveal())
        write_file(files.cert, certificate.encode(), mode=0o600)
        return files

    def forget_older(self, service_id: str, revision: int) -> None:
        """Remove the files of earlier revisions, when no instance of them is left."""
        folder = self.service(service_id)
        for path in folder.iterdir() if folder.is_dir() else ():
            if path.stem != str(revision):
                path.unlink(missing_ok=True)

    def remove(self, service_id: str) -> None:
        """Remove a service's files. Harmless when repeated.

        Raises:
            StorageError: the disk refuses.
        """
        with storage_errors("the service's key files"), contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self.service(service_id))


def open_key_folder(home: Path, *, memory: Path = MEMORY) -> KeyFolder:
    """Choose and prepare the folder; what an earlier run left in it is removed, and what dead hosts left beside it.

    Raises:
        StorageError: neither place can be used.
    """
    _sweep_dead(memory)
    mark = hashlib.sha256(os.fsencode(home.resolve())).hexdigest()[:16]
    for path, in_memory in ((memory / f"{_prefix()}{mark}", True), (home / "keys", False)):
        if in_memory and not (memory.is_dir() and os.access(memory, os.W_OK)):
            continue
        try:
            lock = _prepare(path)
        except (OSError, ConflictError) as error:
            _log.warning("keys.folder_refused", folder=str(path), problem=str(error))
            continue
        _log.info("keys.folder", folder=str(path), in_memory=in_memory)
        return KeyFolder(path=path, in_memory=in_memory, lock=lock)
    raise StorageError("There is no place for private key files.", next_step="Check the permissions of the home.")


def _prefix() -> str:
    return f"entrepot-{os.getuid()}-"


def _prepare(path: Path) -> FolderLock:
    """Own the folder alone: one that someone else made beforehand is refused."""
    path.mkdir(mode=0o700, exist_ok=True)
    if not _is_private(path):
        raise PermissionError(f"{path} belongs to someone else, or others may enter it")
    lock = FolderLock.create(path)
    _empty(path)
    return lock


def _is_private(path: Path) -> bool:
    found = path.lstat()
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not stat.S_IMODE(found.st_mode) & 0o077


def _sweep_dead(memory: Path) -> None:
    """Remove the folders of hosts that were killed and never started again: memory is not theirs to keep."""
    for path in memory.glob(f"{_prefix()}*") if memory.is_dir() else ():
        with contextlib.suppress(OSError):  # gone meanwhile, or not ours to touch
            lock = FolderLock.try_take(path) if _is_private(path) else None
            if lock is not None:
                with lock:
                    _empty(path)
                    lock.remove_folder()
                _log.info("keys.dead_folder_removed", folder=str(path))


def _empty(path: Path) -> None:
    for entry in list(path.iterdir()):
        if entry.name == LOCK_NAME:
            continue
        aside = path / f".{secrets.token_hex(6)}"
        entry.rename(aside)  # an instance of a killed host may still be reading
        if aside.is_dir():
            shutil.rmtree(aside)
        else:
            aside.unlink()


def close_key_folder(folder: KeyFolder) -> None:
    """Remove everything when the host ends; best effort, since the next start does it again."""
    shutil.rmtree(folder.path, ignore_errors=True)
    folder.lock.release()
