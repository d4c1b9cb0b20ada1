"""Distribution points, what they hold and what they should hold, and the boundary groups that they serve."""

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Index, Integer, LargeBinary, String, Table, Text

from entrepot.database.tables import metadata

point = Table(
    "point",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("name", String(128), nullable=False),
    Column("name_key", String(256), nullable=False, unique=True),
    Column("kind", String(16), nullable=False),  # standard or cloud
    Column("site", String(3), nullable=False),
    Column("state", String(16), nullable=False),  # awaiting, pending, active, removed
    Column("url", Text, nullable=False),
    Column("public_key", LargeBinary, nullable=False),
    Column("certificates", Text, nullable=False),  # PEM chain that the site's CA issued
    Column("csr", LargeBinary, nullable=False),  # DER, while pending approval
    Column("certificate_expires", BigInteger, nullable=False),
    Column("fallback", Boolean, nullable=False),
    Column("internet_facing", Boolean, nullable=False),
    Column("message", Text, nullable=False),
    Column("created", BigInteger, nullable=False),
)

point_set = Table(
    "point_set",
    metadata,
    Column("point", String(40), ForeignKey("point.id", ondelete="CASCADE"), primary_key=True),
    Column("set_id", LargeBinary, primary_key=True),
    Column("content", String(40), nullable=False),
    Column("version", Integer, nullable=False),
    Column("from_version", Integer, nullable=False),  # 0: the version itself; else the delta from that version
    Column("state", String(16), nullable=False),  # sending, held, removing
    Column("size", BigInteger, nullable=False),
    Column("changed", BigInteger, nullable=False),
    Column("retired", BigInteger, nullable=False),  # 0: wanted; else when it became superseded
    Index("ix_point_set_set_id", "set_id"),
    Index("ix_point_set_content", "content", "point"),
)

distribution = Table(
    "distribution",
    metadata,
    Column("content", String(40), ForeignKey("content.id"), primary_key=True),
    Column("point", String(40), ForeignKey("point.id", ondelete="CASCADE"), primary_key=True),
    Column("state", String(20), nullable=False),
    Column("priority", Integer, nullable=False),  # 1 high, 2 normal, 3 low
    Column("version", Integer, nullable=False),  # wanted
    Column("held", Integer, nullable=False),
    Column("revision", BigInteger, nullable=False),  # grows with every change of what is wanted
    Column("settled", BigInteger, nullable=False),  # revision that the last successful run fulfilled
    Column("full", Boolean, nullable=False),  # redistribute: send even what the point says it has
    Column("done", BigInteger, nullable=False),
    Column("total", BigInteger, nullable=False),
    Column("sent_objects", BigInteger, nullable=False),
    Column("sent_bytes", BigInteger, nullable=False),
    Column("objects", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_try", BigInteger, nullable=False),
    Column("message", Text, nullable=False),
    Column("changed", BigInteger, nullable=False),
    Column("holder", String(64), nullable=False),
    Column("lease_until", BigInteger, nullable=False),
    Index("ix_distribution_due", "state", "next_try", "priority"),
    Index("ix_distribution_point", "point"),
)

boundary_group = Table(
    "boundary_group",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("name", String(128), nullable=False),
    Column("name_key", String(256), nullable=False, unique=True),
)

boundary_range = Table(
    "boundary_range",
    metadata,
    Column("group_id", String(40), ForeignKey("boundary_group.id", ondelete="CASCADE"), primary_key=True),
    Column("range", String(128), primary_key=True),
)

boundary_point = Table(
    "boundary_point",
    metadata,
    Column("group_id", String(40), ForeignKey("boundary_group.id", ondelete="CASCADE"), primary_key=True),
    Column("point", String(40), ForeignKey("point.id", ondelete="CASCADE"), primary_key=True),
    Column("speed", String(8), nullable=False),
)
