"""Alerts and their history (domain page, section 5). One row per type and subject, from the day the subject exists."""

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, String, Table, Text, UniqueConstraint

from entrepot.database.tables import metadata

alert = Table(
    "alert",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("type", String(48), nullable=False),
    Column("subject", String(40), nullable=False),
    Column("subject_name", String(128), nullable=False),
    Column("state", String(16), nullable=False),
    Column("condition", String(16), nullable=False),  # good, bad or unknown: the last evaluation
    Column("message", Text, nullable=False),
    Column("occurrences", Integer, nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("changed", BigInteger, nullable=False),
    Column("skip_until", BigInteger, nullable=False),
    Column("closed_by", String(128), nullable=False),
    Column("comment", Text, nullable=False),
    UniqueConstraint("type", "subject"),
    Index("ix_alert_state", "state"),
    Index("ix_alert_subject", "subject"),
)

alert_history = Table(
    "alert_history",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("alert", String(40), ForeignKey("alert.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("at", BigInteger, nullable=False),
    Column("event", String(32), nullable=False),
    Column("state", String(16), nullable=False),
    Column("by", String(128), nullable=False),
    Column("message", Text, nullable=False),
)
