"""Which deltas to the current versions there are, and between which versions one was found to save nothing."""

from sqlalchemy import Connection, Table, delete, or_, select

from entrepot.database.contents import Content, Version
from entrepot.database.engine import insert_if_free
from entrepot.database.tables.content import content_delta as deltas
from entrepot.database.tables.content import content_version as versions
from entrepot.database.tables.content import needless_delta as needless


def note_needless(connection: Connection, content: str, *, from_version: int, to_version: int) -> None:
    """Remember that a delta between two versions would save nothing: nobody needs to try again."""
    insert_if_free(connection, needless, {"content": content, "from_version": from_version, "to_version": to_version})


def forget_needless(connection: Connection, version: Version) -> None:
    """Forget what was found about a version that is deleted."""
    touching = or_(needless.c.from_version == version.number, needless.c.to_version == version.number)
    connection.execute(delete(needless).where(needless.c.content == version.content, touching))


def settled(connection: Connection, content: Content) -> set[int]:
    """The versions from which there is a delta to the current one, or from which one would save nothing."""
    return {number for table in (deltas, needless) for number in _sources(connection, table, content)}


def generations(connection: Connection, content: str) -> dict[int, int]:
    """The numbers of a content's versions, ascending, with the generation of the secret that each is sealed under."""
    query = select(versions.c.number, versions.c.generation).where(versions.c.content == content)
    return {row.number: row.generation for row in connection.execute(query.order_by(versions.c.number))}


def _sources(connection: Connection, table: Table, content: Content) -> list[int]:
    query = select(table.c.from_version)
    return list(connection.scalars(query.where(table.c.content == content.id, table.c.to_version == content.current)))
