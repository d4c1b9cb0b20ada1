"""bytes that the site itself fetched from a cloud point, and what its books said hour by hour

Revision ID: 0024
Revises: 0023
"""

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column("usage_hour", sa.Column("fetched", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("usage_hour", sa.Column("counted", sa.BigInteger(), nullable=False, server_default="-1"))
    op.add_column("cloud_usage", sa.Column("stored_difference", sa.BigInteger(), nullable=False, server_default="0"))
