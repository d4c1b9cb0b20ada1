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

LEFT_UNDONE = """
UPDATE cloud_point SET behind = 'The update was not finished.' WHERE point IN (
    SELECT ordered.subject FROM task AS ordered
    WHERE ordered.kind IN ('cloud-update', 'cloud-renew') AND ordered.state <> 'completed' AND NOT EXISTS (
        SELECT 1 FROM task AS later
        WHERE later.subject = ordered.subject AND later.kind IN ('cloud-update', 'cloud-renew')
        AND later.state = 'completed' AND later.created >= ordered.created
    )
)
"""
"""An update or a renewal that is under way may be stopped after this, and one that failed or was cancelled before may
have left something out; the next one that was completed brought everything."""


def upgrade() -> None:
    """Apply."""
    op.add_column("cloud_point", sa.Column("behind", sa.Text(), nullable=False, server_default=""))
    op.execute(LEFT_UNDONE)
