"""A rehearsal: the whole way of publishing, except that nothing is stored and nobody hears of it.

:class:`RehearsedShelf` takes objects and drops them, :class:`RehearsedLedger` asks the library what it knows and keeps
the rest of its books in a temporary database that SQLite keeps on the disk. So what a rehearsal says about new objects
is exact, to the byte, as long as nothing else is stored: what a killed attempt left on the shelf without entering it
into the index is not counted as new. The session it holds leases in the meantime; close both.
"""

import sqlite3
import threading
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Self

from entrepot.content.ledger import SET, Announcement, KnownChunk, Ledger, NewChunk, Totals
from entrepot.content.sealing import Purpose
from entrepot.core.ids import ObjectId
from entrepot.objects.shelf import Shelf
from entrepot.objects.store import ObjectStore

_SCHEMA = """
PRAGMA journal_mode = OFF;
CREATE TABLE held (id BLOB PRIMARY KEY, size INTEGER NOT NULL, purpose INTEGER NOT NULL, fresh INTEGER NOT NULL)
WITHOUT ROWID;
CREATE TABLE had (id BLOB PRIMARY KEY) WITHOUT ROWID;
"""
_TAKEN = """
PRAGMA journal_mode = OFF;
CREATE TABLE taken (id BLOB PRIMARY KEY) WITHOUT ROWID;
"""


class RehearsedShelf(Shelf):
    """Says what the real shelf has, and keeps nothing but the ids of what it took, on the disk: a chunk that comes back
    when the index would have had it is not new."""

    def __init__(self, store: ObjectStore) -> None:
        super().__init__(store)
        self._noting = threading.Lock()
        self._taken = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._taken.executescript(_TAKEN)

    def put(
        self, object_id: ObjectId, data: bytes | Iterable[bytes], *, durable: bool = True, replace: bool = False
    ) -> int:
        """Count the bytes."""
        del object_id, durable, replace
        return len(data) if isinstance(data, bytes) else sum(map(len, data))

    def put_sealed(self, object_id: ObjectId, data: bytes, *, durable: bool = True) -> bool:
        """Whether it would be new."""
        del durable
        if self.sizes([object_id]) == [len(data)]:
            return False
        with self._noting:
            return self._taken.execute("INSERT OR IGNORE INTO taken VALUES (?)", (object_id,)).rowcount == 1

    def flush(self) -> None:
        """Nothing waits."""

    def close(self) -> None:
        """Forget what was taken."""
        self._taken.close()


class RehearsedLedger:
    """A :class:`~entrepot.content.ledger.Ledger` over a real session that enters nothing. Use as a context manager."""

    def __init__(self, real: Ledger) -> None:
        self._real = real
        self._books = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._books.executescript(_SCHEMA)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._books.close()

    @property
    def session(self) -> str:
        """See :attr:`Ledger.session`."""
        return self._real.session

    def known(self, index_hashes: Sequence[bytes]) -> dict[bytes, KnownChunk]:
        """See :meth:`Ledger.known`."""
        found = self._real.known(index_hashes)
        rows = [(each.object_id, each.sealed_size, each.purpose, 0) for each in found.values()]
        self._books.executemany("INSERT OR IGNORE INTO held VALUES (?, ?, ?, ?)", rows)
        return found

    def announce(self, objects: Sequence[Announcement], *, durable: bool = True) -> None:
        """See :meth:`Ledger.announce`."""
        del durable
        self._real.renew()
        rows = [(each.object_id, each.sealed_size, each.purpose, 1) for each in objects if each.purpose != SET]
        self._books.executemany("INSERT OR IGNORE INTO held VALUES (?, ?, ?, ?)", rows)

    def add(
        self, chunks: Sequence[NewChunk], *, lost: Collection[bytes] = (), named: bool = False
    ) -> dict[bytes, KnownChunk]:
        """See :meth:`Ledger.add`."""
        del chunks, lost, named
        return {}

    def held(self) -> Iterator[ObjectId]:
        """See :meth:`Ledger.held`."""
        for (object_id,) in self._books.execute("SELECT id FROM held ORDER BY id"):
            yield ObjectId(object_id)

    def totals(self, purpose: Purpose) -> Totals:
        """See :meth:`Ledger.totals`."""
        count = "SELECT count(*), coalesce(sum(size), 0) FROM held WHERE purpose = ?"
        objects, size = self._books.execute(count, (int(purpose),)).fetchone()
        return Totals(objects=objects, size=size)

    def renew(self) -> None:
        """See :meth:`Ledger.renew`."""
        self._real.renew()

    def sync(self) -> None:
        """See :meth:`Ledger.sync`."""

    def everything(self) -> int:
        """Bytes of all objects of the version: what a client without anything fetches."""
        return int(self._books.execute("SELECT coalesce(sum(size), 0) FROM held").fetchone()[0])

    def lacking(self, had: Iterable[ObjectId]) -> int:
        """Bytes of the objects that a client which has these others lacks."""
        self._books.execute("DELETE FROM had")
        self._books.executemany("INSERT OR IGNORE INTO had VALUES (?)", ((each,) for each in had))
        lacked = "SELECT coalesce(sum(size), 0) FROM held WHERE id NOT IN (SELECT id FROM had)"
        return int(self._books.execute(lacked).fetchone()[0])
