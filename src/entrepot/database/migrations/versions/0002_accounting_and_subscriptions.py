"""accounting in full, and who is told of alerts

Revision ID: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    quota = sa.Column("upload_quota", sa.BigInteger(), nullable=False, server_default="10000000000000")
    op.add_column("cloud_point", quota)
    for name in ("site_writes", "site_reads"):
        op.add_column("usage_hour", sa.Column(name, sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("usage_hour", sa.Column("instances", sa.Integer(), nullable=False, server_default="0"))
    for name in ("counted_bytes", "counted_at"):
        op.add_column("cloud_usage", sa.Column(name, sa.BigInteger(), nullable=False, server_default="0"))
    _maintenance_window()
    _alert_subscription()
    _alert_message()
    _mail_server()


def _maintenance_window() -> None:
    op.create_table(
        "maintenance_window",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("name_key", sa.String(length=256), nullable=False),
        sa.Column("subject", sa.String(length=40), nullable=False),
        sa.Column("types", sa.Text(), nullable=False),
        sa.Column("start", sa.String(length=16), nullable=False),
        sa.Column("zone", sa.String(length=64), nullable=False),
        sa.Column("minutes", sa.Integer(), nullable=False),
        sa.Column("repeat", sa.String(length=8), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_maintenance_window")),
        sa.UniqueConstraint("name_key", name=op.f("uq_maintenance_window_name_key")),
    )


def _alert_subscription() -> None:
    op.create_table(
        "alert_subscription",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("name_key", sa.String(length=512), nullable=False),
        sa.Column("channel", sa.String(length=8), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("language", sa.String(length=8), nullable=False),
        sa.Column("types", sa.Text(), nullable=False),
        sa.Column("severities", sa.Text(), nullable=False),
        sa.Column("digest_minutes", sa.Integer(), nullable=False),
        sa.Column("private_networks", sa.Boolean(), nullable=False),
        sa.Column("authority", sa.Text(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("site", sa.String(length=3), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("delivered", sa.BigInteger(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alert_subscription")),
        sa.UniqueConstraint("name_key", name=op.f("uq_alert_subscription_name_key")),
    )


def _alert_message() -> None:
    op.create_table(
        "alert_message",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("subscription", sa.String(length=40), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=8), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("due", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("settled", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["subscription"],
            ["alert_subscription.id"],
            name=op.f("fk_alert_message_subscription_alert_subscription"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alert_message")),
    )
    op.create_index("ix_alert_message_due", "alert_message", ["state", "due"])
    op.create_index("ix_alert_message_subscription", "alert_message", ["subscription"])


def _mail_server() -> None:
    op.create_table(
        "mail_server",
        sa.Column("site", sa.String(length=3), nullable=False),
        sa.Column("host", sa.String(length=253), nullable=False),
        sa.Column("port", sa.Integer(), nullable=False),
        sa.Column("security", sa.String(length=8), nullable=False),
        sa.Column("account", sa.String(length=256), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("sender", sa.String(length=320), nullable=False),
        sa.Column("authority", sa.Text(), nullable=False),
        sa.Column("changed", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("site", name=op.f("pk_mail_server")),
    )
