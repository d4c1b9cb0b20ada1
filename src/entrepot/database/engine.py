"""Opens the database: embedded SQLite, or PostgreSQL.

``transaction()`` is a write transaction, ``reading()`` a consistent read. On SQLite writers begin with BEGIN IMMEDIATE
(so that they wait at the beginning and never fail in the middle) and queue behind one lock, which is fair where
SQLite's own waiting is not; commits are durable (WAL, synchronous FULL) unless asked not to be. No transaction is held
across network input or output.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec, TypeVar

import sqlalchemy
from sqlalchemy import Connection, Table, event
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.engine.interfaces import DBAPICursor

from entrepot.core.errors import BadInputError, ConflictError, EntrepotError, StorageError, UnavailableError
from entrepot.database.tables.hierarchy import counter

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql

P = ParamSpec("P")
T = TypeVar("T")

BUSY_SECONDS: Final = 30
_UNSTORABLE: Final = "A number is too large, or a text has characters that cannot be stored."
CHANGES: Final = "changes"
"""The counter that grows with everything that may change an answer to a client."""
_READ: Final = "entrepot_read"
_CHANGED: Final = "entrepot_changed"
_RELAXED: Final = "entrepot_relaxed"


class Database:
    """One database, shared by the threads of a process. Make it with :func:`open_database`."""

    def __init__(self, engine: sqlalchemy.Engine) -> None:
        self.engine = engine
        self.embedded = engine.dialect.name == "sqlite"
        self._writer = threading.Lock() if self.embedded else None
        self._listeners: list[Callable[[], None]] = []

    @contextlib.contextmanager
    def transaction(self, *, durable: bool = True) -> Iterator[Connection]:
        """A write transaction: committed when the block ends, rolled back when it raises.

        Args:
            durable: whether it survives power loss from its end on. If not, it does not wait for the disk, everyone
                sees it all the same, and it survives as soon as a later durable one does: never that without this.

        Raises:
            UnavailableError: the database does not answer, or is busy for too long.
            ConflictError: a constraint forbids it.
            StorageError: the disk is full or read-only.
        """
        with self._translated(), self._queue(), self._begun(durable=durable) as connection:
            connection.info.pop(_CHANGED, None)
            yield connection
            changed = bool(connection.info.pop(_CHANGED, False))
            if changed:
                _count_change(connection)
        if changed:
            for listener in self._listeners:
                listener()

    @contextlib.contextmanager
    def _begun(self, *, durable: bool) -> Iterator[Connection]:
        with self.engine.connect() as plain:
            connection = plain.execution_options(**{_RELAXED: not durable})
            with connection.begin():
                if not durable and not self.embedded:
                    connection.exec_driver_sql("SET LOCAL synchronous_commit = off")
                yield connection

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """A consistent read; nothing may be written in it.

        Raises:
            UnavailableError: the database does not answer.
        """
        with self._translated(), self.engine.connect() as plain:
            options: dict[str, Any] = {_READ: True}
            if not self.embedded:
                options["isolation_level"] = "REPEATABLE READ"
            connection = plain.execution_options(**options)
            with connection.begin():
                yield connection

    @contextlib.contextmanager
    def rehearsal(self) -> Iterator[Connection]:
        """A write transaction that is always rolled back: what is done in it is refused as it would be, and never done.

        Raises:
            EntrepotError: as :meth:`transaction`.
        """
        with self._translated(), self._queue(), self._begun(durable=False) as connection:
            try:
                yield connection
            finally:
                connection.info.pop(_CHANGED, None)
                connection.rollback()

    async def write(self, work: Callable[Concatenate[Connection, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run ``work(connection, …)`` in a write transaction in a worker thread."""

        def run() -> T:
            with self.transaction() as connection:
                return work(connection, *args, **kwargs)

        return await asyncio.to_thread(run)

    async def read(self, work: Callable[Concatenate[Connection, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run ``work(connection, …)`` in a read transaction in a worker thread."""

        def run() -> T:
            with self.reading() as connection:
                return work(connection, *args, **kwargs)

        return await asyncio.to_thread(run)

    async def rehearse(self, work: Callable[Concatenate[Connection, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run ``work(connection, …)`` in a :meth:`rehearsal` in a worker thread."""

        def run() -> T:
            with self.rehearsal() as connection:
                return work(connection, *args, **kwargs)

        return await asyncio.to_thread(run)

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` (from any thread) after each committed transaction that called :func:`mark_changed`."""
        self._listeners.append(listener)

    def close(self) -> None:
        """Give the connections back."""
        self.engine.dispose()

    @contextlib.contextmanager
    def _queue(self) -> Iterator[None]:
        if self._writer is None:
            yield
            return
        if not self._writer.acquire(timeout=BUSY_SECONDS):
            raise UnavailableError("The database is busy.", next_step="Try again in a moment.")
        try:
            yield
        finally:
            self._writer.release()

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlalchemy.exc.IntegrityError as error:
            raise ConflictError("The database refuses: this contradicts what is stored.") from error
        except sqlalchemy.exc.DBAPIError as error:
            raise _translate(error) from error
        except (OverflowError, UnicodeEncodeError) as error:  # by SQLite's driver, which does not wrap them
            raise BadInputError(_UNSTORABLE) from error
        except sqlalchemy.exc.TimeoutError as error:
            raise UnavailableError("All database connections are busy.") from error


def _translate(error: sqlalchemy.exc.DBAPIError) -> EntrepotError:
    if isinstance(error, sqlalchemy.exc.DataError):
        return BadInputError(_UNSTORABLE)
    text = str(error.orig).lower()
    if "full" in text or "no space" in text:
        return StorageError("The database cannot be written: its disk is full.", next_step="Free space on it.")
    if "readonly" in text or "read-only" in text:
        return StorageError(
            "The database cannot be written: it is read-only.", next_step="Check its disk and its file."
        )
    if "disk i/o error" in text or "unable to open database file" in text:  # embedded; may pass
        return UnavailableError(
            f"The database cannot be used: {text}.", next_step="Free space on its disk, or check it."
        )
    if (
        isinstance(error, sqlalchemy.exc.OperationalError | sqlalchemy.exc.InterfaceError)
        or error.connection_invalidated
    ):
        return UnavailableError("The database does not answer.", next_step="Check that it runs and can be reached.")
    return EntrepotError("The database refused a statement; the server's log has the details.")


def mark_changed(connection: Connection) -> None:
    """Note that this transaction changes what listeners of :meth:`Database.on_change` follow.

    The change counter is raised at the transaction's very end: its row is where all such writers queue, and whoever
    waited there with further rows still to lock could block another for ever.
    """
    connection.info[_CHANGED] = True


def _count_change(connection: Connection) -> None:
    statement = insert_into(connection, counter).values(name=CHANGES, value=1)
    raised = {"value": counter.c.value + 1}
    connection.execute(statement.on_conflict_do_update(index_elements=["name"], set_=raised))


def insert_into(connection: Connection, table: Table) -> "sqlite.Insert | postgresql.Insert":
    """An INSERT that knows ``on_conflict_do_nothing`` and ``on_conflict_do_update`` on either database."""
    if connection.dialect.name == "sqlite":
        return sqlite.insert(table)
    from sqlalchemy.dialects import postgresql  # takes a fifteenth of a process's start, and most need it never

    return postgresql.insert(table)


@contextlib.contextmanager
def driver_cursor(connection: Connection, text: str) -> Iterator[DBAPICursor]:
    """A cursor of the database's own driver, in this transaction, for one statement.

    Args:
        text: the statement, for the error's text.

    Raises:
        sqlalchemy.exc.DBAPIError: as SQLAlchemy makes it of the driver's errors.
    """
    refused = connection.dialect.loaded_dbapi.Error
    cursor = connection.connection.cursor()
    try:
        yield cursor
    except refused as error:
        raise sqlalchemy.exc.DBAPIError.instance(text, None, error, refused, dialect=connection.dialect) from error
    finally:
        cursor.close()


def insert_if_free(connection: Connection, table: Table, values: dict[str, Any]) -> bool:
    """Insert a row unless a unique key of it is taken; whether it was inserted."""
    statement = insert_into(connection, table).values(values).on_conflict_do_nothing()
    # rows are counted by what comes back: PostgreSQL's driver does not report a count for INSERT
    return connection.execute(statement.returning(*table.primary_key.columns)).first() is not None


def open_database(url: str) -> Database:
    """Open ``sqlite:///absolute/path`` or ``postgresql://…``.

    Raises:
        BadInputError: another kind of address.
    """
    parsed = database_url(url)
    if parsed.get_backend_name() == "sqlite":
        return Database(_open_sqlite(url))
    address = parsed.set(drivername="postgresql+psycopg")
    return Database(sqlalchemy.create_engine(address, pool_size=8, max_overflow=16, pool_pre_ping=True))


def database_url(text: str) -> sqlalchemy.URL:
    """Check the address of a database.

    Raises:
        BadInputError: it cannot be read, or is of another kind than can be used.
    """
    advice = "Use sqlite:/// or postgresql://."
    try:
        parsed = make_url(text)
        kind = parsed.get_backend_name()
    except (sqlalchemy.exc.ArgumentError, ValueError):
        raise BadInputError("The database address cannot be read.", next_step=advice) from None
    if kind not in ("sqlite", "postgresql"):
        raise BadInputError(f"Databases of kind {kind!r} are not supported.", next_step=advice)
    return parsed


def sqlite_url(path: Path) -> str:
    """The address of an embedded database file."""
    return f"sqlite:///{path.absolute()}"


def _open_sqlite(url: str) -> sqlalchemy.Engine:
    engine = sqlalchemy.create_engine(
        url,
        connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False, "isolation_level": None},
        poolclass=sqlalchemy.QueuePool,
        pool_size=8,
        max_overflow=16,
    )

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: object) -> None:
        cursor = connection.cursor()
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "temp_store=MEMORY"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        options = connection.get_execution_options()
        read, relaxed = options.get(_READ, False), options.get(_RELAXED, False)
        if not read and connection.info.get(_RELAXED, False) != relaxed:
            # In the write-ahead log NORMAL leaves out the wait after a commit; the next FULL one waits for all before.
            connection.exec_driver_sql(f"PRAGMA synchronous={'NORMAL' if relaxed else 'FULL'}")
            connection.info[_RELAXED] = relaxed
        text = "BEGIN" if read else "BEGIN IMMEDIATE"
        with driver_cursor(connection, text) as cursor:
            cursor.execute(text)

    return engine
