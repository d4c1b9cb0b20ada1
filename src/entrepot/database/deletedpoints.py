"""Cloud points that were deleted: what their last month's cost needs, besides the hours that stay."""

import msgspec
from sqlalchemy import Connection, delete, select

from entrepot.core.errors import NotFoundError
from entrepot.core.names import name_key
from entrepot.database.engine import insert_into
from entrepot.database.tables.cost import deleted_cloud_point as table


class DeletedPoint(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of a deleted cloud point. ``sheet`` is the name key of the price sheet that it was charged by, empty
    without one; ``segments`` how many transaction segments were collected in the month of its deletion."""

    point: str
    name: str
    site: str
    sheet: str
    segments: int
    ready: int
    deleted: int


def keep(connection: Connection, gone: DeletedPoint) -> None:
    """Note a deletion, in its transaction."""
    connection.execute(insert_into(connection, table).values(msgspec.structs.asdict(gone)).on_conflict_do_nothing())


def deleted_since(connection: Connection, since: int, *, site: str) -> list[DeletedPoint]:
    """A site's cloud points that were deleted since then, in the order of deletion."""
    query = select(table).where(table.c.deleted >= since, table.c.site == site)
    rows = connection.execute(query.order_by(table.c.deleted, table.c.point)).mappings()
    return [DeletedPoint(**row) for row in rows]


def find_deleted(connection: Connection, name_or_id: str, *, since: int, site: str) -> DeletedPoint:
    """The last cloud point of this name or id that was deleted since then.

    Raises:
        NotFoundError: there is none.
    """
    wanted = name_key(name_or_id)
    for gone in reversed(deleted_since(connection, since, site=site)):
        if gone.point == name_or_id or name_key(gone.name) == wanted:
            return gone
    raise NotFoundError(f"No cloud point {name_or_id!r} was deleted since then.")


def forget_deleted(connection: Connection, *, before: int) -> int:
    """Forget deletions before that time; how many."""
    return connection.execute(delete(table).where(table.c.deleted < before)).rowcount
