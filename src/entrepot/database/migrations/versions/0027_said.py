"""alerts keep ids of sentences and figures instead of finished sentences; those of before stay as they are, quoted

Revision ID: 0027
Revises: 0026
"""

import json

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    for name in ("alert", "alert_history", "alert_message"):
        op.add_column(name, sa.Column("said", sa.Text(), nullable=False, server_default="[]"))
    for name in ("alert", "alert_history"):
        _quote(name)
        op.drop_column(name, "message")  # in place: a table that SQLite makes anew would take its history along


def _quote(name: str) -> None:
    """What was said so far: one sentence, in the words that it had."""
    table = sa.table(name, *(sa.column(each) for each in ("id", "message", "said")))
    connection = op.get_bind()
    said = connection.execute(sa.select(table.c.id, table.c.message).where(table.c.message != "")).all()
    values = [
        {"row": one.id, "words": json.dumps([{"key": "quoted", "figures": {"text": one.message}}], ensure_ascii=False)}
        for one in said
    ]
    if values:
        written = sa.update(table).where(table.c.id == sa.bindparam("row")).values(said=sa.bindparam("words"))
        connection.execute(written, values)
