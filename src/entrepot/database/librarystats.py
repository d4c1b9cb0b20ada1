"""Figures about the library, by SQL: sums over sets and objects, in bounded memory."""

from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, case, exists, func, or_, select

from entrepot.content.ledger import SET, State
from entrepot.content.sealing import Purpose
from entrepot.database.contents import Version, find_delta
from entrepot.database.tables.checks import object_check as checks
from entrepot.database.tables.content import content_delta as deltas
from entrepot.database.tables.content import content_version as versions
from entrepot.database.tables.library import object_ as objects
from entrepot.database.tables.library import object_set, publish_session, session_object, set_object
from entrepot.protocol.libraryapi import LibraryFigures, Validation
from entrepot.rules.verdicts import Verdict


def update_bytes(connection: Connection, older: Version, newer: Version) -> tuple[int, int | None]:
    """Sealed bytes that a client with the older version fetches for the newer one without a delta, and what the delta
    saves of that (None: there is none)."""
    had, wanted = set_object.alias("had"), set_object.alias("wanted")
    known = exists().where(had.c.object == wanted.c.object, had.c.object_set == number_of(older.set_id))
    query = (
        select(func.coalesce(func.sum(objects.c.size), 0))
        .join(wanted, wanted.c.object == objects.c.id)
        .where(wanted.c.object_set == number_of(newer.set_id), ~known)
    )
    delta = find_delta(connection, older.content, older.number, newer.number)
    return int(connection.execute(query).scalar_one()), None if delta is None else delta.saved


def distinct_size(connection: Connection, set_id: bytes) -> int:
    """Bytes that the distinct chunks of a version's set open to; those of which that is not known count as stored."""
    opened = case((objects.c.plain_size == 0, objects.c.size), else_=objects.c.plain_size)
    query = (
        select(func.coalesce(func.sum(opened), 0))
        .join(set_object, set_object.c.object == objects.c.id)
        .where(set_object.c.object_set == number_of(set_id), objects.c.purpose == int(Purpose.CHUNK))
    )
    return int(connection.execute(query).scalar_one())


def figures(connection: Connection, content: str = "") -> LibraryFigures:
    """What a content, or the whole library, consists of."""
    mine = [versions.c.content == content] if content else []
    logical, count = connection.execute(
        select(func.coalesce(func.sum(versions.c.plain_size), 0), func.count()).where(*mine)
    ).one()
    only = [deltas.c.content == content] if content else []
    saved = connection.execute(select(func.coalesce(func.sum(deltas.c.saved), 0)).where(*only)).scalar_one()
    present = needed(content, former=False)
    is_chunk = objects.c.purpose == int(Purpose.CHUNK)
    chunks = connection.execute(_sums(present, is_chunk)).one()
    others = connection.execute(_sums(present, ~is_chunk)).one()
    whole = connection.execute(_sums(in_scope(content))).one()
    unmeasured = connection.execute(_sums(present, is_chunk, objects.c.plain_size == 0)).one()
    unique = int(chunks.plain) + int(unmeasured.size)
    shared = connection.execute(_sums(present, is_chunk, _elsewhere(content))).one().size if content else 0
    return LibraryFigures(
        versions=count,
        objects=whole.number,
        logical=int(logical),
        unique=unique,
        stored=int(chunks.size),
        overhead=int(others.size),
        former=int(whole.size) - int(chunks.size) - int(others.size),
        shared=int(shared),
        saved_by_dedupe=max(0, int(logical) - unique),
        saved_by_compression=max(0, unique - int(chunks.size)),
        saved_by_deltas=int(saved),
        unmeasured=unmeasured.number,
    )


