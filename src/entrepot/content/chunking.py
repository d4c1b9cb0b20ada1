"""Cuts a source into chunks, so that equal content gives equal chunks in every version and every package.

A file of 256 KiB or more starts and ends a chunk and is cut by FastCDC 2020 (min 256 KiB, average 1 MiB, max 4 MiB),
with a gear seed that outsiders cannot know. Runs of smaller files share chunks (``content/grouping.py``). The format
does not depend on where cuts fall, only dedupe does.
"""

import hashlib
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor

import msgspec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from entrepot.content.ahead import Hashed, read_ahead
from entrepot.content.grouping import Piece
from entrepot.content.manifest import Entry, EntryKind
from entrepot.content.sealing import Generation, Purpose
from entrepot.core.secret import Secret


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

    def index_hash(self, purpose: Purpose, digest: bytes) -> bytes:
        """What the index knows a plaintext by: a keyed hash over its purpose and its digest (32 bytes)."""
        key = self.index_key.reveal()
        return hashlib.blake2b(bytes([purpose]) + digest, key=key, digest_size=32).digest()


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


class BigChunk(msgspec.Struct, frozen=True):
    """The next chunk of the big file that is being read, and its digest."""

    plain: memoryview
    digest: bytes


class BigEnd(msgspec.Struct, frozen=True):
    """The big file ends: its entry, without extents."""

    entry: Entry


Cut = Hashed | BigChunk | BigEnd


def cut(pieces: Iterable[Piece], keys: DomainKeys, pool: Executor) -> Iterator[Cut]:
    """Cut a source's pieces in order. Memory: what is read ahead (``content/ahead.py``).

    Raises:
        RefusedError: a file changed while it was read, or cannot be read.
    """
    for read in read_ahead(pieces, pool, keys.seed):
        if isinstance(read, Hashed):
            yield read
            continue
        for plain, digest in read.plain:
            yield BigChunk(plain, digest)
        if read.digest:
            item = read.item
            yield BigEnd(Entry(EntryKind.FILE, item.path, item.mode, item.size, read.digest))
