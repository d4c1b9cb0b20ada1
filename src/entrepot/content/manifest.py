"""The manifest: a signed root and file-list parts (architecture 2.4, ``docs/formats/manifest.md``).

A part is at most 1 MiB of plain bytes and can be read alone: it carries the references of the chunks that its entries
use. Entries stand in path
order, strictly ascending over all parts; a large file may go on in the next part (same path, ``offset`` where it goes
on). Nobody needs
more than one part in memory. Nothing here is trusted until checked: :func:`check_part` bounds every field,
:class:`OrderCheck` the sequence.
"""

from collections.abc import Iterable
from enum import IntEnum
from typing import Final

import msgspec

from entrepot.content.digests import is_digest
from entrepot.content.references import check_ref
from entrepot.core.encoding import pack, unpack
from entrepot.core.errors import FormatError, UnsupportedError
from entrepot.core.paths import case_key, check_path, link_stays_inside, path_key
from entrepot.core.sizes import MIB
from entrepot.protocol import SealedRef

VERSION: Final = 2
"""What is written. Version 1 had digests by SHA-256 only (``content/digests.py``); it is read, too."""
READABLE: Final = frozenset((1, VERSION))
MAX_PART: Final = MIB
MAX_ROOT: Final = 16 * MIB
MAX_TARGET: Final = 4095
"""Of a link, in bytes: Linux makes no longer ones."""


class EntryKind(IntEnum):
    """What a path is. A folder is listed only when it is empty."""

    FILE = 0
    FOLDER = 1
    LINK = 2


