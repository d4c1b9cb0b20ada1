"""Pages of keys from a folder, in the order of the keys as text."""

import bisect
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from entrepot.core.errors import BadInputError
from entrepot.objects.keys import check_key
from entrepot.objects.store import Page, Stored


def list_keys(root: Path, waiting: Mapping[str, str], *, prefix: str, after: str, limit: int) -> Page:
    """One page of a folder store.

    Args:
        waiting: keys that no name on the disk has yet, with the files that hold their bytes.
    """
    found: list[Stored] = []
    extra = sorted(key for key in waiting if key.startswith(prefix) and key > after)
    for key in _merge(_walk(root, "", prefix, after), extra):
        stored = _stat(root, key, waiting.get(key))
        if stored is None:
            continue
        if len(found) == limit:
            return Page(entries=tuple(found), more=True)
        found.append(stored)
    return Page(entries=tuple(found), more=False)


def _merge(walked: Iterator[str], extra: list[str]) -> Iterator[str]:
    at = 0
    for key in walked:
        stop = bisect.bisect_left(extra, key, at)
        yield from extra[at:stop]
        at = stop + (stop < len(extra) and extra[stop] == key)
        yield key
    yield from extra[at:]


def _stat(root: Path, key: str, waiting: str | None) -> Stored | None:
    for path in (waiting, f"{root}/{key}"):
        try:
            found = os.stat(path) if path else None  # noqa: PTH116 - a Path for each key would cost more than the call
        except (FileNotFoundError, NotADirectoryError):
            continue  # flushed or deleted meanwhile
        if found:
            return Stored(key=key, size=found.st_size, modified=found.st_mtime)
    return None


def _walk(folder: Path, above: str, prefix: str, after: str) -> Iterator[str]:
    """Keys below a folder, ascending. A folder's name sorts with its ``/``, as its keys do."""
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name + "/" * entry.is_dir(follow_symlinks=False) for entry in entries)
    except (FileNotFoundError, NotADirectoryError):
        return
    for name in names:
        key = above + name
        if not _is_key(key):
            continue  # .staging, and whatever else no put has made
        if name.endswith("/"):
            # All keys below share the beginning ``key``.
            wanted = key.startswith(prefix) or prefix.startswith(key)
            if wanted and (key > after or after.startswith(key)):
                yield from _walk(folder / name, key, prefix, after)
        elif key.startswith(prefix) and key > after:
            yield key


def _is_key(key: str) -> bool:
    try:
        check_key(key.removesuffix("/"))
    except BadInputError:
        return False
    return True
