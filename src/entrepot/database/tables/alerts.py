"""Alerts and their history (domain page, section 5). One row per type and subject, from the day the subject exists.

With them: maintenance windows, who is told of alerts, and what is still to be told (a durable outbox).
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    UniqueConstraint,
)

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
    Column("said", Text, nullable=False, server_default="[]"),  # JSON: ids of sentences and their figures
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
    Column("said", Text, nullable=False, server_default="[]"),  # as above; what a person said is quoted
)

maintenance_window = Table(
    "maintenance_window",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("name", String(128), nullable=False),
    Column("name_key", String(256), nullable=False, unique=True),
    Column("subject", String(40), nullable=False),  # id of a cloud point; empty: all
    Column("types", Text, nullable=False),  # JSON list of alert types; empty: all
    Column("start", String(16), nullable=False),  # local time, 2026-03-23T22:00
    Column("zone", String(64), nullable=False),  # IANA name
    Column("minutes", Integer, nullable=False),
    Column("repeat", String(8), nullable=False),  # never, daily or weekly
    Column("created", BigInteger, nullable=False),
)

alert_subscription = Table(
    "alert_subscription",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("name", String(255), nullable=False),
    Column("name_key", String(512), nullable=False, unique=True),
    Column("channel", String(8), nullable=False),  # mail or webhook
    Column("target", Text, nullable=False),  # addresses separated by ";", or an https:// address
    Column("language", String(8), nullable=False),
    Column("types", Text, nullable=False),  # JSON list; empty: all
    Column("severities", Text, nullable=False),  # JSON list; empty: all
    Column("digest_minutes", Integer, nullable=False),  # 0: each event at once
    Column("private_networks", Boolean, nullable=False),  # a webhook may lead to private addresses
    Column("authority", Text, nullable=False),  # PEM: trusted for a webhook besides the public ones
    Column("sealed", LargeBinary, nullable=False),  # a webhook's signing secret, sealed by the vault
    Column("site", String(3), nullable=False),  # whose server delivers, and whose vault has sealed
    Column("created", BigInteger, nullable=False),
    Column("delivered", BigInteger, nullable=False),  # last success; 0: none
    Column("error", Text, nullable=False),  # of the last attempt; empty: it succeeded
)

alert_message = Table(
    "alert_message",
    metadata,
    Column("id", String(40), primary_key=True),  # the idempotency key
    Column(
        "subscription", String(40), ForeignKey("alert_subscription.id", ondelete="CASCADE"), nullable=False, index=True
    ),
    Column("body", Text, nullable=False),  # JSON: what happened
    Column("said", Text, nullable=False, server_default="[]"),  # as above: it becomes words when it is sent
    Column("state", String(8), nullable=False),  # waiting, sent, failed
    Column("at", BigInteger, nullable=False),
    Column("due", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("error", Text, nullable=False),
    Column("settled", BigInteger, nullable=False),  # when it was sent or given up
    Index("ix_alert_message_due", "state", "due"),
)

mail_server = Table(
    "mail_server",
    metadata,
    Column("site", String(3), primary_key=True),
    Column("host", String(253), nullable=False),
    Column("port", Integer, nullable=False),
    Column("security", String(8), nullable=False),  # starttls, tls or none
    Column("account", String(256), nullable=False),  # empty: no authentication
    Column("sealed", LargeBinary, nullable=False),  # password, sealed by the vault
    Column("sender", String(320), nullable=False),
    Column("authority", Text, nullable=False),  # PEM: trusted besides the public ones
    Column("changed", BigInteger, nullable=False),
)
