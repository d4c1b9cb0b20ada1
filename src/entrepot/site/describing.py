"""Contents as administrators see them: with versions, deltas and distribution."""

import msgspec
from sqlalchemy import Connection

from entrepot.database import contents, distribution, tasks
from entrepot.database.contents import Content
from entrepot.protocol.contentapi import ContentInfo, DeltaInfo, DistributionInfo, OriginInfo, VersionInfo
from entrepot.site.publishing import PUBLISH


def described(connection: Connection, name_or_id: str = "") -> list[ContentInfo]:
    """Contents for people: all, or one.

    Raises:
        NotFoundError: no such content.
    """
    chosen = [contents.get_content(connection, name_or_id)] if name_or_id else contents.list_contents(connection)
    only = chosen[0].id if name_or_id else ""
    rows: dict[str, list[DistributionInfo]] = {}
    for row in distribution.described(connection, content=only):
        rows.setdefault(row.content, []).append(row)
    published = _published(connection, only)
    return [
        ContentInfo(
            id=content.id,
            name=content.name,
            type=content.type,
            source=content.source,
            excludes=content.excludes,
            for_windows=content.for_windows,
            isolated=content.isolated,
            state=_state(connection, content),
            current=content.current,
            created=content.created,
            delta_versions=content.delta_versions,
            unpack=content.unpack,
            versions=tuple(published.get(content.id, ())),
            distribution=tuple(rows.get(content.id, ())),
        )
        for content in chosen
    ]


def _published(connection: Connection, content: str) -> dict[str, list[VersionInfo]]:
    """Versions by content, with the deltas to them; of one content or of all."""
    made: dict[tuple[str, int], list[DeltaInfo]] = {}
    for delta in contents.list_deltas(connection, content):
        made.setdefault((delta.content, delta.to_version), []).append(
            DeltaInfo(
                from_version=delta.from_version,
                to_version=delta.to_version,
                set_id=delta.set_id.hex(),
                size=delta.size,
                fetched=delta.fetched,
            )
        )
    published: dict[str, list[VersionInfo]] = {}
    for version in contents.list_versions(connection, content):
        names = [name for name in VersionInfo.__struct_fields__ if name not in ("set_id", "deltas", "origin")]
        info = VersionInfo(
            set_id=version.set_id.hex(),
            deltas=tuple(made.get((version.content, version.number), ())),
            origin=OriginInfo(**msgspec.structs.asdict(version.origin)) if version.origin else None,
            **{name: getattr(version, name) for name in names},
        )
        published.setdefault(version.content, []).append(info)
    return published


def _state(connection: Connection, content: Content) -> str:
    if content.deleting:
        return "deleting"
    if tasks.active(connection, PUBLISH, content.id) is not None:
        return "publishing"
    return "ready" if content.current else "failed"
