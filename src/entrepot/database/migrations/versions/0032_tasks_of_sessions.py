"""The tasks that publish sessions are attempts of

Revision ID: 0032
Revises: 0031
"""

import sqlalchemy as sa
from alembic import op

revision = "0032"
down_revision = "0031"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column("publish_session", sa.Column("task", sa.String(64), nullable=False, server_default=""))
