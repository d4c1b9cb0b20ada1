"""What cloud points transferred and store.

No foreign keys to the cloud point: what was used stays known after a cloud point is deleted, for as long as the
figures are kept.
"""

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, LargeBinary, String, Table, Text, UniqueConstraint

from entrepot.database.tables import metadata

transaction_segment = Table(
    "transaction_segment",
    metadata,
    Column("point", String(40), primary_key=True),
    Column("name", String(200), primary_key=True),  # its key in the store
    Column("instance", String(100), nullable=False),
    Column("sequence", Integer, nullable=False),
    Column("digest", LargeBinary, nullable=False),  # SHA-256 of the whole segment
    Column("previous", LargeBinary, nullable=False),
    Column("records", Integer, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("damaged", Boolean, nullable=False),  # kept aside, not counted
    Column("collected", BigInteger, nullable=False),
    UniqueConstraint("point", "instance", "sequence"),  # under whatever name: counted once
    Index("ix_transaction_segment_collected", "collected"),
)

transaction_chain = Table(
    "transaction_chain",
    metadata,
    Column("point", String(40), primary_key=True),
    Column("instance", String(100), primary_key=True),
    Column("highest", Integer, nullable=False),  # sequence
    Column("collected", Integer, nullable=False),  # segments; fewer than highest + 1 means a gap
    Column("broken", Integer, nullable=False),  # links whose hash does not fit, and damaged segments
    Column("seen", BigInteger, nullable=False),
    # of what is missing and broken, what an administrator has seen; up to which sequence that was
    Column("accepted_missing", Integer, nullable=False, server_default="0"),
    Column("accepted_broken", Integer, nullable=False, server_default="0"),
    Column("accepted_through", Integer, nullable=False, server_default="-1"),
)

transfer_bucket = Table(
    "transfer_bucket",
    metadata,
    Column("point", String(40), primary_key=True),
    Column("hour", BigInteger, primary_key=True),
    Column("device", String(64), primary_key=True),
    Column("content", String(80), primary_key=True),  # "" when no set was proven, set-… when the set is not known
    Column("status", String(3), primary_key=True),  # 2xx …
    Column("requests", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("logged_requests", BigInteger, nullable=False),  # what the log already says
    Column("logged_bytes", BigInteger, nullable=False),
    Column("unlogged", Boolean, nullable=False),  # while the log owes lines
    Index("ix_transfer_bucket_unlogged", "point", "unlogged", "hour"),
)

usage_hour = Table(
    "usage_hour",
    metadata,
    Column("point", String(40), primary_key=True),
    Column("hour", BigInteger, primary_key=True),
    Column("requests", BigInteger, nullable=False),
    Column("failed", BigInteger, nullable=False),
    Column("sent", BigInteger, nullable=False),
    Column("uploaded", BigInteger, nullable=False),  # by the site (R25)
    Column("stored", BigInteger, nullable=False),  # bytes, at the last measurement of the hour; -1: none
    Column("site_writes", BigInteger, nullable=False, server_default="0"),  # requests of the site
    Column("site_reads", BigInteger, nullable=False, server_default="0"),
    Column("instances", Integer, nullable=False, server_default="0"),  # running, the most that were seen
    Column("granted", BigInteger, nullable=False, server_default="0"),  # of what was sent: by links, not by gateways
    Column("drilled", BigInteger, nullable=False, server_default="0"),  # of ``sent``, to synthetic devices
    Column("fetched", BigInteger, nullable=False, server_default="0"),  # by the site, from the point
    Column("counted", BigInteger, nullable=False, server_default="-1"),  # stored by the site's books; -1: not counted
)

cloud_usage = Table(
    "cloud_usage",
    metadata,
    Column("point", String(40), primary_key=True),
    Column("stored_bytes", BigInteger, nullable=False),
    Column("stored_objects", BigInteger, nullable=False),
    Column("stored_at", BigInteger, nullable=False),
    Column("stored_difference", BigInteger, nullable=False, server_default="0"),  # of it, beyond the books of then
    Column("listed_bytes", BigInteger, nullable=False),  # by the last full listing
    Column("listed_at", BigInteger, nullable=False),
    Column("listed_difference", BigInteger, nullable=False, server_default="0"),  # its objects beyond the site's books
    Column("counted_bytes", BigInteger, nullable=False, server_default="0"),  # what the site's books say is there
    Column("counted_at", BigInteger, nullable=False, server_default="0"),
    Column("collected", BigInteger, nullable=False),  # last complete collection; 0: never
    Column("error", Text, nullable=False),
    Column("comparison", Text, nullable=False, server_default=""),  # JSON of protocol.cloudapi.Comparison; empty: none
    Column("holder", String(64), nullable=False),  # process that collects now
    Column("holder_until", BigInteger, nullable=False),
)

log_batch = Table(
    "log_batch",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("point", String(40), nullable=False, index=True),
    Column("file", Text, nullable=False),  # name inside the log folder
    Column("start", BigInteger, nullable=False),  # length of the file before the batch; -1: not placed yet
    Column("lines", LargeBinary, nullable=False),  # UTF-8, zlib
)
