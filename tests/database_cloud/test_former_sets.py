"""Whose object sets were, after their versions are gone (R26)."""

from entrepot.database import collection, formersets

SET, OTHER = b"s" * 32, b"o" * 32


def test_a_set_is_told_to_its_former_content_for_as_long_as_its_transactions_may_come(database) -> None:
    with database.transaction() as connection:
        formersets.keep(connection, "pkg-1", [SET, SET, OTHER])
        formersets.keep(connection, "pkg-2", [OTHER])
        formersets.keep(connection, "pkg-3", [])
        assert collection.contents_of(connection, [SET, OTHER, b"x" * 32]) == {SET: "pkg-1", OTHER: "pkg-1"}
        formersets.prune(connection, 1000, before=500)
        formersets.prune(connection, 1400, before=1000)
        assert collection.contents_of(connection, [SET]) == {SET: "pkg-1"}
        formersets.prune(connection, 1600, before=1001)
        assert collection.contents_of(connection, [SET]) == {}
