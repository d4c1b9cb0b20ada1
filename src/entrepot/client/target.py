"""A folder that ``--to`` names, kept the same as a content version in place.

The home remembers, in ``targets/<hash of the path>/``, that this client made the folder, and each version whose files
may be there (``owned``): one normally, two while a change is under way. A folder that is neither empty nor known, or
that was replaced by another since, is refused: nobody's files are touched.
"""

import itertools
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from entrepot.client.destination import bring_to_disk, check_room, taken_by
from entrepot.client.folders import folder_errors
from entrepot.client.home import Home, native, tree_name
from entrepot.client.records import Described, Record, is_meant
from entrepot.client.safetree import SafeTree
from entrepot.client.staging import Staging, make_links
from entrepot.client.trees import Installed, Trees
from entrepot.content.manifest import EntryKind, Part
from entrepot.core.encoding import from_json, to_json
from entrepot.core.errors import ConflictError, FormatError, IntegrityError
from entrepot.core.paths import case_key, path_key
from entrepot.durable.files import make_folder, write_private

_MAX: Final = 64 * 1024
BATCH: Final = 16 * 1024
"""Paths compared without regard to case at a time."""


class TargetState(msgspec.Struct, frozen=True, kw_only=True):
    """``target.json``. ``device`` and ``inode`` tell the folder from another one at the same path; ``staging`` is the
    name of the staging folder in it; ``owned`` names the records of versions whose files may be there.
    """

    path: str
    device: int
    inode: int
    staging: str
    content: str
    owned: tuple[str, ...] = ()


class FolderDestination:
    """See the module's text; a :class:`~entrepot.client.destination.Destination`."""

    def __init__(self, home: Home, folder: Path, content: str, version: int) -> None:
        self._home = home
        self._trees = Trees(home)
        self._folder = folder.absolute()
        self._place = home.target(self._folder)
        self._name = tree_name(content, version)
        self._content = content
        self._state: TargetState | None = None
        self.record: Final = Record(self._place / self._name)
        self.staging = Staging(self._folder, resuming=False)
        self.reserved = ""
        root = home.root.absolute()
        if self._folder == root or root in self._folder.parents or self._folder in root.parents:
            raise ConflictError(
                f"{folder} holds the client's own files, or lies among them.", next_step="Choose another folder."
            )

    def installed(self, content: str) -> list[Installed]:
        """See :class:`~entrepot.client.destination.Destination`: the folder itself, then managed trees."""
        return target_trees(self._home, self._folder, content) + self._trees.of(content)

    def is_final(self, tree: Installed) -> bool:
        """See :class:`~entrepot.client.destination.Destination`."""
        state = _load(self._place, self._folder)
        if tree.folder != self._folder or state is None or state.owned != (self._name,):
            return False
        return not native(self._folder / state.staging).exists()  # else a run was interrupted while it cleared up

    def taken(self) -> int:
        """See :class:`~entrepot.client.destination.Destination`."""
        state = _load(self._place, self._folder)
        return taken_by(self._folder / state.staging) if state and _is_same(state, self._folder) else 0

    def begin(self, payload: bytes) -> None:
        """See :class:`~entrepot.client.destination.Destination`."""
        state = _load(self._place, self._folder)
        with folder_errors(str(self._folder)):
            if state is None or not _is_same(state, self._folder):
                state = self._claim()
            if state.content != self._content:
                raise ConflictError(
                    f"{self._folder} holds {state.content}, another content.", next_step="Choose another folder."
                )
            self.reserved = state.staging
            folder = self._folder / state.staging
            resuming = folder.is_dir() and self.record.holds(payload)
            self._forget_others(state)
            self.record.begin(payload)
            if not resuming:
                shutil.rmtree(native(folder), ignore_errors=True)
                native(folder).mkdir(mode=0o700)
        self._state = state
        self.staging = Staging(folder, resuming=resuming, target=self._folder)
        if not state.owned:  # else most of what is new may stand there already: only the survey tells
            check_room(self._folder, self.record.root(), taken=taken_by(folder))

    def _claim(self) -> TargetState:
        """Make an empty folder ours."""
        make_folder(native(self._folder))
        if any(native(self._folder).iterdir()):
            raise ConflictError(
                f"{self._folder} is not empty, and this client did not make it.",
                next_step="Choose a new or empty folder.",
            )
        shutil.rmtree(self._place, ignore_errors=True)
        make_folder(self._place, mode=0o700)
        status = native(self._folder).stat()
        state = TargetState(
            path=str(self._folder),
            device=status.st_dev,
            inode=status.st_ino,
            staging=f".entrepot-{secrets.token_hex(6)}",
            content=self._content,
        )
        self._save(state)
        return state

    def _forget_others(self, state: TargetState) -> None:
        """Delete records of versions that were begun and never finished."""
        for entry in list(self._place.iterdir()):
            if entry.is_dir() and entry.name != self._name and entry.name not in state.owned:
                shutil.rmtree(entry, ignore_errors=True)

    def _save(self, state: TargetState) -> None:
        write_private(self._place / "target.json", to_json(state))

    def finish(self, described: Described) -> Path:
        """See :class:`~entrepot.client.destination.Destination`."""
        state = self._state
        assert state is not None  # begin comes first
        bring_to_disk(self._folder)
        self.record.finish(described)
        older = tuple(name for name in state.owned if name != self._name)
        with folder_errors(str(self._folder)):
            self._save(msgspec.structs.replace(state, owned=(*older, self._name)))
            for name in older:
                self._remove_old(Record(self._place / name))
            for part in self.record.parts():
                self._move_in(part, self.staging.folder)
            for part in self.record.parts():
                make_links(self._folder, part)
            bring_to_disk(self._folder)
            self._save(msgspec.structs.replace(state, owned=(self._name,)))
            for name in older:
                shutil.rmtree(self._place / name, ignore_errors=True)
            shutil.rmtree(native(self.staging.folder), ignore_errors=True)
        return self._folder

    def _remove_old(self, old: Record) -> None:
        """Remove what a former version had and this one lacks."""
        staging = self.staging.folder
        ignores_case = native(staging.with_name(staging.name.upper())).exists()
        with SafeTree(self._folder) as tree:
            for path in obsolete(_paths(old, lenient=True), lambda: _paths(self.record), ignores_case=ignores_case):
                tree.remove(path)
                _prune(tree, path)

    def _move_in(self, part: Part, staging: Path) -> None:
        with SafeTree(self._folder) as tree, SafeTree(staging) as source:
            for entry in part.entries:
                if entry.kind == EntryKind.FOLDER:
                    tree.make_folder(entry.path, entry.mode)
                elif entry.kind == EntryKind.FILE and not entry.offset:
                    if source.find(entry.path) is not None:
                        tree.take(source, entry.path)
                    else:
                        tree.finish(entry.path, entry.mode)


