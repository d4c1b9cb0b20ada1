"""Contents, their versions and deltas.

Which version is current is a pointer with a counter: rolling back is a higher counter that names an older version.
"""

from typing import Any

import msgspec
from sqlalchemy import Connection, Select, delete, func, insert, select, update

from entrepot.core.encoding import from_json, to_json
from entrepot.core.errors import ConflictError, NotFoundError
from entrepot.core.names import name_key
from entrepot.database import formersets
from entrepot.database.hierarchy import note_change
from entrepot.database.names import check_name, find, refuse_taken
from entrepot.database.tables.content import content as contents
from entrepot.database.tables.content import content_delta as deltas
from entrepot.database.tables.content import content_version as versions
from entrepot.database.tables.history import content_event
from entrepot.protocol.contentapi import ContentType


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """From where and how a version was published: ``source`` is a path on the site server; ``unpack``: an archive, of
    which what it holds was published."""

    source: str
    excludes: tuple[str, ...]
    unpack: bool


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """A content. ``current`` is 0 until its first version is published; ``delta_versions`` is from how many earlier
    versions deltas are made, None for as many as the site's setting says; ``unpack``: ``source`` is an archive, and
    what it holds is published."""

    id: str
    name: str
    type: ContentType
    source: str
    excludes: tuple[str, ...]
    for_windows: bool
    isolated: bool
    current: int
    pointer_counter: int
    deleting: bool
    site: str
    created: int
    delta_versions: int | None = None
    unpack: bool = False

    @property
    def origin(self) -> Origin:
        """Of the next version, unless something else is asked for."""
        return Origin(source=self.source, excludes=self.excludes, unpack=self.unpack)

    def deltas_kept(self, setting: int) -> int:
        """From how many earlier versions deltas are made, given the site's setting."""
        return setting if self.delta_versions is None else self.delta_versions


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """A published version. ``root`` is the reference that opens it, sealed by the vault; ``objects`` counts all of the
    set's objects, the set object itself left out; ``distinct_size`` is what its distinct chunks open to (0: not known).

    ``generation`` is that of the content secret, ``sealing`` grows with each time the version is sealed anew, and
    ``signed_by`` is the manifest key's id. ``former_set_id`` and ``former_root`` are what it was before the last
    sealing, for as long as a point may have nothing else. ``origin`` is not known of versions that were published
    before it was noted.
    """

    content: str
    number: int
    set_id: bytes
    set_size: int
    root: bytes
    files: int
    folders: int
    links: int
    plain_size: int
    chunks: int
    stored_size: int
    new_objects: int
    new_bytes: int
    objects: int
    warnings: tuple[str, ...]
    created: int
    generation: int = 1
    sealing: int = 1
    signed_by: str = ""
    former_set_id: bytes | None = None
    former_root: bytes | None = None
    note: str = ""
    distinct_size: int = 0
    origin: Origin | None = None

    def __repr__(self) -> str:
        return f"Version({self.content}, {self.number})"


class Delta(msgspec.Struct, frozen=True, kw_only=True):
    """A delta between two versions. ``size`` is the sealed size of its objects; ``root`` is sealed by the vault."""

    content: str
    from_version: int
    to_version: int
    set_id: bytes
    root: bytes
    size: int
    created: int
    saved: int = 0
    fetched: int = 0

    def __repr__(self) -> str:
        return f"Delta({self.content}, {self.from_version} to {self.to_version})"


def add_content(connection: Connection, content: Content) -> Content:
    """Add a content.

    Raises:
        ConflictError: the name is taken.
        BadInputError: no proper name.
    """
    name = check_name(content.name, "content")
    refuse_taken(connection, contents, name, "content")
    values = msgspec.structs.asdict(content) | {
        "name": name,
        "name_key": name_key(name),
        "type": content.type.value,
        "excludes": to_json(content.excludes).decode(),
    }
    connection.execute(insert(contents).values(values))
    return get_content(connection, content.id)


def get_content(connection: Connection, name_or_id: str) -> Content:
    """One content.

    Raises:
        NotFoundError: there is none with this id or name.
    """
    found = find(connection, contents, name_or_id, "content").id
    return _content(connection.execute(select(contents).where(contents.c.id == found)).mappings().one())


def list_contents(connection: Connection) -> list[Content]:
    """All contents, by name."""
    return [_content(row) for row in connection.execute(select(contents).order_by(contents.c.name_key)).mappings()]


def change(connection: Connection, content: Content) -> None:
    """Remember where and how the next version is published, as ``content`` says now."""
    names = ("source", "for_windows", "unpack", "delta_versions")
    values = {name: getattr(content, name) for name in names} | {"excludes": to_json(content.excludes).decode()}
    connection.execute(update(contents).where(contents.c.id == content.id).values(values))


def change_note(connection: Connection, content: str, number: int, note: str) -> None:
    """Put a note on a version, in place of the one before; empty: none.

    Raises:
        NotFoundError: there is no such version.
    """
    get_version(connection, content, number)
    mine = (versions.c.content == content, versions.c.number == number)
    connection.execute(update(versions).where(*mine).values(note=note))


def mark_deleting(connection: Connection, content: str) -> None:
    """From now on the content is only taken apart."""
    connection.execute(update(contents).where(contents.c.id == content).values(deleting=True))
    note_change(connection)


