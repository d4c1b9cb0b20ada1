"""find the latest grant of a device without looking at those of all others

Revision ID: 0018
Revises: 0017
"""

from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.drop_index("ix_budget_grant_device", "budget_grant")
    op.create_index("ix_budget_grant_device", "budget_grant", ["device", "point", "content", "version", "expires"])
