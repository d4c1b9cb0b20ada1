"""Alembic's environment: runs on the connection that ``database.schema`` hands over, or, for developers who
autogenerate a
migration, on the database of ``-x url=…``."""

from alembic import context
from sqlalchemy import Connection

from entrepot.database.engine import open_database
from entrepot.database.schema import all_tables


def _run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=all_tables(),
        render_as_batch=connection.dialect.name == "sqlite",  # SQLite cannot alter tables in place
        compare_type=True,
    )
    with context.begin_transaction():
        context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    _run(given)
else:
    database = open_database(context.get_x_argument(as_dictionary=True)["url"])
    with database.transaction() as own:
        _run(own)
    database.close()
