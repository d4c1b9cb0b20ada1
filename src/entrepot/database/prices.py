"""Price sheets: every version stays, the newest counts."""

import msgspec
from sqlalchemy import Connection, delete, func, insert, select

from entrepot.core.encoding import from_json, to_json
from entrepot.core.names import name_key
from entrepot.database.engine import insert_into
from entrepot.database.tables.cost import price_sheet, price_use
from entrepot.rules.prices import PriceSheet


class StoredSheet(msgspec.Struct, frozen=True, kw_only=True):
    """A version of a price sheet."""

    sheet: PriceSheet
    version: int
    created: int
    by: str


def add_version(connection: Connection, sheet: PriceSheet, *, by: str, now: int) -> StoredSheet:
    """Keep the next version of a sheet."""
    key = name_key(sheet.name)
    highest = select(func.coalesce(func.max(price_sheet.c.version), 0)).where(price_sheet.c.name_key == key)
    version = int(connection.execute(highest).scalar_one()) + 1
    connection.execute(
        insert(price_sheet).values(
            name_key=key, version=version, name=sheet.name, body=to_json(sheet).decode(), created=now, by=by
        )
    )
    return StoredSheet(sheet=sheet, version=version, created=now, by=by)


def newest(connection: Connection) -> dict[str, StoredSheet]:
    """The newest version of every sheet, by name key."""
    rows = connection.execute(select(price_sheet).order_by(price_sheet.c.name_key, price_sheet.c.version))
    return {row.name_key: _stored(row.body, row.version, row.created, row.by) for row in rows}


def versions(connection: Connection, name: str) -> list[StoredSheet]:
    """All versions of a sheet, oldest first."""
    query = select(price_sheet).where(price_sheet.c.name_key == name_key(name)).order_by(price_sheet.c.version)
    return [_stored(row.body, row.version, row.created, row.by) for row in connection.execute(query)]


def use(connection: Connection, point: str, name: str) -> None:
    """Let a cloud point (or, when empty, all that have none of their own) be charged by a sheet."""
    statement = insert_into(connection, price_use).values(point=point, sheet=name_key(name))
    update = {"sheet": name_key(name)}
    connection.execute(statement.on_conflict_do_update(index_elements=[price_use.c.point], set_=update))


def uses(connection: Connection) -> dict[str, str]:
    """Sheet (name key) by cloud point; under the empty id the one for all others."""
    return {row.point: row.sheet for row in connection.execute(select(price_use))}


def sheet_of(connection: Connection, point: str) -> PriceSheet | None:
    """The sheet that a cloud point is charged by; None when none was chosen."""
    return sheet_by_key(connection, key_of(connection, point))


def key_of(connection: Connection, point: str) -> str:
    """The name key of the sheet that a cloud point is charged by; empty when none was chosen."""
    chosen = uses(connection)
    return chosen.get(point) or chosen.get("", "")


def sheet_by_key(connection: Connection, key: str) -> PriceSheet | None:
    """The newest version of a sheet; None when there is none of this name key."""
    query = select(price_sheet.c.body).where(price_sheet.c.name_key == key).order_by(price_sheet.c.version.desc())
    body = connection.execute(query.limit(1)).scalar()
    return None if body is None else from_json(body, PriceSheet, "price sheet")


def forget_point(connection: Connection, point: str) -> None:
    """The cloud point is gone."""
    connection.execute(delete(price_use).where(price_use.c.point == point))


def _stored(body: str, version: int, created: int, by: str) -> StoredSheet:
    return StoredSheet(sheet=from_json(body, PriceSheet, "price sheet"), version=version, created=created, by=by)
