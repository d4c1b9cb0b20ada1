"""sums of open grants with their budgets, so that a grant is decided without adding them up

Revision ID: 0017
Revises: 0016
"""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.drop_index("ix_budget_grant_content", "budget_grant")  # or it would be taken instead of the smaller ones
    for name in ("point", "content", "device"):
        op.drop_index(f"ix_budget_grant_{name}_charged", "budget_grant")
    for name, rows in (("open", sa.text("held = ''")), ("unaccounted", sa.text("charged > 0 AND held <> ''"))):
        op.create_index(
            f"ix_budget_grant_{name}", "budget_grant", ["point", "expires"], sqlite_where=rows, postgresql_where=rows
        )
    op.add_column("transfer_budget", sa.Column("open_bytes", sa.BigInteger(), nullable=False, server_default="0"))
    op.execute(
        "UPDATE transfer_budget SET open_bytes = COALESCE((SELECT SUM(budget_grant.bytes) FROM budget_grant"
        " WHERE held = '' AND ((scope = 'cloud-point' AND point = subject) OR (scope = 'content' AND content = subject)"
        " OR (scope = 'collection' AND (EXISTS (SELECT 1 FROM collection WHERE collection.id = subject AND built_in)"
        " OR EXISTS (SELECT 1 FROM collection_member WHERE collection_member.collection = subject"
        " AND collection_member.device = budget_grant.device))))), 0)"
    )
