"""The cloud host's durable state: one SQLite file, written by the host and by ``entrepot host …`` at the same time.

WAL with full synchronisation: what was committed survives power loss. Deleted rows are overwritten. Write transactions
begin IMMEDIATE, so that two processes never deadlock.
"""

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from entrepot.core.errors import NotFoundError, StorageError, UnavailableError

VERSION: Final = 3
_BUSY_SECONDS: Final = 10.0

_SCHEMA: Final = """
CREATE TABLE subscription (
  id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, state TEXT NOT NULL, storage_quota INTEGER NOT NULL,
  instance_quota INTEGER NOT NULL, created INTEGER NOT NULL) STRICT;
CREATE TABLE certificate (
  subscription TEXT NOT NULL REFERENCES subscription (id) ON DELETE CASCADE, thumbprint TEXT NOT NULL,
  der BLOB NOT NULL, name TEXT NOT NULL, not_after INTEGER NOT NULL, added INTEGER NOT NULL, revoked INTEGER,
  PRIMARY KEY (subscription, thumbprint)) STRICT;
CREATE TABLE assertion (
  subscription TEXT NOT NULL, jti BLOB NOT NULL, expires INTEGER NOT NULL, PRIMARY KEY (subscription, jti)) STRICT;
CREATE INDEX assertion_expires ON assertion (expires);
CREATE TABLE access_token (
  hash BLOB PRIMARY KEY, subscription TEXT NOT NULL, thumbprint TEXT NOT NULL, expires INTEGER NOT NULL,
  FOREIGN KEY (subscription, thumbprint) REFERENCES certificate ON DELETE CASCADE) STRICT;
CREATE TABLE service (
  id TEXT PRIMARY KEY, subscription TEXT NOT NULL REFERENCES subscription (id), name TEXT NOT NULL,
  point TEXT NOT NULL, fqdn TEXT NOT NULL, root BLOB NOT NULL, certificate TEXT NOT NULL, private_key BLOB NOT NULL,
  certificate_expires INTEGER NOT NULL, instances INTEGER NOT NULL, state TEXT NOT NULL, port INTEGER NOT NULL,
  revision INTEGER NOT NULL, created INTEGER NOT NULL, store TEXT NOT NULL DEFAULT '',
  UNIQUE (subscription, name)) STRICT;
"""
_KNOWS: Final = """
CREATE TABLE knows_pin (
  subscription TEXT NOT NULL REFERENCES subscription (id) ON DELETE CASCADE, thumbprint TEXT NOT NULL,
  pin TEXT NOT NULL, since INTEGER NOT NULL, PRIMARY KEY (subscription, thumbprint)) STRICT;
"""
"""Which next pin the holder of a management certificate has kept."""
_STEPS: Final = {1: "ALTER TABLE service ADD COLUMN store TEXT NOT NULL DEFAULT '';", 2: _KNOWS}
"""What brings the file of an older version to the next one."""


class HostDatabase:
    """Thread-safe access; close it at the end.

    Args:
        rehearsal: everything that is written is undone at the end of its transaction, and refused as it would be.
    """

    def __init__(self, path: Path, *, create: bool = False, rehearsal: bool = False) -> None:
        if not create and not path.is_file():
            raise NotFoundError(f"{path} does not exist.", next_step="Run entrepot host init first.")
        self._lock = threading.Lock()
        self._end = "COMMIT"
        with _translated():
            self._connection = sqlite3.connect(
                path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            self._connection.row_factory = sqlite3.Row
            self._connection.executescript(
                "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON; PRAGMA secure_delete=ON;"
            )
            if create:
                self._connection.executescript(
                    f"BEGIN IMMEDIATE; {_SCHEMA} {_KNOWS} PRAGMA user_version={VERSION}; COMMIT;"
                )
        self._check_version(path)
        if rehearsal:
            self._end = "ROLLBACK"

    def _check_version(self, path: Path) -> None:
        with self.write() as connection:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            while version in _STEPS:
                connection.execute(_STEPS[version])
                version += 1
                connection.execute(f"PRAGMA user_version={version:d}")
        if version != VERSION:
            raise StorageError(
                f"{path} has version {version}; this version of Entrepôt uses version {VERSION}.",
                next_step="Use the version of Entrepôt that wrote it.",
            )

    def read(self, query: str, *values: Any) -> list[sqlite3.Row]:
        """All rows of a query.

        Raises:
            StorageError, UnavailableError: the database cannot be read.
        """
        with self._lock, _translated():
            return self._connection.execute(query, values).fetchall()

    @contextlib.contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """One transaction: all of the block happens, durably, or nothing.

        Raises:
            StorageError, UnavailableError: the database cannot be written.
        """
        with self._lock, _translated():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute(self._end)
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise

    def forget(self) -> None:
        """Empty the write-ahead log, so that deleted secrets are gone from it too; best effort while others read."""
        with self._lock, contextlib.suppress(sqlite3.OperationalError):
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            raise UnavailableError("The cloud host's database is busy.", next_step="Try again.") from error
        raise StorageError(
            f"The cloud host's database cannot be used: {error}.", next_step="Check the disk and its permissions."
        ) from error
