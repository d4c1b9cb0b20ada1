"""Databases to test on: embedded, and a real PostgreSQL that the tests start themselves, without root."""

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy

from entrepot.database.engine import Database, open_database, sqlite_url
from entrepot.database.schema import all_tables, upgrade

PATIENCE = 120.0
OWNER = "entrepot"


class PostgresServer:
    """A PostgreSQL server of its own, run by an unprivileged account, and reached through a socket in its folder.

    A socket, because nobody else can take its address between two moments, as is possible with a port.

    Args:
        durable: wait for the disk, as a site's does; tests need not.
    """

    def __init__(self, *, durable: bool = False) -> None:
        programs = _programs()
        self._folder = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))  # a socket's path is bounded to 107 bytes
        account = _unprivileged()
        if account:
            shutil.chown(self._folder, account, None)
        self._numbers = itertools.count()
        self._log = self._folder / "log"
        data = self._folder / "data"
        initdb = [str(programs / "initdb"), "-D", str(data), "-U", OWNER, "--auth=trust"]
        initdb += ["-N", "-E", "UTF8", "--locale=C"]
        how: dict[str, Any] = {"user": account, "cwd": self._folder, "stdout": subprocess.DEVNULL}
        subprocess.run(initdb, check=True, **how)
        options = ["-k", str(self._folder), "-c", "listen_addresses="]
        if not durable:
            options += ["-c", "fsync=off", "-c", "full_page_writes=off"]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen([programs / "postgres", "-D", data, *options], stderr=log, **how)
        self._await()

    def url(self, name: str) -> str:
        """Address of one of its databases."""
        return f"postgresql://{OWNER}@/{name}?host={self._folder}"

    def execute(self, statement: str) -> None:
        """Run a statement outside any transaction."""
        address = sqlalchemy.make_url(self.url("postgres")).set(drivername="postgresql+psycopg")
        engine = sqlalchemy.create_engine(address, poolclass=sqlalchemy.NullPool)
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
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _await(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                self.execute("SELECT 1")
                return
            except sqlalchemy.exc.OperationalError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError(self._log.read_text()[-2000:]) from None
                time.sleep(0.05)


def _programs() -> Path:
    found = shutil.which("postgres") or next(map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))), None)
    if found is None:
        pytest.fail("PostgreSQL is missing: install the Debian package postgresql.")
    return Path(found).resolve().parent


def _unprivileged() -> str | None:
    """Who runs the server: it refuses to run as root."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def migrate(url: str) -> None:
    """Bring a new database to the present schema. The last connection to close empties the write-ahead log."""
    database = open_database(url)
    upgrade(database)
    database.close()


def share_statements(patch: pytest.MonkeyPatch) -> None:
    """Let all embedded databases share what SQLAlchemy makes of the product's statements. Each would make it anew: a
    server opens one in its life, but a test one for itself, and a fifth of what it costs goes there.
    """
    create = sqlalchemy.create_engine
    first = create("sqlite://", poolclass=sqlalchemy.NullPool, query_cache_size=5000)
    first.connect().close()  # a dialect asks the first connection of its engine what this SQLite can do

    def sharing(*args: Any, **options: Any) -> sqlalchemy.Engine:
        engine = create(*args, **options)
        if type(engine.dialect) is type(first.dialect):
            engine.dialect, engine._compiled_cache = first.dialect, first._compiled_cache
        return engine

    patch.setattr(sqlalchemy, "create_engine", sharing)


def embedded_copy(template: Path, path: Path) -> Database:
    """Open a copy of an embedded database."""
    shutil.copyfile(template, path)
    return open_database(sqlite_url(path))


def create_tables(database: Database) -> None:
    """Make all tables directly, without migrations: for tests of single repositories."""
    with database.transaction() as connection:
        all_tables().create_all(connection)
