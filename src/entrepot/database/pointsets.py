"""Which object sets are on which distribution point, and what that means for single objects.

``point_set`` has a row for each object set that a point gets (``sending``), has whole (``held``) or loses
(``removing``). Never is there a row for each point and object: what a point may lose with a set is what no other of
its sets names.
"""

from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Select, and_, delete, exists, func, or_, select, update

from entrepot.core.errors import NotFoundError
from entrepot.core.ids import ObjectId
from entrepot.database.engine import insert_into
from entrepot.database.hierarchy import note_change
from entrepot.database.tables.library import object_ as objects
from entrepot.database.tables.library import object_set, set_object
from entrepot.database.tables.points import distribution as rows
from entrepot.database.tables.points import point as points
from entrepot.database.tables.points import point_set as sets
from entrepot.protocol.contentapi import DistributionState

SENDING: Final = "sending"
HELD: Final = "held"
REMOVING: Final = "removing"


class PointSet(msgspec.Struct, frozen=True, kw_only=True):
    """An object set on a point. ``from_version`` 0: a version's own set, else of the delta from that version."""

    point: str
    set_id: bytes
    content: str
    version: int
    from_version: int
    state: str
    size: int
    changed: int
    retired: int


class StoredObject(msgspec.Struct, frozen=True):
    """An object of a set."""

    object_id: ObjectId
    size: int


def begin_set(connection: Connection, new: PointSet) -> None:
    """Note, before the first object is sent, that a point gets a set: nothing of it is deleted from now on."""
    values = msgspec.structs.asdict(new)
    again = {name: values[name] for name in ("content", "version", "from_version", "size", "changed", "retired")}
    # A set that is held stays held while it is verified or sent anew.
    state = {"state": func.coalesce(func.nullif(sets.c.state, REMOVING), SENDING)}
    statement = insert_into(connection, sets).values(values)
    connection.execute(statement.on_conflict_do_update(index_elements=["point", "set_id"], set_=again | state))


def hold_set(connection: Connection, point: str, set_id: bytes, *, now: float) -> None:
    """The point has the whole set."""
    connection.execute(
        update(sets).where(sets.c.point == point, sets.c.set_id == set_id).values(state=HELD, changed=int(now))
    )


def sets_on(connection: Connection, point: str, content: str = "") -> list[PointSet]:
    """Sets on a point, of one content or of all."""
    query: Select[Any] = select(sets).where(sets.c.point == point).order_by(sets.c.content, sets.c.version)
    if content:
        query = query.where(sets.c.content == content)
    return [PointSet(**row) for row in connection.execute(query).mappings()]


def holding(set_ids: list[bytes]) -> Select[tuple[str]]:
    """The ids of the points that have one of these sets whole."""
    return select(sets.c.point).where(sets.c.set_id.in_(set_ids), sets.c.state == HELD)


def somewhere(connection: Connection, set_id: bytes) -> bool:
    """Whether any point has, gets or loses a set."""
    return connection.execute(select(sets.c.point).where(sets.c.set_id == set_id).limit(1)).first() is not None


def retire_sets(connection: Connection, point: str, set_ids: list[bytes], *, now: float) -> None:
    """Sets that are superseded: kept until tokens that name them have ended, then removed."""
    connection.execute(
        update(sets)
        .where(sets.c.point == point, sets.c.set_id.in_(set_ids), sets.c.retired == 0)
        .values(retired=int(now))
    )


def due_for_removal(connection: Connection, *, site: str, retired_before: float, limit: int) -> list[tuple[str, str]]:
    """(content, point) pairs with superseded sets whose time has come, or with a removal that was interrupted."""
    query = (
        select(rows.c.content, rows.c.point)
        .join(sets, and_(sets.c.point == rows.c.point, sets.c.content == rows.c.content))
        .join(points, points.c.id == rows.c.point)
        .where(
            points.c.site == site,
            rows.c.state == DistributionState.SUCCESS.value,
            or_(and_(sets.c.retired > 0, sets.c.retired < int(retired_before)), sets.c.state == REMOVING),
        )
        .distinct()
        .limit(limit)
    )
    return [(content, point) for content, point in connection.execute(query)]


def begin_removal(connection: Connection, point: str, set_id: bytes, *, now: float) -> None:
    """Note that a set is about to be deleted from a point, before its first object goes."""
    connection.execute(
        update(sets).where(sets.c.point == point, sets.c.set_id == set_id).values(state=REMOVING, changed=int(now))
    )
    note_change(connection)


def begin_removals(connection: Connection, point: str, content: str, *, now: float) -> None:
    """Note that all sets of a content are to go from a point: clients are not sent there for it any more."""
    connection.execute(
        update(sets).where(sets.c.point == point, sets.c.content == content).values(state=REMOVING, changed=int(now))
    )
    note_change(connection)


def forget_set(connection: Connection, point: str, set_id: bytes) -> None:
    """The set has left the point."""
    connection.execute(delete(sets).where(sets.c.point == point, sets.c.set_id == set_id))


