"""Validation of object sets on distribution points: how far it is, and what was found.

Only what is wrong has a row of its own. An object that several sets of a point share is looked at once in a run: with
the first of them.
"""

from collections.abc import Mapping

from sqlalchemy import ColumnElement, Connection, and_, delete, exists, func, select, update

from entrepot.content.checking import Listed
from entrepot.core.ids import ObjectId
from entrepot.database import pointsets
from entrepot.database.engine import insert_into
from entrepot.database.librarystats import number_of
from entrepot.database.pointsets import PointSet
from entrepot.database.tables.checks import point_check as checks
from entrepot.database.tables.checks import point_fault as faults
from entrepot.database.tables.content import content as contents
from entrepot.database.tables.library import object_ as objects
from entrepot.database.tables.library import object_set, set_object
from entrepot.database.tables.points import point_set as sets
from entrepot.protocol.libraryapi import SetValidation
from entrepot.rules.verdicts import Verdict


def to_check(connection: Connection, point: str, content: str, *, begun: int) -> list[PointSet]:
    """Sets that the point has whole and that this run has not finished, in the order in which they are looked at."""
    held = [each for each in pointsets.sets_on(connection, point, content) if each.state == pointsets.HELD]
    done = select(checks.c.set_id).where(checks.c.point == point, checks.c.begun >= begun, checks.c.checked >= begun)
    finished = {bytes(set_id) for set_id in connection.scalars(done)}
    return [each for each in held if each.set_id not in finished]


def begin(connection: Connection, each: PointSet, *, begun: int) -> bytes:
    """Begin with a set, or go on; the last object that this run looked at (empty: none)."""
    mine = and_(checks.c.point == each.point, checks.c.set_id == each.set_id)
    row = connection.execute(select(checks.c.begun, checks.c.cursor).where(mine)).first()
    if row is not None and row.begun >= begun:
        return bytes(row.cursor)
    fresh = {"begun": begun, "cursor": b"", "message": ""}
    statement = insert_into(connection, checks).values(point=each.point, set_id=each.set_id, checked=0, **fresh)
    connection.execute(statement.on_conflict_do_update(index_elements=["point", "set_id"], set_=fresh))
    return b""


def objects_due(connection: Connection, each: PointSet, *, begun: int, after: bytes, limit: int) -> list[Listed]:
    """The next objects of a set, ascending, the set object among them; without those of sets finished in this run."""
    finished, other, named = checks.alias("finished"), set_object.alias("other"), objects.alias("named")
    seen = exists(
        select(other.c.object)
        .join(object_set, object_set.c.id == other.c.object_set)
        .join(named, named.c.id == object_set.c.object)
        .join(finished, finished.c.set_id == named.c.object_id)
        .where(other.c.object == objects.c.id, finished.c.point == each.point, finished.c.checked >= begun)
    )
    inside = exists().where(set_object.c.object == objects.c.id, set_object.c.object_set == number_of(each.set_id))
    query = (
        select(objects.c.object_id, objects.c.size)
        .where((inside & ~seen) | (objects.c.object_id == each.set_id), objects.c.object_id > after)
        .order_by(objects.c.object_id)
        .limit(limit)
    )
    return [Listed(object_id=ObjectId(object_id), size=size) for object_id, size in connection.execute(query)]


def note(connection: Connection, each: PointSet, verdicts: Mapping[ObjectId, Verdict], *, now: float) -> bool:
    """Write verdicts down, and how far the run is. False when the point is losing the set: then they mean nothing."""
    row = and_(sets.c.point == each.point, sets.c.set_id == each.set_id, sets.c.state == pointsets.HELD)
    if connection.execute(select(sets.c.point).where(row).with_for_update()).first() is None:
        return False
    clear(connection, each.point, list(verdicts))
    bad = [
        {"point": each.point, "object_id": object_id, "verdict": verdict.value, "found": int(now)}
        for object_id, verdict in verdicts.items()
        if verdict is not Verdict.GOOD
    ]
    if bad:
        connection.execute(insert_into(connection, faults).on_conflict_do_nothing(), bad)
    mine = and_(checks.c.point == each.point, checks.c.set_id == each.set_id)
    connection.execute(update(checks).where(mine).values(cursor=max(verdicts)))
    return True


