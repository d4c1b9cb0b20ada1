"""Cloud points that were deleted stay in their month's cost

Revision ID: 0009
Revises: 0008
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "deleted_cloud_point",
        sa.Column("point", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("site", sa.String(length=3), nullable=False),
        sa.Column("sheet", sa.String(length=256), nullable=False),
        sa.Column("segments", sa.BigInteger(), nullable=False),
        sa.Column("ready", sa.BigInteger(), nullable=False),
        sa.Column("deleted", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("point", name=op.f("pk_deleted_cloud_point")),
    )
    op.create_index("ix_deleted_cloud_point_deleted", "deleted_cloud_point", ["deleted"])
