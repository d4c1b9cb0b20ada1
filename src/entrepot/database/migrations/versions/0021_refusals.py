"""note when a budget refused the last download

Revision ID: 0021
Revises: 0020
"""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column("transfer_budget", sa.Column("refused", sa.BigInteger(), nullable=False, server_default="0"))
