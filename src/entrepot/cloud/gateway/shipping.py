"""Closed segments travel to the object store: never lost, never doubled (architecture 4.5).

A segment's key follows from its bytes, and it is stored only if the key is free; so shipping may be repeated, by
anyone, at any time. The local file goes only after the store has it. A dead instance's folder is adopted by whoever
gets its lock: its torn tail is cut off first (``journal.recover``), what it was sending when it died becomes its last
segment (``running``), and only then do its segments travel. What is damaged stays in the folder beside, with the suffix
``.damaged``, until somebody has looked at it; where nothing is, the instance's mark says that all was shipped.
"""

import time
from pathlib import Path

import structlog

from entrepot.cloud.gateway.folderlock import FolderLock
from entrepot.cloud.gateway.journal import DAMAGED_SUFFIX, journals, recover, store_key
from entrepot.cloud.gateway.marking import mark_dead
from entrepot.cloud.gateway.running import NAME as NOTE_NAME
from entrepot.cloud.gateway.running import restore
from entrepot.core.errors import EntrepotError, NotFoundError, UnavailableError
from entrepot.durable.files import storage_errors, sync_folder
from entrepot.objects.store import ObjectStore

_CONFLICT_SUFFIX = ".conflict"
_log = structlog.get_logger(__name__)


def ship_segment(path: Path, store: ObjectStore, *, closed: bool = False) -> bool:
    """Ship one segment that nobody writes any more, and remove the file.

    Args:
        closed: it was closed; else it may have a torn tail.

    Returns:
        whether a segment is in the store now; False when the file held no record.

    Raises:
        UnavailableError: the store does not answer; the file stays.
        StorageError: the disk refuses; the file stays.
    """
    found = recover(path, closed=closed)
    if found is None:
        _remove(path)
        return False
    header, data, _ = found
    key = store_key(header)
    if not store.put(key, data, if_absent=True) and _stored(key, store) != data:
        # Never seen unless somebody tampers with the store: keep the evidence, do not try for ever.
        _log.error("journal.conflict", key=key, instance=header.instance, sequence=header.sequence)
        with storage_errors(str(path)):
            path.rename(path.with_suffix(_CONFLICT_SUFFIX))
            sync_folder(path.parent)
        return False
    _remove(path)
    return True


def ship_closed(folder: Path, store: ObjectStore, *, below: int | None = None) -> int:
    """Ship a folder's segments, oldest first; ``below``: those with a lower sequence number, which are closed.

    The caller holds the folder's lock. Returns the number shipped; errors as :func:`ship_segment`.
    """
    paths = journals(folder, below=below)
    last = paths[-1] if paths and below is None else None  # of a dead instance: it may have been open
    return sum(ship_segment(path, store, closed=path != last) for path in paths)


def adopt_leftovers(state: Path, store: ObjectStore) -> int:
    """Ship what dead instances left below ``state``, and remove their folders.

    Safe to call from several processes at once, and while instances run: their folders are locked. A folder that the
    disk refuses does not hold up the others.

    Returns:
        number of segments shipped.

    Raises:
        UnavailableError: the store does not answer; call again later.
        StorageError: the disk refuses; raised when the other folders are done.
    """
    shipped = 0
    problem: EntrepotError | OSError | None = None
    with storage_errors(str(state)):
        folders = sorted(path for path in state.iterdir() if path.is_dir()) if state.is_dir() else []
    for folder in folders:
        try:
            shipped += _adopt(folder, store)
        except UnavailableError:  # the store is the same for all
            raise
        except (EntrepotError, OSError) as error:
            _log.warning("journal.not_adopted", instance=folder.name, error=str(error))
            problem = problem or error
    if problem is not None:
        raise problem
    return shipped


def holds_records(folder: Path) -> bool:
    """Tell whether something is in an instance's folder that has to travel. What is damaged waits for people."""
    return bool(journals(folder)) or (folder / NOTE_NAME).exists()


def _adopt(folder: Path, store: ObjectStore) -> int:
    """Ship what is left in one folder, unless its instance lives, and remove it; number of segments."""
    lock = FolderLock.try_take(folder)
    if lock is None:
        return 0
    with lock:
        restore(folder)
        count = ship_closed(folder, store)
        if not any(path.suffix in (_CONFLICT_SUFFIX, DAMAGED_SUFFIX) for path in folder.iterdir()):
            mark_dead(store, folder.name, now=time.time())
        lock.remove_folder()
    if count:
        _log.info("journal.adopted", instance=folder.name, segments=count)
    return count


def _stored(key: str, store: ObjectStore) -> bytes | None:
    try:
        return b"".join(store.read(key))
    except NotFoundError:
        return None


def _remove(path: Path) -> None:
    with storage_errors(str(path)):
        path.unlink()
        sync_folder(path.parent)
