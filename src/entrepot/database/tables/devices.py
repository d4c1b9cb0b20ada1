"""Devices, how they enrol, the collections they belong to, and what they report."""

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Index, Integer, LargeBinary, String, Table, Text

from entrepot.database.tables import metadata

device = Table(
    "device",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("name", String(128), nullable=False),
    Column("name_key", String(256), nullable=False, unique=True),
    Column("public_key", LargeBinary, nullable=False, unique=True),
    Column("state", String(16), nullable=False),  # pending, approved, blocked
    Column("changed", BigInteger, nullable=False),  # of the state
    Column("site", String(3), nullable=False),
    Column("enrolled", BigInteger, nullable=False),
    Column("seen", BigInteger, nullable=False),
    Column("address", String(64), nullable=False),
    Index("ix_device_state", "state"),
)

enrolment_code = Table(
    "enrolment_code",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("kind", String(16), nullable=False),  # device or point
    Column("name", String(128), nullable=False),
    Column("sealed", LargeBinary, nullable=False),  # the secret, sealed by the vault
    Column("uses_left", Integer, nullable=False),
    Column("expires", BigInteger, nullable=False, index=True),
    Column("collection", String(40), nullable=False),
    Column("point", String(40), nullable=False),
    Column("created", BigInteger, nullable=False),
)

used_nonce = Table(
    "used_nonce",
    metadata,
    Column("nonce", LargeBinary, primary_key=True),
    Column("expires", BigInteger, nullable=False, index=True),
)

collection = Table(
    "collection",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("name", String(128), nullable=False),
    Column("name_key", String(256), nullable=False, unique=True),
    Column("built_in", Boolean, nullable=False),
)

collection_member = Table(
    "collection_member",
    metadata,
    Column("collection", String(40), ForeignKey("collection.id", ondelete="CASCADE"), primary_key=True),
    Column("device", String(40), ForeignKey("device.id", ondelete="CASCADE"), primary_key=True),
    Index("ix_collection_member_device", "device"),
)

download = Table(
    "download",
    metadata,
    Column("device", String(40), ForeignKey("device.id", ondelete="CASCADE"), primary_key=True),
    Column("id", String(64), primary_key=True),  # chosen by the device: reporting twice counts once
    Column("content", String(40), nullable=False),
    Column("version", Integer, nullable=False),
    Column("network", String(16), nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("error", Text, nullable=False),
    Column("plain_size", BigInteger, nullable=False),
    Column("started", BigInteger, nullable=False),
    Column("finished", BigInteger, nullable=False),
    Column("sources", Text, nullable=False),  # JSON list
    Column("received", BigInteger, nullable=False, index=True),
)
