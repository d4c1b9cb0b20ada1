"""The hierarchy, its sites, their sealed keys and secrets, and the counters of signed documents."""

from typing import Any

import msgspec
from sqlalchemy import Connection, insert, select

from entrepot.core.errors import ConflictError, NotFoundError
from entrepot.database.engine import CHANGES, mark_changed
from entrepot.database.tables.hierarchy import counter as counters
from entrepot.database.tables.hierarchy import hierarchy as hierarchies
from entrepot.database.tables.hierarchy import role_key as role_keys
from entrepot.database.tables.hierarchy import site as sites
from entrepot.database.tables.hierarchy import site_secret as secrets
from entrepot.protocol.trust import Role


class Hierarchy(msgspec.Struct, frozen=True, kw_only=True):
    """The hierarchy. ``trust_document`` is a compact JWS signed by the root."""

    name: str
    epoch: int
    trust_number: int
    trust_document: str
    root_public: bytes


class Site(msgspec.Struct, frozen=True, kw_only=True):
    """A primary site."""

    code: str
    name: str
    url: str
    vault_public: bytes
    created: int


class RoleKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key of a site, its private half sealed to the site's server."""

    kid: str
    role: Role
    site: str
    public: bytes
    sealed: bytes
    not_before: int
    not_after: int


def create_hierarchy(connection: Connection, hierarchy: Hierarchy, *, now: float) -> None:
    """Write the hierarchy down.

    Raises:
        ConflictError: the database holds one already.
    """
    if connection.execute(select(hierarchies.c.id)).first() is not None:
        raise ConflictError(
            "The database holds a hierarchy already.", next_step="Use another database, or serve from the old home."
        )
    connection.execute(
        insert(hierarchies).values(id=1, created=int(now), **msgspec.structs.asdict(hierarchy)),
    )
    connection.execute(insert(counters).values(name=CHANGES, value=1))


def get_hierarchy(connection: Connection) -> Hierarchy:
    """The hierarchy.

    Raises:
        NotFoundError: the database is empty.
    """
    row = connection.execute(
        select(
            hierarchies.c.name,
            hierarchies.c.epoch,
            hierarchies.c.trust_number,
            hierarchies.c.trust_document,
            hierarchies.c.root_public,
        )
    ).first()
    if row is None:
        raise NotFoundError("The database holds no hierarchy.", next_step="Run: entrepot site init")
    return Hierarchy(**_mapping(row))


def add_site(connection: Connection, site: Site) -> None:
    """Add a site."""
    connection.execute(insert(sites).values(**msgspec.structs.asdict(site)))


def get_site(connection: Connection, code: str) -> Site:
    """One site.

    Raises:
        NotFoundError: there is none with this code.
    """
    row = connection.execute(select(sites).where(sites.c.code == code)).first()
    if row is None:
        raise NotFoundError(f"The database holds no site {code!r}.")
    return Site(**_mapping(row))


def put_secret(connection: Connection, *, site: str, name: str, sealed: bytes, now: float) -> None:
    """Keep a sealed secret; a name is given once."""
    connection.execute(insert(secrets).values(site=site, name=name, sealed=sealed, created=int(now)))


def sealed_secrets(connection: Connection, site: str) -> dict[str, bytes]:
    """All sealed secrets of a site, by name."""
    rows = connection.execute(select(secrets.c.name, secrets.c.sealed).where(secrets.c.site == site))
    return {name: sealed for name, sealed in rows}  # noqa: C416  # rows are not pairs to the type checker


def add_role_key(connection: Connection, key: RoleKey) -> None:
    """Keep a role key."""
    connection.execute(insert(role_keys).values(**(msgspec.structs.asdict(key) | {"role": key.role.value})))


def site_role_keys(connection: Connection, site: str) -> list[RoleKey]:
    """All role keys of a site, newest first."""
    query = select(role_keys).where(role_keys.c.site == site).order_by(role_keys.c.not_before.desc(), role_keys.c.kid)
    return [RoleKey(**(_mapping(row) | {"role": Role(row.role)})) for row in connection.execute(query)]


def count(connection: Connection, name: str) -> int:
    """The present value of a counter; 0 when it was never raised."""
    return int(connection.execute(select(counters.c.value).where(counters.c.name == name)).scalar() or 0)


def note_change(connection: Connection) -> None:
    """Say that answers to clients may differ when this transaction is committed."""
    mark_changed(connection)


def _mapping(row: Any) -> dict[str, Any]:
    return dict(row._mapping)  # noqa: SLF001  # SQLAlchemy's documented way to a row's columns
