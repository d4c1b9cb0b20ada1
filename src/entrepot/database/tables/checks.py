"""What validation found: in the library, object by object; on distribution points, set by set.

An object of the library without a row has not been validated since it was stored. On a point only what is wrong has a
row of its own; ``cursor`` is how far an interrupted validation of a set is.
"""

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
)

from entrepot.database.tables import metadata

_NUMBER = BigInteger().with_variant(Integer, "sqlite")

object_check = Table(
    "object_check",
    metadata,
    Column("object", _NUMBER, ForeignKey("object.id", ondelete="CASCADE"), primary_key=True),
    Column("checked", BigInteger, nullable=False),
    Column("verdict", String(16), nullable=False),  # good, missing, damaged
    Index("ix_object_check_verdict", "verdict"),
)

point_check = Table(
    "point_check",
    metadata,
    Column("point", String(40), primary_key=True),
    Column("set_id", LargeBinary, primary_key=True),
    Column("begun", BigInteger, nullable=False),
    Column("checked", BigInteger, nullable=False),  # when the last whole validation ended; 0: never
    Column("cursor", LargeBinary, nullable=False),  # last object looked at; empty: at the beginning, or at the end
    Column("message", Text, nullable=False),
    ForeignKeyConstraint(["point", "set_id"], ["point_set.point", "point_set.set_id"], ondelete="CASCADE"),
)

point_fault = Table(
    "point_fault",
    metadata,
    Column("point", String(40), ForeignKey("point.id", ondelete="CASCADE"), primary_key=True),
    Column("object_id", LargeBinary(32), primary_key=True),
    Column("verdict", String(16), nullable=False),
    Column("found", BigInteger, nullable=False),
)