class Extent(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """``length`` bytes from ``offset`` in the plain bytes of the part's chunk number ``chunk``."""

    chunk: int
    offset: int
    length: int


class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One path.

    Attributes:
        kind: an :class:`EntryKind`.
        path: content path (``core.paths``).
        mode: POSIX permission bits (``0o777`` at most); 0 for links.
        size: of the whole file, bytes.
        digest: of the whole file (``content/digests.py``); empty for folders and links.
        offset: where in the file these extents begin; over 0 when the file goes on from the part before.
        extents: consecutive pieces of the file.
        target: of a link.
    """

    kind: int
    path: str
    mode: int = 0
    size: int = 0
    digest: bytes = b""
    offset: int = 0
    extents: tuple[Extent, ...] = ()
    target: str = ""


class Part(msgspec.Struct, frozen=True, array_like=True):
    """A file-list part: the chunks its entries use, then the entries."""

    version: int
    chunks: tuple[SealedRef, ...]
    entries: tuple[Entry, ...]


class Root(msgspec.Struct, frozen=True, array_like=True):
    """The manifest's root. It is signed (JWS ``typ`` entrepot-manifest), then sealed.

    ``stored_size`` is the sealed size of the distinct chunks; ``windows_safe`` promises that every name can be stored
    on Windows.
    """

    version: int
    content: str
    number: int  # of the content version
    files: int
    plain_size: int
    chunks: int
    stored_size: int
    windows_safe: bool
    parts: tuple[SealedRef, ...]


def encode_part(part: Part) -> bytes:
    """Canonical bytes of a part."""
    return pack(part)


def join_part(chunks: Iterable[SealedRef], entries: Iterable[bytes]) -> bytes:
    """Canonical bytes of a part whose entries are packed already."""
    return pack((VERSION, tuple(chunks), tuple(msgspec.Raw(entry) for entry in entries)))


def decode_part(data: bytes) -> Part:
    """Read and check one part.

    Raises:
        FormatError: foreign bytes, unknown version, or anything out of bounds.
    """
    part = unpack(data, Part, "manifest part")
    check_part(part)
    return part


def decode_root(data: bytes) -> Root:
    """Read and check a root (the payload of its signature).

    Raises:
        FormatError: foreign bytes, unknown version, or anything out of bounds.
    """
    root = unpack(data, Root, "manifest root")
    if root.version not in READABLE:
        raise UnsupportedError(
            f"The manifest has version {root.version}; this version of Entrepôt reads version {VERSION}."
        )
    if min(root.number, root.files, root.plain_size, root.chunks, root.stored_size) < 0:
        raise FormatError("The manifest root has a negative total.")
    for ref in root.parts:
        check_ref(ref, "manifest part")
    return root


def check_part(part: Part) -> None:
    """Check every field of a part on its own.

    Raises:
        FormatError: what is wrong, by name.
    """
    if part.version not in READABLE:
        raise UnsupportedError(
            f"The manifest part has version {part.version}; this version of Entrepôt reads version {VERSION}."
        )
    for ref in part.chunks:
        check_ref(ref, "chunk")
    for entry in part.entries:
        check_path(entry.path)
        if entry.mode & ~0o777:
            raise FormatError(f"{entry.path!r} asks for special permission bits.")
        if entry.kind == EntryKind.FILE:
            _check_file(entry, part.chunks)
        elif entry.extents or entry.size or entry.offset or entry.digest:
            raise FormatError(f"{entry.path!r} is no file but has content.")
        elif entry.kind == EntryKind.LINK:
            if not link_stays_inside(entry.path, entry.target):
                raise FormatError(f"The link {entry.path!r} leads out of the content.")
            if (
                len(entry.target.encode()) > MAX_TARGET
            ):  # no system could make it, and links are made when all else is done
                raise FormatError(f"The link {entry.path!r} is too long.")
        elif entry.kind != EntryKind.FOLDER or entry.target:
            raise UnsupportedError(f"{entry.path!r} is of a kind this version does not know.")


def _check_file(entry: Entry, chunks: tuple[SealedRef, ...]) -> None:
    if not is_digest(entry.digest) or entry.target or not 0 <= entry.offset <= entry.size:
        raise FormatError(f"The entry of {entry.path!r} is malformed.")
    if bool(entry.size) != bool(entry.extents):
        raise FormatError(f"The entry of {entry.path!r} is malformed.")
    end = entry.offset
    for extent in entry.extents:
        if not 0 <= extent.chunk < len(chunks) or extent.offset < 0 or extent.length <= 0:
            raise FormatError(f"{entry.path!r} refers to a chunk that is not listed.")
        if extent.offset + extent.length > chunks[extent.chunk].plain_size:
            raise FormatError(f"{entry.path!r} reaches beyond the end of a chunk.")
        end += extent.length
    if end > entry.size:
        raise FormatError(f"{entry.path!r} has more bytes than its size.")


class OrderCheck:
    """Checks the sequence of entries over all parts: path order, no duplicates, files without gaps.

    Memory: the names of the folders on the current path only (``fold_case`` keeps their siblings' names, to find
    collisions).
    """

    def __init__(self, *, fold_case: bool) -> None:
        self._last: tuple[bytes, ...] = ()
        self._last_path = ""
        self._open: Entry | None = None
        self._next_offset = 0
        self._kind = EntryKind.FOLDER
        self._fold_case = fold_case
        self._siblings: list[tuple[str, dict[str, str]]] = [("", {})]

    def accept(self, entry: Entry) -> None:
        """Take the next entry.

        Raises:
            FormatError: out of order, listed twice, incomplete, colliding, or below something that is no folder.
        """
        key = path_key(entry.path)
        if self._open is not None:
            self._accept_rest(entry)
            return
        if entry.offset:
            raise FormatError(f"{entry.path!r} goes on without having begun.")
        if key <= self._last:
            raise FormatError(f"{entry.path!r} is listed twice or out of order.")
        if self._last and len(key) > len(self._last) and key[: len(self._last)] == self._last:
            raise FormatError(f"{entry.path!r} lies below {self._last_path!r}, which is listed itself.")
        if self._fold_case:
            self._check_case(entry.path)
        self._last, self._last_path = key, entry.path
        self._after(entry)

    def _accept_rest(self, entry: Entry) -> None:
        begun = self._open
        assert begun is not None
        same = (entry.kind, entry.path, entry.size, entry.digest, entry.mode) == (
            begun.kind,
            begun.path,
            begun.size,
            begun.digest,
            begun.mode,
        )
        if not same or entry.offset != self._next_offset or not entry.extents:
            raise FormatError(f"{begun.path!r} is incomplete.")
        self._after(entry)

    def _after(self, entry: Entry) -> None:
        self._next_offset = entry.offset + sum(extent.length for extent in entry.extents)
        unfinished = entry.kind == EntryKind.FILE and self._next_offset < entry.size
        self._open = entry if unfinished else None

    def _check_case(self, path: str) -> None:
        parts = path.split("/")
        depth = 0
        while (
            depth + 1 < len(self._siblings) and depth < len(parts) - 1 and self._siblings[depth + 1][0] == parts[depth]
        ):
            depth += 1
        del self._siblings[depth + 1 :]
        for part in parts[depth:]:
            names = self._siblings[-1][1]
            other = names.setdefault(case_key(part), part)
            if other != part:
                raise FormatError(f"{path!r} collides with {other!r} where case does not count.")
            self._siblings.append((part, {}))
        del self._siblings[len(parts) :]

    def finish(self) -> None:
        """Call after the last entry.

        Raises:
            FormatError: the last file is incomplete.
        """
        if self._open is not None:
            raise FormatError(f"{self._open.path!r} is incomplete.")
