"""Plain trees that are whole: which versions are on this disk, and recutting chunks from them.

A version is *installed* when its tree and its record both stand under their final names. Whatever is read from a tree
was verified when it was made, may have been changed by anyone since, and is therefore hashed again.
"""

import contextlib
import secrets
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, Self

import msgspec

from entrepot.client.folders import folder_errors
from entrepot.client.home import Home, native, split_tree_name, tree_name
from entrepot.client.records import Described, Record, is_meant
from entrepot.client.safetree import SafeTree
from entrepot.client.treeindex import TreeIndex
from entrepot.content.delta.format import PlainRange
from entrepot.content.delta.manifestparts import manifest_bytes
from entrepot.content.digests import matches
from entrepot.core.errors import FormatError, NotFoundError, StorageError
from entrepot.durable.files import sync_folder
from entrepot.durable.sharing import insist
from entrepot.protocol import SealedRef

UNFINISHED: Final = ".record"
"""What the name of a record in the making ends with."""


class Installed(msgspec.Struct, frozen=True, kw_only=True):
    """A whole tree: ``folder`` holds the content, ``record`` what is known of it."""

    folder: Path
    record: Record
    described: Described


class Trees:
    """The managed trees of one home."""

    def __init__(self, home: Home) -> None:
        self._home = home

    def all(self) -> Iterator[Installed]:
        """Every installed version, in no particular order."""
        for entry in _entries(self._home.records):
            name = split_tree_name(entry.name)
            found = self.find(*name) if name else None
            if found is not None:
                yield found

    def of(self, content: str) -> list[Installed]:
        """Installed versions of one content (its id or name), newest first."""
        found = [tree for tree in self.all() if is_meant(content, tree.described.content, tree.described.name)]
        return sorted(found, key=lambda tree: -tree.described.version)

    def find(self, content: str, version: int) -> Installed | None:
        """One installed version."""
        name = tree_name(content, version)
        record, folder = Record(self._home.records / name), self._home.content / name
        described = record.described()
        if described is None or (described.content, described.version) != (content, version):
            return None
        return Installed(folder=folder, record=record, described=described) if folder.is_dir() else None

    def remove(self, content: str, version: int) -> None:
        """Delete a version: first the record goes, then the tree; a crash in between leaves rubbish, nothing more.

        Raises:
            NotFoundError: it is not installed.
            StorageError: the disk refuses (on Windows: a program is running from it).
        """
        if self.find(content, version) is None:
            raise NotFoundError(f"Version {version} of {content} is not on this device.")
        name = tree_name(content, version)
        self.discard(self._home.records / name)
        self.discard(self._home.content / name)

    def discard(self, folder: Path) -> None:
        """Move a folder out of the way at once and delete it.

        Raises:
            StorageError: the disk refuses.
        """
        away = self._home.trash / f"{folder.name}.{secrets.token_hex(4)}"
        with folder_errors(str(folder)):
            try:
                insist(lambda: folder.rename(away))
            except FileNotFoundError:
                return
        shutil.rmtree(native(away), ignore_errors=True)

    def prune(self, content: str, keep: int, *, spare: int) -> list[int]:
        """Delete all but the newest ``keep`` versions of a content; those in use stay. Returns what was deleted.

        ``spare`` stays, too, however old: the version that somebody has just asked for.

        What was begun of the content and never finished goes, too: no later run would take it up or remove it.
        """
        gone = []
        for entry in _entries(self._home.staging):
            name = split_tree_name(entry.name.removesuffix(UNFINISHED))
            if name is not None and name[0] == content:
                with contextlib.suppress(StorageError, OSError):
                    self.discard(entry)
        for tree in self.of(content)[keep:]:
            if tree.described.version == spare:
                continue
            with contextlib.suppress(StorageError, OSError):
                self.remove(tree.described.content, tree.described.version)
                gone.append(tree.described.version)
        return gone

    def sweep(self) -> None:
        """Delete what earlier runs left in the trash, and trees without records (or the other way round).

        A record whose tree stands ready in staging stays: an installation was interrupted and will go on.
        """
        for entry in _entries(self._home.trash):
            shutil.rmtree(native(entry), ignore_errors=True)
        for folder in (self._home.records, self._home.content):
            for entry in _entries(folder):
                name = split_tree_name(entry.name)
                with contextlib.suppress(StorageError, FormatError, OSError):
                    unfinished = folder == self._home.records and (self._home.staging / entry.name).is_dir()
                    if name is not None and not unfinished and self.find(*name) is None:
                        self.discard(entry)

    def install(self, name: str, tree: Path, record: Path) -> Path:
        """Give a finished tree its name, in place of one of the same name; returns where it is now.

        The old tree goes first: when a program runs from it (Windows), nothing has changed. A tree without a record,
        or a record without a tree, is nothing, so until the last rename the version is not installed, and an
        interrupted installation is done again.

        Raises:
            StorageError: the disk refuses.
        """
        final = self._home.content / name
        self.discard(final)
        self.discard(self._home.records / name)
        with folder_errors(str(final)):
            insist(lambda: record.rename(self._home.records / name))
            sync_folder(self._home.records)
            insist(lambda: tree.rename(final))
            sync_folder(self._home.content)
        return final


def _entries(folder: Path) -> list[Path]:
    """What a folder holds; nothing when it is not there.

    Raises:
        StorageError: the disk refuses, or it is no folder.
    """
    with folder_errors(str(folder)), contextlib.suppress(FileNotFoundError):
        return list(folder.iterdir())
    return []


class EarlierTree:
    """An installed version to take bytes from. A context manager; threads may use it at the same time.

    Raises:
        FormatError: its index is damaged.
        StorageError: it cannot be read.
    """

    def __init__(self, folder: Path, record: Record, described: Described) -> None:
        self.folder: Final = folder
        self.described: Final = described
        self._record = record
        self._index = TreeIndex(record.index)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the index."""
        self._index.close()

    def recut(self, ref: SealedRef) -> bytes | None:
        """The plain bytes of a chunk, verified; None when the tree does not have them, or not any more."""
        try:
            pieces = self._index.covering(ref.object_id, ref.plain_size)
        except FormatError:
            return None  # a damaged index costs a download, nothing more
        if not pieces:
            return None
        plain = joined(self.folder, ((piece.path, piece.offset, piece.length) for piece in pieces))
        return plain if plain is not None and matches(ref.digest, plain) else None

    def plaintext(self, position: int, length: int) -> bytes | None:
        """A range of the version's plaintext (all files one after the other), unverified; None when it is not there.

        Raises:
            FormatError: the range reaches beyond the end.
        """
        ranges = self._index.ranges(position, length)
        return joined(self.folder, ((piece.path, piece.offset, piece.length) for piece in ranges))

    def manifest(self, ranges: Sequence[PlainRange]) -> bytes | None:
        """Ranges of the plaintext of the version's manifest, verified; None when it is not there.

        Raises:
            FormatError: a range reaches beyond the end, or the record is damaged.
        """
        root = self._record.root()
        if root is None:
            return None
        return manifest_bytes(root.parts, ranges, lambda number: self._record.part(number, root.parts[number]))


def joined(folder: Path, pieces: Iterable[tuple[str, int, int]]) -> bytes | None:
    """Bytes of files below a folder, put together: path, offset and length of each; None when some are not there."""
    gathered = []
    try:
        with SafeTree(folder) as tree:
            for path, offset, length in pieces:
                data = tree.read(path, offset, length)
                if data is None or len(data) != length:
                    return None
                gathered.append(data)
    except StorageError:
        return None
    return b"".join(gathered)
