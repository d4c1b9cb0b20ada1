"""Brings a database to the present schema, with Alembic."""

import importlib
import pkgutil
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import MetaData, text

from entrepot.core.errors import ConflictError
from entrepot.database import tables
from entrepot.database.engine import Database

MIGRATIONS: Final = Path(__file__).parent / "migrations"
_LOCK: Final = 0x656E7472  # advisory lock of PostgreSQL: one server migrates, the others wait


def all_tables() -> MetaData:
    """The metadata with every table module loaded."""
    for module in pkgutil.iter_modules(tables.__path__):
        importlib.import_module(f"{tables.__name__}.{module.name}")
    return tables.metadata


def configuration() -> Config:
    """Alembic's configuration, without any file."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return config


def upgrade(database: Database) -> None:
    """Apply the migrations that are missing; harmless when none is.

    Raises:
        ConflictError: the database was made by a newer version of Entrepôt.
    """
    config = configuration()
    with database.transaction() as connection:
        if not database.embedded:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
        present = MigrationContext.configure(connection).get_current_revision()
        if present is not None and present not in known:
            raise ConflictError(
                "The database was made by a newer version of Entrepôt.", next_step="Install that version."
            )
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def create_tables(database: Database) -> None:
    """Make all tables directly from the metadata, without migrations: for tests of single repositories."""
    with database.transaction() as connection:
        all_tables().create_all(connection)
