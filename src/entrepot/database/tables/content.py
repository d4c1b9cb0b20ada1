"""Contents, their versions and deltas.

A version's root reference opens the content, so it is here only as sealed by the server's vault.
"""

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Index, Integer, LargeBinary, String, Table, Text, false

from entrepot.database.tables import metadata

content = Table(
    "content",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("name", String(128), nullable=False),
    Column("name_key", String(256), nullable=False, unique=True),
    Column("type", String(32), nullable=False),
    Column("source", Text, nullable=False),
    Column("excludes", Text, nullable=False),  # JSON list
    Column("for_windows", Boolean, nullable=False),
    Column("isolated", Boolean, nullable=False),
    Column("current", Integer, nullable=False),  # version number; 0: none yet
    Column("pointer_counter", BigInteger, nullable=False),  # grows with every change of ``current``
    Column("deleting", Boolean, nullable=False),
    Column("site", String(3), nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("delta_versions", Integer, nullable=True),  # deltas from so many versions; null: the site's setting
    Column("unpack", Boolean, nullable=False, server_default=false()),  # publish what the archive at ``source`` holds
)

content_version = Table(
    "content_version",
    metadata,
    Column("content", String(40), ForeignKey("content.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("set_id", LargeBinary, nullable=False, index=True),
    Column("set_size", BigInteger, nullable=False),
    Column("root", LargeBinary, nullable=False),
    Column("files", BigInteger, nullable=False),
    Column("folders", BigInteger, nullable=False),
    Column("links", BigInteger, nullable=False),
    Column("plain_size", BigInteger, nullable=False),
    Column("chunks", BigInteger, nullable=False),
    Column("stored_size", BigInteger, nullable=False),
    Column("distinct_size", BigInteger, nullable=False, server_default="0"),  # plain, of distinct chunks; 0: not known
    Column("new_objects", BigInteger, nullable=False),
    Column("new_bytes", BigInteger, nullable=False),
    Column("objects", BigInteger, nullable=False),
    Column("warnings", Text, nullable=False),  # JSON list
    Column("created", BigInteger, nullable=False),
    Column("generation", Integer, nullable=False, server_default="1"),  # of the content secret it is sealed under
    Column("sealing", Integer, nullable=False, server_default="1"),  # grows with each time it is sealed anew
    Column("signed_by", String(64), nullable=False, server_default=""),  # key id of the manifest root's signature
    # what it was before it was sealed anew, for as long as points have only that
    Column("former_set_id", LargeBinary, nullable=True, index=True),
    Column("former_root", LargeBinary, nullable=True),
    Column("note", Text, nullable=False, server_default=""),
    Column("origin", Text, nullable=False, server_default=""),  # JSON: from where and how it came; empty: not known
)

content_delta = Table(
    "content_delta",
    metadata,
    Column("content", String(40), ForeignKey("content.id", ondelete="CASCADE"), primary_key=True),
    Column("from_version", Integer, primary_key=True, autoincrement=False),
    Column("to_version", Integer, primary_key=True, autoincrement=False),
    Column("set_id", LargeBinary, nullable=False, index=True),
    Column("root", LargeBinary, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("saved", BigInteger, nullable=False, server_default="0"),  # what a client need not fetch thanks to it
    Column("fetched", BigInteger, nullable=False, server_default="0"),  # by a client on the old version, in all
)

needless_delta = Table(  # a delta between these versions would save nothing
    "needless_delta",
    metadata,
    Column("content", String(40), ForeignKey("content.id", ondelete="CASCADE"), primary_key=True),
    Column("from_version", Integer, primary_key=True, autoincrement=False),
    Column("to_version", Integer, primary_key=True, autoincrement=False),
)

former_set = Table(
    "former_set",
    metadata,
    Column("set_id", LargeBinary, primary_key=True),  # of a version or delta that is gone
    Column("content", String(40), nullable=False),  # may be gone, too
    Column("since", BigInteger, nullable=False),  # the first collection since; 0: there was none yet
    Index("ix_former_set_since", "since"),
)
