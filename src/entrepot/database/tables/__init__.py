"""All tables, one module per feature, in one :data:`metadata`.

Times are whole seconds since 1970, sizes bytes, both ``BigInteger``. Booleans are ``Boolean``. Object and set ids are
32 raw bytes. JSON stands in ``Text``. Names
of constraints follow the convention below, so that migrations can name what they drop on every database.
"""

from sqlalchemy import MetaData

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)
