"""How versions are sealed and signed: which are outdated, and what replaces a sealing."""

from collections.abc import Sequence

from sqlalchemy import Connection, case, delete, func, or_, select, update

from entrepot.database import formersets
from entrepot.database.contents import Version, version_of
from entrepot.database.hierarchy import note_change
from entrepot.database.tables.content import content as contents
from entrepot.database.tables.content import content_delta as deltas
from entrepot.database.tables.content import content_version as versions


def outdated(connection: Connection, generation: int, *, site: str, signed_by: Sequence[str] = ()) -> list[Version]:
    """Versions of a site that are sealed under an older generation of the content secret, or signed by one of these
    keys; what clients get now comes first."""
    old = or_(versions.c.generation < generation, versions.c.signed_by.in_(list(signed_by)))
    query = (
        select(versions)
        .join(contents, contents.c.id == versions.c.content)
        .where(old, contents.c.site == site, contents.c.deleting.is_(False))
        .order_by(case((contents.c.current == versions.c.number, 0), else_=1), versions.c.content, versions.c.number)
    )
    return [version_of(row) for row in connection.execute(query).mappings()]


def count_versions(connection: Connection) -> tuple[dict[int, int], dict[str, int]]:
    """How many versions are sealed under each generation, and how many each manifest key has signed."""
    number = func.count()
    sealed = connection.execute(select(versions.c.generation, number).group_by(versions.c.generation))
    signed = connection.execute(select(versions.c.signed_by, number).group_by(versions.c.signed_by))
    return {row[0]: row[1] for row in sealed}, {row[0]: row[1] for row in signed}


def replace_sealing(connection: Connection, before: Version, **values: object) -> bool:
    """Put a version's new sealing in place of the one that ``before`` says; False when that is no longer so.

    What it was stays known as the former sealing, and its deltas are forgotten: they lead between manifests that are
    no longer given out.
    """
    mine = (versions.c.content == before.content) & (versions.c.number == before.number)
    changed = update(versions).where(mine, versions.c.sealing == before.sealing)
    values |= {"sealing": before.sealing + 1, "former_set_id": before.set_id, "former_root": before.root}
    if connection.execute(changed.values(values)).rowcount != 1:
        return False
    touching = or_(deltas.c.from_version == before.number, deltas.c.to_version == before.number)
    gone = delete(deltas).where(deltas.c.content == before.content, touching).returning(deltas.c.set_id)
    formersets.keep(connection, before.content, [before.set_id, *connection.scalars(gone)])
    note_change(connection)
    return True


def reopen(connection: Connection, version: Version, *, root: bytes) -> None:
    """Keep a version's root reference, sealed to another server; what it was before it was sealed anew is given up."""
    mine = (versions.c.content == version.content) & (versions.c.number == version.number)
    connection.execute(update(versions).where(mine).values(root=root, former_set_id=None, former_root=None))
