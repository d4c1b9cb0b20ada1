"""Options, upload limits and health of cloud points

Revision ID: 0005
Revises: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "cloud_detail",
        sa.Column("point", sa.String(length=40), nullable=False),
        sa.Column("options", sa.Text(), nullable=False),
        sa.Column("sealed_secret", sa.LargeBinary(), nullable=False),
        sa.Column("upload", sa.Text(), nullable=False),
        sa.Column("health", sa.Text(), nullable=False),
        sa.Column("looked", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["point"], ["cloud_point.point"], name=op.f("fk_cloud_detail_point_cloud_point"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("point", name=op.f("pk_cloud_detail")),
    )


def downgrade() -> None:
    """Undo."""
    op.drop_table("cloud_detail")
