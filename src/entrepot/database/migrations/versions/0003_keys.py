"""Rollover of signing keys, and versions that are sealed anew

Revision ID: 0003
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# What was published so far was signed by the one manifest key that each site had.
_SIGNED_BY = """
UPDATE content_version SET signed_by = COALESCE((
    SELECT role_key.kid FROM role_key JOIN content ON content.site = role_key.site
    WHERE content.id = content_version.content AND role_key.role = 'manifest'
    ORDER BY role_key.not_before DESC LIMIT 1
), '')
"""


def upgrade() -> None:
    """Apply."""
    op.add_column("role_key", sa.Column("listed_in", sa.BigInteger(), nullable=False, server_default="1"))
    op.add_column("role_key", sa.Column("dropped_in", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("role_key", sa.Column("listed_at", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("content_version", sa.Column("generation", sa.Integer(), nullable=False, server_default="1"))
    op.add_column("content_version", sa.Column("sealing", sa.Integer(), nullable=False, server_default="1"))
    op.add_column("content_version", sa.Column("signed_by", sa.String(length=64), nullable=False, server_default=""))
    op.add_column("content_version", sa.Column("former_set_id", sa.LargeBinary(), nullable=True))
    op.add_column("content_version", sa.Column("former_root", sa.LargeBinary(), nullable=True))
    op.create_index("ix_content_version_former_set_id", "content_version", ["former_set_id"])
    op.execute(_SIGNED_BY)
