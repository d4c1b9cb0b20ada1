"""The ledger in SQL (port: ``content/ledger.py``): sessions with leases, the index by content, object sets.

Every step is one short transaction; batches are sorted, so that concurrent publishers lock rows in one order. On
PostgreSQL an object's row lock (``FOR NO KEY UPDATE``, which foreign keys do not wait for) orders a publisher's revival
and a sweep's next step; on SQLite writers are alone
anyway.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from sqlalchemy import Connection, bindparam, delete, exists, func, insert, select, update

from entrepot.content.ledger import SET, Announcement, KnownChunk, Ledger, NewChunk, State, Totals
from entrepot.content.sealing import Purpose
from entrepot.core.errors import UnavailableError
from entrepot.core.ids import ObjectId
from entrepot.core.times import HOUR, Clock
from entrepot.database.engine import Database
from entrepot.database.objectsets import adopt_set, drop_set, end_session, lapsed
from entrepot.database.prepared import NewRows, Query, each_key
from entrepot.database.tables.checks import object_check
from entrepot.database.tables.library import chunk, object_, publish_session, session_object
from entrepot.rules.verdicts import Verdict

LEASE_SECONDS: Final = HOUR
_SPENT: Final = 0.1
_PAUSE: Final = 0.1
_PAUSES: Final = 300
_FETCH: Final = 10_000


class _Lease(NamedTuple):
    until: float


class _Object(NamedTuple):
    number: int
    object_id: bytes
    state: str


class _Indexed(NamedTuple):
    """An entry of the index, and its object."""

    index_hash: bytes
    payload_hash: bytes
    generation: int
    number: int
    object_id: bytes
    size: int
    purpose: int
    state: str


class _Entry(NamedTuple):
    """An entry of the index; ``broken``: validation found its object missing or damaged."""

    index_hash: bytes
    number: int
    broken: bool


_LEASE: Final = Query(
    _Lease._make,
    select(publish_session.c.lease_until)
    .where(publish_session.c.id == bindparam("session"))
    .with_for_update(key_share=True),
)
_OBJECTS: Final = select(object_.c.id, object_.c.object_id, object_.c.state).where(
    object_.c.object_id.in_(each_key("wanted"))
)
_STORED: Final = Query(_Object._make, _OBJECTS)
_PRESENT: Final = Query(_Object._make, _OBJECTS.order_by(object_.c.id).with_for_update(of=object_, key_share=True))
_INDEXED: Final = Query(
    _Indexed._make,
    select(chunk.c.index_hash, chunk.c.payload_hash, chunk.c.generation)
    .add_columns(object_.c.id, object_.c.object_id, object_.c.size, object_.c.purpose, object_.c.state)
    .join(object_, object_.c.id == chunk.c.object)
    .where(chunk.c.index_hash.in_(each_key("hashes")))
    .order_by(object_.c.id)
    .with_for_update(of=object_, key_share=True),
)
_ENTRIES: Final = Query(
    _Entry._make,
    select(
        chunk.c.index_hash,
        chunk.c.object,
        exists().where(object_check.c.object == chunk.c.object, object_check.c.verdict != bindparam("good")),
    ).where(chunk.c.index_hash.in_(each_key("hashes"))),
)
_NEW_OBJECTS: Final = NewRows(object_, ("object_id", "size", "plain_size", "purpose", "state", "changed"))
_NEW_ENTRIES: Final = NewRows(chunk, ("index_hash", "object", "payload_hash", "generation"))
_NEW_LEASES: Final = NewRows(session_object, ("session", "object"))


class SqlLibrary:
    """A :class:`~entrepot.content.ledger.Library` in the site's database.

    Args:
        clock: seconds since 1970.
        new_id: makes session ids, unique ever.
        pause: waits some seconds (``time.sleep``), while a sweep finishes deleting what a session needs.
    """

    def __init__(
        self,
        database: Database,
        *,
        clock: Clock,
        new_id: Callable[[], str],
        pause: Callable[[float], None],
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:
        self._database = database
        self._clock = clock
        self._new_id = new_id
        self._pause = pause
        self._lease_seconds = lease_seconds

    def open_session(self, subject: str, *, owner: str = "") -> Ledger:
        """See :meth:`Library.open_session`; the owner is a task."""
        now = self._clock()
        session = self._new_id()
        row = {"id": session, "subject": subject[:200], "opened": now, "lease_until": now + self._lease_seconds}
        row["task"] = owner
        with self._database.transaction() as connection:
            connection.execute(insert(publish_session).values(row))
        return SqlLedger(self._database, session, self._clock, self._pause, self._lease_seconds)

    def close_session(self, session: str) -> None:
        """See :meth:`Library.close_session`."""
        with self._database.transaction() as connection:
            end_session(connection, session)

    def adopt(self, session: str, set_id: ObjectId) -> None:
        """See :meth:`Library.adopt`; :func:`adopt_set` does it within a transaction of the caller's."""
        with self._database.transaction() as connection:
            adopt_set(connection, session, set_id, self._clock())

    def drop(self, set_id: ObjectId) -> None:
        """See :meth:`Library.drop`; :func:`drop_set` does it within a transaction of the caller's."""
        with self._database.transaction() as connection:
            drop_set(connection, set_id)


