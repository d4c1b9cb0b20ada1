"""A tree in the making: what is still missing of a manifest part, writing it, and proving that it is right.

Nothing is remembered between runs. A run that was killed left files; the next one hashes them: a whole file against
the manifest's digest, a piece of a large file against its chunk's. What matches is not fetched again, so there is no
journal that could promise bytes which the disk lost.
"""

import stat
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

from entrepot.client.folders import folder_mode
from entrepot.client.safetree import SafeTree
from entrepot.content.digests import matches
from entrepot.content.manifest import Entry, EntryKind, Extent, Part
from entrepot.core.errors import IntegrityError
from entrepot.protocol import SealedRef


class Use(msgspec.Struct, frozen=True):
    """``length`` bytes of a chunk, from ``start`` in it, belong into the file ``path`` at ``offset``.

    ``file`` is the file's entry when these bytes are all of it: it is proved and written at once, with its permissions.
    """

    path: str
    offset: int
    start: int
    length: int
    file: Entry | None = None


class Job(msgspec.Struct, frozen=True):
    """One chunk to obtain, and where its bytes go."""

    ref: SealedRef
    uses: tuple[Use, ...]

    @property
    def size(self) -> int:
        """Bytes that it writes."""
        return sum(use.length for use in self.uses)


class PartPlan(msgspec.Struct, frozen=True):
    """What a part still needs.

    Attributes:
        jobs: in the order of the manifest.
        whole: paths of files that are there already, verified.
        at_once: paths of files that one job proves, writes and gives their permissions.
        present: bytes that need not be written.
    """

    jobs: tuple[Job, ...]
    whole: frozenset[str]
    at_once: frozenset[str]
    present: int


class Staging:
    """One tree in the making. Threads may call :meth:`write` at the same time; the rest runs in turn.

    Args:
        folder: where the tree grows; it exists.
        resuming: whether an earlier run may have left files there.
        target: a folder that may hold right files already under the same paths (in-place sync), or None.
    """

    def __init__(self, folder: Path, *, resuming: bool, target: Path | None = None) -> None:
        self.folder: Final = folder
        self._resuming = resuming
        self._target = target
        self._continued = ""  # a file that is whole and goes on in the next part

    def survey(self, part: Part) -> PartPlan:
        """Find out what is missing. Parts come in order, each once.

        Raises:
            StorageError: the disk refuses.
        """
        wanted: dict[int, list[Use]] = {}
        whole: set[str] = set()
        present = 0
        with SafeTree(self.folder) as tree:
            for entry in part.entries:
                if entry.kind != EntryKind.FILE:
                    continue
                if self._is_whole(tree, entry):
                    whole.add(entry.path)
                    present += sum(extent.length for extent in entry.extents)
                else:
                    present += self._missing_pieces(tree, part, entry, wanted)
        jobs = tuple(Job(part.chunks[number], tuple(uses)) for number, uses in wanted.items())
        at_once = frozenset(use.path for uses in wanted.values() for use in uses if use.file)
        return PartPlan(jobs, frozenset(whole), at_once, present)

    def _is_whole(self, tree: SafeTree, entry: Entry) -> bool:
        if entry.offset:
            return entry.path == self._continued
        self._continued = ""
        found = self._resuming and tree.holds(entry.path, entry.size, entry.digest)
        if not found and self._target is not None:
            with SafeTree(self._target) as target:
                found = target.holds(entry.path, entry.size, entry.digest)
            if found and self._resuming:
                tree.remove(entry.path)  # a leftover that must not replace the right file at the end
        if found:
            self._continued = entry.path
        return found

    def _missing_pieces(self, tree: SafeTree, part: Part, entry: Entry, wanted: dict[int, list[Use]]) -> int:
        """Collect what is to be written of one file; returns the bytes that are there."""
        at, present = entry.offset, 0
        for extent in entry.extents:
            if self._resuming and _has_piece(tree, entry.path, at, extent, part.chunks[extent.chunk]):
                present += extent.length
            else:
                uses = wanted.setdefault(extent.chunk, [])
                alone = entry if extent.length == entry.size else None
                uses.append(Use(entry.path, at, extent.offset, extent.length, alone))
            at += extent.length
        return present

    def write(self, job: Job, plain: bytes) -> None:
        """Write the verified bytes of a chunk to where they belong.

        Raises:
            IntegrityError: a file is not what the manifest promises although its chunk was.
            StorageError: the disk refuses.
        """
        view = memoryview(plain)
        with SafeTree(self.folder) as tree:
            for use in job.uses:
                data = view[use.start : use.start + use.length]
                if use.file is None:
                    tree.write(use.path, use.offset, data)
                elif matches(use.file.digest, data):
                    tree.put(use.path, data, use.file.mode)
                else:
                    raise _not_as_promised(use.path)

    def complete(self, part: Part, plan: PartPlan, *, sync: bool = False) -> int:
        """Prove every file that ends in this part, give it its permissions, make empty folders.

        Links come later (:meth:`link`), so that none is there while files are written.

        Args:
            sync: bring each file to the disk by itself, where the system cannot do all at once.

        Returns:
            number of files that are complete now.

        Raises:
            IntegrityError: a file is not what the manifest promises although each chunk was.
            StorageError: the disk refuses.
        """
        files = 0
        with SafeTree(self.folder) as tree:
            for entry in part.entries:
                if entry.kind == EntryKind.FOLDER:
                    tree.make_folder(entry.path, entry.mode)
                elif entry.kind == EntryKind.FILE and _ends_here(entry):
                    files += 1
                    if entry.path in plan.at_once:
                        _look_again(tree, entry)
                        if not sync:
                            continue
                    elif entry.path not in plan.whole:
                        _prove(tree, entry)
                    if tree.find(entry.path) is not None:
                        tree.finish(entry.path, entry.mode, sync=sync)
        return files

    def link(self, part: Part) -> None:
        """Make the symbolic links of a part.

        Raises:
            StorageError: the disk refuses, or (Windows) the account may not make links.
        """
        make_links(self.folder, part)


