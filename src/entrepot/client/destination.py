"""Where a fetched version goes: a managed tree of the home, or a folder that ``--to`` names.

Both grow a staging tree first and change what people see only at the end. The managed tree appears by one rename. A
``--to`` folder is changed in place: files move in from a staging folder inside it, files of the version before that the
new one lacks are removed, whatever else lies there stays. That step can be interrupted anywhere: the home remembers
every version whose files may be there, and the next run does the rest.
"""

import contextlib
import os
import shutil
import sys
from pathlib import Path
from typing import Final, Protocol

from entrepot.client.folders import folder_errors
from entrepot.client.home import Home, native, tree_name
from entrepot.client.records import Described, Record
from entrepot.client.staging import Staging
from entrepot.client.trees import UNFINISHED, Installed, Trees
from entrepot.content.manifest import Root
from entrepot.core.errors import StorageError
from entrepot.core.sizes import format_size
from entrepot.durable.files import make_folder
from entrepot.durable.sharing import insist
from entrepot.objects.syncing import sync_all

SYNC_EACH: Final = sys.platform != "linux"
"""Whether each file is brought to the disk by itself; Linux brings a whole tree there at once."""

_DENSE: Final = 8
"""Software compresses three- or fourfold; files that are stored in less than an eighth are mostly holes."""


class Destination(Protocol):
    """Where a version goes. Used by one thread at a time; ``begin`` first, then the rest."""

    @property
    def record(self) -> Record:
        """The record in the making."""

    @property
    def staging(self) -> Staging:
        """The tree in the making."""

    @property
    def reserved(self) -> str:
        """A name that no content may have at its top; empty for none."""

    def installed(self, content: str) -> list[Installed]:
        """Whole versions to take bytes from, best first."""

    def is_final(self, tree: Installed) -> bool:
        """Whether a tree of :meth:`installed` stands where this version would go, and nothing is under way there."""

    def taken(self) -> int:
        """Bytes of the disk that the tree in the making takes by now: a resumed run needs so much less."""

    def begin(self, payload: bytes) -> None:
        """Start, or take up what an interrupted run left, for this manifest root (its verified payload).

        Raises:
            ConflictError: the folder is not this client's to change.
            StorageError: the disk refuses, or has too little room.
        """

    def finish(self, described: Described) -> Path:
        """Make the version visible, whole; returns its folder. Trees of :meth:`installed` must be closed before.

        Raises:
            ConflictError: something that is not the content's is in the way.
            StorageError: the disk refuses.
        """


class ManagedDestination:
    """``<home>/content/<content>.<version>/``."""

    reserved = ""

    def __init__(self, home: Home, content: str, version: int) -> None:
        self._home = home
        self._trees = Trees(home)
        self._name = tree_name(content, version)
        self._folder = home.staging / self._name
        self.record: Final = Record(home.staging / f"{self._name}{UNFINISHED}")
        self.staging = Staging(self._folder, resuming=False)

    def installed(self, content: str) -> list[Installed]:
        """See :class:`Destination`; the very version may be among them, when a damaged tree is mended."""
        return self._trees.of(content)

    def is_final(self, tree: Installed) -> bool:
        """See :class:`Destination`."""
        return tree.folder == self._home.content / self._name

    def taken(self) -> int:
        """See :class:`Destination`."""
        return taken_by(self._folder)

    def begin(self, payload: bytes) -> None:
        """See :class:`Destination`."""
        self._trees.sweep()
        placed = self._home.records / self._name
        with folder_errors(str(self._folder)):
            if self._folder.is_dir() and placed.is_dir() and not (self._home.content / self._name).exists():
                self._trees.discard(self.record.folder)
                insist(
                    lambda: placed.rename(self.record.folder)
                )  # an installation was interrupted between its two renames
            resuming = self._folder.is_dir() and self.record.holds(payload)
            self.record.begin(payload)
            if not resuming:
                self._trees.discard(self._folder)
                make_folder(self._folder, mode=0o700)
        self.staging = Staging(self._folder, resuming=resuming)
        check_room(self._home.root, self.record.root(), taken=self.taken())

    def finish(self, described: Described) -> Path:
        """See :class:`Destination`."""
        self.record.finish(described, meanwhile=self.staging.link)
        bring_to_disk(self._folder)
        return self._trees.install(self._name, self._folder, self.record.folder)


def room_for(root: Root) -> int:
    """Bytes of the disk that a version's files take: all they have, but for those that are mostly holes (disk images):
    of these no more is sure than what of them is stored."""
    return root.plain_size if root.plain_size <= _DENSE * root.stored_size else root.stored_size


def taken_by(folder: Path) -> int:
    """Bytes of the disk that everything below a folder takes; 0 where there is none."""
    taken = 0
    for place, folders, files in os.walk(native(folder)):
        for name in (*folders, *files):
            with contextlib.suppress(OSError):  # an estimate refuses nothing
                status = Path(place, name).lstat()
                if sys.platform == "win32":
                    taken += status.st_size
                else:
                    taken += status.st_blocks * 512
    return taken


def check_room(folder: Path, root: Root | None, *, taken: int) -> None:
    """Refuse early what cannot fit.

    Args:
        taken: bytes of the disk that an interrupted run has used for it already.

    Raises:
        StorageError: the disk that holds ``folder`` has not enough room for the rest of the files of ``root``.
    """
    needed = max(0, room_for(root) - taken) if root else 0
    with contextlib.suppress(OSError):
        free = shutil.disk_usage(native(folder)).free
        if free < needed:
            more, left = " more" if taken else "", format_size(free)
            raise StorageError(
                f"The content needs {format_size(needed)}{more}, but the disk of {folder} has {left} left.",
                next_step="Free space, or fetch --to a folder on another disk.",
            )


def bring_to_disk(folder: Path) -> None:
    """Make a finished tree durable before it gets its name.

    Raises:
        StorageError: the disk refuses.
    """
    if not SYNC_EACH:
        with folder_errors(str(folder)):
            sync_all(folder, files=(), folders=())
