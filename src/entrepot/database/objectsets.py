"""Object sets and the sessions that make them, in transactions of the caller's (port: ``content/ledger.py``).

A set keeps its objects from the sweep; so does a session, as long as its lease lasts.
"""

from sqlalchemy import Connection, delete, exists, func, insert, literal, select

from entrepot.content.ledger import SET, Totals
from entrepot.core.errors import NotFoundError, UnavailableError
from entrepot.core.ids import ObjectId
from entrepot.database.tables.library import object_, object_set, publish_session, session_object, set_object


def adopt_set(connection: Connection, session: str, set_id: ObjectId, now: float) -> None:
    """Make what a session holds the members of a set, and end the session, in the caller's transaction.

    Raises:
        UnavailableError: the lease has lapsed.
        NotFoundError: the set object was not announced in this session.
    """
    locked = select(publish_session.c.id).where(publish_session.c.id == session).with_for_update()
    if connection.execute(locked).first() is None:
        if _find_set(connection, set_id) is not None:
            return
        raise lapsed()
    held = select(object_.c.id).join(session_object, session_object.c.object == object_.c.id)
    held = held.where(session_object.c.session == session)
    own = connection.execute(held.where(object_.c.object_id == set_id)).scalar()
    if own is None:
        raise NotFoundError(f"The object set {set_id.hex()[:16]} was not made in this session.")
    if _find_set(connection, set_id, lock=True) is None:
        number = connection.execute(
            insert(object_set).values(object=own, created=now).returning(object_set.c.id)
        ).scalar_one()
        members = held.with_only_columns(literal(number), object_.c.id).where(object_.c.purpose != SET)
        connection.execute(insert(set_object).from_select(["object_set", "object"], members))
    end_session(connection, session)


def first_needed(connection: Connection, session: str) -> Totals:
    """What a session holds and no set needs: what adopting it adds to the library, whoever has stored it."""
    counted = select(func.count(), func.coalesce(func.sum(object_.c.size), 0))
    counted = counted.select_from(object_).join(session_object, session_object.c.object == object_.c.id)
    needed = exists().where(set_object.c.object == object_.c.id), exists().where(object_set.c.object == object_.c.id)
    mine = session_object.c.session == session
    objects, size = connection.execute(counted.where(mine, *(~each for each in needed))).one()
    return Totals(objects=objects, size=int(size))


def drop_set(connection: Connection, set_id: ObjectId) -> None:
    """Forget a set, in the caller's transaction; the sweep deletes what no other set needs."""
    number = _find_set(connection, set_id)
    if number is not None:
        connection.execute(delete(set_object).where(set_object.c.object_set == number))
        connection.execute(delete(object_set).where(object_set.c.id == number))


def lock_set(connection: Connection, set_id: ObjectId) -> bool:
    """Let nobody adopt a set anew until this transaction ends; False when somebody is doing that now."""
    row = select(object_set.c.id).join(object_, object_.c.id == object_set.c.object)
    free = row.where(object_.c.object_id == set_id).with_for_update(of=object_set, skip_locked=True)
    return connection.execute(free).first() is not None


def end_session(connection: Connection, session: str) -> None:
    """End a session and its leases, in the caller's transaction."""
    connection.execute(delete(session_object).where(session_object.c.session == session))
    connection.execute(delete(publish_session).where(publish_session.c.id == session))


def _find_set(connection: Connection, set_id: ObjectId, *, lock: bool = False) -> int | None:
    """A set's number. ``lock``: nobody drops it until this transaction ends."""
    found = select(object_set.c.id).join(object_, object_.c.id == object_set.c.object)
    if lock:
        found = found.with_for_update(of=object_set)
    number: int | None = connection.execute(found.where(object_.c.object_id == set_id)).scalar()
    return number


def lapsed() -> UnavailableError:
    """A session was too slow: a sweep has ended it."""
    return UnavailableError("The publish session's lease has lapsed.", next_step="Publish again: it resumes.")
