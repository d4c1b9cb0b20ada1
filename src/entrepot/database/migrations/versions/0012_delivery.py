"""How cloud points deliver, and bytes granted by links to their stores

Revision ID: 0012
Revises: 0011
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column("cloud_point", sa.Column("delivery", sa.String(16), nullable=False, server_default="stream"))
    op.add_column("usage_hour", sa.Column("granted", sa.BigInteger(), nullable=False, server_default="0"))
