"""How many deltas a content gets, and what a client fetches by one

Revision ID: 0008
Revises: 0007
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column("content", sa.Column("delta_versions", sa.Integer(), nullable=True))
    op.add_column("content_delta", sa.Column("fetched", sa.BigInteger(), nullable=False, server_default="0"))