def target_trees(home: Home, folder: Path, content: str) -> list[Installed]:
    """Versions of a content (its id or name) that a ``--to`` folder may hold, newest first."""
    folder = folder.absolute()
    place = home.target(folder)
    state = _load(place, folder)
    found = []
    for name in reversed(state.owned if state and _is_same(state, folder) else ()):
        described = Record(place / name).described()
        if described is not None and is_meant(content, described.content, described.name):
            found.append(Installed(folder=folder, record=Record(place / name), described=described))
    return found


def obsolete(old: Iterable[str], new: Callable[[], Iterator[str]], *, ignores_case: bool) -> Iterator[str]:
    """Paths of a former version that a new one lacks. Where the disk ignores case, a path of the new version in another
    spelling is the same file and stays. Memory: one part of each version, and :data:`BATCH` paths.

    Args:
        old: in path order.
        new: gives the new version's paths, in path order, as often as asked.
    """
    lacking = _lacking(old, new())
    if not ignores_case:
        yield from lacking
        return
    while batch := list(itertools.islice(lacking, BATCH)):
        keys = {case_key(path) for path in batch}
        kept = {key for path in new() if (key := case_key(path)) in keys}
        yield from (path for path in batch if case_key(path) not in kept)


def _lacking(old: Iterable[str], new: Iterator[str]) -> Iterator[str]:
    following = next(new, None)
    for path in old:
        key = path_key(path)
        while following is not None and path_key(following) < key:
            following = next(new, None)
        if following != path:
            yield path


def _load(place: Path, folder: Path) -> TargetState | None:
    with folder_errors(str(place)):
        try:
            with (place / "target.json").open("rb") as file:
                state = from_json(file.read(_MAX), TargetState, "target")
        except (FileNotFoundError, FormatError):
            return None
    return state if state.path == str(folder) else None


def _is_same(state: TargetState, folder: Path) -> bool:
    try:
        status = native(folder).stat()
    except OSError:
        return False
    return (status.st_dev, status.st_ino) == (state.device, state.inode)


def _paths(record: Record, *, lenient: bool = False) -> Iterator[str]:
    """Every path of a version, once, in path order; with ``lenient`` a damaged record ends early."""
    try:
        for part in record.parts():
            for entry in part.entries:
                if not entry.offset:
                    yield entry.path
    except IntegrityError:
        if not lenient:
            raise


def _prune(tree: SafeTree, path: str) -> None:
    """Remove folders that became empty."""
    folder = path.rpartition("/")[0]
    while folder and (found := tree.find(folder)) is not None and found.kind == "folder" and tree.remove(folder):
        folder = folder.rpartition("/")[0]
