"""To which content object sets belonged that no version or delta has any more (R26).

Transactions are collected hours, sometimes weeks after they were: what was sent of a version that was deleted meanwhile
still counts to its content, and to its content's budget.
"""

from collections.abc import Iterable, Sequence

from sqlalchemy import Connection, delete, select, update

from entrepot.database.engine import insert_into
from entrepot.database.tables.content import former_set as table


def keep(connection: Connection, content: str, set_ids: Iterable[bytes]) -> None:
    """Remember whose these sets were, in the transaction that forgets them."""
    rows = [{"set_id": set_id, "content": content, "since": 0} for set_id in sorted(set(set_ids))]
    if rows:
        connection.execute(insert_into(connection, table).on_conflict_do_nothing(), rows)


def contents_of(connection: Connection, set_ids: Sequence[bytes]) -> dict[bytes, str]:
    """Whose these sets were, as far as it is remembered."""
    query = select(table.c.set_id, table.c.content).where(table.c.set_id.in_(set_ids))
    return {bytes(row.set_id): row.content for row in connection.execute(query)}


def prune(connection: Connection, now: int, *, before: int) -> None:
    """Note since when the new ones are here, and forget those that have been since before a moment."""
    connection.execute(update(table).where(table.c.since == 0).values(since=now))
    connection.execute(delete(table).where(table.c.since < before))
