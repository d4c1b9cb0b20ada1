"""Sums that budgets need while a device waits (R23): what was sent of a content, or to a collection's members, by the
hour, and what is granted and open.

There may be millions of figures by device and content, and thousands of open grants: so each figure that comes, and
each grant that is made, is added in its own transaction to the budgets that it belongs to. Sums are counted anew where
a budget is set, a collection's members change, or grants are closed; a lock of its own keeps such a count from missing
what is being added at the moment.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final, Protocol

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    delete,
    exists,
    func,
    insert,
    literal,
    select,
    true,
    update,
)

from entrepot.database.engine import insert_into
from entrepot.database.tables.cost import OPEN_GRANTS, budget, budget_grant, budget_hour
from entrepot.database.tables.devices import collection, collection_member
from entrepot.database.tables.hierarchy import counter
from entrepot.database.tables.usage import transfer_bucket

_LOCK: Final = "budget sums"
_DEVICES_A_QUERY: Final = 500


class Figure(Protocol):
    """What a device was sent of a content in an hour."""

    @property
    def hour(self) -> int:
        """When: the hour's beginning."""

    @property
    def device(self) -> str:
        """To whom."""

    @property
    def content(self) -> str:
        """Of what."""

    @property
    def bytes(self) -> int:
        """How much."""


def used(scope: str, subject: str, *, since: int) -> Select[Any]:
    """Asks for the bytes in the hours from ``since`` on, of a content or collection that has a budget."""
    table = budget_hour
    mine = (table.c.scope == scope, table.c.subject == subject, table.c.hour >= since)
    return select(func.coalesce(func.sum(table.c.bytes), 0)).where(*mine)


def used_without(connection: Connection, scope: str, subject: str, *, since: int) -> int:
    """The same of one that has no budget yet, from all figures that are kept."""
    table = transfer_bucket
    total = select(func.coalesce(func.sum(table.c.bytes), 0)).where(table.c.hour >= since)
    return int(connection.execute(total.where(_mine(connection, scope, subject))).scalar_one())


def add(connection: Connection, figures: Sequence[Figure]) -> None:
    """Add figures that come in to the budgets that they belong to; call it in the transaction that adds the figures."""
    lock(connection, shared=True)
    budgeted = select(budget.c.scope, budget.c.subject).where(budget.c.scope.in_(("content", "collection")))
    budgets = [(row.scope, row.subject) for row in connection.execute(budgeted)]
    if not budgets:
        return
    contents = {subject for scope, subject in budgets if scope == "content"}
    collections = [subject for scope, subject in budgets if scope == "collection"]
    belongs = _belongs(connection, collections, sorted({figure.device for figure in figures})) if collections else {}
    everyone = _of_everyone(connection, collections)
    sums: Counter[tuple[str, str, int]] = Counter()
    for figure in figures:
        if figure.content in contents:
            sums["content", figure.content, figure.hour] += figure.bytes
        for subject in (*everyone, *belongs.get(figure.device, ())):
            sums["collection", subject, figure.hour] += figure.bytes
    _add(connection, sums)


def _add(connection: Connection, sums: Counter[tuple[str, str, int]]) -> None:
    rows = [
        {"scope": scope, "subject": subject, "hour": hour, "bytes": count}
        for (scope, subject, hour), count in sorted(sums.items())
        if count
    ]
    if rows:
        table = budget_hour
        statement = insert_into(connection, table)
        more = {"bytes": table.c.bytes + statement.excluded.bytes}
        key = [table.c.scope, table.c.subject, table.c.hour]
        connection.execute(statement.on_conflict_do_update(index_elements=key, set_=more), rows)


def count_anew(connection: Connection, scope: str, subject: str) -> None:
    """Count all figures that are kept, for a content or collection; a cloud point has its hours."""
    if scope not in ("content", "collection"):
        return
    lock(connection)
    forget(connection, scope, subject)
    table = transfer_bucket
    sums = (
        select(literal(scope), literal(subject), table.c.hour, func.sum(table.c.bytes))
        .where(_mine(connection, scope, subject))
        .group_by(table.c.hour)
    )
    connection.execute(insert(budget_hour).from_select(["scope", "subject", "hour", "bytes"], sums))


