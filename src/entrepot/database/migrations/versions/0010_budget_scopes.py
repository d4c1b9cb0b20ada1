"""budgets of contents and collections, their grades, periods and history

Revision ID: 0010
Revises: 0009
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "transfer_budget",
        sa.Column("scope", sa.String(length=16), nullable=False),
        sa.Column("subject", sa.String(length=80), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("throttle_percent", sa.Integer(), nullable=False),
        sa.Column("peers_percent", sa.Integer(), nullable=False),
        sa.Column("critical_percent", sa.Integer(), nullable=False),
        sa.Column("grant_percent", sa.Integer(), nullable=False),
        sa.Column("stop_percent", sa.Integer(), nullable=False),
        sa.Column("rate", sa.BigInteger(), nullable=False),
        sa.Column("critical", sa.Text(), nullable=False),
        sa.Column("zone", sa.String(length=64), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("by", sa.String(length=128), nullable=False),
        sa.Column("stopped", sa.String(length=16), nullable=False),
        sa.PrimaryKeyConstraint("scope", "subject", name=op.f("pk_transfer_budget")),
    )
    op.execute(
        "INSERT INTO transfer_budget (scope, subject, bytes, throttle_percent, peers_percent, critical_percent,"
        ' grant_percent, stop_percent, rate, critical, zone, created, "by", stopped)'
        " SELECT 'cloud-point', point, bytes, 0, 0, critical_percent, 100, 0, 0, critical, '', created, \"by\", ''"
        " FROM budget"
    )
    op.drop_table("budget")
    op.create_table(
        "budget_change",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("scope", sa.String(length=16), nullable=False),
        sa.Column("subject", sa.String(length=80), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("by", sa.String(length=128), nullable=False),
        sa.Column("what", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_budget_change")),
    )
    op.create_index("ix_budget_change_subject", "budget_change", ["scope", "subject", "at"])
    op.add_column("budget_grant", sa.Column("rate", sa.BigInteger(), nullable=False, server_default="0"))
    op.create_index("ix_budget_grant_content", "budget_grant", ["content", "expires"])
