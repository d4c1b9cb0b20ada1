"""What some cloud points have beside what all have: a kind of cloud's own options, upload limits, last health."""

from sqlalchemy import BigInteger, Column, ForeignKey, LargeBinary, String, Table, Text

from entrepot.database.tables import metadata

cloud_detail = Table(
    "cloud_detail",
    metadata,
    Column("point", String(40), ForeignKey("cloud_point.point", ondelete="CASCADE"), primary_key=True),
    Column("options", Text, nullable=False),  # JSON, without secrets; empty: the kind of cloud needs none
    Column("sealed_secret", LargeBinary, nullable=False),  # the registry's password, sealed by the vault
    Column("upload", Text, nullable=False),  # JSON: protocol.cloudapi.UploadSchedule; empty: no limit
    Column("health", Text, nullable=False),  # JSON: list of protocol.cloudapi.HealthDetail, as last seen
    Column("looked", BigInteger, nullable=False),
)
