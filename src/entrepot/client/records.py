"""What is known of a tree: its manifest, opened and checked, and the index of its chunks.

A record is a folder: ``root`` (the manifest root's payload), ``parts/000000`` … (sealed) or ``parts/000000.plain``
… (those that a delta made), each checked against the root whenever it is read, ``index`` (``treeindex``) and, last of
all, ``record.json``. A folder without ``record.json`` is a record in the making.
"""

import contextlib
import shutil
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from entrepot.client.folders import folder_errors
from entrepot.client.treeindex import build_index
from entrepot.content.digests import matches
from entrepot.content.manifest import MAX_ROOT, Part, Root, decode_root
from entrepot.content.reading import PartSequence
from entrepot.content.sealing import open_sealed
from entrepot.core.encoding import from_json, to_json
from entrepot.core.errors import FormatError, IntegrityError
from entrepot.durable.files import make_folder, write_private
from entrepot.protocol import SealedRef

_MAX_RECORD: Final = 64 * 1024


class Described(msgspec.Struct, frozen=True, kw_only=True):
    """``record.json``: ``root`` is the sealed manifest root, ``installed`` seconds since 1970."""

    content: str
    version: int
    name: str
    root: SealedRef
    files: int
    plain_size: int
    installed: int


def is_meant(asked: str, content: str, name: str) -> bool:
    """Whether somebody who asked for ``asked`` means this content: its id, or its name without regard to case, as the
    site compares names.
    """
    return asked == content or _name_key(asked) == _name_key(name)


def _name_key(name: str) -> str:
    return unicodedata.normalize("NFC", name.strip()).casefold()


class Record:
    """One record's folder.

    Args:
        folder: need not exist before :meth:`begin`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder: Final = folder

    @property
    def index(self) -> Path:
        """The chunk index."""
        return self.folder / "index"

    def begin(self, payload: bytes) -> Root:
        """Start or take up a record for this manifest root (payload of its signature, verified before).

        Raises:
            FormatError: not a manifest root.
            StorageError: the disk refuses.
        """
        root = decode_root(payload)
        with folder_errors(str(self.folder)):
            if not self.holds(payload):
                shutil.rmtree(self.folder, ignore_errors=True)
                make_folder(self.folder / "parts", mode=0o700)
                write_private(self.folder / "root", payload)
        return root

    def holds(self, payload: bytes) -> bool:
        """Whether this record was begun for that manifest root."""
        return _read(self.folder / "root", MAX_ROOT) == payload

    def root(self) -> Root | None:
        """The manifest's root; None when the record has none.

        Raises:
            FormatError: it is damaged.
        """
        payload = _read(self.folder / "root", MAX_ROOT)
        return None if payload is None else decode_root(payload)

    def keep_part(self, number: int, data: bytes, *, plain: bool = False) -> None:
        """Keep a part as it came: sealed, or plain.

        Raises:
            StorageError: the disk refuses.
        """
        with folder_errors(str(self.folder)):
            self._part(number, plain=plain).write_bytes(data)  # verified when it is read: it need not be durable

    def part(self, number: int, ref: SealedRef) -> bytes | None:
        """Plain bytes of a kept part, verified; None when it is not here or damaged."""
        sealed = _read(self._part(number, plain=False), ref.sealed_size)
        if sealed is not None:
            with contextlib.suppress(IntegrityError):
                return open_sealed(sealed, ref, "manifest part")
        plain = _read(self._part(number, plain=True), ref.plain_size)
        return plain if plain is not None and matches(ref.digest, plain) else None

    def _part(self, number: int, *, plain: bool) -> Path:
        return self.folder / "parts" / (f"{number:06d}.plain" if plain else f"{number:06d}")

    def parts(self) -> Iterator[Part]:
        """All parts in order, checked again.

        Raises:
            IntegrityError: the record is incomplete or damaged.
        """
        root = self.root()
        if root is None:
            raise IntegrityError(f"The record {self.folder} has no manifest.")
        sequence = PartSequence(root)
        for number, ref in enumerate(root.parts):
            plain = self.part(number, ref)
            if plain is None:
                raise IntegrityError(f"Part {number} of the manifest in {self.folder} is missing or damaged.")
            yield sequence.take_plain(plain)

    def finish(self, described: Described, *, meanwhile: Callable[[Part], None] | None = None) -> None:
        """Build the index and declare the record whole.

        Args:
            meanwhile: called with each part, in order, so that they are read once for both.

        Raises:
            StorageError: the disk refuses.
            IntegrityError: a part is damaged.
        """
        build_index(self._parts_for(meanwhile), self.index)
        with folder_errors(str(self.folder)):
            write_private(self.folder / "record.json", to_json(described))

    def _parts_for(self, meanwhile: Callable[[Part], None] | None) -> Iterator[Part]:
        for part in self.parts():
            if meanwhile is not None:
                meanwhile(part)
            yield part

    def described(self) -> Described | None:
        """What the tree is; None when the record is not whole."""
        data = _read(self.folder / "record.json", _MAX_RECORD)
        if data is None or not self.index.is_file():
            return None
        try:
            return from_json(data, Described, "record")
        except FormatError:
            return None


def _read(path: Path, limit: int) -> bytes | None:
    with folder_errors(str(path)):
        try:
            with path.open("rb") as file:
                data = file.read(limit + 1)
        except (FileNotFoundError, NotADirectoryError):
            return None
    return data if len(data) <= limit else None
