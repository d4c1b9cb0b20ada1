"""remember whose object sets were that no version has any more

Revision ID: 0020
Revises: 0019
"""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "former_set",
        sa.Column("set_id", sa.LargeBinary(), primary_key=True),
        sa.Column("content", sa.String(40), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Index("ix_former_set_since", "since"),
    )
