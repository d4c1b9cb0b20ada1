"""Sets of client settings (R5, R43). The default set reaches every device and is the last to decide."""

from typing import Final

import msgspec
from sqlalchemy import Connection, delete, insert, select

from entrepot.core.encoding import from_json, to_json
from entrepot.core.errors import BadInputError, ConflictError, RefusedError
from entrepot.core.names import name_key
from entrepot.database import device_collections
from entrepot.database.hierarchy import note_change
from entrepot.database.names import check_name, find
from entrepot.database.tables.deployments import client_settings as table
from entrepot.database.tables.devices import collection as collections
from entrepot.protocol.deviceapi import ClientSettingsInfo, ClientSettingsRequest, SettingsValues
from entrepot.protocol.policy import ClientSettings

DEFAULT: Final = "default"
DEFAULT_ID: Final = "set-0000000000000000"
DEFAULT_PRIORITY: Final = 10_000


def add_default(connection: Connection) -> None:
    """Add the default set, at set-up: no access to the cloud (R5)."""
    values = SettingsValues(**msgspec.structs.asdict(ClientSettings()))
    connection.execute(
        insert(table).values(
            id=DEFAULT_ID,
            name=DEFAULT,
            name_key=name_key(DEFAULT),
            priority=DEFAULT_PRIORITY,
            collection=None,
            settings=to_json(values).decode(),
        )
    )


def put(connection: Connection, new_id: str, request: ClientSettingsRequest) -> ClientSettingsInfo:
    """Add a custom set, replace the one of that name, or change values of the default set.

    Raises:
        ConflictError: another set has this priority.
        BadInputError: a custom set without a collection, or a collection for the default set.
    """
    name = check_name(request.name, "set of client settings")
    if name_key(name) == name_key(DEFAULT):
        _change_default(connection, request)
        return get(connection, DEFAULT)
    if request.collection is None:
        raise BadInputError(
            "A custom set of client settings needs a collection.",
            next_step=f"Name a collection, or change the set named {DEFAULT}.",
        )
    collection = device_collections.get(connection, request.collection)
    taken = connection.execute(
        select(table.c.name).where(table.c.priority == request.priority, table.c.name_key != name_key(name))
    ).scalar()
    if taken is not None:
        raise ConflictError(f"The set {taken!r} has priority {request.priority} already.")
    kept = connection.execute(select(table.c.id).where(table.c.name_key == name_key(name))).scalar()
    connection.execute(delete(table).where(table.c.name_key == name_key(name)))
    connection.execute(
        insert(table).values(
            id=kept or new_id,
            name=name,
            name_key=name_key(name),
            priority=request.priority,
            collection=collection.id,
            settings=to_json(request.settings).decode(),
        )
    )
    note_change(connection)
    return get(connection, name)


def _change_default(connection: Connection, request: ClientSettingsRequest) -> None:
    if request.collection is not None:
        raise BadInputError("The default set of client settings reaches every device: it has no collection.")
    present = get(connection, DEFAULT).settings
    given = {name: value for name, value in msgspec.structs.asdict(request.settings).items() if value is not None}
    changed = msgspec.structs.replace(present, **given)
    connection.execute(table.update().where(table.c.id == DEFAULT_ID).values(settings=to_json(changed).decode()))
    note_change(connection)


def get(connection: Connection, name_or_id: str) -> ClientSettingsInfo:
    """One set.

    Raises:
        NotFoundError: there is none with this id or name.
    """
    wanted = find(connection, table, name_or_id, "set of client settings").id
    return next(found for found in listed(connection) if found.id == wanted)


def listed(connection: Connection) -> list[ClientSettingsInfo]:
    """All sets, the one that decides first first."""
    query = (
        select(table, collections.c.name.label("collection_name"))
        .join(collections, collections.c.id == table.c.collection, isouter=True)
        .order_by(table.c.priority)
    )
    return [
        ClientSettingsInfo(
            id=row.id,
            name=row.name,
            priority=row.priority,
            collection=row.collection,
            collection_name=row.collection_name,
            settings=from_json(row.settings, SettingsValues, "client settings"),
        )
        for row in connection.execute(query)
    ]


def remove(connection: Connection, name_or_id: str) -> None:
    """Remove a custom set.

    Raises:
        RefusedError: the default set.
    """
    row = find(connection, table, name_or_id, "set of client settings")
    if row.id == DEFAULT_ID:
        raise RefusedError("The default set of client settings cannot be removed.")
    connection.execute(delete(table).where(table.c.id == row.id))
    note_change(connection)
