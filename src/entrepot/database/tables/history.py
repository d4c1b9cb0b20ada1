"""What happened to contents: published, rolled back, versions deleted; by whom and when.

Rows outlive their version and their content (so no foreign keys): they are the audit trail, and they keep the number of
a deleted version from ever being given again.
"""

from sqlalchemy import BigInteger, Column, Index, Integer, String, Table, Text

from entrepot.database.tables import metadata

content_event = Table(
    "content_event",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("content", String(40), nullable=False),
    Column("content_name", String(128), nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("event", String(24), nullable=False),
    Column("version", Integer, nullable=False),
    Column("previous", Integer, nullable=False),  # the current version before; 0: none, or it stayed
    Column("by", String(128), nullable=False),
    Column("note", Text, nullable=False),
    Index("ix_content_event_content", "content", "id"),
)
