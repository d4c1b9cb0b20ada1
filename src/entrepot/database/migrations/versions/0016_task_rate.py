"""How fast tasks go

Revision ID: 0016
Revises: 0015
"""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column("task", sa.Column("rate", sa.BigInteger(), nullable=False, server_default="0"))
