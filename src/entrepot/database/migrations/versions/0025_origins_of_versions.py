"""note from where and how each version was published

Revision ID: 0025
Revises: 0024
"""

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column("content_version", sa.Column("origin", sa.Text(), nullable=False, server_default=""))
