"""grants of budgets: what of them counts beside the figures; hours of contents and collections that have a budget

Revision ID: 0015
Revises: 0014
"""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column("budget_grant", sa.Column("charged", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("budget_grant", sa.Column("held", sa.Text(), nullable=False, server_default=""))
    op.execute("UPDATE budget_grant SET charged = bytes")
    for name in ("point", "content", "device"):
        op.create_index(
            f"ix_budget_grant_{name}_charged",
            "budget_grant",
            [name, "expires", "charged"],
            sqlite_where=sa.text("charged > 0"),
            postgresql_where=sa.text("charged > 0"),
        )
    op.create_table(
        "budget_hour",
        sa.Column("scope", sa.String(length=16), nullable=False),
        sa.Column("subject", sa.String(length=80), nullable=False),
        sa.Column("hour", sa.BigInteger(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("scope", "subject", "hour", name=op.f("pk_budget_hour")),
    )
    op.execute(
        "INSERT INTO budget_hour (scope, subject, hour, bytes)"
        " SELECT scope, subject, hour, SUM(transfer_bucket.bytes) FROM transfer_budget"
        " JOIN transfer_bucket ON transfer_bucket.content = subject WHERE scope = 'content'"
        " GROUP BY scope, subject, hour"
    )
    op.execute(
        "INSERT INTO budget_hour (scope, subject, hour, bytes)"
        " SELECT scope, subject, hour, SUM(transfer_bucket.bytes) FROM transfer_budget"
        " JOIN collection ON collection.id = subject"
        " JOIN transfer_bucket ON collection.built_in OR EXISTS (SELECT 1 FROM collection_member"
        " WHERE collection_member.collection = subject AND collection_member.device = transfer_bucket.device)"
        " WHERE scope = 'collection' GROUP BY scope, subject, hour"
    )
