"""What nobody needs any more, among rows that are only bookkeeping."""

from sqlalchemy import ColumnElement, Connection, and_, exists, or_, select, update

from entrepot.core.ids import ObjectId
from entrepot.database.hierarchy import note_change
from entrepot.database.objectsets import drop_set, lock_set
from entrepot.database.tables.content import content as contents
from entrepot.database.tables.content import content_delta as deltas
from entrepot.database.tables.content import content_version as versions
from entrepot.database.tables.library import object_ as objects
from entrepot.database.tables.library import object_set
from entrepot.database.tables.points import point_set


def drop_old_deltas(connection: Connection) -> int:
    """Forget deltas that lead to neither the current nor the previous version of their content: no client is offered
    them."""
    old = (
        select(deltas.c.content, deltas.c.from_version, deltas.c.to_version)
        .join(contents, contents.c.id == deltas.c.content)
        .where(deltas.c.to_version < contents.c.current - 1)
    )
    found = connection.execute(old).all()
    for content, from_version, to_version in found:
        connection.execute(
            deltas.delete().where(
                and_(
                    deltas.c.content == content,
                    deltas.c.from_version == from_version,
                    deltas.c.to_version == to_version,
                )
            )
        )
    if found:
        note_change(connection)
    return len(found)


def forget_former_sealings(connection: Connection) -> int:
    """Forget what versions were before they were sealed anew, where no point has that any more; how many."""
    held = exists().where(point_set.c.set_id == versions.c.former_set_id)
    gone = update(versions).where(versions.c.former_set_id.is_not(None), ~held)
    forgotten = connection.execute(gone.values(former_set_id=None, former_root=None)).rowcount
    if forgotten:
        note_change(connection)
    return forgotten


def unused_sets(connection: Connection, *, limit: int = 100) -> list[ObjectId]:
    """Object sets of the library that no version, no delta and no point has any more."""
    query = (
        select(objects.c.object_id)
        .join(object_set, object_set.c.object == objects.c.id)
        .where(*(~each for each in _used()))
        .order_by(objects.c.object_id)
        .limit(limit)
    )
    return [ObjectId(set_id) for set_id in connection.scalars(query)]


def drop_unused_sets(connection: Connection, *, limit: int = 100) -> int:
    """Drop the sets that nobody needs; the sweep deletes what only they named. A set on a point stays known until the
    point has lost it: it says what is to be deleted there.

    A set that is found unused may be adopted anew at this moment: a delta that is made again has the same objects. So
    it is locked, and looked at again.
    """
    dropped = 0
    for set_id in unused_sets(connection, limit=limit):
        if not lock_set(connection, set_id):
            continue
        wanted = select(objects.c.id).where(objects.c.object_id == set_id, or_(*_used()))
        if connection.execute(wanted).first() is None:
            drop_set(connection, set_id)
            dropped += 1
    return dropped


def _used() -> list[ColumnElement[bool]]:
    return [exists().where(table.c.set_id == objects.c.object_id) for table in (versions, deltas, point_set)]
