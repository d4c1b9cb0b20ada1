"""Secrets, role keys and trust documents in the database, on both kinds of it."""

import msgspec
import pytest
from sqlalchemy import insert, text

from entrepot.content.ledger import SET
from entrepot.content.sealing import Purpose
from entrepot.core.ids import ObjectId
from entrepot.database import contents, hierarchy, retention, sealings
from entrepot.database.contents import Content, Delta, Version
from entrepot.database.engine import Database
from entrepot.database.hierarchy import Hierarchy, RoleKey, Site
from entrepot.database.recovery import indexed_in_set
from entrepot.database.tables.library import chunk, object_, object_set, set_object
from entrepot.protocol.trust import Role

from ..rows import content_row

NOW = 1_774_267_200.0


@pytest.fixture(autouse=True)
def site(database: Database) -> None:
    record = Hierarchy(name="H", epoch=1, trust_number=1, trust_document="one", root_public=b"r" * 32)
    with database.transaction() as connection:
        hierarchy.create_hierarchy(connection, record, now=NOW)
        hierarchy.add_site(
            connection, Site(code="PS1", name="One", url="https://one", vault_public=b"v" * 32, created=1)
        )


def content(name: str) -> Content:
    return content_row(f"pkg-{name}", name, created=1)


def version(name: str, number: int = 1, **changes: object) -> Version:
    plain = dict.fromkeys(
        ("set_size", "files", "folders", "links", "plain_size", "chunks", "stored_size", "new_objects", "new_bytes"), 0
    )
    made = Version(
        content=f"pkg-{name}",
        number=number,
        set_id=f"{name}{number}".encode().ljust(32, b"-"),
        root=b"root",
        objects=1,
        warnings=(),
        created=1,
        **plain,
    )
    return msgspec.structs.replace(made, **changes)


def test_a_secret_is_replaced_but_keeps_the_day_on_which_it_was_made(database: Database) -> None:
    with database.transaction() as connection:
        hierarchy.put_secret(connection, site="PS1", name="content/1", sealed=b"one", now=NOW)
        hierarchy.replace_secret(connection, site="PS1", name="content/1", sealed=b"two", now=NOW + 5)
        hierarchy.replace_secret(connection, site="PS1", name="content/12", sealed=b"new", now=NOW + 5)
        hierarchy.replace_secret(connection, site="PS1", name="dedupe", sealed=b"d", now=NOW)
        hierarchy.forget_secret(connection, site="PS1", name="dedupe")
    with database.reading() as connection:
        assert hierarchy.sealed_secrets(connection, "PS1") == {"content/1": b"two", "content/12": b"new"}
        assert hierarchy.secret_dates(connection, "PS1")["content/1"] == int(NOW)
        assert hierarchy.newest_generation(connection, "PS1") == 12
        assert hierarchy.newest_generation(connection, "PS2") == 0


def test_every_change_of_keys_has_a_number_of_its_own(database: Database) -> None:
    numbers = []
    for _ in range(3):
        with database.transaction() as connection:
            numbers.append(hierarchy.lock_keys(connection))
    assert numbers == [1, 2, 3]
    with database.reading() as connection:
        assert hierarchy.count(connection, hierarchy.KEYS) == 3


def test_a_trust_document_is_only_replaced_by_a_newer_one(database: Database) -> None:
    with database.transaction() as connection:
        assert hierarchy.store_trust(connection, number=3, epoch=2, document="three")
        assert not hierarchy.store_trust(connection, number=3, epoch=2, document="other")
        assert not hierarchy.store_trust(connection, number=4, epoch=1, document="older epoch")
        assert hierarchy.get_hierarchy(connection).trust_document == "three"


def test_a_role_key_remembers_which_documents_list_it(database: Database) -> None:
    key = RoleKey(
        kid="k1", role=Role.TOKEN, site="PS1", public=b"p", sealed=b"s", not_before=1, not_after=9, listed_in=0
    )
    with database.transaction() as connection:
        hierarchy.add_role_key(connection, key)
        hierarchy.change_role_key(connection, "k1", listed_in=2, listed_at=77)
        [found] = hierarchy.site_role_keys(connection, "PS1")
    assert (found.listed_in, found.listed_at, found.dropped_in) == (2, 77, 0)


