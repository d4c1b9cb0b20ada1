"""Databases to test on: embedded, and a real PostgreSQL that the tests start themselves, without root."""

import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy

from entrepot.database.engine import Database, open_database, sqlite_url
from entrepot.database.schema import upgrade

NOW = 1_774_267_200.0  # 2026-03-23T12:00:00Z


class PostgresServer:
    """A PostgreSQL server of its own in a short temporary folder; an unprivileged account runs it."""

    def __init__(self) -> None:
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
        if not found:
            pytest.fail("PostgreSQL is missing: install the Debian package postgresql.")
        self._bin = found[-1].parent
        self.folder = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))
        self._account = _unprivileged()
        if self._account:
            shutil.chown(self.folder, self._account, None)
        self.port = _free_port()
        self._numbers = itertools.count()
        data = self.folder / "data"
        initdb = [self._bin / "initdb", "-D", data, "-U", "entrepot", "--auth=trust", "-N", "-E", "UTF8", "--locale=C"]
        subprocess.run(initdb, check=True, user=self._account, cwd="/", stdout=subprocess.DEVNULL)
        options = ["-k", self.folder, "-p", str(self.port), "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]
        self._process = subprocess.Popen(
            [self._bin / "postgres", "-D", data, *options],
            user=self._account,
            cwd="/",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._wait()

    def url(self, name: str) -> str:
        """Address of one of its databases."""
        return f"postgresql://entrepot@127.0.0.1:{self.port}/{name}"

    def execute(self, statement: str) -> None:
        """Run a statement outside any transaction."""
        engine = sqlalchemy.create_engine(
            self.url("postgres").replace("://", "+psycopg://"), poolclass=sqlalchemy.NullPool
        )
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(sqlalchemy.text(statement))
        engine.dispose()

    def new_database(self, template: str = "template1") -> str:
        """Make a database; its address."""
        name = f"test{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.url(name)

    def stop(self) -> None:
        """End it and remove everything."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _wait(self) -> None:
        deadline = time.monotonic() + 60
        while True:
            try:
                self.execute("SELECT 1")
                return
            except sqlalchemy.exc.OperationalError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.1)


def _unprivileged() -> str | None:
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    server = PostgresServer()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def postgres_template(postgres: PostgresServer) -> str:
    """Name of a database with all tables, to copy."""
    postgres.execute("CREATE DATABASE entrepot_template")
    database = open_database(postgres.url("entrepot_template"))
    upgrade(database)
    database.close()
    return "entrepot_template"


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "template.db"
    database = open_database(sqlite_url(path))
    upgrade(database)
    with database.engine.connect() as connection:
        connection.connection.driver_connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    return path


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty database with all tables, of each kind."""
    if request.param == "sqlite":
        path = tmp_path / "site.db"
        shutil.copy(request.getfixturevalue("sqlite_template"), path)
        opened = open_database(sqlite_url(path))
    else:
        server = request.getfixturevalue("postgres")
        opened = open_database(server.new_database(request.getfixturevalue("postgres_template")))
    yield opened
    opened.close()
