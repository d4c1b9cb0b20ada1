"""Durable work."""

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, String, Table, Text, text

from entrepot.database.tables import metadata

_ACTIVE = text("state IN ('created', 'in_progress')")

task = Table(
    "task",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("site", String(3), nullable=False),  # whose server does it
    Column("kind", String(48), nullable=False),
    Column("subject", String(128), nullable=False),
    Column("title", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("step", Text, nullable=False),
    Column("done", BigInteger, nullable=False),
    Column("total", BigInteger, nullable=False),
    Column("unit", String(16), nullable=False),
    Column("message", Text, nullable=False),
    Column("error", Text, nullable=False),
    Column("error_code", String(48), nullable=False),
    Column("payload", Text, nullable=False),  # JSON, no secrets
    Column("attempts", Integer, nullable=False),
    Column("run_after", BigInteger, nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("started", BigInteger, nullable=False),
    Column("finished", BigInteger, nullable=False),
    Column("holder", String(64), nullable=False),  # process that works on it
    Column("lease_until", BigInteger, nullable=False),
    Column("cancel_requested", Boolean, nullable=False),
    Column("result", Text, nullable=False, server_default=""),  # JSON of what it found out, where that is its purpose
    Column("rate", BigInteger, nullable=False, server_default="0"),  # units a second, lately
    Column("by", String(128), nullable=False, server_default=""),  # who ordered it; empty: from before it was kept
    Column("cancelled_by", String(128), nullable=False, server_default=""),  # who cancelled it, or took over from it
    # one active task for each kind and subject
    Index("uq_task_active", "kind", "subject", unique=True, sqlite_where=_ACTIVE, postgresql_where=_ACTIVE),
    Index("ix_task_due", "state", "run_after"),
    Index("ix_task_created", "created"),
)
