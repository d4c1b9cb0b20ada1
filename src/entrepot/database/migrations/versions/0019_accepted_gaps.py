"""keep what administrators accepted of a chain's gaps beside what is there

Revision ID: 0019
Revises: 0018
"""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    for name, default in (("accepted_missing", "0"), ("accepted_broken", "0"), ("accepted_through", "-1")):
        column = sa.Column(name, sa.Integer(), nullable=False, server_default=default)
        op.add_column("transaction_chain", column)
