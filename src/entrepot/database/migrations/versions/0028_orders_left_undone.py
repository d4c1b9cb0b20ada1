"""what a cloud point lacks of what was ordered last

Revision ID: 0028
Revises: 0027
"""

import sqlalchemy as sa
from alembic import op

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column("cloud_point", sa.Column("behind", sa.Text(), nullable=False, server_default=""))
