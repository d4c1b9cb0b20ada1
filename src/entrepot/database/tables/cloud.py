"""Cloud points, the certificates they use, and the control documents of distribution points.

A cloud point is also a row of ``point`` (kind ``cloud``): what is true of every distribution point is kept there.
Private keys are here only as sealed by the server's vault.
"""

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Integer, LargeBinary, String, Table, Text

from entrepot.database.tables import metadata

management_certificate = Table(
    "management_certificate",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("name", String(128), nullable=False),
    Column("name_key", String(256), nullable=False, unique=True),
    Column("subject", Text, nullable=False),
    Column("thumbprint", String(64), nullable=False, unique=True),
    Column("key_kind", String(32), nullable=False),
    Column("not_before", BigInteger, nullable=False),
    Column("not_after", BigInteger, nullable=False),
    Column("imported", BigInteger, nullable=False),
    Column("certificate", LargeBinary, nullable=False),  # DER
    Column("sealed_key", LargeBinary, nullable=False),  # PKCS#8 PEM, sealed by the vault
)

cloud_point = Table(
    "cloud_point",
    metadata,
    Column("point", String(40), ForeignKey("point.id"), primary_key=True),
    Column("service", String(63), nullable=False, unique=True),
    Column("description", Text, nullable=False),
    Column("provider", String(32), nullable=False),
    Column("host_url", Text, nullable=False),
    Column("host_pin", String(64), nullable=False),
    Column("subscription", String(128), nullable=False),
    Column("management_certificate", String(40), ForeignKey("management_certificate.id"), nullable=False, index=True),
    Column("region", String(64), nullable=False),
    Column("fqdn", String(253), nullable=False, unique=True),
    Column("port", Integer, nullable=False),
    Column("address", Text, nullable=False),  # host:port at the provider, once known
    Column("state", String(16), nullable=False),
    Column("wanted", String(16), nullable=False),  # running or stopped: what the control document says
    Column("message", Text, nullable=False),
    Column("instances_wanted", Integer, nullable=False),
    Column("instances", Text, nullable=False),  # JSON list: as last seen
    Column("certificate_subject", Text, nullable=False),
    Column("certificate_thumbprint", String(64), nullable=False),
    Column("certificate_expires", BigInteger, nullable=False),
    Column("certificate", Text, nullable=False),  # PEM chain
    Column("sealed_key", LargeBinary, nullable=False),
    Column("storage_quota", BigInteger, nullable=False),
    Column("storage_warning_free_percent", Integer, nullable=False),
    Column("transfer_quota", BigInteger, nullable=False),
    Column("transfer_warning_percent", Integer, nullable=False),
    Column("transfer_critical_percent", Integer, nullable=False),
    Column("upload_quota", BigInteger, nullable=False, server_default="10000000000000"),  # from the site (R25)
    Column("task", String(40), nullable=False),  # the task in charge: the last one that was asked for
    Column("created", BigInteger, nullable=False),
    Column("begun", Boolean, nullable=False),  # from before the first call that creates something in the cloud
    Column("ready", BigInteger, nullable=False),  # when its creation was complete; 0: not yet
    Column("checked", BigInteger, nullable=False),
    Column("delivery", String(16), nullable=False, server_default="stream"),
    Column(
        "behind", Text, nullable=False, server_default=""
    ),  # why the cloud lacks what is kept here; empty: it does not
    Column("host_next_pin", String(64), nullable=False, server_default=""),  # announced by the host; empty: none
)

control_document = Table(
    "control_document",
    metadata,
    Column("point", String(40), primary_key=True),
    Column("epoch", BigInteger, nullable=False),
    Column("counter", BigInteger, nullable=False),  # of the last one signed; only grows within an epoch
    Column("issued", BigInteger, nullable=False),
    Column("digest", LargeBinary, nullable=False),  # of what the document says, freshness aside
    Column("pushed", BigInteger, nullable=False),  # counter of the last one that the holder took
    Column("pushed_at", BigInteger, nullable=False),
    Column("trust_number", BigInteger, nullable=False),  # of the trust document that the holder has
    Column("error", Text, nullable=False),
)
