"""Cuts a snapshot into chunks, so that equal content gives equal chunks in every version and every package.

A file of 256 KiB or more starts and ends a chunk and is cut by FastCDC 2020 (min 256 KiB, average 1 MiB, max 4 MiB),
with a gear seed that outsiders cannot know. Runs of smaller files share chunks: a group ends after a file when it has
256 KiB or more (or 32 KiB of entries) and a keyed hash of that file says so, so that a changed file moves no later
boundary. The format does
not depend on where cuts fall, only dedupe does.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from typing import Final

import msgspec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from entrepot.content.ahead import Chunks, Small, read_ahead
from entrepot.content.manifest import Entry, EntryKind
from entrepot.content.sealing import Generation, Purpose
from entrepot.content.snapshot import FileItem, FolderItem, Item
from entrepot.core.secret import Secret
from entrepot.core.sizes import KIB, MIB

GROUP_MIN: Final = 256 * KIB
GROUP_MAX: Final = MIB
GROUP_MIN_ENTRY_BYTES: Final = 32 * KIB
GROUP_MAX_ENTRY_BYTES: Final = 128 * KIB
"""The same for what the group's entries take in the manifest: many tiny files make groups, too, and the entries of a
group always fit in one manifest part."""
_ENTRY_BYTES: Final = 80  # of an entry besides its path and target
_LOW_BITS: Final = 0b11


class DomainKeys(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of one dedupe domain: the hierarchy, or one isolated content.

    Attributes:
        seed: FastCDC's gear seed, 63 bits.
        grouping_key: decides where groups of small files and manifest parts end.
        index_key: makes the index's hashes, so that the index tells an outsider nothing about content.
        generation: the content secret that new objects are sealed with.
        earlier: those before it, to open the keys of objects that are known already.
    """

    seed: int
    grouping_key: Secret
    index_key: Secret
    generation: Generation
    earlier: tuple[Generation, ...] = ()

    def generation_of(self, number: int) -> Generation | None:
        """The generation with this number, if it is at hand."""
        return next((each for each in (self.generation, *self.earlier) if each.number == number), None)

    def index_hash(self, purpose: Purpose, sha256: bytes) -> bytes:
        """What the index knows a plaintext by: a keyed hash over its purpose and its SHA-256 (32 bytes)."""
        key = self.index_key.reveal()
        return hashlib.blake2b(bytes([purpose]) + sha256, key=key, digest_size=32).digest()

    def ends(self, sha256: bytes, mask: int) -> bool:
        """Tell whether content with this hash ends a group: true for one in ``mask + 1``."""
        key = self.grouping_key.reveal()
        return not hashlib.blake2b(sha256, key=key, digest_size=8).digest()[0] & mask


def domain_keys(dedupe_secret: Secret, generation: Generation, *, earlier: tuple[Generation, ...] = ()) -> DomainKeys:
    """Derive a domain's keys (HKDF-SHA256). The dedupe secret is never rotated, or nothing would be found again."""

    def derive(label: bytes) -> bytes:
        info = b"entrepot/dedupe/1/" + label
        return HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(dedupe_secret.reveal())

    return DomainKeys(
        seed=int.from_bytes(derive(b"seed")[:8], "big") >> 1,
        grouping_key=Secret(derive(b"grouping")),
        index_key=Secret(derive(b"index")),
        generation=generation,
        earlier=earlier,
    )


class Group(msgspec.Struct, frozen=True):
    """A run of small files, empty folders and links: their entries without extents.

    Attributes:
        plain: the bytes of its files, one after the other; empty when none has any: then there is no chunk.
        sha256: of those.
    """

    plain: bytes
    sha256: bytes
    entries: tuple[Entry, ...]


class BigChunk(msgspec.Struct, frozen=True):
    """The next chunk of the big file that is being read, and its SHA-256."""

    plain: memoryview
    sha256: bytes


class BigEnd(msgspec.Struct, frozen=True):
    """The big file ends: its entry, without extents."""

    entry: Entry


Cut = Group | BigChunk | BigEnd


def cut(
    items: Iterable[Item], keys: DomainKeys, pool: Executor, look: Callable[[str, bytes], None] = lambda *_: None
) -> Iterator[Cut]:
    """Read a snapshot's items in order and cut them. Memory: what is read ahead (``content/ahead.py``), one group.

    Args:
        look: is shown the path and bytes of each small file.

    Raises:
        RefusedError: a file changed while it was read, or cannot be read.
    """
    group = _Grouping(keys)
    for read in read_ahead(items, pool, keys.seed):
        if isinstance(read, Chunks):
            yield from group.close()
            for plain, sha256 in read.plain:
                yield BigChunk(plain, sha256)
            if read.sha256:
                yield BigEnd(_entry(read.item, read.sha256))
        else:
            for small in read:
                if small.data:
                    look(small.item.path, small.data)
                yield from group.take(small)
    yield from group.close()


def _entry(item: FileItem, sha256: bytes) -> Entry:
    return Entry(EntryKind.FILE, item.path, item.mode, item.size, sha256)


class _Grouping:
    """Collects a run of small files."""

    def __init__(self, keys: DomainKeys) -> None:
        self._keys = keys
        self._plain: list[bytes] = []
        self._size = 0
        self._entries: list[Entry] = []
        self._entry_bytes = 0

    def take(self, small: Small) -> Iterator[Group]:
        """Add an item; give the group when it ends with it."""
        item = small.item
        if isinstance(item, FileItem):
            self._plain.append(small.data)
            self._size += item.size
            entry = _entry(item, small.sha256)
        elif isinstance(item, FolderItem):
            entry = Entry(EntryKind.FOLDER, item.path, item.mode)
        else:
            entry = Entry(EntryKind.LINK, item.path, target=item.target)
        self._entries.append(entry)
        self._entry_bytes += _ENTRY_BYTES + len(entry.path.encode()) + len(entry.target.encode())
        large = self._size >= GROUP_MIN or self._entry_bytes >= GROUP_MIN_ENTRY_BYTES
        too_large = self._size >= GROUP_MAX or self._entry_bytes >= GROUP_MAX_ENTRY_BYTES
        if too_large or (large and small.sha256 and self._keys.ends(small.sha256, _LOW_BITS)):
            yield from self.close()

    def close(self) -> Iterator[Group]:
        """Give what was collected, if anything."""
        if self._entries:
            plain = b"".join(self._plain)
            yield Group(plain, hashlib.sha256(plain).digest(), tuple(self._entries))
            self._plain, self._entries = [], []
            self._size = self._entry_bytes = 0
