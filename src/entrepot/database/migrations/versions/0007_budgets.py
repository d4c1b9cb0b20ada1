"""transfer budgets, and what was granted under them

Revision ID: 0007
Revises: 0006
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "budget",
        sa.Column("point", sa.String(length=40), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("critical_percent", sa.Integer(), nullable=False),
        sa.Column("critical", sa.Text(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("by", sa.String(length=128), nullable=False),
        sa.PrimaryKeyConstraint("point", name=op.f("pk_budget")),
    )
    op.create_table(
        "budget_grant",
        sa.Column("jti", sa.String(length=64), nullable=False),
        sa.Column("point", sa.String(length=40), nullable=False),
        sa.Column("device", sa.String(length=40), nullable=False),
        sa.Column("content", sa.String(length=40), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("expires", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("jti", name=op.f("pk_budget_grant")),
    )
    op.create_index("ix_budget_grant_point", "budget_grant", ["point", "expires"])
    op.create_index("ix_budget_grant_device", "budget_grant", ["device", "point", "content", "version"])
