"""Ends a session's work: its object set; and keeps sealed objects that need no index, such as a delta's."""

from typing import Final

import msgspec

from entrepot.content.indexing import announcement
from entrepot.content.keeping import Kept
from entrepot.content.ledger import SET, Announcement, Ledger
from entrepot.content.objectset import MAGIC, encode_set
from entrepot.content.sealing import Purpose, Sealed
from entrepot.core.ids import OBJECT_ID_BYTES, ObjectId
from entrepot.core.sizes import MIB
from entrepot.objects.hashing import ObjectHasher
from entrepot.objects.shelf import Shelf

_BATCH_BYTES: Final = 16 * MIB


class KeptSet(msgspec.Struct, frozen=True, kw_only=True):
    """An object set in the library: its id, its own size in bytes, how many objects it names, whether it is new."""

    set_id: ObjectId
    size: int
    objects: int
    new: bool


def keep_set(shelf: Shelf, ledger: Ledger) -> KeptSet:
    """Store the set of all objects that the session holds, and make all that waits for a flush durable.

    The ledger is read twice, once for the id and once for the bytes, so memory stays bounded.

    Raises:
        LimitedError: more objects than a set can name (2 million).
    """
    hasher = ObjectHasher()
    for piece in encode_set(ledger.held()):
        hasher.update(piece)
    set_id = hasher.object_id()
    ledger.announce([Announcement(object_id=set_id, sealed_size=hasher.size, purpose=SET)])
    (held,) = shelf.sizes([set_id])
    sound = held == hasher.size
    shelf.put(set_id, encode_set(ledger.held()), durable=False, replace=not sound)
    shelf.flush()
    objects = (hasher.size - len(MAGIC)) // OBJECT_ID_BYTES
    return KeptSet(set_id=set_id, size=hasher.size, objects=objects, new=not sound)


class SealedKeeper:
    """Keeps objects that are sealed already, in batches.

    Args:
        purpose: what the ledger counts them as.
    """

    def __init__(self, shelf: Shelf, ledger: Ledger, *, purpose: Purpose) -> None:
        self._shelf = shelf
        self._ledger = ledger
        self._purpose = purpose
        self._batch: list[Sealed] = []
        self._bytes = 0
        self.kept: Final = Kept()

    def store(self, sealed: Sealed) -> None:
        """Take the next object."""
        self._batch.append(sealed)
        self._bytes += len(sealed.data)
        if self._bytes >= _BATCH_BYTES:
            self._store()

    def finish(self) -> KeptSet:
        """Make all durable, and their set."""
        self._store()
        return keep_set(self._shelf, self._ledger)

    def _store(self) -> None:
        if self._batch:
            self._ledger.announce([announcement(sealed.ref, self._purpose) for sealed in self._batch])
        for sealed in self._batch:
            if self._shelf.put_sealed(ObjectId(sealed.ref.object_id), sealed.data, durable=False):
                self.kept.objects += 1
                self.kept.size += len(sealed.data)
        self._batch, self._bytes = [], 0
