"""What a full listing of a cloud point differed by when it was made

Revision ID: 0014
Revises: 0013
"""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column("cloud_usage", sa.Column("listed_difference", sa.BigInteger(), nullable=False, server_default="0"))
