"""A rehearsal that can go on to the delta: what would be new is kept in a folder of the caller's while it lasts, so
that the delta to the rehearsed version is made as it would be of the published one."""

import contextlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from entrepot.content.ledger import Totals
from entrepot.content.rehearsal import RehearsedLedger, RehearsedShelf
from entrepot.content.sealing import Purpose
from entrepot.core.ids import ObjectId
from entrepot.core.sizes import MIB
from entrepot.durable.files import storage_errors
from entrepot.objects.store import ObjectStore
from entrepot.protocol.dataplane import MAX_OBJECT_BYTES

_ASK_BYTES: Final = 64 * MIB


class QuotedShelf(RehearsedShelf):
    """A :class:`~entrepot.content.rehearsal.RehearsedShelf` from which what is new can be read.

    Args:
        keep: an empty folder for what is new; the caller removes it. None: it is dropped.
        room: how many bytes may be written to that folder's disk now. Without room, nothing more is kept.

    Attributes:
        complete: whether all that is new was kept.
    """

    def __init__(self, store: ObjectStore, *, keep: Path | None, room: Callable[[], int]) -> None:
        super().__init__(store)
        self._keep = keep
        self._room = room
        self._lock = threading.Lock()
        self._granted = 0
        self.complete = keep is not None

    def put_sealed(self, object_id: ObjectId, data: bytes, *, durable: bool = True) -> bool:
        """Whether it would be new."""
        new = super().put_sealed(object_id, data, durable=durable)
        if new and self._keep is not None and self._take_room(len(data)):
            with storage_errors(str(self._keep)):
                (self._keep / object_id.hex()).write_bytes(data)
        return new

    def _take_room(self, size: int) -> bool:
        with self._lock:
            if self._granted < size and self.complete:
                self.complete = self._room() >= _ASK_BYTES
                self._granted = _ASK_BYTES
            self._granted -= size
            return self.complete

    def read_whole(self, object_id: ObjectId, limit: int = MAX_OBJECT_BYTES) -> bytes:
        """All bytes, of what was kept or of what the real shelf has. Whoever opens them checks them."""
        if self._keep is not None:
            with contextlib.suppress(FileNotFoundError):
                return (self._keep / object_id.hex()).read_bytes()
        return super().read_whole(object_id, limit)


class QuotedLedger(RehearsedLedger):
    """A :class:`~entrepot.content.rehearsal.RehearsedLedger` that also tells what is new by purpose."""

    def fresh(self, purpose: Purpose) -> Totals:
        """Objects of a purpose that the library does not know."""
        count = "SELECT count(*), coalesce(sum(size), 0) FROM held WHERE fresh AND purpose = ?"
        objects, size = self._books.execute(count, (int(purpose),)).fetchone()
        return Totals(objects=objects, size=size)
