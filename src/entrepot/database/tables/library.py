"""The library: sealed objects, the index by content, object sets, and the leases of publish sessions.

States and transitions: ``content/ledger.py``. Objects and sets have small numbers of their own here, because
``set_object`` has a row for each object of each set.
"""

from sqlalchemy import BigInteger, Column, Float, ForeignKey, Index, Integer, LargeBinary, SmallInteger, String, Table

from entrepot.database.tables import metadata

_NUMBER = BigInteger().with_variant(Integer, "sqlite")

object_ = Table(
    "object",
    metadata,
    Column("id", _NUMBER, primary_key=True),
    Column("object_id", LargeBinary(32), nullable=False, unique=True),
    Column("size", BigInteger, nullable=False),
    Column("plain_size", BigInteger, nullable=False, server_default="0"),  # 0: not known, or a set
    Column("purpose", SmallInteger, nullable=False),
    Column("state", String(16), nullable=False),
    Column("changed", Float, nullable=False),  # seconds since 1970, of the state
    Index(None, "state", "changed"),
)

chunk = Table(
    "chunk",
    metadata,
    Column("index_hash", LargeBinary(32), primary_key=True),
    Column("object", _NUMBER, ForeignKey("object.id"), nullable=False, index=True),
    Column("payload_hash", LargeBinary, nullable=False),  # 34 bytes; 32 of what was sealed by SHA-256
    Column("generation", Integer, nullable=False),
)

object_set = Table(
    "object_set",
    metadata,
    Column("id", _NUMBER, primary_key=True),
    Column("object", _NUMBER, ForeignKey("object.id"), nullable=False, unique=True),
    Column("created", Float, nullable=False),
)

set_object = Table(
    "set_object",
    metadata,
    Column("object_set", _NUMBER, ForeignKey("object_set.id"), primary_key=True),
    Column("object", _NUMBER, ForeignKey("object.id"), primary_key=True, index=True),
    sqlite_with_rowid=False,
)

publish_session = Table(
    "publish_session",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("subject", String(200), nullable=False),
    Column("opened", Float, nullable=False),
    Column("lease_until", Float, nullable=False, index=True),
    Column("task", String(64), nullable=False, server_default=""),  # that this is an attempt of; empty: of none
)

session_object = Table(
    "session_object",
    metadata,
    Column("session", String(40), ForeignKey("publish_session.id"), primary_key=True),
    Column("object", _NUMBER, ForeignKey("object.id"), primary_key=True, index=True),
    sqlite_with_rowid=False,
)
