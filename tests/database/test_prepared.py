"""Statements that are given to the drivers as they are: answers, transactions and errors are those of the engine."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import pytest
from sqlalchemy import bindparam, select, text

from entrepot.core.errors import BadInputError, ConflictError, UnavailableError
from entrepot.database.engine import Database
from entrepot.database.prepared import NewRows, Query, each_key
from entrepot.database.tables.library import chunk, object_

KEYS = [bytes([number]) * 32 for number in range(10)]


class Found(NamedTuple):
    key: bytes
    size: int


OBJECTS = NewRows(object_, ("object_id", "size", "purpose", "state", "changed"))
ENTRIES = NewRows(chunk, ("index_hash", "object", "payload_hash", "generation"))
FOUND = Query(
    Found._make,
    select(object_.c.object_id, object_.c.size)
    .where(object_.c.object_id.in_(each_key("keys")), object_.c.state == bindparam("state"))
    .order_by(object_.c.object_id)
    .with_for_update(of=object_, key_share=True),
)


def row(key: bytes, size: int = 1, state: str = "live") -> dict[str, object]:
    return {"object_id": key, "size": size, "purpose": 1, "state": state, "changed": 0.5}


def find(database: Database, keys: Sequence[bytes]) -> list[Found]:
    with database.transaction() as connection:
        return FOUND.all(connection, keys=b"".join(keys), state="live")


@pytest.fixture
def filled(database: Database) -> Database:
    """It has the first five keys; the fifth is not live."""
    with database.transaction() as connection:
        OBJECTS.insert(connection, [row(key, number) for number, key in enumerate(KEYS[:4])])
        OBJECTS.insert(connection, [row(KEYS[4], state="deleting")])
    return database


@pytest.mark.parametrize(
    ("asked", "found"), [([], []), ([2], [2]), ([9], []), ([3, 9, 0, 4, 3], [0, 3]), (range(10), [0, 1, 2, 3])]
)
def test_as_many_keys_as_one_likes_are_looked_for(filled: Database, asked: Sequence[int], found: list[int]) -> None:
    assert find(filled, [KEYS[each] for each in asked]) == [Found(KEYS[each], each) for each in found]


def test_rows_whose_keys_are_taken_are_passed_over_and_the_others_counted(filled: Database) -> None:
    with filled.transaction() as connection:
        assert OBJECTS.insert(connection, [row(KEYS[1], 700), row(KEYS[5], 800), row(KEYS[2]), row(KEYS[6])]) == 2
        assert OBJECTS.insert(connection, [row(KEYS[6]), row(KEYS[1])]) == 0
        assert OBJECTS.insert(connection, [row(KEYS[7])]) == 1
    assert find(filled, [KEYS[1], KEYS[5]]) == [Found(KEYS[1], 1), Found(KEYS[5], 800)]


def test_a_broken_constraint_is_a_conflict_and_leaves_nothing(filled: Database) -> None:
    entry = {"index_hash": KEYS[0], "object": 999, "payload_hash": b"p", "generation": 1}
    with pytest.raises(ConflictError), filled.transaction() as connection:
        OBJECTS.insert(connection, [row(KEYS[6])])
        ENTRIES.insert(connection, [entry])
    assert find(filled, [KEYS[6]]) == []


@pytest.mark.parametrize("wrong", [row(KEYS[6], 2**70), row(KEYS[6], state="\ud800")])
def test_what_cannot_be_stored_is_the_callers_fault(filled: Database, wrong: dict[str, object]) -> None:
    with pytest.raises(BadInputError), filled.transaction() as connection:
        OBJECTS.insert(connection, [wrong])


@pytest.mark.postgres
def test_a_connection_that_is_lost_is_unavailable_and_the_next_one_answers(postgres_database: Any) -> None:
    end = text("SELECT pg_terminate_backend(:process, 60000)")
    with pytest.raises(UnavailableError), postgres_database.transaction() as connection:
        process = connection.execute(text("SELECT pg_backend_pid()")).scalar()
        with postgres_database.reading() as other:
            assert other.execute(end, {"process": process}).scalar()
        FOUND.all(connection, keys=KEYS[0], state="live")
    assert find(postgres_database, KEYS) == []
