"""Salvage: a version's source is published again, and of all that comes out only what the library lost is kept.

Publishing finds what the index knows and the shelf has, and seals the rest; so the parts of a manifest come back, which
no single file of the source gives. What was lost may have been sealed by an earlier version of this program, whose
compressor gave other bytes: then it is sealed in every way that ever was (``content/repairing.py``) until the very
object comes out, and the parts name that one, too. Whatever else comes out is dropped.

A source is read once, for all objects and versions: versions with the same files differ in their roots' numbers only.
What is wanted is noted on the disk, so that a library that lost everything needs no more memory than one that lost
little.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from entrepot.content.chunking import DomainKeys
from entrepot.content.indexing import reference, tools
from entrepot.content.keeping import Keeper, Kept
from entrepot.content.ledger import KnownChunk, Ledger, NewChunk
from entrepot.content.manifest import Root, decode_root
from entrepot.content.publish import Progress, Published, PublishOptions, publish
from entrepot.content.recovering import recover_ref
from entrepot.content.rehearsal import RehearsedLedger, RehearsedShelf
from entrepot.content.repairing import sealed_as
from entrepot.content.sealing import Purpose, open_sealed
from entrepot.core.encoding import pack
from entrepot.core.errors import StorageError
from entrepot.core.ids import ObjectId
from entrepot.objects.shelf import Shelf
from entrepot.objects.store import ObjectStore

_SCHEMA: Final = """
CREATE TABLE other (id BLOB PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE wanted (id BLOB PRIMARY KEY, came INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
"""


class SalvageShelf(RehearsedShelf):
    """Keeps the objects that are wanted, verified by their ids and durable, and the others until they are taken.

    Attributes:
        refused: what the disk said last when it did not take one that was wanted; the others are kept all the same.
    """

    def __init__(self, store: ObjectStore) -> None:
        super().__init__(store)
        self.refused = ""
        self._real = Shelf(store)
        self._taken.executescript(_SCHEMA)

    def want(self, wanted: Collection[ObjectId]) -> None:
        """Note what is to be kept."""
        with self._noting:
            self._taken.executemany("INSERT OR IGNORE INTO wanted (id) VALUES (?)", ((each,) for each in wanted))

    def wants(self, object_id: ObjectId) -> bool:
        """Whether it is to be kept."""
        with self._noting:
            return self._taken.execute("SELECT 1 FROM wanted WHERE id = ?", (object_id,)).fetchone() is not None

    def lacking(self) -> bool:
        """Whether anything that is wanted has not come yet."""
        with self._noting:
            return self._taken.execute("SELECT 1 FROM wanted WHERE NOT came LIMIT 1").fetchone() is not None

    def came(self, limit: int) -> Iterator[list[ObjectId]]:
        """What was wanted and came, so many at a time, in ascending order."""
        after = b""
        query = "SELECT id FROM wanted WHERE came AND id > ? ORDER BY id LIMIT ?"
        while True:
            with self._noting:
                page = [ObjectId(each) for (each,) in self._taken.execute(query, (after, limit))]
            if not page:
                return
            yield page
            after = page[-1]

    def put_sealed(self, object_id: ObjectId, data: bytes, *, durable: bool = True) -> bool:
        """Whether it was kept for good."""
        del durable
        if not self.wants(object_id):
            with self._noting:
                self._taken.execute("INSERT OR IGNORE INTO other VALUES (?, ?)", (object_id, data))
            return False
        try:
            self._real.put(object_id, data, replace=True)
        except StorageError as error:
            self.refused = error.message
            return False
        with self._noting:
            self._taken.execute("UPDATE wanted SET came = 1 WHERE id = ?", (object_id,))
        return True

    def forget_others(self) -> None:
        """Drop what is not wanted and nobody took."""
        with self._noting:
            self._taken.execute("DELETE FROM other")

    def take(self, object_id: ObjectId) -> bytes | None:
        """An object that is not wanted, once."""
        with self._noting:
            row = self._taken.execute("SELECT data FROM other WHERE id = ?", (object_id,)).fetchone()
            self._taken.execute("DELETE FROM other WHERE id = ?", (object_id,))
        return None if row is None else row[0]


class SalvageLedger(RehearsedLedger):
    """Says of every lost plaintext that it is the object that was lost, and has the shelf keep that one.

    Args:
        keys: of the content's dedupe domain.
    """

    def __init__(self, real: Ledger, shelf: SalvageShelf, keys: DomainKeys) -> None:
        super().__init__(real)
        self._shelf = shelf
        self._keys = keys
        self._sought: dict[bytes, KnownChunk] = {}

    def known(self, index_hashes: Sequence[bytes]) -> dict[bytes, KnownChunk]:
        """See :meth:`Ledger.known`."""
        found = super().known(index_hashes)
        self._sought |= {key: each for key, each in found.items() if self._shelf.wants(each.object_id)}
        return found

    def add(
        self, chunks: Sequence[NewChunk], *, lost: Collection[bytes] = (), named: bool = False
    ) -> dict[bytes, KnownChunk]:
        """See :meth:`Ledger.add`."""
        del lost, named
        winners: dict[bytes, KnownChunk] = {}
        for chunk in chunks:
            data = self._shelf.take(chunk.object_id)
            sought = self._sought.get(chunk.index_hash)
            if data is not None and sought is not None and self._again(chunk, data, sought):
                winners[chunk.index_hash] = sought
                self._books.execute("DELETE FROM held WHERE id = ? AND fresh", (chunk.object_id,))
        return winners

    def _again(self, chunk: NewChunk, data: bytes, sought: KnownChunk) -> bool:
        """Seal a plaintext as it was; whether there is the key for what is sought."""
        generation, purpose = self._keys.generation_of(sought.generation), Purpose(sought.purpose)
        if generation is None:
            return False
        new = recover_ref(data, purpose=purpose, generation=self._keys.generation, payload_hash=chunk.payload_hash)
        ref = reference(sought, generation, purpose, plain_size=new.plain_size, digest=new.digest)
        made = sealed_as(open_sealed(data, new), ref)
        if made is not None:
            self._shelf.put_sealed(sought.object_id, made)
        return True


def salvage(
    source: Path,
    *,
    content: str,
    numbers: Sequence[int],
    shelf: SalvageShelf,
    session: Ledger,
    keys: DomainKeys,
    sign: Callable[[bytes], str],
    options: PublishOptions,
    progress: Callable[[Progress], None],
    cancelled: Callable[[], bool],
) -> None:
    """Publish a source once more, into nothing but the salvage; and where it has small files more than once, and
    something is still missing, as earlier versions of this program did, which kept the bytes of each.

    Args:
        numbers: of the versions that need something: the root is made for each.
        session: open; nothing is entered into it.

    Raises:
        CancelledError: ``cancelled`` said so.
        EntrepotError: the source is gone, or cannot be published any more.
    """

    def again(options: PublishOptions) -> Published:
        roots: list[Root] = []

        def noting(payload: bytes) -> str:
            roots.append(decode_root(payload))
            return sign(payload)

        with SalvageLedger(session, shelf, keys) as ledger:
            published = publish(
                source,
                content=content,
                number=numbers[0],
                shelf=shelf,
                ledger=ledger,
                keys=keys,
                sign=noting,
                options=options,
                progress=progress,
                cancelled=cancelled,
            )
            with tools(shelf, ledger, keys, workers=1, name="salvage") as given:
                keeper = Keeper[None](Purpose.MANIFEST_ROOT, tools=given, deliver=lambda _ref, _note: None, kept=Kept())
                for number in numbers[1:]:
                    keeper.put(sign(pack(msgspec.structs.replace(roots[0], number=number))).encode(), None)
                keeper.finish()
        shelf.forget_others()
        return published

    if again(options).repeated and shelf.lacking():
        again(msgspec.structs.replace(options, once=False))