def remove_content(connection: Connection, content: str) -> list[bytes]:
    """Forget a content with its versions and deltas; gives the object sets that nobody needs for it any more."""
    sets = set_ids(connection, content)
    formersets.keep(connection, content, sets)
    for table in (deltas, versions):
        connection.execute(delete(table).where(table.c.content == content))
    connection.execute(delete(contents).where(contents.c.id == content))
    note_change(connection)
    return [set_id for set_id in sets if not in_use(connection, set_id)]


def set_ids(connection: Connection, content: str) -> list[bytes]:
    """Distinct object sets of a content's versions and deltas."""
    found = set(connection.scalars(select(versions.c.set_id).where(versions.c.content == content)))
    found |= set(connection.scalars(select(deltas.c.set_id).where(deltas.c.content == content)))
    return sorted(found)


def in_use(connection: Connection, set_id: bytes) -> bool:
    """Whether a version or a delta of any content needs an object set."""
    return any(
        connection.execute(select(table.c.content).where(table.c.set_id == set_id).limit(1)).first() is not None
        for table in (versions, deltas)
    )


def next_number(connection: Connection, content: str) -> int:
    """The number that the next version gets: never that of a version that was deleted, for devices may have it."""
    given = [
        connection.execute(select(func.max(number)).where(column == content)).scalar() or 0
        for number, column in (
            (versions.c.number, versions.c.content),
            (content_event.c.version, content_event.c.content),
        )
    ]
    return int(max(given)) + 1


def add_version(connection: Connection, version: Version) -> None:
    """Add a version and make it the current one.

    Raises:
        ConflictError: the number is taken.
    """
    taken = select(versions.c.number).where(versions.c.content == version.content, versions.c.number == version.number)
    if connection.execute(taken).first() is not None:
        raise ConflictError(f"Version {version.number} has been published already.")
    origin = "" if version.origin is None else to_json(version.origin).decode()
    values = msgspec.structs.asdict(version) | {"warnings": to_json(version.warnings).decode(), "origin": origin}
    connection.execute(insert(versions).values(values))
    set_current(connection, version.content, version.number)


def set_current(connection: Connection, content: str, number: int) -> None:
    """Point to another version.

    Raises:
        NotFoundError: there is no such version.
    """
    get_version(connection, content, number)
    connection.execute(
        update(contents)
        .where(contents.c.id == content)
        .values(current=number, pointer_counter=contents.c.pointer_counter + 1)
    )
    note_change(connection)


def get_version(connection: Connection, content: str, number: int) -> Version:
    """One version.

    Raises:
        NotFoundError: there is none with this number.
    """
    query = select(versions).where(versions.c.content == content, versions.c.number == number)
    row = connection.execute(query).mappings().first()
    if row is None:
        raise NotFoundError(
            f"There is no version {number} of this content.",
            next_step=f"See which there are: entrepot content show {content}",
        )
    return version_of(row)


def list_versions(connection: Connection, content: str = "") -> list[Version]:
    """Versions in ascending order, of one content or of all."""
    query: Select[Any] = select(versions).order_by(versions.c.content, versions.c.number)
    if content:
        query = query.where(versions.c.content == content)
    return [version_of(row) for row in connection.execute(query).mappings()]


def drop_delta(connection: Connection, delta: Delta) -> None:
    """Forget a delta."""
    mine = (deltas.c.content == delta.content) & (deltas.c.from_version == delta.from_version)
    connection.execute(deltas.delete().where(mine, deltas.c.to_version == delta.to_version))
    formersets.keep(connection, delta.content, [delta.set_id])
    note_change(connection)


def add_delta(connection: Connection, delta: Delta) -> None:
    """Add a delta.

    Raises:
        ConflictError: there is one between these versions.
    """
    if find_delta(connection, delta.content, delta.from_version, delta.to_version) is not None:
        raise ConflictError("There is a delta between these versions already.")
    connection.execute(insert(deltas).values(msgspec.structs.asdict(delta)))
    note_change(connection)


def find_delta(connection: Connection, content: str, from_version: int, to_version: int) -> Delta | None:
    """The delta between two versions, if there is one."""
    query = select(deltas).where(
        deltas.c.content == content, deltas.c.from_version == from_version, deltas.c.to_version == to_version
    )
    row = connection.execute(query).mappings().first()
    return None if row is None else Delta(**row)


def list_deltas(connection: Connection, content: str = "", *, to_version: int = 0) -> list[Delta]:
    """Deltas, of one content or of all, to one version or to any."""
    query: Select[Any] = select(deltas).order_by(deltas.c.content, deltas.c.to_version, deltas.c.from_version)
    if content:
        query = query.where(deltas.c.content == content)
    if to_version:
        query = query.where(deltas.c.to_version == to_version)
    return [Delta(**row) for row in connection.execute(query).mappings()]


def _content(row: Any) -> Content:
    values = dict(row)
    del values["name_key"]
    values["excludes"] = from_json(values["excludes"], tuple[str, ...], "list of patterns")
    return Content(**(values | {"type": ContentType(values["type"])}))


def version_of(row: Any) -> Version:
    """What a row of the table says."""
    values = dict(row)
    values["warnings"] = from_json(values["warnings"], tuple[str, ...], "list of warnings")
    origin = values["origin"]
    values["origin"] = from_json(origin, Origin, "origin of a version") if origin else None
    return Version(**values)
