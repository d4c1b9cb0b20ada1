"""versions between which a delta saves nothing

Revision ID: 0031
Revises: 0030
"""

import sqlalchemy as sa
from alembic import op

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "needless_delta",
        sa.Column("content", sa.String(40), sa.ForeignKey("content.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("from_version", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("to_version", sa.Integer(), primary_key=True, autoincrement=False),
    )
