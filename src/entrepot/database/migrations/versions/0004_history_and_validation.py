"""History of contents, what validation found, and figures for statistics

Revision ID: 0004
Revises: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Apply."""
    op.add_column("object", sa.Column("plain_size", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("content_delta", sa.Column("saved", sa.BigInteger(), nullable=False, server_default="0"))
    op.create_table(
        "content_event",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("content", sa.String(length=40), nullable=False),
        sa.Column("content_name", sa.String(length=128), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("event", sa.String(length=24), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("previous", sa.Integer(), nullable=False),
        sa.Column("by", sa.String(length=128), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_content_event")),
    )
    op.create_index("ix_content_event_content", "content_event", ["content", "id"])
    _checks()


def _checks() -> None:
    op.create_table(
        "object_check",
        sa.Column("object", _NUMBER, nullable=False),
        sa.Column("checked", sa.BigInteger(), nullable=False),
        sa.Column("verdict", sa.String(length=16), nullable=False),
        sa.ForeignKeyConstraint(
            ["object"], ["object.id"], name=op.f("fk_object_check_object_object"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("object", name=op.f("pk_object_check")),
    )
    op.create_index("ix_object_check_verdict", "object_check", ["verdict"])
    op.create_table(
        "point_check",
        sa.Column("point", sa.String(length=40), nullable=False),
        sa.Column("set_id", sa.LargeBinary(), nullable=False),
        sa.Column("begun", sa.BigInteger(), nullable=False),
        sa.Column("checked", sa.BigInteger(), nullable=False),
        sa.Column("cursor", sa.LargeBinary(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["point", "set_id"],
            ["point_set.point", "point_set.set_id"],
            name=op.f("fk_point_check_point_set_id_point_set"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("point", "set_id", name=op.f("pk_point_check")),
    )
    op.create_table(
        "point_fault",
        sa.Column("point", sa.String(length=40), nullable=False),
        sa.Column("object_id", sa.LargeBinary(length=32), nullable=False),
        sa.Column("verdict", sa.String(length=16), nullable=False),
        sa.Column("found", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["point"], ["point.id"], name=op.f("fk_point_fault_point_point"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("point", "object_id", name=op.f("pk_point_fault")),
    )


def downgrade() -> None:
    """Undo."""
    for table in ("point_fault", "point_check", "object_check", "content_event"):
        op.drop_table(table)
    with op.batch_alter_table("content_delta") as delta:
        delta.drop_column("saved")
    with op.batch_alter_table("object") as objects:
        objects.drop_column("plain_size")
