"""The engine: transactions, errors, and what each kind of database promises."""

import threading
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import insert, select, text

from entrepot.core.errors import BadInputError, ConflictError, NotFoundError, StorageError, UnavailableError
from entrepot.database import hierarchy, points
from entrepot.database.engine import CHANGES, Database, open_database, sqlite_url
from entrepot.database.tables.hierarchy import counter

POINT = points.Point(id="pt-1", name="dp", kind="standard", site="PS1", state="active", url="https://x")


def change(database: Database) -> None:
    with database.transaction() as connection:
        hierarchy.note_change(connection)


def test_a_transaction_that_raises_leaves_nothing(database: Database) -> None:
    with pytest.raises(NotFoundError), database.transaction() as connection:
        connection.execute(insert(counter).values(name="a", value=1))
        raise NotFoundError("stop")
    with database.reading() as connection:
        assert connection.execute(select(counter)).first() is None


def test_a_broken_constraint_is_a_conflict(database: Database) -> None:
    with pytest.raises(ConflictError), database.transaction() as connection:
        connection.execute(insert(counter).values(name="a", value=1))
        connection.execute(insert(counter).values(name="a", value=2))


@pytest.mark.parametrize(
    ("pragma", "reason"), [("max_page_count=10", "its disk is full"), ("query_only=ON", "it is read-only")]
)
def test_a_database_that_cannot_be_written_says_why(tmp_path: Path, pragma: str, reason: str) -> None:
    database = open_database(sqlite_url(tmp_path / "small.sqlite"))
    with database.transaction() as connection:
        connection.execute(text("CREATE TABLE large (value BLOB)"))
    with pytest.raises(StorageError, match=reason), database.transaction() as connection:
        connection.execute(text(f"PRAGMA {pragma}"))
        connection.execute(text("INSERT INTO large VALUES (zeroblob(1000000))"))
    database.close()


def test_a_database_whose_file_cannot_be_opened_says_so(tmp_path: Path) -> None:
    database = open_database(sqlite_url(tmp_path / "missing" / "site.db"))
    with pytest.raises(UnavailableError, match="cannot be used: unable to open database file"), database.reading():
        pass
    database.close()


def test_foreign_keys_are_enforced(database: Database) -> None:
    with pytest.raises(ConflictError), database.transaction() as connection:
        hierarchy.put_secret(connection, site="XXX", name="dedupe", sealed=b"", now=1)


@pytest.mark.parametrize("value", [2**70, "x" * 3 + "\ud800"])
def test_what_cannot_be_stored_is_the_callers_fault(database: Database, value: object) -> None:
    row = {"name": "a", "value": value} if isinstance(value, int) else {"name": value, "value": 1}
    with pytest.raises(BadInputError), database.transaction() as connection:
        connection.execute(insert(counter).values(row))


def test_a_read_sees_one_moment(database: Database) -> None:
    change(database)
    with database.reading() as reading:
        before = hierarchy.count(reading, CHANGES)
        change(database)
        assert hierarchy.count(reading, CHANGES) == before
    with database.reading() as reading:
        assert hierarchy.count(reading, CHANGES) == before + 1


def test_every_change_is_counted_however_many_writers_there_are(database: Database) -> None:
    def work() -> None:
        for _ in range(25):
            change(database)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.reading() as connection:
        assert hierarchy.count(connection, CHANGES) == 100


def test_listeners_hear_of_changes_once_they_are_committed(database: Database) -> None:
    heard: list[int] = []

    def listen() -> None:
        with database.reading() as connection:
            heard.append(hierarchy.count(connection, CHANGES))

    database.on_change(listen)
    with database.transaction() as connection:
        hierarchy.note_change(connection)
    with database.transaction() as connection:
        connection.execute(insert(counter).values(name="other", value=1))
    with pytest.raises(NotFoundError), database.transaction() as connection:
        hierarchy.note_change(connection)
        raise NotFoundError("stop")
    assert heard == [1]


def test_sqlite_commits_are_durable(sqlite_template: object) -> None:
    opened = open_database(f"sqlite:///{sqlite_template}")
    with opened.reading() as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        assert connection.execute(text("PRAGMA synchronous")).scalar() == 2  # FULL
    opened.close()


def test_only_who_asks_for_it_does_not_wait_for_the_disk(database: Database) -> None:
    how = "PRAGMA synchronous" if database.embedded else "SHOW synchronous_commit"

    def setting(**asked: bool) -> object:
        with database.transaction(**asked) as connection:
            return connection.execute(text(how)).scalar()

    strict, relaxed = (2, 1) if database.embedded else ("on", "off")
    assert [setting(), setting(durable=False), setting(), setting(durable=False)] == [strict, relaxed] * 2
    with pytest.raises(NotFoundError), database.transaction(durable=False) as connection:
        connection.execute(insert(counter).values(name="other", value=1))
        raise NotFoundError("stop")
    with database.transaction(durable=False) as connection:
        connection.execute(insert(counter).values(name="other", value=2))
    with database.reading() as connection:
        assert connection.execute(select(counter.c.value).where(counter.c.name == "other")).scalar() == 2


@pytest.mark.parametrize("url", ["mysql://localhost/x", "not an address", "postgresql"])
def test_other_databases_are_refused(url: str) -> None:
    with pytest.raises(BadInputError):
        open_database(url)


def test_what_is_rehearsed_is_refused_as_it_would_be_and_never_done(database: Database) -> None:
    heard: list[str] = []
    database.on_change(lambda: heard.append("changed"))
    with database.rehearsal() as connection:
        points.add_point(connection, POINT)
        assert points.get_point(connection, "dp") == POINT
        with pytest.raises(ConflictError):
            points.add_point(connection, msgspec.structs.replace(POINT, id="pt-2", name="DP"))
    with database.reading() as connection:
        assert points.list_points(connection) == []
    with pytest.raises(NotFoundError), database.rehearsal() as connection:
        points.get_point(connection, "dp")
    with database.transaction() as connection:
        points.add_point(connection, POINT)
    assert heard == ["changed"]
