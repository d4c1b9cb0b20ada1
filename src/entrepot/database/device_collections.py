"""Device collections. The built-in one stands for every approved device; it has no member rows and never changes."""

from typing import Final

import msgspec
from sqlalchemy import Connection, delete, exists, func, insert, select

from entrepot.core.errors import ConflictError, RefusedError
from entrepot.core.names import name_key
from entrepot.database import budgetsums
from entrepot.database.engine import insert_into
from entrepot.database.hierarchy import note_change
from entrepot.database.names import check_name, find, refuse_taken
from entrepot.database.tables.cost import budget
from entrepot.database.tables.deployments import client_settings, deployment
from entrepot.database.tables.devices import collection as collections
from entrepot.database.tables.devices import collection_member as members
from entrepot.database.tables.devices import device as devices
from entrepot.protocol.deviceapi import ALL_DEVICES, CollectionInfo

ALL_DEVICES_ID: Final = "col-0000000000000000"


class Collection(msgspec.Struct, frozen=True, kw_only=True):
    """A collection, without its members."""

    id: str
    name: str
    built_in: bool


def add_built_in(connection: Connection) -> None:
    """Add the built-in collection, at set-up."""
    connection.execute(
        insert(collections).values(id=ALL_DEVICES_ID, name=ALL_DEVICES, name_key=name_key(ALL_DEVICES), built_in=True)
    )


def add(connection: Connection, collection_id: str, name: str) -> Collection:
    """Add a collection.

    Raises:
        ConflictError: the name is taken.
        BadInputError: no proper name.
    """
    tidy = check_name(name, "collection")
    refuse_taken(connection, collections, tidy, "collection")
    connection.execute(insert(collections).values(id=collection_id, name=tidy, name_key=name_key(tidy), built_in=False))
    return Collection(id=collection_id, name=tidy, built_in=False)


def get(connection: Connection, name_or_id: str) -> Collection:
    """One collection.

    Raises:
        NotFoundError: there is none with this id or name.
    """
    row = find(connection, collections, name_or_id, "collection")
    return Collection(id=row.id, name=row.name, built_in=row.built_in)


def described(connection: Connection, name_or_id: str = "") -> list[CollectionInfo]:
    """All collections with their members' ids, or the one that is named; by name."""
    query = select(collections).order_by(collections.c.built_in.desc(), collections.c.name_key)
    if name_or_id:
        query = query.where(collections.c.id == get(connection, name_or_id).id)
    result = []
    for row in connection.execute(query).all():
        inside = select(devices.c.id).order_by(devices.c.id)
        if row.built_in:
            inside = inside.where(devices.c.state == "approved")
        else:
            inside = inside.join(members, members.c.device == devices.c.id).where(members.c.collection == row.id)
        ids = tuple(connection.scalars(inside))
        result.append(CollectionInfo(id=row.id, name=row.name, built_in=row.built_in, members=ids))
    return result


def count_members(connection: Connection, collection_id: str) -> int:
    """How many devices a collection has; the built-in one has every approved device."""
    inside = select(func.count()).select_from(members).where(members.c.collection == collection_id)
    if collection_id == ALL_DEVICES_ID:
        inside = select(func.count()).select_from(devices).where(devices.c.state == "approved")
    return int(connection.execute(inside).scalar_one())


def add_member(connection: Connection, name_or_id: str, device: str) -> None:
    """Make a device a member; harmless when it is one.

    Raises:
        RefusedError: the built-in collection.
        NotFoundError: no such collection or device.
    """
    collection = _changeable(connection, name_or_id)
    device_id = find(connection, devices, device, "device").id
    row = insert_into(connection, members).values(collection=collection.id, device=device_id)
    connection.execute(row.on_conflict_do_nothing())
    budgetsums.members_changed(connection, collection.id)
    note_change(connection)


def remove_member(connection: Connection, name_or_id: str, device: str) -> None:
    """Take a device out; harmless when it is not in.

    Raises:
        RefusedError: the built-in collection.
        NotFoundError: no such collection or device.
    """
    collection = _changeable(connection, name_or_id)
    device_id = find(connection, devices, device, "device").id
    connection.execute(delete(members).where(members.c.collection == collection.id, members.c.device == device_id))
    budgetsums.members_changed(connection, collection.id)
    note_change(connection)


def remove(connection: Connection, name_or_id: str) -> None:
    """Remove a collection.

    Raises:
        RefusedError: the built-in one.
        ConflictError: deployments, client settings or a budget use it.
    """
    collection = _changeable(connection, name_or_id)
    uses = (
        ("Deployments", exists().where(deployment.c.collection == collection.id)),
        ("Client settings", exists().where(client_settings.c.collection == collection.id)),
        ("Budgets", exists().where(budget.c.scope == "collection", budget.c.subject == collection.id)),
    )
    for what, used in uses:
        if connection.scalar(select(used)):
            raise ConflictError(f"{what} use the collection {collection.name!r}.", next_step="Remove them first.")
    connection.execute(delete(collections).where(collections.c.id == collection.id))
    note_change(connection)


def _changeable(connection: Connection, name_or_id: str) -> Collection:
    collection = get(connection, name_or_id)
    if collection.built_in:
        raise RefusedError(f"The collection {collection.name!r} is built in: it cannot be changed.")
    return collection
