"""What the sweep asks of the ledger, in SQL (port: :class:`entrepot.content.ledger.SweepLedger`).

Rows are locked before they change state, and rows that a publisher has locked are skipped until the next sweep, so a
sweep and a publisher never wait for each other. Each transaction touches a bounded number of rows.
"""

from collections.abc import Callable, Sequence
from typing import Final

import msgspec
from sqlalchemy import ColumnElement, Connection, Select, and_, exists, func, or_, select, update
from sqlalchemy import delete as sql_delete

from entrepot.content.ledger import SET, State
from entrepot.core.ids import ObjectId
from entrepot.database import retention
from entrepot.database.engine import Database, insert_if_free
from entrepot.database.objectsets import end_session
from entrepot.database.tables.library import chunk, object_, object_set, publish_session, session_object, set_object
from entrepot.database.tables.tasks import task
from entrepot.database.tasks import ACTIVE
from entrepot.protocol.libraryapi import SweepPreview

MAX_UNUSED: Final = 1000


class Begun(msgspec.Struct, frozen=True, kw_only=True):
    """Deletions that have begun: of ``objects`` that nothing needs, of ``strays`` that nobody knows. Whoever finishes
    them, this sweep or another after a crash, they count once."""

    objects: int = 0
    strays: int = 0


class SqlSweepLedger:
    """A :class:`~entrepot.content.ledger.SweepLedger` in the site's database.

    Args:
        begun: told of deletions in the transaction that begins them.
    """

    def __init__(
        self, database: Database, begun: Callable[[Connection, Begun], None] = lambda _connection, _begun: None
    ) -> None:
        self._database = database
        self._begun = begun

    def drop_lapsed(self, now: float) -> int:
        """See :meth:`SweepLedger.drop_lapsed`."""
        with self._database.transaction() as connection:
            lapsed = select(publish_session.c.id).where(_over(now))
            sessions = connection.execute(lapsed.with_for_update(skip_locked=True)).scalars().all()
            for session in sessions:
                end_session(connection, session)
        return len(sessions)

    def condemn(self, now: float, after: ObjectId | None, limit: int) -> tuple[int, ObjectId | None]:
        """See :meth:`SweepLedger.condemn`."""
        live = select(object_.c.object_id).where(object_.c.state == State.LIVE, object_.c.object_id > (after or b""))
        with self._database.transaction() as connection:
            window = connection.execute(live.order_by(object_.c.object_id).limit(limit)).scalars().all()
            if not window:
                return 0, None
            idle = select(object_.c.id).where(
                object_.c.object_id.between(window[0], window[-1]), object_.c.state == State.LIVE, ~_needed()
            )
            numbers = connection.execute(_locked(idle)).scalars().all()
            doom = update(object_).where(object_.c.id.in_(numbers), object_.c.state == State.LIVE)
            connection.execute(doom.values(state=State.CONDEMNED.value, changed=now))
        return len(numbers), ObjectId(window[-1])

    def begin_deletion(self, condemned_before: float, limit: int) -> int:
        """See :meth:`SweepLedger.begin_deletion`."""
        due = (object_.c.state == State.CONDEMNED, object_.c.changed < condemned_before)
        with self._database.transaction() as connection:
            spared = (
                connection.execute(_locked(select(object_.c.id).where(*due, _needed()).limit(limit))).scalars().all()
            )
            revive = update(object_).where(object_.c.id.in_(spared), object_.c.state == State.CONDEMNED)
            connection.execute(revive.values(state=State.LIVE.value, changed=condemned_before))
            doomed = (
                connection.execute(_locked(select(object_.c.id).where(*due, ~_needed()).limit(limit))).scalars().all()
            )
            connection.execute(sql_delete(chunk).where(chunk.c.object.in_(doomed)))
            begin = update(object_).where(object_.c.id.in_(doomed), object_.c.state == State.CONDEMNED)
            connection.execute(begin.values(state=State.DELETING.value, changed=condemned_before))
            if doomed:
                self._begun(connection, Begun(objects=len(doomed)))
        return len(doomed)

    def finish_deletion(self, limit: int, delete: Callable[[Sequence[ObjectId]], None]) -> int:
        """See :meth:`SweepLedger.finish_deletion`. The transaction lasts as long as ``delete``."""
        rows = select(object_.c.id, object_.c.object_id).where(object_.c.state == State.DELETING)
        rows = rows.order_by(object_.c.id).limit(limit).with_for_update(skip_locked=True)
        with self._database.transaction() as connection:
            found = connection.execute(rows).all()
            if found:
                delete([ObjectId(row.object_id) for row in found])
                connection.execute(sql_delete(object_).where(object_.c.id.in_([row.id for row in found])))
        return len(found)

    def unknown(self, found: Sequence[tuple[ObjectId, int]]) -> list[tuple[ObjectId, int]]:
        """See :meth:`SweepLedger.unknown`."""
        known = select(object_.c.object_id).where(object_.c.object_id.in_([object_id for object_id, _ in found]))
        with self._database.reading() as connection:
            ids = set(connection.scalars(known))
        return [each for each in found if each[0] not in ids]

    def claim_strays(self, found: Sequence[tuple[ObjectId, int]], now: float) -> int:
        """See :meth:`SweepLedger.claim_strays`. A row in *deleting* keeps publishers waiting until the file is gone."""
        claimed = 0
        with self._database.transaction() as connection:
            for object_id, size in found:
                values = {
                    "object_id": object_id,
                    "size": size,
                    "purpose": SET,
                    "state": State.DELETING.value,
                    "changed": now,
                }
                claimed += insert_if_free(connection, object_, values)
            if claimed:
                self._begun(connection, Begun(strays=claimed))
        return claimed