def validation(connection: Connection, content: str = "") -> Validation:
    """How sound a content, or the whole library, is."""
    query = (
        select(func.count(), func.count(checks.c.object), func.min(checks.c.checked))
        .select_from(objects)
        .outerjoin(checks, checks.c.object == objects.c.id)
        .where(in_scope(content))
    )
    total, checked, oldest = connection.execute(query).one()
    counted = {Verdict.MISSING: 0, Verdict.DAMAGED: 0}
    faulty = (
        select(checks.c.verdict, func.count())
        .join(objects, objects.c.id == checks.c.object)
        .where(checks.c.verdict != Verdict.GOOD.value, in_scope(content))
        .group_by(checks.c.verdict)
    )
    counted |= {Verdict(verdict): number for verdict, number in connection.execute(faulty)}
    return Validation(
        objects=total,
        checked_objects=checked,
        checked=int(oldest or 0) if checked == total else 0,
        missing=counted[Verdict.MISSING],
        damaged=counted[Verdict.DAMAGED],
    )


def waiting(connection: Connection) -> tuple[int, int]:
    """Objects, and their bytes, that nothing needs any more and the sweep will delete."""
    going = objects.c.state.in_([State.CONDEMNED.value, State.DELETING.value])
    row = connection.execute(_sums(going)).one()
    return row.number, int(row.size)


def held(connection: Connection) -> tuple[int, int]:
    """Objects, and their bytes, that are kept for attempts to publish alone: those under way, and those that were
    broken off, until their leases lapse."""
    leased = exists().where(session_object.c.object == objects.c.id)
    row = connection.execute(_sums(leased, ~in_scope())).one()
    return row.number, int(row.size)


def open_sessions(connection: Connection) -> int:
    """Attempts to publish, or to make a delta, that hold leases now."""
    return int(connection.execute(select(func.count()).select_from(publish_session)).scalar_one())


def in_scope(content: str = "") -> ColumnElement[bool]:
    """Objects that the sets of a content, or of all, need; the set objects themselves among them."""
    if content:
        return needed(content)
    return or_(exists().where(set_object.c.object == objects.c.id), exists().where(object_set.c.object == objects.c.id))


def needed(content: str = "", *, former: bool = True) -> ColumnElement[bool]:
    """Objects that the versions and deltas of a content, or of all, need: not those of sets that only points have.

    Args:
        former: also those of the sets that versions had before they were sealed anew.
    """
    numbers = _sets_of(content, former=former)
    return or_(
        exists().where(set_object.c.object == objects.c.id, set_object.c.object_set.in_(numbers)),
        exists().where(object_set.c.object == objects.c.id, object_set.c.id.in_(numbers)),
    )


def number_of(set_id: bytes) -> Any:
    """The library's number of an object set."""
    query = select(object_set.c.id).join(objects, objects.c.id == object_set.c.object)
    return query.where(objects.c.object_id == set_id).scalar_subquery()


def _sets_of(content: str, *, former: bool = True) -> Select[tuple[int]]:
    named = objects.alias("named")
    whole = [versions.c.content == content] if content else []
    only = [deltas.c.content == content] if content else []
    mine = [
        exists().where(versions.c.set_id == named.c.object_id, *whole),
        exists().where(deltas.c.set_id == named.c.object_id, *only),
    ]
    if former:
        mine.append(exists().where(versions.c.former_set_id == named.c.object_id, *whole))
    query: Select[tuple[int]] = select(object_set.c.id).join(named, named.c.id == object_set.c.object).where(or_(*mine))
    return query


def _elsewhere(content: str) -> ColumnElement[bool]:
    other = set_object.alias("other")
    return exists().where(other.c.object == objects.c.id, other.c.object_set.not_in(_sets_of(content)))


def _sums(*conditions: ColumnElement[bool]) -> Select[tuple[int, int, int]]:
    return select(
        func.count().label("number"),
        func.coalesce(func.sum(objects.c.size), 0).label("size"),
        func.coalesce(func.sum(objects.c.plain_size), 0).label("plain"),
    ).where(and_(*conditions))


def set_purpose(purpose: int) -> str:
    """What an object is, in words."""
    if purpose == SET:
        return "object set"
    return Purpose(purpose).name.lower().replace("_", " ")
