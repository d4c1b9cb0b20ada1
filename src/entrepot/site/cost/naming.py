"""What budgets are called where people read of them."""

from sqlalchemy import Connection

from entrepot.core.errors import NotFoundError
from entrepot.database import cloud, contents, device_collections
from entrepot.database.budgets import Budget, Scope


def name_of(connection: Connection, one: Budget) -> str:
    """The name of the cloud point, content or collection; its id when it was deleted since."""
    try:
        if one.scope is Scope.POINT:
            return cloud.get_cloud_point(connection, one.subject).name
        if one.scope is Scope.CONTENT:
            return contents.get_content(connection, one.subject).name
        return device_collections.get(connection, one.subject).name
    except NotFoundError:
        return one.subject


def subject_of(connection: Connection, scope: Scope, name: str) -> str:
    """The id of what a budget is for.

    Raises:
        NotFoundError: there is no such cloud point, content or collection.
    """
    if scope is Scope.POINT:
        return cloud.get_cloud_point(connection, name).point
    if scope is Scope.CONTENT:
        return contents.get_content(connection, name).id
    return device_collections.get(connection, name).id


def label_of(connection: Connection, one: Budget) -> str:
    """With what it is: ``content Office``."""
    return f"{one.scope.value.replace('-', ' ')} {name_of(connection, one)}"
