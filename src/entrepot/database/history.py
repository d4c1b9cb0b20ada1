"""The audit trail of contents: which version was made current or deleted, by whom, when and why."""

from typing import Final

from sqlalchemy import Connection, insert, select

from entrepot.database.contents import Content
from entrepot.database.tables.history import content_event as events
from entrepot.protocol.libraryapi import ContentEvent

MADE_CURRENT: Final = "made_current"
VERSION_DELETED: Final = "version_deleted"


def note(
    connection: Connection,
    content: Content,
    event: str,
    *,
    version: int,
    now: float,
    by: str,
    previous: int = 0,
    text: str = "",
) -> None:
    """Write down what happened, in the transaction in which it happens."""
    connection.execute(
        insert(events).values(
            content=content.id,
            content_name=content.name,
            at=int(now),
            event=event,
            version=version,
            previous=previous,
            by=by,
            note=text,
        )
    )


def current_before(connection: Connection, content: str, version: int) -> int:
    """Which version was current before an administrator last made this one current; 0 when nobody ever did."""
    made = events.c.content == content, events.c.event == MADE_CURRENT, events.c.version == version
    return int(connection.scalar(select(events.c.previous).where(*made).order_by(events.c.id.desc()).limit(1)) or 0)


def listed(connection: Connection, content: str, *, limit: int = 100) -> list[ContentEvent]:
    """What happened to a content, the newest first."""
    query = select(events).where(events.c.content == content).order_by(events.c.id.desc()).limit(limit)
    names = ContentEvent.__struct_fields__
    return [ContentEvent(**{name: row[name] for name in names}) for row in connection.execute(query).mappings()]
