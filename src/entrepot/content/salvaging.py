"""Salvage: a version's source is published again, and of all that comes out only what the library lost is kept.

Publishing finds what the index knows and the shelf has, and seals the rest; so the parts of a manifest come back, which
no single file of the source gives. What was lost may have been sealed by an earlier version of this program, whose
compressor gave other bytes: then it is sealed in every way that ever was (``content/repairing.py``) until the very
object comes out, and the parts name that one, too. Whatever else comes out is dropped.
"""

from collections.abc import Collection, Sequence
from typing import Final

from entrepot.content.chunking import DomainKeys
from entrepot.content.indexing import reference
from entrepot.content.ledger import KnownChunk, Ledger, NewChunk
from entrepot.content.recovering import recover_ref
from entrepot.content.rehearsal import RehearsedLedger, RehearsedShelf
from entrepot.content.repairing import sealed_as
from entrepot.content.sealing import Purpose, open_sealed
from entrepot.core.ids import ObjectId
from entrepot.objects.shelf import Shelf
from entrepot.objects.store import ObjectStore


class SalvageShelf(RehearsedShelf):
    """Keeps the objects that are wanted, verified by their ids and durable, and the others until they are taken.

    Attributes:
        found: what was wanted and came.
    """

    def __init__(self, store: ObjectStore, wanted: Collection[ObjectId]) -> None:
        super().__init__(store)
        self.wanted: Final = frozenset(wanted)
        self._real = Shelf(store)
        self._taken.execute("CREATE TABLE other (id BLOB PRIMARY KEY, data BLOB NOT NULL)")
        self.found: Final[set[ObjectId]] = set()

    def put_sealed(self, object_id: ObjectId, data: bytes, *, durable: bool = True) -> bool:
        """Whether it was kept for good."""
        del durable
        if object_id not in self.wanted:
            with self._noting:
                self._taken.execute("INSERT OR IGNORE INTO other VALUES (?, ?)", (object_id, data))
            return False
        self._real.put(object_id, data, replace=True)
        self.found.add(object_id)
        return True

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
        self._sought |= {key: each for key, each in found.items() if each.object_id in self._shelf.wanted}
        return found

    def add(self, chunks: Sequence[NewChunk], *, lost: Collection[bytes] = ()) -> dict[bytes, KnownChunk]:
        """See :meth:`Ledger.add`."""
        del lost
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
        ref = reference(sought, generation, purpose, plain_size=new.plain_size, sha256=new.sha256)
        made = sealed_as(open_sealed(data, new), ref)
        if made is not None:
            self._shelf.put_sealed(sought.object_id, made)
        return True
