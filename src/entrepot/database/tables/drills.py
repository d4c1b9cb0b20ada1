"""Load drills: who let synthetic devices download from which cloud point, and what came of it.

No foreign key to the cloud point: who made it send what stays known after it is deleted.
"""

from sqlalchemy import BigInteger, Column, Index, Integer, String, Table, Text

from entrepot.database.tables import metadata

drill = Table(
    "drill",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("point", String(40), nullable=False),
    Column("point_name", String(128), nullable=False),
    Column("by", String(128), nullable=False),
    Column("begun", BigInteger, nullable=False),
    Column("expires", BigInteger, nullable=False),  # of its tokens
    Column("content_name", String(128), nullable=False),
    Column("version", Integer, nullable=False),
    Column("devices", Integer, nullable=False),
    Column("bytes", BigInteger, nullable=False),  # that it may transfer
    Column("report", Text, nullable=False),  # JSON of protocol.drillapi.DrillReport; empty: none yet
    Index("ix_drill_point", "point", "begun"),
)
