"""What validation asks of the ledger, in SQL (port: :class:`entrepot.content.checking.CheckLedger`)."""

from collections.abc import Callable, Sequence

from sqlalchemy import ColumnElement, Connection, Select, and_, exists, func, or_, select

from entrepot.content.checking import Listed
from entrepot.content.ledger import State
from entrepot.core.ids import ObjectId
from entrepot.database.contents import Delta, Version, get_version, list_deltas
from entrepot.database.engine import Database, insert_into
from entrepot.database.librarystats import in_scope, needed, set_purpose
from entrepot.database.tables.checks import object_check as checks
from entrepot.database.tables.content import content as contents
from entrepot.database.tables.content import content_delta as deltas
from entrepot.database.tables.content import content_version as versions
from entrepot.database.tables.library import object_ as objects
from entrepot.database.tables.library import object_set, set_object
from entrepot.database.tables.points import point as points
from entrepot.database.tables.points import point_set as sets
from entrepot.protocol.libraryapi import Fault
from entrepot.rules.verdicts import Verdict

MAX_NAMED = 10


class SqlCheckLedger:
    """A :class:`~entrepot.content.checking.CheckLedger` in the site's database.

    Args:
        content: look at the objects of this content only; empty: at all.
    """

    def __init__(self, database: Database, content: str = "") -> None:
        self._database = database
        self._content = content

    def due(self, before: float, after: ObjectId | None, limit: int) -> list[Listed]:
        """See :meth:`CheckLedger.due`."""
        seen = exists().where(checks.c.object == objects.c.id, checks.c.checked >= int(before))
        with self._database.reading() as connection:
            return _listed(connection, [in_scope(self._content), ~seen], after, limit)

    def amount(self, before: float) -> tuple[int, int]:
        """How many objects, and bytes, are due."""
        seen = exists().where(checks.c.object == objects.c.id, checks.c.checked >= int(before))
        query = select(func.count(), func.coalesce(func.sum(objects.c.size), 0))
        with self._database.reading() as connection:
            number, size = connection.execute(query.where(in_scope(self._content), ~seen)).one()
        return number, int(size)

    def note(
        self, sound: Sequence[ObjectId], suspect: Sequence[ObjectId], now: float, look: Callable[[ObjectId], Verdict]
    ) -> dict[ObjectId, Verdict]:
        """See :meth:`CheckLedger.note`. The transaction lasts as long as the second looks."""
        found: dict[ObjectId, Verdict] = {}
        with self._database.transaction() as connection:
            rows = _settled(connection, [*sound, *suspect])
            verdicts = dict.fromkeys(sound, Verdict.GOOD)
            for object_id in suspect:
                if object_id in rows:
                    found[object_id] = look(object_id)
            verdicts |= found
            values = [
                {"object": number, "checked": int(now), "verdict": verdicts[object_id].value}
                for object_id, number in sorted(rows.items(), key=lambda row: row[1])
            ]
            if values:
                statement = insert_into(connection, checks)
                fresh = {"checked": statement.excluded.checked, "verdict": statement.excluded.verdict}
                connection.execute(statement.on_conflict_do_update(index_elements=["object"], set_=fresh), values)
        return found

    def faulty(self, after: ObjectId | None, limit: int) -> list[Listed]:
        """See :meth:`CheckLedger.faulty`."""
        bad = exists().where(checks.c.object == objects.c.id, checks.c.verdict != Verdict.GOOD.value)
        with self._database.reading() as connection:
            return _listed(connection, [in_scope(self._content), bad], after, limit)


def _listed(
    connection: Connection, conditions: list[ColumnElement[bool]], after: ObjectId | None, limit: int
) -> list[Listed]:
    query = select(objects.c.object_id, objects.c.size).where(objects.c.object_id > (after or b""), *conditions)
    rows = connection.execute(query.order_by(objects.c.object_id).limit(limit))
    return [Listed(object_id=ObjectId(object_id), size=size) for object_id, size in rows]