class SqlLedger:
    """One session; made by :meth:`SqlLibrary.open_session`."""

    def __init__(
        self, database: Database, session: str, clock: Clock, pause: Callable[[float], None], lease_seconds: float
    ) -> None:
        self._database = database
        self._session = session
        self._clock = clock
        self._pause = pause
        self._lease_seconds = lease_seconds
        self._behind = False  # something was announced that power loss may still take

    @property
    def session(self) -> str:
        """See :attr:`Ledger.session`."""
        return self._session

    def known(self, index_hashes: Sequence[bytes]) -> dict[bytes, KnownChunk]:
        """See :meth:`Ledger.known`. Leases need not survive power loss: whoever holds them does not."""
        with self._database.transaction(durable=False) as connection:
            self._renew(connection)
            rows = [row for row in _indexed(connection, index_hashes) if row.state != State.DELETING]
            self._hold(connection, rows)
        return {row.index_hash: _known(row) for row in rows}

    def announce(self, objects: Sequence[Announcement], *, durable: bool = True) -> None:
        """See :meth:`Ledger.announce`."""
        if not objects:
            self.renew()
            return
        left = {each.object_id: each for each in objects}
        for _ in range(_PAUSES):
            if not left:
                return
            with self._database.transaction(durable=durable) as connection:
                self._renew(connection, always=durable and self._behind)
                held = self._announce(connection, sorted(left.values(), key=lambda each: each.object_id))
            self._behind = not durable
            left = {object_id: each for object_id, each in left.items() if object_id not in held}
            if left:
                self._pause(_PAUSE)
        raise UnavailableError(
            f"{len(left)} objects are being deleted from the library and cannot be stored again yet.",
            next_step="Try again in a minute.",
        )

    def _announce(self, connection: Connection, objects: list[Announcement]) -> set[bytes]:
        """Lease what is not being deleted; the ids of those."""
        now = self._clock()
        rows = [
            {
                "object_id": each.object_id,
                "size": each.sealed_size,
                "plain_size": each.plain_size,
                "purpose": each.purpose,
                "state": State.LIVE.value,
                "changed": now,
            }
            for each in objects
        ]
        _NEW_OBJECTS.insert(connection, rows)
        found = _PRESENT.all(connection, wanted=b"".join(each.object_id for each in objects))
        usable = [row for row in found if row.state != State.DELETING]
        self._hold(connection, usable)
        return {row.object_id for row in usable}

    def add(
        self, chunks: Sequence[NewChunk], *, lost: Collection[bytes] = (), named: bool = False
    ) -> dict[bytes, KnownChunk]:
        """See :meth:`Ledger.add`. An entry that a power loss takes costs a duplicate later, and whoever adopts a set
        waits for the disk: then all before it survives, too."""
        if not chunks:
            self.renew()
            return {}
        mine = {each.index_hash: each for each in chunks}
        with self._database.transaction(durable=False) as connection:
            self._renew(connection)
            numbers = _numbers(connection, (each.object_id for each in mine.values()))
            rows = [
                {
                    "index_hash": each.index_hash,
                    "object": numbers[each.object_id],
                    "payload_hash": each.payload_hash,
                    "generation": each.generation,
                }
                for each in sorted(mine.values(), key=lambda each: each.index_hash)
            ]
            if _NEW_ENTRIES.insert(connection, rows) == len(rows):
                return {}
            replaced = _forget_broken(connection, list(mine), set(numbers.values()), lost)
            if replaced:
                _NEW_ENTRIES.insert(connection, rows)
            if named:
                return {}
            self._release(connection, replaced)
            found = _indexed(connection, list(mine))
            # A sweep may begin to delete a winner in between; then this chunk stays without an entry, which costs
            # one duplicate later and nothing else.
            winners = [row for row in found if row.object_id != mine[row.index_hash].object_id]
            winners = [row for row in winners if row.state != State.DELETING]
            self._hold(connection, winners)
            self._release(connection, [numbers[mine[row.index_hash].object_id] for row in winners])
        return {row.index_hash: _known(row) for row in winners}

    def held(self) -> Iterator[ObjectId]:
        """See :meth:`Ledger.held`. A read transaction stays open until the iterator ends."""
        mine = select(object_.c.object_id).join(session_object, session_object.c.object == object_.c.id)
        mine = mine.where(session_object.c.session == self._session, object_.c.purpose != SET)
        with self._database.reading() as connection:
            ordered = mine.order_by(object_.c.object_id).execution_options(yield_per=_FETCH)
            for (object_id,) in connection.execute(ordered):
                yield ObjectId(object_id)

    def totals(self, purpose: Purpose) -> Totals:
        """See :meth:`Ledger.totals`."""
        counted = select(func.count(), func.coalesce(func.sum(object_.c.size), 0))
        counted = counted.select_from(object_).join(session_object, session_object.c.object == object_.c.id)
        counted = counted.where(session_object.c.session == self._session, object_.c.purpose == int(purpose))
        with self._database.reading() as connection:
            objects, size = connection.execute(counted).one()
        return Totals(objects=objects, size=int(size))

    def renew(self) -> None:
        """See :meth:`Ledger.renew`."""
        with self._database.transaction() as connection:
            self._renew(connection)

    def sync(self) -> None:
        """See :meth:`Ledger.sync`."""
        if not self._behind:
            self.renew()
            return
        with self._database.transaction() as connection:
            self._renew(connection, always=True)  # something has to be written, or nothing is waited for
        self._behind = False

    def _renew(self, connection: Connection, *, always: bool = False) -> None:
        """Keep the lease, or find that a sweep has ended this session. The row lock keeps it alive during this
        transaction. It is renewed when a tenth has passed: until then, what only asks need not wait for the disk.
        """
        lease = _LEASE.all(connection, session=self._session)
        if not lease:
            raise lapsed()
        full = self._clock() + self._lease_seconds
        if always or full - lease[0].until > _SPENT * self._lease_seconds:
            mine = update(publish_session).where(publish_session.c.id == self._session)
            connection.execute(mine.values(lease_until=full))

    def _hold(self, connection: Connection, rows: Iterable[_Object | _Indexed]) -> None:
        """Lease locked rows of objects, and revive those that are condemned."""
        numbers = sorted({(row.number, row.state) for row in rows})
        condemned = [number for number, state in numbers if state == State.CONDEMNED]
        if condemned:
            revive = update(object_).where(object_.c.id.in_(condemned))
            connection.execute(revive.values(state=State.LIVE.value, changed=self._clock()))
        if numbers:
            leases = [{"session": self._session, "object": number} for number, _ in numbers]
            _NEW_LEASES.insert(connection, leases)

    def _release(self, connection: Connection, numbers: list[int]) -> None:
        if numbers:
            mine = delete(session_object).where(session_object.c.session == self._session)
            connection.execute(mine.where(session_object.c.object.in_(numbers)))


