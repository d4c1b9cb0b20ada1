"""Administrators, their sessions, and how often a login failed."""

from typing import Any

import msgspec
from sqlalchemy import Connection, delete, insert, select

from entrepot.core.errors import NotFoundError
from entrepot.core.names import name_key
from entrepot.database.engine import insert_into
from entrepot.database.names import check_name, refuse_taken
from entrepot.database.tables.hierarchy import administrator as administrators
from entrepot.database.tables.hierarchy import login_failure as failures
from entrepot.database.tables.hierarchy import session as sessions


class Administrator(msgspec.Struct, frozen=True, kw_only=True):
    """Who may use the admin API. ``password_hash`` is in argon2's own text form."""

    id: str
    name: str
    password_hash: str

    def __repr__(self) -> str:
        return f"Administrator({self.name!r}, password_hash=***)"


def add(connection: Connection, administrator: Administrator, *, now: float) -> None:
    """Add an administrator.

    Raises:
        ConflictError: the name is taken.
        BadInputError: no proper name.
    """
    name = check_name(administrator.name, "administrator")
    refuse_taken(connection, administrators, name, "administrator")
    connection.execute(
        insert(administrators).values(
            id=administrator.id,
            name=name,
            name_key=name_key(name),
            password_hash=administrator.password_hash,
            disabled=False,
            created=int(now),
        )
    )


def by_name(connection: Connection, name: str) -> Administrator | None:
    """The administrator of this name, unless disabled."""
    query = select(administrators.c.id, administrators.c.name, administrators.c.password_hash)
    row = connection.execute(
        query.where(administrators.c.name_key == name_key(name), administrators.c.disabled.is_(False))
    ).first()
    return None if row is None else Administrator(id=row.id, name=row.name, password_hash=row.password_hash)


def set_password(connection: Connection, name: str, password_hash: str) -> None:
    """Change a password and end all sessions.

    Raises:
        NotFoundError: there is no such administrator.
    """
    found = by_name(connection, name)
    if found is None:
        raise NotFoundError(f"There is no administrator {name!r}.")
    connection.execute(
        administrators.update().where(administrators.c.id == found.id).values(password_hash=password_hash)
    )
    connection.execute(delete(sessions).where(sessions.c.administrator == found.id))


def open_session(connection: Connection, *, administrator: str, token_hash: bytes, now: float, expires: float) -> None:
    """Remember a session by the hash of its token; forget those that ended."""
    connection.execute(delete(sessions).where(sessions.c.expires <= int(now)))
    connection.execute(
        insert(sessions).values(
            token_hash=token_hash, administrator=administrator, created=int(now), expires=int(expires)
        )
    )


def session_owner(connection: Connection, token_hash: bytes, *, now: float) -> Administrator | None:
    """Whose session this is; None when it is unknown, ended, or its administrator disabled."""
    query: Any = (
        select(administrators.c.id, administrators.c.name)
        .join(sessions, sessions.c.administrator == administrators.c.id)
        .where(
            sessions.c.token_hash == token_hash,
            sessions.c.expires > int(now),
            administrators.c.disabled.is_(False),
        )
    )
    row = connection.execute(query).first()
    return None if row is None else Administrator(id=row.id, name=row.name, password_hash="")


def close_session(connection: Connection, token_hash: bytes) -> None:
    """End a session."""
    connection.execute(delete(sessions).where(sessions.c.token_hash == token_hash))


def count_failure(connection: Connection, key: str, *, now: float, window: float) -> int:
    """Count a failed login for a name or an address; how many there were within the window."""
    connection.execute(delete(failures).where(failures.c.first <= int(now - window)))
    fresh = insert_into(connection, failures).values(key=key[:280], count=1, first=int(now))
    counted = fresh.on_conflict_do_update(index_elements=["key"], set_={"count": failures.c.count + 1})
    return int(connection.execute(counted.returning(failures.c.count)).scalar_one())


def failure_count(connection: Connection, key: str, *, now: float, window: float) -> int:
    """How many logins failed for a name or an address within the window."""
    query = select(failures.c.count).where(failures.c.key == key[:280], failures.c.first > int(now - window))
    return int(connection.execute(query).scalar() or 0)


def forget_failures(connection: Connection, key: str) -> None:
    """Start counting anew, after a good login."""
    connection.execute(delete(failures).where(failures.c.key == key[:280]))
