"""keep what the last daily comparison with a cloud's own figures found

Revision ID: 0023
Revises: 0022
"""

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column("cloud_usage", sa.Column("comparison", sa.Text(), nullable=False, server_default=""))
