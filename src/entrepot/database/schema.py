"""Brings a database to the present schema, with Alembic.

Alembic takes a tenth of the time in which a site starts, so that it is loaded only where something is to be migrated.
"""

import importlib
import pkgutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlalchemy import Connection, MetaData, String, column, inspect, select, table, text

from entrepot.core.errors import ConflictError
from entrepot.database import tables
from entrepot.database.engine import Database

if TYPE_CHECKING:
    from alembic.config import Config

MIGRATIONS: Final = Path(__file__).parent / "migrations"
_LOCK: Final = 0x656E7472  # advisory lock of PostgreSQL: one server migrates, the others wait


def all_tables() -> MetaData:
    """The metadata with every table module loaded."""
    for module in pkgutil.iter_modules(tables.__path__):
        importlib.import_module(f"{tables.__name__}.{module.name}")
    return tables.metadata


def newest() -> str:
    """The revision of the last migration: the number that its file's name begins with."""
    return max(file.name for file in (MIGRATIONS / "versions").glob("[0-9]*.py")).partition("_")[0]


def configuration() -> "Config":
    """Alembic's configuration, without any file."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return config


def upgrade(database: Database) -> None:
    """Apply the migrations that are missing; harmless when none is.

    Raises:
        ConflictError: the database was made by a newer version of Entrepôt.
    """
    with database.transaction() as connection:
        if not database.embedded:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        if _revision(connection) != newest():
            _migrate(connection)


def _revision(connection: Connection) -> str | None:
    """What the database was brought to last; None for one that is new."""
    noted = table("alembic_version", column("version_num", String))
    if not inspect(connection).has_table(noted.name):
        return None
    return connection.scalar(select(noted.c.version_num))


def _migrate(connection: Connection) -> None:
    from alembic import command
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory

    config = configuration()
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    present = MigrationContext.configure(connection).get_current_revision()
    if present is not None and present not in known:
        raise ConflictError("The database was made by a newer version of Entrepôt.", next_step="Install that version.")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
