"""Maintenance windows, as an administrator has set them."""

from collections.abc import Mapping
from typing import Any

import msgspec
from sqlalchemy import Connection, delete, insert, or_, select

from entrepot.core.encoding import from_json, to_json
from entrepot.core.errors import NotFoundError
from entrepot.core.names import name_key
from entrepot.database.names import check_name, refuse_taken
from entrepot.database.tables.alerts import maintenance_window as table
from entrepot.rules.maintenance import Repeat, Window


class StoredWindow(msgspec.Struct, frozen=True, kw_only=True):
    """A window, and whose: the cloud point's id, or empty for all."""

    id: str
    name: str
    subject: str
    window: Window


def add_window(connection: Connection, stored: StoredWindow, *, now: int) -> None:
    """Keep a window.

    Raises:
        ConflictError: the name is taken.
        BadInputError: no proper name.
    """
    name = check_name(stored.name, "maintenance window")
    refuse_taken(connection, table, name, "maintenance window")
    values = msgspec.structs.asdict(stored.window) | {
        "id": stored.id,
        "name": name,
        "name_key": name_key(name),
        "subject": stored.subject,
        "types": to_json(stored.window.types).decode(),
        "repeat": stored.window.repeat.value,
        "created": now,
    }
    connection.execute(insert(table).values(values))


def windows(connection: Connection) -> list[StoredWindow]:
    """All windows, by name."""
    return [_stored(row) for row in connection.execute(select(table).order_by(table.c.name_key)).mappings()]


def windows_of(connection: Connection, subject: str) -> list[Window]:
    """The windows that a cloud point has."""
    query = select(table).where(or_(table.c.subject == "", table.c.subject == subject))
    return [_stored(row).window for row in connection.execute(query).mappings()]


def get_window(connection: Connection, name_or_id: str) -> StoredWindow:
    """One window.

    Raises:
        NotFoundError: there is none with this id or name.
    """
    which = or_(table.c.id == name_or_id, table.c.name_key == name_key(name_or_id))
    row = connection.execute(select(table).where(which)).mappings().first()
    if row is None:
        raise NotFoundError(f"There is no maintenance window {name_or_id!r}.")
    return _stored(row)


def delete_window(connection: Connection, name_or_id: str) -> None:
    """Forget a window.

    Raises:
        NotFoundError: there is none with this id or name.
    """
    connection.execute(delete(table).where(table.c.id == get_window(connection, name_or_id).id))


def forget_subject(connection: Connection, subject: str) -> None:
    """The cloud point is gone, and its windows with it."""
    connection.execute(delete(table).where(table.c.subject == subject))


def _stored(row: Mapping[Any, Any]) -> StoredWindow:
    return StoredWindow(
        id=row["id"],
        name=row["name"],
        subject=row["subject"],
        window=Window(
            start=row["start"],
            zone=row["zone"],
            minutes=row["minutes"],
            repeat=Repeat(row["repeat"]),
            types=from_json(row["types"], tuple[str, ...], "maintenance window"),
        ),
    )