def _settled(connection: Connection, ids: Sequence[ObjectId]) -> dict[ObjectId, int]:
    """Of these, the objects that a set needs, with their numbers; their rows are locked, so no sweep touches them."""
    locked = (
        select(objects.c.object_id, objects.c.id)
        .where(objects.c.object_id.in_(ids), objects.c.state != State.DELETING.value)
        .order_by(objects.c.id)
        .with_for_update(of=objects, key_share=True)
    )
    found = {ObjectId(object_id): number for object_id, number in connection.execute(locked)}
    needed = select(objects.c.id).where(objects.c.id.in_(list(found.values())), in_scope())
    numbers = set(connection.scalars(needed))
    return {object_id: number for object_id, number in found.items() if number in numbers}


def verdicts(connection: Connection, content: str = "") -> dict[Verdict, int]:
    """How many objects that a version or delta needs have each bad verdict."""
    query = (
        select(checks.c.verdict, func.count())
        .join(objects, objects.c.id == checks.c.object)
        .where(checks.c.verdict != Verdict.GOOD.value, needed(content))
        .group_by(checks.c.verdict)
    )
    return {Verdict(verdict): number for verdict, number in connection.execute(query)}


def validated(connection: Connection) -> bool:
    """Whether anything was ever validated."""
    return connection.execute(select(checks.c.object).limit(1)).first() is not None


def faults(connection: Connection, content: str = "", *, after: str = "", limit: int = 100) -> list[Fault]:
    """Objects with a bad verdict, for people."""
    query = (
        select(objects.c.object_id, objects.c.size, objects.c.purpose, checks.c.verdict, checks.c.checked)
        .join(checks, checks.c.object == objects.c.id)
        .where(checks.c.verdict != Verdict.GOOD.value, in_scope(content))
        .where(objects.c.object_id > bytes.fromhex(after))
        .order_by(objects.c.object_id)
        .limit(limit)
    )
    return [
        Fault(
            object_id=bytes(row.object_id).hex(),
            size=row.size,
            kind=set_purpose(row.purpose),
            verdict=row.verdict,
            checked=row.checked,
            needed_by=tuple(needed_by(connection, row.object_id)),
        )
        for row in connection.execute(query).all()
    ]


def needed_by(connection: Connection, object_id: bytes, *, limit: int = MAX_NAMED) -> list[str]:
    """Which versions and deltas need an object, in words; where none does, which points still have it."""
    named, member = objects.alias("named"), objects.alias("member")
    inside = exists().where(
        set_object.c.object_set == object_set.c.id,
        set_object.c.object == member.c.id,
        member.c.object_id == object_id,
    )
    wanted = (
        select(named.c.object_id)
        .join(object_set, object_set.c.object == named.c.id)
        .where(or_(inside, named.c.object_id == object_id))
    )
    whole = (
        select(contents.c.name, versions.c.number)
        .join(contents, contents.c.id == versions.c.content)
        .where(or_(versions.c.set_id.in_(wanted), versions.c.former_set_id.in_(wanted)))
        .order_by(contents.c.name_key, versions.c.number.desc())
        .limit(limit)
    )
    found = [f"{name} {number}" for name, number in connection.execute(whole)]
    led = (
        select(contents.c.name, deltas.c.from_version, deltas.c.to_version)
        .join(contents, contents.c.id == deltas.c.content)
        .where(deltas.c.set_id.in_(wanted))
        .order_by(contents.c.name_key, deltas.c.to_version.desc())
        .limit(limit)
    )
    found += [f"{name} {old} to {new}" for name, old, new in connection.execute(led)]
    return found[:limit] or _left_with(connection, wanted, limit)


def _left_with(connection: Connection, wanted: Select[tuple[bytes]], limit: int) -> list[str]:
    """Points that have or lose a set which no version and no delta has any more."""
    query = (
        select(points.c.name)
        .join(sets, sets.c.point == points.c.id)
        .where(sets.c.set_id.in_(wanted))
        .group_by(points.c.name, points.c.name_key)
        .order_by(points.c.name_key)
        .limit(limit)
    )
    return [f"no version; {name} still has it" for name in connection.scalars(query)]