def _indexed(connection: Connection, index_hashes: Iterable[bytes]) -> list[_Indexed]:
    """Index entries with their objects, whose rows are locked."""
    return _INDEXED.all(connection, hashes=b"".join(index_hashes))


def _forget_broken(
    connection: Connection, index_hashes: list[bytes], mine: Collection[int], lost: Collection[bytes]
) -> list[int]:
    """Take entries out of the index whose objects validation, or the publisher, found missing or damaged: new ones
    replace them; the numbers of those objects, of which none is ``mine``."""
    entries = _ENTRIES.all(connection, hashes=b"".join(index_hashes), good=Verdict.GOOD.value)
    replaced = [each.number for each in entries if each.number not in mine and (each.broken or each.index_hash in lost)]
    if replaced:
        connection.execute(delete(chunk).where(chunk.c.index_hash.in_(index_hashes), chunk.c.object.in_(replaced)))
    return replaced


def _numbers(connection: Connection, ids: Iterable[ObjectId]) -> dict[bytes, int]:
    return {row.object_id: row.number for row in _STORED.all(connection, wanted=b"".join(ids))}


def _known(row: _Indexed) -> KnownChunk:
    return KnownChunk(
        object_id=ObjectId(row.object_id),
        sealed_size=row.size,
        payload_hash=row.payload_hash,
        generation=row.generation,
        purpose=row.purpose,
    )
