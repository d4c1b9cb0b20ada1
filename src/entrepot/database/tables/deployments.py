"""Deployments (R44) and client settings (R5, R43)."""

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Integer, String, Table, Text, UniqueConstraint

from entrepot.database.tables import metadata

deployment = Table(
    "deployment",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("content", String(40), ForeignKey("content.id"), nullable=False),
    Column("collection", String(40), ForeignKey("collection.id"), nullable=False, index=True),
    Column("allow_remote", Boolean, nullable=False),
    Column("allow_fallback", Boolean, nullable=False),
    Column("run", String(16), nullable=False),
    Column("created", BigInteger, nullable=False),
    UniqueConstraint("content", "collection"),
)

client_settings = Table(
    "client_settings",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("name", String(128), nullable=False),
    Column("name_key", String(256), nullable=False, unique=True),
    Column("priority", Integer, nullable=False, unique=True),  # the lowest wins; 10,000: the default set
    Column("collection", String(40), ForeignKey("collection.id"), nullable=True),
    Column("settings", Text, nullable=False),  # JSON of protocol.deviceapi.SettingsValues
)
