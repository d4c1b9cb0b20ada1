"""Atomic replacement of small files, and private ones."""

import contextlib
import errno
import os
import re
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from entrepot.core.errors import StorageError
from entrepot.durable.sharing import InUseError, insist, is_in_use

TEMPORARY_SUFFIX = ".tmp"
_STUCK = (errno.EMFILE, errno.ENFILE, errno.ELOOP, errno.ENAMETOOLONG)
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{12}\.tmp")


@contextlib.contextmanager
def storage_errors(what: str) -> Iterator[None]:
    """Translate the operating system's refusals into :class:`StorageError`.

    Raises:
        InUseError: another program has the file open.
        StorageError: disk full, read-only, no permission, input/output error.
    """
    try:
        yield
    except OSError as error:
        if is_in_use(error):
            raise InUseError(
                f"Cannot write {what}: another program has it open.",
                next_step="Close the program that uses it, then do this again.",
            ) from error
        if error.errno == errno.ENOSPC:
            raise StorageError(
                f"No space is left while writing {what}.", next_step="Free space and try again."
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO, errno.EDQUOT, *_STUCK):
            raise StorageError(
                f"Cannot write {what}: {error.strerror}.", next_step="Check the disk and its permissions."
            ) from error
        raise


def sync_folder(folder: Path) -> None:
    """Make renames and new names in a folder durable."""
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path, *, mode: int = 0o755) -> None:
    """Create a folder and its missing parents, durably.

    Raises:
        StorageError: the disk refuses, or a file has the name.
    """
    if folder.is_dir():
        return
    make_folder(folder.parent, mode=mode)
    with storage_errors(str(folder)):
        try:
            folder.mkdir(mode=mode)
        except FileExistsError:  # made meanwhile, or no folder at all
            if folder.is_file():
                raise StorageError(f"{folder} is a file.", next_step="Name a folder.") from None
        sync_folder(folder.parent)


@contextlib.contextmanager
def replacing(path: Path, *, mode: int = 0o644) -> Iterator[BinaryIO]:
    """Write a file that appears whole when the block ends, or not at all.

    Raises:
        StorageError: the disk refuses.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}{TEMPORARY_SUFFIX}")
    with storage_errors(str(path)):
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), mode)
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            insist(lambda: temporary.replace(path))
        except BaseException as error:
            with contextlib.suppress(OSError):
                temporary.unlink()
            if isinstance(error, IsADirectoryError):
                raise StorageError(f"{path} is a folder.", next_step="Move it away, and do this again.") from None
            raise
        sync_folder(path.parent)


def write_file(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Replace a file durably.

    Raises:
        StorageError: the disk refuses.
    """
    with replacing(path, mode=mode) as file:
        file.write(data)


def sweep_temporary(folder: Path) -> int:
    """Remove what :func:`replacing` left in a folder when its process was killed; returns how many files.

    Nobody else may be writing there: call it under the folder's lock, before the first file is written.
    """
    removed = 0
    with contextlib.suppress(FileNotFoundError):
        for path in list(folder.iterdir()):
            if _TEMPORARY.fullmatch(path.name):
                with contextlib.suppress(OSError):
                    path.unlink()
                    removed += 1
    return removed


def write_private(path: Path, data: bytes) -> None:
    """Replace a file that only its owner may read (0600)."""
    write_file(path, data, mode=0o600)
