"""Making many files durable at once."""

import ctypes
import functools
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from entrepot.durable.files import sync_folder


@functools.cache
def _syncfs() -> Callable[[int], int] | None:
    if sys.platform != "linux":
        return None
    function = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if function is None:
        return None
    function.argtypes, function.restype = (ctypes.c_int,), ctypes.c_int

    def call(descriptor: int) -> int:
        return ctypes.get_errno() if function(descriptor) else 0

    return call


def sync_all(root: Path, *, files: Iterable[Path], folders: Iterable[Path]) -> None:
    """Bring files and the names in folders to the disk: one ``syncfs`` of root's file system, else one by one.

    Raises:
        OSError: the disk refuses.
    """
    syncfs = _syncfs()
    if syncfs is None:
        for file in files:
            _sync_file(file)
        for folder in folders:
            if folder.is_dir():
                sync_folder(folder)
        return
    descriptor = os.open(root, os.O_RDONLY)
    try:
        error = syncfs(descriptor)
    finally:
        os.close(descriptor)
    if error:
        raise OSError(error, os.strerror(error))


def _sync_file(file: Path) -> None:
    try:
        descriptor = os.open(file, os.O_RDWR | getattr(os, "O_BINARY", 0))
    except FileNotFoundError:
        return  # replaced or deleted meanwhile: nothing left to lose
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
