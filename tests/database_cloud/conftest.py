"""Both databases, with all tables."""

import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from entrepot.database.engine import Database, open_database, sqlite_url
from entrepot.database.hierarchy import Hierarchy, Site, add_site, create_hierarchy
from entrepot.database.schema import create_tables


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """A PostgreSQL server of our own, reached through a socket in a private folder."""
    found = shutil.which("initdb") or next(map(str, Path("/usr/lib/postgresql").glob("*/bin/initdb")), None)
    if found is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("PostgreSQL is not installed (Debian: postgresql).")
    programs = Path(found).resolve().parent
    user = "postgres" if os.geteuid() == 0 else None  # initdb refuses to run as root
    with tempfile.TemporaryDirectory(prefix="pg") as folder:
        if user:
            shutil.chown(folder, user)
        data = f"{folder}/data"
        initdb = [programs / "initdb", "-D", data, "-U", "test", "--auth=trust", "--no-sync", "-E", "UTF8"]
        subprocess.run(initdb, user=user, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        options = f"-c listen_addresses= -c unix_socket_directories={folder} -c fsync=off"
        control = [programs / "pg_ctl", "-D", data, "-w", "-l", f"{folder}/log"]
        subprocess.run([*control, "-o", options, "start"], user=user, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        try:
            yield f"postgresql://test@/postgres?host={folder}"
        finally:
            stop = [*control, "-m", "immediate", "stop"]
            subprocess.run(stop, user=user, cwd=folder, check=True, stdout=subprocess.DEVNULL)


def _filled(database: Database) -> Database:
    create_tables(database)
    record = Hierarchy(name="Test", epoch=1, trust_number=1, trust_document="", root_public=bytes(32))
    with database.transaction() as connection:
        create_hierarchy(connection, record, now=0)
        add_site(connection, Site(code="PS1", name="One", url="https://x", vault_public=bytes(32), created=0))
    return database


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty hierarchy on either database."""
    if request.param == "sqlite":
        made = _filled(open_database(sqlite_url(tmp_path / "site.db")))
        yield made
        made.close()
        return
    url = request.getfixturevalue("postgres_server")
    schema = f"test_{secrets.token_hex(6)}"
    administration = open_database(url)
    with administration.transaction() as connection:
        connection.execute(text(f"CREATE SCHEMA {schema}"))
    made = _filled(open_database(f"{url}&options=-csearch_path%3D{schema}"))
    yield made
    made.close()
    with administration.transaction() as connection:
        connection.execute(text(f"DROP SCHEMA {schema} CASCADE"))
    administration.close()
