"""What a publish says hundreds of times: statements that are put together once, and given to the database's driver as
they are.

SQLAlchemy makes a context for each statement it executes, spells lists out, and passes every parameter and column
through its type: for short statements that takes several times as long as SQLite's answer. So parameters and columns
are here what drivers themselves take and give: bytes, numbers and texts. Transactions and errors are those of
:class:`~entrepot.database.engine.Database`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Generic, TypeVar

from sqlalchemy import Connection, LargeBinary, Select, Table, bindparam, func, literal_column, select
from sqlalchemy.dialects import sqlite
from sqlalchemy.sql.elements import ClauseElement

from entrepot.database.engine import driver_cursor, insert_into

Row = TypeVar("Row")

_KEY_BYTES: Final = 32


class _Prepared:
    """Keeps a statement's text for each kind of database; parameters have their names in it."""

    def __init__(self, statement: Callable[[Connection], ClauseElement], columns: Sequence[str] | None = None) -> None:
        self._statement = statement
        self._columns = columns
        self._texts: dict[str, str] = {}

    def text(self, connection: Connection) -> str:
        """What this connection's driver is told."""
        dialect = connection.dialect
        if dialect.name not in self._texts:
            named = sqlite.dialect(paramstyle="named") if dialect.name == "sqlite" else dialect
            compiled = self._statement(connection).compile(dialect=named, column_keys=self._columns)
            self._texts[dialect.name] = str(compiled)
        return self._texts[dialect.name]


class Query(Generic[Row]):
    """A question that is asked often.

    Args:
        row: makes an answer's row of its columns, such as a named tuple's ``_make``.
        statement: its parameters have names, and no values.
    """

    def __init__(self, row: Callable[[Iterable[Any]], Row], statement: Select[*tuple[Any, ...]]) -> None:
        self._row = row
        self._prepared = _Prepared(lambda _: statement)

    def all(self, connection: Connection, **parameters: bytes | str) -> list[Row]:
        """Ask it; the whole answer."""
        text = self._prepared.text(connection)
        with driver_cursor(connection, text) as cursor:
            cursor.execute(text, parameters)
            return list(map(self._row, cursor.fetchall()))


class NewRows:
    """Rows of a table, of which those whose unique keys are taken are passed over."""

    def __init__(self, table: Table, columns: Sequence[str]) -> None:
        self._prepared = _Prepared(lambda connection: insert_into(connection, table).on_conflict_do_nothing(), columns)

    def insert(self, connection: Connection, rows: Sequence[Mapping[str, object]]) -> int:
        """Insert them; each has all columns. How many were inserted."""
        text = self._prepared.text(connection)
        with driver_cursor(connection, text) as cursor:
            cursor.executemany(text, rows)
            return cursor.rowcount


def each_key(name: str) -> Select[tuple[bytes]]:
    """The keys (of 32 bytes) in one parameter, which has them one behind the other: a list would have to be spelled out
    anew for each number of them."""
    keys = bindparam(name, type_=LargeBinary)
    first = select(literal_column("1").label("position")).cte(f"in_{name}", recursive=True)
    follows = first.c.position + literal_column(str(_KEY_BYTES))
    position = first.union_all(select(follows).where(follows <= func.length(keys))).c.position
    return select(func.substr(keys, position, literal_column(str(_KEY_BYTES))))