def preview(connection: Connection, *, now: float, grace_seconds: float) -> SweepPreview:
    """What a sweep would delete now, and once the grace is over; sets that nobody needs count as gone."""
    unused = [bytes(set_id) for set_id in retention.unused_sets(connection, limit=MAX_UNUSED)]
    numbers = select(object_set.c.id).join(object_, object_.c.id == object_set.c.object)
    going = list(connection.scalars(numbers.where(object_.c.object_id.in_(unused))))
    lapsed = select(publish_session.c.id).where(_over(now))
    idle = and_(
        ~exists().where(set_object.c.object == object_.c.id, set_object.c.object_set.not_in(going)),
        ~exists().where(session_object.c.object == object_.c.id, session_object.c.session.not_in(lapsed)),
        ~exists().where(object_set.c.object == object_.c.id, object_set.c.id.not_in(going)),
    )
    ready = and_(object_.c.state == State.CONDEMNED, object_.c.changed < now - grace_seconds)
    due, due_size = _sums(connection, or_(object_.c.state == State.DELETING, and_(ready, idle)))
    later, later_size = _sums(connection, and_(object_.c.state != State.DELETING, idle, ~ready))
    ended = select(func.count()).select_from(publish_session).where(_over(now))
    return SweepPreview(
        due_objects=due,
        due_bytes=due_size,
        later_objects=later,
        later_bytes=later_size,
        lapsed_sessions=int(connection.execute(ended).scalar_one()),
        unused_sets=len(unused),
    )


def _sums(connection: Connection, condition: ColumnElement[bool]) -> tuple[int, int]:
    query = select(func.count(), func.coalesce(func.sum(object_.c.size), 0)).where(condition)
    number, size = connection.execute(query).one()
    return int(number), int(size)


def _over(now: float) -> ColumnElement[bool]:
    """A session is over when its lease has lapsed, or when its task has ended, which closes its own session: another
    attempt's process is gone, or it lost the task to whoever ended it, so nothing can come of it any more."""
    ended = exists().where(task.c.id == publish_session.c.task, task.c.state.not_in(ACTIVE))
    return or_(publish_session.c.lease_until < now, ended)


def _needed() -> ColumnElement[bool]:
    """An object is needed while a set has it, is it, or a session leases it."""
    return or_(
        exists().where(set_object.c.object == object_.c.id),
        exists().where(session_object.c.object == object_.c.id),
        exists().where(object_set.c.object == object_.c.id),
    )


def _locked(query: Select[tuple[int]]) -> Select[tuple[int]]:
    return query.order_by(object_.c.id).with_for_update(of=object_, skip_locked=True, key_share=True)