def versions_with(connection: Connection, content: str, first: ObjectId, last: ObjectId, *, each: int) -> list[Version]:
    """Versions that need one of the objects with a bad verdict from ``first`` to ``last``: of each content so many at
    most, the newest first. These may be more than a statement can name: the database looks for them itself.

    Args:
        content: of its objects only; empty: of all.
    """
    bad = (
        select(objects.c.id)
        .join(checks, checks.c.object == objects.c.id)
        .where(checks.c.verdict != Verdict.GOOD.value, objects.c.object_id.between(first, last), in_scope(content))
    )
    wanted = (
        select(objects.c.object_id)
        .join(object_set, object_set.c.object == objects.c.id)
        .join(set_object, set_object.c.object_set == object_set.c.id)
        .where(set_object.c.object.in_(bad))
    )
    query = select(versions.c.content, versions.c.number).where(versions.c.set_id.in_(wanted))
    counted: dict[str, int] = {}
    found = []
    for owner, number in connection.execute(query.order_by(versions.c.content, versions.c.number.desc())).all():
        counted[owner] = counted.get(owner, 0) + 1
        if counted[owner] <= each:
            found.append(get_version(connection, owner, number))
    return found


def broken_deltas(connection: Connection, content: str = "") -> list[Delta]:
    """Deltas, of one content or of all, that need an object with a bad verdict, between versions that are whole."""
    broken = _broken_sets()
    damaged = select(versions.c.content, versions.c.number).where(versions.c.set_id.in_(broken))
    unfit = {(row.content, row.number) for row in connection.execute(damaged)}
    hit = set(connection.scalars(select(deltas.c.set_id).where(deltas.c.set_id.in_(broken))))
    return [
        delta
        for delta in list_deltas(connection, content)
        if delta.set_id in hit and not unfit & {(delta.content, delta.from_version), (delta.content, delta.to_version)}
    ]


def _broken_sets() -> Select[tuple[bytes]]:
    """Sets with an object that has a bad verdict, or that have one themselves. They may be more than a statement can
    name: let the database look."""
    member, named = objects.alias("member"), objects.alias("named")
    bad = select(checks.c.object).where(checks.c.verdict != Verdict.GOOD.value)
    return (
        select(named.c.object_id)
        .join(object_set, object_set.c.object == named.c.id)
        .join(set_object, set_object.c.object_set == object_set.c.id)
        .join(member, member.c.id == set_object.c.object)
        .where(or_(member.c.id.in_(bad), named.c.id.in_(bad)))
    )


def holders_of(connection: Connection, object_id: bytes) -> list[str]:
    """Points that have a whole set with this object, those on premises first: their bytes cost nothing."""
    member, named = objects.alias("member"), objects.alias("named")
    inside = exists().where(
        set_object.c.object_set == object_set.c.id,
        set_object.c.object == member.c.id,
        member.c.object_id == object_id,
    )
    has = (
        select(sets.c.point)
        .join(named, named.c.object_id == sets.c.set_id)
        .join(object_set, object_set.c.object == named.c.id)
        .where(sets.c.state == "held", or_(inside, named.c.object_id == object_id))
    )
    query = select(points.c.id).where(and_(points.c.id.in_(has), points.c.state == "active"))
    return list(connection.scalars(query.order_by(points.c.kind == "cloud", points.c.name_key)))


def oldest_check(connection: Connection) -> int:
    """When the object that was validated longest ago, or stored without being validated since, was sound for sure."""
    known = func.coalesce(checks.c.checked, objects.c.changed)
    query = select(func.min(known)).select_from(objects).outerjoin(checks, checks.c.object == objects.c.id)
    return int(connection.execute(query.where(in_scope())).scalar() or 0)
