"""Deployments (R44)."""

from sqlalchemy import Connection, delete, insert, select

from entrepot.core.errors import ConflictError, NotFoundError
from entrepot.database.hierarchy import note_change
from entrepot.database.tables.content import content as contents
from entrepot.database.tables.deployments import deployment as table
from entrepot.database.tables.devices import collection as collections
from entrepot.protocol.deviceapi import DeploymentInfo, DeploymentOptions, RunMode


def add(
    connection: Connection,
    deployment_id: str,
    *,
    content: str,
    collection: str,
    options: DeploymentOptions,
    now: float,
) -> DeploymentInfo:
    """Deploy a content to a collection.

    Raises:
        ConflictError: it is deployed there already.
    """
    same = select(table.c.id).where(table.c.content == content, table.c.collection == collection)
    if connection.execute(same).first() is not None:
        raise ConflictError(
            "The content is deployed to this collection already.", next_step="Remove that deployment first."
        )
    connection.execute(
        insert(table).values(
            id=deployment_id,
            content=content,
            collection=collection,
            allow_remote=options.allow_remote,
            allow_fallback=options.allow_fallback,
            run=options.run.value,
            created=int(now),
        )
    )
    note_change(connection)
    return get(connection, deployment_id)


def listed(connection: Connection, deployment_id: str = "") -> list[DeploymentInfo]:
    """All deployments, oldest first, or one."""
    query = (
        select(table, contents.c.name.label("content_name"), collections.c.name.label("collection_name"))
        .join(contents, contents.c.id == table.c.content)
        .join(collections, collections.c.id == table.c.collection)
        .order_by(table.c.created, table.c.id)
    )
    if deployment_id:
        query = query.where(table.c.id == deployment_id)
    return [
        DeploymentInfo(
            id=row.id,
            content=row.content,
            content_name=row.content_name,
            collection=row.collection,
            collection_name=row.collection_name,
            options=DeploymentOptions(
                allow_remote=row.allow_remote, allow_fallback=row.allow_fallback, run=RunMode(row.run)
            ),
            created=row.created,
        )
        for row in connection.execute(query)
    ]


def get(connection: Connection, deployment_id: str) -> DeploymentInfo:
    """One deployment.

    Raises:
        NotFoundError: there is none with this id.
    """
    found = listed(connection, deployment_id) if deployment_id else []
    if not found:
        raise NotFoundError(f"There is no deployment {deployment_id!r}.")
    return found[0]


def remove(connection: Connection, deployment_id: str) -> None:
    """Withdraw a deployment.

    Raises:
        NotFoundError: there is none with this id.
    """
    connection.execute(delete(table).where(table.c.id == get(connection, deployment_id).id))
    note_change(connection)
