"""Price sheets and who uses them, savings, and budgets with their grants. Prices are decimal numbers in text."""

from sqlalchemy import BigInteger, Column, Index, Integer, String, Table, Text, text

from entrepot.database.tables import metadata

price_sheet = Table(
    "price_sheet",
    metadata,
    Column("name_key", String(256), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("name", String(128), nullable=False),
    Column("body", Text, nullable=False),  # JSON of rules.prices.PriceSheet
    Column("created", BigInteger, nullable=False),
    Column("by", String(128), nullable=False),
)

price_use = Table(
    "price_use",
    metadata,
    Column("point", String(40), primary_key=True),  # empty: all that have no row of their own
    Column("sheet", String(256), nullable=False),  # name_key; its newest version counts
)

saving_day = Table(
    "saving_day",
    metadata,
    Column("day", BigInteger, primary_key=True),  # start of the UTC day
    Column("content", String(40), primary_key=True),
    Column("point", String(40), primary_key=True),  # where it came from; empty: own cache, tree, or a peer
    Column("kind", String(16), primary_key=True),  # as clients report it: own-cache, installed, peer, point, cloud …
    Column("form", String(16), primary_key=True),  # full or delta; plain: what was installed, uncompressed
    Column("bytes", BigInteger, nullable=False),
    Column("downloads", BigInteger, nullable=False),
    Index("ix_saving_day_content", "content"),
)

budget = Table(
    "transfer_budget",
    metadata,
    Column("scope", String(16), primary_key=True),  # cloud-point, content or collection
    Column("subject", String(80), primary_key=True),  # its id
    Column("bytes", BigInteger, nullable=False),  # to clients, in the period
    Column("throttle_percent", Integer, nullable=False),  # shares from which the grades hold; 0: never
    Column("peers_percent", Integer, nullable=False),
    Column("critical_percent", Integer, nullable=False),
    Column("grant_percent", Integer, nullable=False),
    Column("stop_percent", Integer, nullable=False),
    Column("rate", BigInteger, nullable=False),  # bytes a second of a throttled token
    Column("critical", Text, nullable=False),  # JSON list of content ids
    Column("zone", String(64), nullable=False),  # of the calendar month; empty: 30 rolling days
    Column("created", BigInteger, nullable=False),
    Column("by", String(128), nullable=False),
    Column("stopped", String(16), nullable=False),  # empty, stopped (by this budget), waived (by hand since)
    Column("open_bytes", BigInteger, nullable=False, server_default="0"),  # of grants whose slots were not looked at
    Column("refused", BigInteger, nullable=False, server_default="0"),  # when it last had no room; 0: never as it is
)

budget_hour = Table(
    "budget_hour",
    metadata,
    Column("scope", String(16), primary_key=True),  # content or collection
    Column("subject", String(80), primary_key=True),
    Column("hour", BigInteger, primary_key=True),
    Column("bytes", BigInteger, nullable=False),
)

budget_change = Table(
    "budget_change",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("scope", String(16), nullable=False),
    Column("subject", String(80), nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("by", String(128), nullable=False),
    Column("what", Text, nullable=False),
    Index("ix_budget_change_subject", "scope", "subject", "at"),
)

# conditions of indexes; a query that shall use one says it in the same words
OPEN_GRANTS = text("held = ''")
REST_OF_GRANTS = text("charged > 0 AND held <> ''")

budget_grant = Table(
    "budget_grant",
    metadata,
    Column("jti", String(64), primary_key=True),
    Column("point", String(40), nullable=False),
    Column("device", String(40), nullable=False),
    Column("content", String(40), nullable=False),
    Column("version", Integer, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("expires", BigInteger, nullable=False),
    Column("rate", BigInteger, nullable=False, server_default="0"),  # bytes a second; 0: not throttled
    # of these what counts beside the figures: all, then what instances won, then what they have not accounted for;
    # held: that by instance, as JSON; empty: not looked at yet
    Column("charged", BigInteger, nullable=False, server_default="0"),
    Column(
        "held", Text, nullable=False, server_default=""
    ),  # JSON: bytes not accounted for, by instance; empty: not looked at yet
    Index("ix_budget_grant_point", "point", "expires"),
    Index("ix_budget_grant_open", "point", "expires", sqlite_where=OPEN_GRANTS, postgresql_where=OPEN_GRANTS),
    Index(
        "ix_budget_grant_unaccounted", "point", "expires", sqlite_where=REST_OF_GRANTS, postgresql_where=REST_OF_GRANTS
    ),
    Index("ix_budget_grant_device", "device", "point", "content", "version", "expires"),
)

deleted_cloud_point = Table(
    "deleted_cloud_point",
    metadata,
    Column("point", String(40), primary_key=True),
    Column("name", String(128), nullable=False),
    Column("site", String(3), nullable=False),
    Column("sheet", String(256), nullable=False),  # name_key of the price sheet that it was charged by; empty: none
    Column("segments", BigInteger, nullable=False),  # collected in the month in which it was deleted
    Column("ready", BigInteger, nullable=False),
    Column("deleted", BigInteger, nullable=False),
    Index("ix_deleted_cloud_point_deleted", "deleted"),
)