def objects_of(connection: Connection, set_id: bytes, *, after: bytes = b"", limit: int = 4096) -> list[StoredObject]:
    """The next objects of a set, ascending; the set object itself is not among them."""
    query = (
        select(objects.c.object_id, objects.c.size)
        .join(set_object, set_object.c.object == objects.c.id)
        .where(set_object.c.object_set == _number_of(set_id), objects.c.object_id > after)
        .where(objects.c.object_id != set_id)
        .order_by(objects.c.object_id)
        .limit(limit)
    )
    return [StoredObject(ObjectId(object_id), size) for object_id, size in connection.execute(query)]


def only_in(
    connection: Connection, point: str, set_id: bytes, *, after: bytes = b"", limit: int = 4096
) -> list[ObjectId]:
    """The next objects of a set that no other set on the point names, ascending."""
    other = set_object.alias("other")
    # aliases, so that the inner query does not correlate with the outer one by accident
    holder, other_set, set_itself = sets.alias("holder"), object_set.alias("other_set"), objects.alias("set_itself")
    named_elsewhere = exists(
        select(other.c.object)
        .join(other_set, other_set.c.id == other.c.object_set)
        .join(set_itself, set_itself.c.id == other_set.c.object)
        .join(holder, holder.c.set_id == set_itself.c.object_id)
        .where(
            other.c.object == objects.c.id,
            holder.c.point == point,
            holder.c.state != REMOVING,
            holder.c.set_id != set_id,
        )
    )
    query = (
        select(objects.c.object_id)
        .join(set_object, set_object.c.object == objects.c.id)
        .where(set_object.c.object_set == _number_of(set_id), objects.c.object_id > after, ~named_elsewhere)
        .order_by(objects.c.object_id)
        .limit(limit)
    )
    return [ObjectId(object_id) for object_id in connection.scalars(query)]


def contents_elsewhere(connection: Connection, point: str) -> set[str]:
    """Contents that points other than this one have whole, in some version."""
    query = select(rows.c.content).where(rows.c.point != point, rows.c.held > 0)
    return set(connection.scalars(query.distinct()))


def held_on(connection: Connection, point: str) -> tuple[int, int]:
    """Distinct objects of the sets that a point has, gets or loses, and their sealed bytes: what the site's books say
    is there. The objects of sets that are still being sent are counted whole."""
    return _summed(connection, *_named_by(sets.c.point == point))


def freed_on(connection: Connection, point: str, content: str) -> tuple[int, int]:
    """Objects and sealed bytes that a point has for the sake of one content alone; the objects of sets that are still
    being sent are counted whole, and sets that are being removed keep nothing."""
    named, themselves = _named_by(sets.c.point == point, sets.c.content == content)
    others = _named_by(sets.c.point == point, sets.c.content != content, sets.c.state != REMOVING)
    return _summed(connection, named, themselves, *(objects.c.id.not_in(kept) for kept in others))


def _named_by(*which: Any) -> tuple[Any, Any]:
    """The numbers of all objects that sets on points name, and of these sets' own."""
    joined = sets.join(objects, objects.c.object_id == sets.c.set_id)
    joined = joined.join(object_set, object_set.c.object == objects.c.id)
    found = select(object_set.c.id, object_set.c.object.label("itself")).select_from(joined).where(*which).subquery()
    return select(set_object.c.object).where(set_object.c.object_set.in_(select(found.c.id))), select(found.c.itself)


def _summed(connection: Connection, named: Any, themselves: Any, *more: Any) -> tuple[int, int]:
    query = select(func.count(), func.coalesce(func.sum(objects.c.size), 0)).where(
        or_(objects.c.id.in_(named), objects.c.id.in_(themselves)), *more
    )
    number, size = connection.execute(query).one()
    return int(number), int(size)


def set_totals(connection: Connection, set_id: bytes) -> tuple[int, int]:
    """How many objects a set has, and their sealed bytes; the set object itself left out."""
    query = (
        select(func.count(), func.coalesce(func.sum(objects.c.size), 0))
        .join(set_object, set_object.c.object == objects.c.id)
        .where(set_object.c.object_set == _number_of(set_id), objects.c.object_id != set_id)
    )
    number, size = connection.execute(query).one()
    return int(number), int(size)


def object_size(connection: Connection, object_id: bytes) -> int:
    """Sealed size of an object of the library, such as a set object.

    Raises:
        NotFoundError: the library does not have it.
    """
    size = connection.execute(select(objects.c.size).where(objects.c.object_id == object_id)).scalar()
    if size is None:
        raise NotFoundError(f"The library does not have the object {object_id.hex()[:16]}.")
    return int(size)


def _number_of(set_id: bytes) -> Any:
    return (
        select(object_set.c.id)
        .join(objects, objects.c.id == object_set.c.object)
        .where(objects.c.object_id == set_id)
        .scalar_subquery()
    )