def test_versions_to_seal_anew_begin_with_what_clients_get(database: Database) -> None:
    with database.transaction() as connection:
        for name in ("a", "b"):
            contents.add_content(connection, content(name))
            contents.add_version(connection, version(name, 1, signed_by="old"))
            contents.add_version(connection, version(name, 2, generation=2, signed_by="old" if name == "b" else "new"))
        contents.set_current(connection, "pkg-b", 1)
        found = sealings.outdated(connection, 2, site="PS1")
        assert [(each.content, each.number) for each in found] == [("pkg-b", 1), ("pkg-a", 1)]
        withdrawn = sealings.outdated(connection, 2, site="PS1", signed_by=("old",))
        assert [(each.content, each.number) for each in withdrawn] == [("pkg-b", 1), ("pkg-a", 1), ("pkg-b", 2)]
        assert sealings.outdated(connection, 2, site="PS2") == []
        contents.mark_deleting(connection, "pkg-a")
        assert [each.content for each in sealings.outdated(connection, 2, site="PS1")] == ["pkg-b"]
        assert sealings.count_versions(connection) == ({1: 2, 2: 2}, {"old": 3, "new": 1})


def test_a_new_sealing_takes_the_place_of_the_one_it_was_made_from_and_of_no_other(database: Database) -> None:
    delta = Delta(content="pkg-a", from_version=1, to_version=2, set_id=b"d", root=b"r", size=1, created=1)
    with database.transaction() as connection:
        contents.add_content(connection, content("a"))
        contents.add_version(connection, version("a", 1))
        contents.add_version(connection, version("a", 2))
        contents.add_delta(connection, delta)
        before = contents.get_version(connection, "pkg-a", 1)
        assert sealings.replace_sealing(connection, before, set_id=b"n" * 32, root=b"new", generation=2)
        assert not sealings.replace_sealing(connection, before, set_id=b"m" * 32, root=b"late", generation=2)
        after = contents.get_version(connection, "pkg-a", 1)
        assert (after.set_id, after.root, after.sealing, after.generation) == (b"n" * 32, b"new", 2, 2)
        assert (after.former_set_id, after.former_root) == (before.set_id, before.root)
        assert contents.list_deltas(connection, "pkg-a") == []
        assert retention.forget_former_sealings(connection) == 1  # no point has it
        assert contents.get_version(connection, "pkg-a", 1).former_set_id is None
        assert retention.forget_former_sealings(connection) == 0


def test_the_index_says_what_a_sets_manifest_is(database: Database) -> None:
    ids = [ObjectId(bytes([number]) * 32) for number in range(3)]
    with database.transaction() as connection:
        for number, purpose in enumerate((SET, Purpose.MANIFEST_ROOT, Purpose.CHUNK)):
            connection.execute(
                insert(object_).values(
                    id=number + 1, object_id=ids[number], size=10, purpose=int(purpose), state="live", changed=0.0
                )
            )
        connection.execute(insert(object_set).values(id=1, object=1, created=0.0))
        for number in (2, 3):
            connection.execute(insert(set_object).values(object_set=1, object=number))
            entry = {"index_hash": bytes([number]) * 32, "payload_hash": bytes([number + 100]) * 32, "generation": 4}
            connection.execute(insert(chunk).values(object=number, **entry))
        [found] = indexed_in_set(connection, ids[0], Purpose.MANIFEST_ROOT)
        assert (found.object_id, found.payload_hash, found.generation) == (ids[1], bytes([102]) * 32, 4)
        assert indexed_in_set(connection, ids[1], Purpose.MANIFEST_ROOT) == []
        assert connection.execute(text("SELECT COUNT(*) FROM set_object")).scalar() == 2
