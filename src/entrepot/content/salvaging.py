"""Salvage: a version's source is published again, and of all that comes out only what the library lost is kept.

Publishing finds what the index knows and the shelf has, and seals the rest as it was sealed before; so the parts of a
manifest come back, which no single file of the source gives. Equal source, equal secret and equal compressor make equal
objects; whatever else comes out has another id, and is dropped.
"""

from collections.abc import Collection
from typing import Final

from entrepot.content.rehearsal import RehearsedShelf
from entrepot.core.ids import ObjectId
from entrepot.objects.shelf import Shelf
from entrepot.objects.store import ObjectStore


class SalvageShelf(RehearsedShelf):
    """Keeps the objects that are wanted, verified by their ids and durable, and drops the others.

    Attributes:
        found: what was wanted and came.
    """

    def __init__(self, store: ObjectStore, wanted: Collection[ObjectId]) -> None:
        super().__init__(store)
        self._wanted = frozenset(wanted)
        self._real = Shelf(store)
        self.found: Final[set[ObjectId]] = set()

    def put_sealed(self, object_id: ObjectId, data: bytes, *, durable: bool = True) -> bool:
        """Whether it was kept."""
        del durable
        if object_id not in self._wanted:
            return False
        self._real.put(object_id, data, replace=True)
        self.found.add(object_id)
        return True
