"""The hierarchy, its sites, their sealed keys and secrets, and the counters of signed documents."""

import msgspec
from sqlalchemy import Connection, delete, func, insert, select, update

from entrepot.core.errors import ConflictError, NotFoundError
from entrepot.database.engine import CHANGES, insert_into, mark_changed
from entrepot.database.tables.cloud import control_document as control_documents
from entrepot.database.tables.hierarchy import counter as counters
from entrepot.database.tables.hierarchy import hierarchy as hierarchies
from entrepot.database.tables.hierarchy import role_key as role_keys
from entrepot.database.tables.hierarchy import site as sites
from entrepot.database.tables.hierarchy import site_secret as secrets
from entrepot.database.tables.points import point as points
from entrepot.protocol.trust import Role

KEYS = "keys"
"""The counter that grows with every change of keys, so that other processes of the site notice."""


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
    """A key of a site, its private half sealed to the site's server.

    ``listed_in`` is the number of the first trust document that lists it (0: none does yet), ``dropped_in`` of the
    first that does so no more (0: none), ``listed_at`` when it was first listed.
    """

    kid: str
    role: Role
    site: str
    public: bytes
    sealed: bytes
    not_before: int
    not_after: int
    listed_in: int = 1
    dropped_in: int = 0
    listed_at: int = 0


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
    return Hierarchy(**row._asdict())


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
    return Site(**row._asdict())


def list_sites(connection: Connection) -> list[Site]:
    """All sites, by code."""
    return [Site(**row._asdict()) for row in connection.execute(select(sites).order_by(sites.c.code))]


def set_vault(connection: Connection, site: str, public: bytes) -> None:
    """Remember the server's new vault key (after its secrets were brought to another computer)."""
    connection.execute(update(sites).where(sites.c.code == site).values(vault_public=public))


def put_secret(connection: Connection, *, site: str, name: str, sealed: bytes, now: float) -> None:
    """Keep a sealed secret; a name is given once."""
    connection.execute(insert(secrets).values(site=site, name=name, sealed=sealed, created=int(now)))


def replace_secret(connection: Connection, *, site: str, name: str, sealed: bytes, now: float) -> None:
    """Keep a sealed secret, in place of what the name had before."""
    values = {"site": site, "name": name, "sealed": sealed, "created": int(now)}
    statement = insert_into(connection, secrets).values(values)
    again = {"sealed": sealed}  # when the secret was made stays as it is: only its wrapping is new
    connection.execute(statement.on_conflict_do_update(index_elements=["site", "name"], set_=again))


def forget_secret(connection: Connection, *, site: str, name: str) -> None:
    """Forget a secret for good."""
    connection.execute(delete(secrets).where(secrets.c.site == site, secrets.c.name == name))


def secret_dates(connection: Connection, site: str) -> dict[str, int]:
    """When each secret of a site was made, by name."""
    rows = connection.execute(select(secrets.c.name, secrets.c.created).where(secrets.c.site == site))
    return {row.name: row.created for row in rows}


def newest_generation(connection: Connection, site: str) -> int:
    """The number of the newest content secret of a site; 0 when it has none."""
    names = connection.scalars(select(secrets.c.name).where(secrets.c.site == site, secrets.c.name.like("content/%")))
    return max((int(name.removeprefix("content/")) for name in names), default=0)


def lock_keys(connection: Connection) -> int:
    """Let nobody else change keys until this transaction ends; gives the number of this change (``keys`` counter)."""
    statement = insert_into(connection, counters).values(name=KEYS, value=1)
    raised = {"value": counters.c.value + 1}
    changed = statement.on_conflict_do_update(index_elements=["name"], set_=raised).returning(counters.c.value)
    return int(connection.execute(changed).scalar_one())


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
    return [RoleKey(**(row._asdict() | {"role": Role(row.role)})) for row in connection.execute(query)]


def change_role_key(connection: Connection, kid: str, **values: int | bytes) -> None:
    """Change what is known of a role key."""
    connection.execute(update(role_keys).where(role_keys.c.kid == kid).values(values))


def store_trust(connection: Connection, *, number: int, epoch: int, document: str) -> bool:
    """Keep a newer trust document; False when the one that is kept is not older."""
    changed = update(hierarchies).where(hierarchies.c.trust_number < number, hierarchies.c.epoch <= epoch)
    values = {"trust_number": number, "epoch": epoch, "trust_document": document}
    return connection.execute(changed.values(values)).rowcount == 1


def confirmed_trust(connection: Connection, site: str) -> dict[str, int]:
    """Which trust document each active point of a site has confirmed; 0: none yet."""
    number = func.coalesce(control_documents.c.trust_number, 0)
    query = select(points.c.id, number.label("number")).outerjoin(
        control_documents, control_documents.c.point == points.c.id
    )
    rows = connection.execute(query.where(points.c.site == site, points.c.state == "active"))
    return {row.id: int(row.number) for row in rows}


def count(connection: Connection, name: str) -> int:
    """The present value of a counter; 0 when it was never raised."""
    return int(connection.execute(select(counters.c.value).where(counters.c.name == name)).scalar() or 0)


def note_change(connection: Connection) -> None:
    """Say that answers to clients may differ when this transaction is committed."""
    mark_changed(connection)
