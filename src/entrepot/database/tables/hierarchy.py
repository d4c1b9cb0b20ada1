"""The hierarchy, its sites, their keys and secrets, their administrators.

Private keys and secrets are here only as wrapped to a server's vault key. ``counter`` holds the counters of signed
documents and the change counter of the location snapshot.
"""

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Index, Integer, LargeBinary, String, Table, Text

from entrepot.database.tables import metadata

hierarchy = Table(
    "hierarchy",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),  # always 1
    Column("name", String(128), nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("trust_number", BigInteger, nullable=False),
    Column("trust_document", Text, nullable=False),  # compact JWS by the root
    Column("root_public", LargeBinary, nullable=False),
    Column("created", BigInteger, nullable=False),
)

site = Table(
    "site",
    metadata,
    Column("code", String(3), primary_key=True),
    Column("name", String(128), nullable=False),
    Column("url", Text, nullable=False),
    Column("vault_public", LargeBinary, nullable=False),
    Column("created", BigInteger, nullable=False),
)

site_secret = Table(
    "site_secret",
    metadata,
    Column("site", String(3), ForeignKey("site.code"), primary_key=True),
    Column("name", String(64), primary_key=True),  # wrapping/1, content/1, dedupe, nonce
    Column("sealed", LargeBinary, nullable=False),  # wrapping keys to the vault, the others by the wrapping key
    Column("created", BigInteger, nullable=False),
)

role_key = Table(
    "role_key",
    metadata,
    Column("kid", String(64), primary_key=True),
    Column("role", String(16), nullable=False),
    Column("site", String(3), ForeignKey("site.code"), nullable=False),
    Column("public", LargeBinary, nullable=False),  # raw Ed25519, or the CA's DER certificate
    Column("sealed", LargeBinary, nullable=False),
    Column("not_before", BigInteger, nullable=False),
    Column("not_after", BigInteger, nullable=False),
    # numbers of trust documents: the first that lists the key (0: none yet), the first that does so no more (0: none)
    Column("listed_in", BigInteger, nullable=False, server_default="1"),
    Column("dropped_in", BigInteger, nullable=False, server_default="0"),
    Column("listed_at", BigInteger, nullable=False, server_default="0"),
    Index("ix_role_key_site_role", "site", "role"),
)

counter = Table(
    "counter",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("value", BigInteger, nullable=False),
)

administrator = Table(
    "administrator",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("name", String(128), nullable=False),
    Column("name_key", String(256), nullable=False, unique=True),
    Column("password_hash", Text, nullable=False),
    Column("disabled", Boolean, nullable=False),
    Column("created", BigInteger, nullable=False),
)

session = Table(
    "session",
    metadata,
    Column("token_hash", LargeBinary, primary_key=True),  # SHA-256: the database cannot give a token back
    Column("administrator", String(40), ForeignKey("administrator.id", ondelete="CASCADE"), nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("expires", BigInteger, nullable=False, index=True),
)

login_failure = Table(
    "login_failure",
    metadata,
    Column("key", String(280), primary_key=True),  # name or address
    Column("count", Integer, nullable=False),
    Column("first", BigInteger, nullable=False),
)