def members_changed(connection: Connection, collection_id: str) -> None:
    """A collection has other members: what its present ones were sent counts, if it has a budget."""
    mine = (budget.c.scope == "collection", budget.c.subject == collection_id)
    if connection.execute(select(budget.c.subject).where(*mine)).first() is not None:
        count_anew(connection, "collection", collection_id)
        count_open(connection)


def count_open(connection: Connection) -> None:
    """Add up anew, for every budget, the grants whose slots were not looked at yet."""
    lock(connection)
    keys = select(budget.c.scope, budget.c.subject).order_by(budget.c.scope, budget.c.subject).with_for_update()
    for scope, subject in [(row.scope, row.subject) for row in connection.execute(keys)]:
        charged = granted_to(connection, scope, subject)
        total = select(func.coalesce(func.sum(budget_grant.c.bytes), 0)).where(OPEN_GRANTS).where(charged)
        values = {"open_bytes": connection.execute(total).scalar_one()}
        connection.execute(update(budget).where(budget.c.scope == scope, budget.c.subject == subject).values(values))


def granted_to(connection: Connection, scope: str, subject: str) -> ColumnElement[bool]:
    """Which grants are charged to a budget."""
    everyone = scope == "collection" and bool(_of_everyone(connection, [subject]))
    return charged_to(scope, subject, everyone=everyone)


def charged_to(scope: str, subject: str | ColumnElement[str], *, everyone: bool) -> ColumnElement[bool]:
    """The same, where it is known whether a collection is the one of all devices."""
    grants = budget_grant.c
    if scope == "content":
        return grants.content == subject
    if scope != "collection":
        return grants.point == subject
    if everyone:
        return true()
    member = collection_member.c
    return exists().where(member.collection == subject, member.device == grants.device)


def forget(connection: Connection, scope: str, subject: str) -> None:
    """There is no such budget any more."""
    connection.execute(delete(budget_hour).where(budget_hour.c.scope == scope, budget_hour.c.subject == subject))


def _mine(connection: Connection, scope: str, subject: str) -> ColumnElement[bool]:
    if scope == "content":
        return transfer_bucket.c.content == subject
    if _of_everyone(connection, [subject]):
        return true()
    members = select(collection_member.c.device).where(collection_member.c.collection == subject)
    return transfer_bucket.c.device.in_(members)


def _of_everyone(connection: Connection, collections: Sequence[str]) -> list[str]:
    """The built-in collection, if it is among these: it has no member rows."""
    if not collections:
        return []
    query = select(collection.c.id).where(collection.c.id.in_(collections), collection.c.built_in.is_(True))
    return list(connection.scalars(query))


def _belongs(connection: Connection, collections: Sequence[str], devices: Sequence[str]) -> dict[str, list[str]]:
    """Which of these collections each of these devices belongs to."""
    found: dict[str, list[str]] = {}
    table = collection_member
    for begin in range(0, len(devices), _DEVICES_A_QUERY):
        some = devices[begin : begin + _DEVICES_A_QUERY]
        query = select(table.c.device, table.c.collection).where(
            table.c.device.in_(some), table.c.collection.in_(collections)
        )
        for row in connection.execute(query):
            found.setdefault(row.device, []).append(row.collection)
    return found


def lock(connection: Connection, *, shared: bool = False) -> None:
    """Whoever adds, and whoever counts them anew, wait for each other (the embedded one has one writer)."""
    mine = _SHARED if shared else _ALONE
    if connection.execute(mine).first() is None:
        row = insert_into(connection, counter).values(name=_LOCK, value=0).on_conflict_do_nothing()
        connection.execute(row)
        connection.execute(mine)


_SHARED: Final = select(counter.c.name).where(counter.c.name == _LOCK).with_for_update(read=True)
_ALONE: Final = select(counter.c.name).where(counter.c.name == _LOCK).with_for_update()
