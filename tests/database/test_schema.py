"""Migrations bring an empty database to exactly what the tables say, on both kinds of database."""

import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text

from entrepot.core.errors import ConflictError
from entrepot.database.engine import Database, open_database, sqlite_url
from entrepot.database.schema import all_tables, configuration, newest, upgrade

from ..databases import migrate


def test_the_migrations_make_what_the_tables_say(database: Database) -> None:
    with database.transaction() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, all_tables()) == []


def test_upgrading_again_changes_nothing(database: Database) -> None:
    with database.engine.connect() as connection:
        before = sorted(inspect(connection).get_table_names())
    upgrade(database)
    with database.engine.connect() as connection:
        assert sorted(inspect(connection).get_table_names()) == before


def test_the_last_file_is_where_all_migrations_lead(database: Database) -> None:
    assert ScriptDirectory.from_config(configuration()).get_current_head() == newest()
    with database.engine.connect() as connection:
        assert MigrationContext.configure(connection).get_current_revision() == newest()


@pytest.mark.process
def test_a_present_database_is_opened_without_loading_alembic(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path / "site.db")
    migrate(url)
    again = (
        "import sys\n"
        "from entrepot.database.engine import open_database\n"
        "from entrepot.database.schema import upgrade\n"
        "upgrade(open_database(sys.argv[1]))\n"
        "sys.exit('alembic' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", again, url], check=False).returncode == 0


def test_a_newer_database_is_refused(tmp_path: Path) -> None:
    database = open_database(sqlite_url(tmp_path / "site.db"))
    upgrade(database)
    with database.transaction() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'from-the-future'"))
    with pytest.raises(ConflictError, match="newer version"):
        upgrade(database)
    database.close()


def test_both_kinds_have_the_rule_of_one_active_task(database: Database) -> None:
    with database.engine.connect() as connection:
        indexes = {index["name"]: index for index in inspect(connection).get_indexes("task")}
    assert indexes["uq_task_active"]["unique"]
