"""Private keys of service certificates in clear, for as long as instances need them.

The server reads a key from a file that is not encrypted. Such a file has mode 0600 in a folder of mode 0700, on a
memory file system where there is one (``/dev/shm``), so that it never reaches a disk; else below the host's home. What
lies there is made anew at every start: the durable copy is sealed in the database.
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

from entrepot.core.errors import StorageError
from entrepot.core.secret import Secret
from entrepot.durable.files import make_folder, storage_errors, write_file, write_private
from entrepot.web.embedded import TlsFiles

MEMORY: Final = Path("/dev/shm")  # noqa: S108  # on purpose: never on a disk; the folder below is private and checked
_log = structlog.get_logger("entrepot.host")


class KeyFolder(msgspec.Struct, frozen=True, kw_only=True):
    """Where one host keeps the keys of all its services; ``in_memory`` says whether a disk ever sees them."""

    path: Path
    in_memory: bool

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
    """Choose and prepare the folder; what an earlier run left in it is removed.

    Raises:
        StorageError: neither place can be used.
    """
    mark = hashlib.sha256(os.fsencode(home.resolve())).hexdigest()[:16]
    for path, in_memory in ((memory / f"entrepot-{os.getuid()}-{mark}", True), (home / "keys", False)):
        if in_memory and not (memory.is_dir() and os.access(memory, os.W_OK)):
            continue
        try:
            _prepare(path)
        except OSError as error:
            _log.warning("keys.folder_refused", folder=str(path), problem=str(error))
            continue
        _log.info("keys.folder", folder=str(path), in_memory=in_memory)
        return KeyFolder(path=path, in_memory=in_memory)
    raise StorageError("There is no place for private key files.", next_step="Check the permissions of the home.")


def _prepare(path: Path) -> None:
    """Own the folder alone: one that someone else made beforehand is refused."""
    path.mkdir(mode=0o700, exist_ok=True)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise PermissionError(f"{path} belongs to someone else, or others may enter it")
    for entry in list(path.iterdir()):
        aside = path / f".{secrets.token_hex(6)}"
        entry.rename(aside)  # an instance of a killed host may still be reading
        if aside.is_dir():
            shutil.rmtree(aside)
        else:
            aside.unlink()


def close_key_folder(folder: KeyFolder) -> None:
    """Remove everything when the host ends; best effort, since the next start does it again."""
    shutil.rmtree(folder.path, ignore_errors=True)
