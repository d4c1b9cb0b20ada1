"""price sheets, and what clients saved

Revision ID: 0006
Revises: 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "price_sheet",
        sa.Column("name_key", sa.String(length=256), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("by", sa.String(length=128), nullable=False),
        sa.PrimaryKeyConstraint("name_key", "version", name=op.f("pk_price_sheet")),
    )
    op.create_table(
        "price_use",
        sa.Column("point", sa.String(length=40), nullable=False),
        sa.Column("sheet", sa.String(length=256), nullable=False),
        sa.PrimaryKeyConstraint("point", name=op.f("pk_price_use")),
    )
    op.create_table(
        "saving_day",
        sa.Column("day", sa.BigInteger(), nullable=False),
        sa.Column("content", sa.String(length=40), nullable=False),
        sa.Column("point", sa.String(length=40), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("form", sa.String(length=16), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("downloads", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("day", "content", "point", "kind", "form", name=op.f("pk_saving_day")),
    )
    op.create_index("ix_saving_day_content", "saving_day", ["content"])
