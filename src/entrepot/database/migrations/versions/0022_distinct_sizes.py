"""note what the distinct chunks of a version open to

Revision ID: 0022
Revises: 0021
"""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column("content_version", sa.Column("distinct_size", sa.BigInteger(), nullable=False, server_default="0"))
