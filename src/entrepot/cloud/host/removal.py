"""Deleting a service: nothing is left behind, and that is checked (R40).

The service is marked as *deleting* first, durably; only when every part is verified to be gone is its row removed. So
a host that is killed in the middle goes on after its next start, and a part that cannot be removed is named instead of
forgotten.
"""

import contextlib
import shutil
from pathlib import Path

from entrepot.cloud.host.keys import KeyFolder
from entrepot.cloud.host.services import ServiceRow
from entrepot.cloud.host.settings import Folders
from entrepot.cloud.host.storage import HostStorage
from entrepot.cloud.storage import remove_all

_NAMED = 10
_ROUNDS = 3


def remove_content(storage: HostStorage, row: ServiceRow) -> tuple[str, ...]:
    """Remove what a service keeps in S3 or Azure Blob; what lies in its folder goes with the other parts.

    Returns:
        what is left, by name; empty when nothing is. May be repeated.

    Raises:
        EntrepotError: the store cannot be opened, does not answer, or refuses.
    """
    opened = storage.open(row)
    return remove_all(opened.store) if opened.remote else ()


def remove_parts(service_id: str, folders: Folders, keys: KeyFolder) -> tuple[str, ...]:
    """Remove store, journals, configurations and key files of a service that no longer runs.

    Returns:
        what is left, by name; empty when nothing is. May be repeated.
    """
    left: list[str] = []
    for _ in range(_ROUNDS):
        left = _remove_once(service_id, folders, keys)
        if not left:
            break
    return tuple(left)


def _remove_once(service_id: str, folders: Folders, keys: KeyFolder) -> list[str]:
    problems: dict[str, str] = {}

    def note(_: object, path: str, reason: tuple[type, BaseException, object]) -> None:
        problems[path] = getattr(reason[1], "strerror", None) or type(reason[1]).__name__

    roots = [folders.service(service_id), keys.service(service_id)]
    for root in roots:
        if root.exists():
            shutil.rmtree(root, onerror=note)
    left = [path for root in roots for path in _found(root)]
    lines = [f"{path}: {problems.get(str(path), 'still there')}" for path in left[:_NAMED]]
    if len(left) > _NAMED:
        lines.append(f"and {len(left) - _NAMED} more")
    return lines


def _found(root: Path) -> list[Path]:
    """Everything that is still there, files first."""
    found: list[Path] = []
    with contextlib.suppress(OSError):
        if root.exists():
            found = [path for path in root.rglob("*") if not path.is_dir()]
            found.append(root)
    return found
