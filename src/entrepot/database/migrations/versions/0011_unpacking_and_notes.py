"""Contents whose source is an archive to unpack, notes of versions, results of tasks

Revision ID: 0011
Revises: 0010
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column("content", sa.Column("unpack", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("content_version", sa.Column("note", sa.Text(), nullable=False, server_default=""))
    op.add_column("task", sa.Column("result", sa.Text(), nullable=False, server_default=""))