def make_links(folder: Path, part: Part) -> None:
    """Make the symbolic links of a part in a tree; existing ones that are right stay.

    Raises:
        StorageError: the disk refuses, or (Windows) the account may not make links.
    """
    if not any(entry.kind == EntryKind.LINK for entry in part.entries):
        return
    with SafeTree(folder) as tree:
        for entry in part.entries:
            if entry.kind == EntryKind.LINK:
                tree.make_link(entry.path, entry.target)


def is_intact(folder: Path, parts: Iterable[Part]) -> bool:
    """Whether a tree is exactly what these parts say; other things in it do not count.

    Raises:
        IntegrityError: a part is damaged.
    """
    with SafeTree(folder) as tree:
        return all(_stands(tree, entry) for part in parts for entry in part.entries if not entry.offset)


def _stands(tree: SafeTree, entry: Entry) -> bool:
    if entry.kind == EntryKind.LINK:
        return tree.link_target(entry.path) == entry.target
    if entry.kind == EntryKind.FOLDER:
        found = tree.find(entry.path)
        if found is None or found.kind != "folder":
            return False
        return sys.platform == "win32" or found.mode == folder_mode(entry.mode)
    found = tree.find(entry.path)
    if sys.platform != "win32" and (found is None or found.mode != entry.mode | stat.S_IRUSR):
        return False
    return tree.holds(entry.path, entry.size, entry.digest)


def _ends_here(entry: Entry) -> bool:
    return entry.offset + sum(extent.length for extent in entry.extents) == entry.size


def _has_piece(tree: SafeTree, path: str, at: int, extent: Extent, ref: SealedRef) -> bool:
    """Whether a whole chunk of a large file is on the disk already."""
    if extent.offset or extent.length != ref.plain_size:
        return False
    found = tree.find(path)
    if found is None or found.names != 1:
        return False  # a file of several names is replaced before it is written: its bytes would be gone
    data = tree.read(path, at, extent.length)
    return data is not None and matches(ref.digest, data)


def _prove(tree: SafeTree, entry: Entry) -> None:
    found = tree.find(entry.path)
    if entry.size == 0:
        tree.write(entry.path, 0, b"")
    if found is None or found.size != entry.size:
        tree.cut(entry.path, entry.size)
    if not tree.holds(entry.path, entry.size, entry.digest):
        tree.remove(entry.path)
        raise _not_as_promised(entry.path)


def _look_again(tree: SafeTree, entry: Entry) -> None:
    """A file that was proved when it was written stands still: a virus scanner may have taken it away since."""
    found = tree.find(entry.path)
    if found is None or found.kind != "file" or found.size != entry.size:
        raise IntegrityError(
            f"The file {entry.path!r} was written, but is gone or changed since.",
            next_step="Find out what on this computer removes it, such as a virus scanner, and fetch again.",
        )


def _not_as_promised(path: str) -> IntegrityError:
    return IntegrityError(
        f"The file {path!r} is not what the manifest promises, although each of its chunks was.",
        next_step="Fetch again; if it persists, the content was published wrongly.",
    )