def finish(connection: Connection, each: PointSet, *, now: float, message: str = "") -> None:
    """The whole set was looked at."""
    mine = and_(checks.c.point == each.point, checks.c.set_id == each.set_id)
    connection.execute(update(checks).where(mine).values(checked=int(now), cursor=b"", message=message))


def clear(connection: Connection, point: str, ids: list[ObjectId]) -> None:
    """These objects are sound on the point, or are looked at anew."""
    connection.execute(delete(faults).where(faults.c.point == point, faults.c.object_id.in_(ids)))


def faulty(connection: Connection, point: str, content: str, *, after: bytes = b"", limit: int = 1000) -> list[Listed]:
    """The next objects on a point that are missing or damaged and that a set which it should have needs."""
    query = (
        select(faults.c.object_id, objects.c.size)
        .join(objects, objects.c.object_id == faults.c.object_id)
        .where(faults.c.point == point, faults.c.object_id > after, _in_held_sets(content))
        .order_by(faults.c.object_id)
        .limit(limit)
    )
    return [Listed(object_id=ObjectId(object_id), size=size) for object_id, size in connection.execute(query)]


def count_faulty(connection: Connection, point: str, content: str) -> int:
    """How many objects :func:`faulty` would give in all."""
    query = (
        select(func.count())
        .select_from(faults)
        .join(objects, objects.c.object_id == faults.c.object_id)
        .where(faults.c.point == point, _in_held_sets(content))
    )
    return int(connection.execute(query).scalar_one())


def described(connection: Connection, point: str, content: str = "") -> list[SetValidation]:
    """Sets on a point with what was found, for people."""
    query = (
        select(sets, contents.c.name, checks.c.checked.label("at"), checks.c.message)
        .join(contents, contents.c.id == sets.c.content)
        .outerjoin(checks, and_(checks.c.point == sets.c.point, checks.c.set_id == sets.c.set_id))
        .where(sets.c.point == point, sets.c.state == pointsets.HELD)
        .order_by(contents.c.name_key, sets.c.version, sets.c.from_version)
    )
    if content:
        query = query.where(sets.c.content == content)
    found = []
    for row in connection.execute(query).all():
        counted = _count(connection, point, row.set_id)
        found.append(
            SetValidation(
                content=row.content,
                content_name=row.name,
                version=row.version,
                from_version=row.from_version,
                checked=row.at or 0,
                missing=counted.get(Verdict.MISSING.value, 0),
                damaged=counted.get(Verdict.DAMAGED.value, 0),
                message=row.message or "",
            )
        )
    return found


def _count(connection: Connection, point: str, set_id: bytes) -> dict[str, int]:
    inside = exists().where(set_object.c.object == objects.c.id, set_object.c.object_set == number_of(set_id))
    query = (
        select(faults.c.verdict, func.count().label("number"))
        .join(objects, objects.c.object_id == faults.c.object_id)
        .where(faults.c.point == point, inside | (objects.c.object_id == set_id))
        .group_by(faults.c.verdict)
    )
    return {row.verdict: row.number for row in connection.execute(query)}


def _in_held_sets(content: str) -> ColumnElement[bool]:
    named, held = objects.alias("named"), sets.alias("held")
    conditions = [held.c.point == faults.c.point, held.c.state == pointsets.HELD]
    if content:
        conditions.append(held.c.content == content)
    inside = exists(
        select(set_object.c.object)
        .join(object_set, object_set.c.id == set_object.c.object_set)
        .join(named, named.c.id == object_set.c.object)
        .join(held, held.c.set_id == named.c.object_id)
        .where(set_object.c.object == objects.c.id, *conditions)
    )
    return inside | exists().where(held.c.set_id == objects.c.object_id, *conditions)
