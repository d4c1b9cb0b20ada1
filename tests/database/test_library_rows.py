"""Versions, figures, verdicts and sweeps in SQL, on both kinds of database."""

import itertools

import pytest
from sqlalchemy import event

from entrepot.content.ledger import SET, Announcement
from entrepot.content.sealing import Purpose
from entrepot.core.errors import ConflictError, UnavailableError
from entrepot.core.ids import ObjectId
from entrepot.database import (
    contents,
    history,
    librarychecks,
    librarystats,
    librarysweep,
    pointchecks,
    pointsets,
    retention,
    sealings,
    taskleases,
    tasks,
    versions,
)
from entrepot.database.contents import Delta, Version
from entrepot.database.engine import Database
from entrepot.database.library import SqlLibrary
from entrepot.database.librarychecks import SqlCheckLedger
from entrepot.database.pointsets import PointSet
from entrepot.database.tables.points import point as point_table
from entrepot.objects.hashing import object_id_of
from entrepot.protocol.siteapi import TaskState
from entrepot.rules.verdicts import Verdict

from ..rows import content_row

NOW = 1_774_267_200.0


def chunk(name: str) -> ObjectId:
    return object_id_of(name.encode())


class Shop:
    """A content App with versions 1 and 2 and a delta between them; 100 bytes sealed an object, 300 plain a chunk."""

    def __init__(self, database: Database) -> None:
        self.database = database
        numbers = itertools.count(1)
        self.library = SqlLibrary(
            database, clock=lambda: NOW, new_id=lambda: f"ses-{next(numbers)}", pause=lambda _: None
        )
        self.content = content_row("pkg-1", "App", source="/srv/app", created=int(NOW))
        with database.transaction() as connection:
            contents.add_content(connection, self.content)
        self.one = self.version(1, "a", "b", "c")
        self.two = self.version(2, "b", "c", "d")
        delta_set = self.adopt("delta", {"p": Purpose.DELTA_PACK})
        with database.transaction() as connection:
            contents.add_delta(
                connection,
                Delta(
                    content="pkg-1",
                    from_version=1,
                    to_version=2,
                    set_id=delta_set,
                    root=b"r",
                    size=100,
                    created=int(NOW),
                    saved=60,
                ),
            )
        self.delta_set = delta_set

    def adopt(self, name: str, members: dict[str, int]) -> ObjectId:
        ledger = self.library.open_session(name)
        ledger.announce(
            [
                Announcement(
                    object_id=chunk(each),
                    sealed_size=100,
                    purpose=purpose,
                    plain_size=300 if purpose == Purpose.CHUNK else 200,
                )
                for each, purpose in members.items()
            ]
        )
        set_id = object_id_of(f"set {name}".encode())
        ledger.announce([Announcement(object_id=set_id, sealed_size=40, purpose=SET)])
        self.library.adopt(ledger.session, set_id)
        return set_id

    def version(self, number: int, *chunks: str) -> Version:
        set_id = self.adopt(f"{number}", dict.fromkeys(chunks, Purpose.CHUNK))
        zeros = dict.fromkeys(("files", "folders", "links", "chunks", "new_objects", "new_bytes", "objects"), 0)
        made = Version(
            content="pkg-1",
            number=number,
            set_id=set_id,
            set_size=40,
            root=b"r",
            plain_size=900,
            stored_size=300,
            warnings=(),
            created=int(NOW),
            **zeros,
        )
        with self.database.transaction() as connection:
            contents.add_version(connection, made)
        return made

    def point(self, *held: tuple[bytes, int, int]) -> None:
        """A point dp that has some sets: (set, version, from)."""
        values = {
            "id": "pt-1",
            "name": "dp",
            "name_key": "dp",
            "kind": "standard",
            "site": "PS1",
            "state": "active",
            "url": "https://dp",
            "public_key": b"",
            "certificates": "",
            "csr": b"",
            "certificate_expires": 0,
            "fallback": False,
            "internet_facing": False,
            "message": "",
            "created": int(NOW),
        }
        with self.database.transaction() as connection:
            connection.execute(point_table.insert().values(values))
            for set_id, version, from_version in held:
                pointsets.begin_set(connection, self.point_set(set_id, version, from_version))
                pointsets.hold_set(connection, "pt-1", set_id, now=NOW)

    def point_set(self, set_id: bytes, version: int, from_version: int = 0) -> PointSet:
        return PointSet(
            point="pt-1",
            set_id=set_id,
            content="pkg-1",
            version=version,
            from_version=from_version,
            state=pointsets.HELD,
            size=40,
            changed=int(NOW),
            retired=0,
        )


@pytest.fixture
def shop(database: Database) -> Shop:
    return Shop(database)


def test_figures(shop: Shop) -> None:
    with shop.database.reading() as connection:
        found = librarystats.figures(connection)
        assert librarystats.figures(connection, "pkg-1") == found
        assert librarystats.update_bytes(connection, shop.one, shop.two) == (100, 60)
        assert librarystats.update_bytes(connection, shop.two, shop.one) == (100, None)
    assert (found.versions, found.objects, found.logical, found.unique, found.stored) == (2, 8, 1800, 1200, 400)
    assert (found.overhead, found.saved_by_dedupe, found.saved_by_compression) == (220, 600, 800)
    assert (found.saved_by_deltas, found.shared, found.unmeasured, found.former) == (60, 0, 0, 0)


def test_what_former_seals_keep_counts_by_itself(shop: Shop) -> None:
    with shop.database.reading() as connection:
        before = librarystats.figures(connection)
        everything = before.stored + before.overhead
    anew = shop.adopt("1 anew", dict.fromkeys(("a2", "b2", "c2"), Purpose.CHUNK))
    with shop.database.transaction() as connection:
        assert sealings.replace_sealing(connection, shop.one, set_id=anew, root=b"new", generation=2)
        for found in (librarystats.figures(connection), librarystats.figures(connection, "pkg-1")):
            assert (found.logical, found.unique, found.saved_by_dedupe) == (1800, 1800, 0)
            assert found.unique == found.stored + found.saved_by_compression
            assert found.former > 0
        whole = librarystats.figures(connection)
        assert whole.stored + whole.overhead + whole.former == everything + 340  # three chunks, and their set


def test_what_an_attempt_to_publish_keeps_is_told(shop: Shop) -> None:
    ledger = shop.library.open_session("2 again")
    ledger.announce(
        [
            Announcement(object_id=chunk(name), sealed_size=100, purpose=Purpose.CHUNK, plain_size=300)
            for name in ("a", "x", "y")
        ]
    )
    with shop.database.reading() as connection:
        assert librarystats.held(connection) == (2, 200)  # a version needs the third anyway


def test_what_a_version_frees_and_what_goes_with_it(shop: Shop) -> None:
    shop.point((shop.one.set_id, 1, 0), (shop.delta_set, 2, 1))
    with shop.database.transaction() as connection:
        assert versions.freed_by(connection, versions.sets_of(connection, shop.one)) == (4, 280)
        uses = versions.point_uses(connection, shop.one)
        assert [(use.point_name, use.version, use.from_version) for use in uses] == [("dp", 1, 0), ("dp", 2, 1)]
        assert versions.devices_on(connection, shop.one) == 0
        content = contents.get_content(connection, "App")
        with pytest.raises(ConflictError):
            versions.remove(connection, content, shop.two, now=NOW)
    with shop.database.transaction() as connection:
        versions.lock(connection, "pkg-1")
        for set_id in (shop.one.set_id, shop.delta_set):
            pointsets.forget_set(connection, "pt-1", set_id)
        assert versions.remove(connection, content, shop.one, now=NOW) == []
        history.note(connection, content, history.VERSION_DELETED, version=1, now=NOW, by="admin")
        assert contents.next_number(connection, "pkg-1") == 3
        assert [version.number for version in contents.list_versions(connection, "pkg-1")] == [2]
        assert contents.list_deltas(connection, "pkg-1") == []
        assert retention.unused_sets(connection) == []
        preview = librarysweep.preview(connection, now=NOW, grace_seconds=3600)
        assert (preview.due_objects, preview.later_objects, preview.later_bytes) == (0, 4, 280)
        assert [event.version for event in history.listed(connection, "pkg-1")] == [1]


def test_unused_sets_are_dropped_unless_somebody_is_adopting_them(shop: Shop) -> None:
    spare = shop.adopt("spare", {"s": Purpose.CHUNK})
    with shop.database.transaction() as connection:
        assert retention.unused_sets(connection) == [spare]
        assert retention.drop_unused_sets(connection) == 1
        assert retention.drop_unused_sets(connection) == 0


def test_verdicts_and_who_needs_what(shop: Shop) -> None:
    ledger = SqlCheckLedger(shop.database, "pkg-1")
    assert ledger.amount(NOW) == (8, 620)
    ledger.note([chunk("a")], [chunk("b"), chunk("p")], NOW, lambda _: Verdict.MISSING)
    ledger.note([chunk("a")], [], NOW + 1, lambda _: Verdict.MISSING)
    with shop.database.reading() as connection:
        faults = {fault.object_id: fault for fault in librarychecks.faults(connection, "pkg-1")}
        assert faults[chunk("b").hex()].needed_by == ("App 2", "App 1")
        assert faults[chunk("p").hex()].needed_by == ("App 1 to 2",)
        assert faults[chunk("p").hex()].kind == "delta pack"
        found = librarystats.validation(connection)
        assert (found.objects, found.checked_objects, found.missing, found.damaged) == (8, 3, 2, 0)
        assert librarychecks.oldest_check(connection) == int(NOW)
        assert librarychecks.faults(connection, after="ff" * 32) == []


def needing(shop: Shop, first: str, last: str, *, content: str = "", each: int = 5) -> list[int]:
    with shop.database.reading() as connection:
        found = librarychecks.versions_with(connection, content, chunk(first), chunk(last), each=each)
        return [version.number for version in found]


def test_versions_that_need_what_is_faulty_are_found(shop: Shop) -> None:
    assert needing(shop, "a", "a") == [], "it is sound"
    SqlCheckLedger(shop.database).note([], [chunk("a")], NOW, lambda _: Verdict.MISSING)
    assert needing(shop, "a", "a") == needing(shop, "a", "a", content="pkg-1") == [1]
    assert needing(shop, "a", "a", content="pkg-2") == needing(shop, "b", "b") == []
    SqlCheckLedger(shop.database).note([], [chunk("b")], NOW, lambda _: Verdict.DAMAGED)
    assert needing(shop, "b", "b") == [2, 1]
    assert needing(shop, "b", "b", each=1) == [2]


def test_versions_are_found_however_much_is_faulty(shop: Shop) -> None:
    SqlCheckLedger(shop.database).note([], [chunk("a"), chunk("b")], NOW, lambda _: Verdict.MISSING)
    named: list[int] = []
    with shop.database.reading() as connection:
        event.listen(connection, "before_cursor_execute", lambda *args: named.append(len(args[3])))
        everything = ObjectId(bytes(32)), ObjectId(b"\xff" * 32)
        assert len(librarychecks.versions_with(connection, "", *everything, each=5)) == 2
        assert max(named) < 6, "not one variable for each object"


def test_deltas_to_mend_are_found_however_many_sets_are_broken(shop: Shop) -> None:
    for number in range(20):
        shop.adopt(f"spare {number}", {"p": Purpose.DELTA_PACK})
    SqlCheckLedger(shop.database).note([], [chunk("p")], NOW, lambda _: Verdict.MISSING)
    named: list[int] = []
    with shop.database.reading() as connection:
        event.listen(connection, "before_cursor_execute", lambda *args: named.append(len(args[3])))
        assert [each.set_id for each in librarychecks.broken_deltas(connection)] == [shop.delta_set]
        assert max(named) < 20, "a database takes so many variables, not more"
    SqlCheckLedger(shop.database).note([], [chunk("b")], NOW, lambda _: Verdict.MISSING)
    with shop.database.reading() as connection:
        assert librarychecks.broken_deltas(connection) == [], "first its versions must be whole"


def test_a_point_is_looked_through_set_by_set_and_goes_on_where_it_was(shop: Shop) -> None:
    shop.point((shop.one.set_id, 1, 0), (shop.two.set_id, 2, 0))
    begun = int(NOW) + 5
    with shop.database.transaction() as connection:
        first, second = pointchecks.to_check(connection, "pt-1", "", begun=begun)
        assert pointchecks.begin(connection, first, begun=begun) == b""
        due = pointchecks.objects_due(connection, first, begun=begun, after=b"", limit=10)
        assert {each.object_id for each in due} == {chunk("a"), chunk("b"), chunk("c"), shop.one.set_id}
        verdicts = {due[0].object_id: Verdict.DAMAGED, due[1].object_id: Verdict.GOOD}
        assert pointchecks.note(connection, first, verdicts, now=NOW)
    with shop.database.transaction() as connection:
        assert pointchecks.begin(connection, first, begun=begun) == due[1].object_id
        assert pointchecks.begin(connection, first, begun=begun + 1) == b""
        pointchecks.finish(connection, first, now=begun + 1)
        assert pointchecks.to_check(connection, "pt-1", "", begun=begun) == [second]
        rest = pointchecks.objects_due(connection, second, begun=begun, after=b"", limit=10)
        assert {each.object_id for each in rest} == {chunk("d"), shop.two.set_id}
        assert [each.object_id for each in pointchecks.faulty(connection, "pt-1", "pkg-1")] == [due[0].object_id]
        shown = pointchecks.described(connection, "pt-1")
        assert shown[0].damaged == 1
        assert librarychecks.holders_of(connection, chunk("d")) == ["pt-1"]
        pointsets.begin_removal(connection, "pt-1", first.set_id, now=NOW)
        assert not pointchecks.note(connection, first, verdicts, now=NOW)
        pointsets.forget_set(connection, "pt-1", first.set_id)


def test_an_attempt_that_was_killed_holds_its_objects_until_its_task_has_ended(shop: Shop) -> None:
    """However it ends; what is no task's attempt, or that of a task that goes on, keeps its lease."""
    with shop.database.transaction() as connection:
        ended, on = (
            tasks.create(connection, site="PS1", kind="publish", subject=name, title=name, now=NOW) for name in "xy"
        )
        taskleases.claim(connection, site="PS1", kinds=["publish"], holder="first", now=NOW, lease=60, limit=9)
    for name, owner in (("killed", ended.id), ("retried", on.id), ("nobody's", "")):
        shop.library.open_session(name, owner=owner).announce(
            [Announcement(object_id=chunk(name), sealed_size=100, purpose=Purpose.CHUNK)]
        )
    sweeping = librarysweep.SqlSweepLedger(shop.database)
    assert sweeping.drop_lapsed(NOW + 1) == 0
    with shop.database.transaction() as connection:
        assert taskleases.finish(connection, task_id=ended.id, holder="first", state=TaskState.CANCELLED, now=NOW)
        assert taskleases.put_back(connection, task_id=on.id, holder="first", run_after=NOW + 60)
        assert librarysweep.preview(connection, now=NOW + 1, grace_seconds=60).lapsed_sessions == 1
        before = librarystats.held(connection)[0]
    assert sweeping.drop_lapsed(NOW + 1) == 1
    with shop.database.reading() as connection:
        assert (before, librarystats.held(connection)[0]) == (3, 2)
        assert librarystats.open_sessions(connection) == 2


def test_a_process_that_lost_its_task_is_told_when_that_has_ended(shop: Shop) -> None:
    """It stood still, say, while another took over: its own attempt must not come of anything, and does no harm."""
    with shop.database.transaction() as connection:
        task = tasks.create(connection, site="PS1", kind="publish", subject="x", title="x", now=NOW)
        taskleases.claim(connection, site="PS1", kinds=["publish"], holder="first", now=NOW, lease=60, limit=9)
    slow = shop.library.open_session("first", owner=task.id)
    slow.announce([Announcement(object_id=chunk("set"), sealed_size=100, purpose=SET)])
    with shop.database.transaction() as connection:
        taskleases.claim(connection, site="PS1", kinds=["publish"], holder="other", now=NOW + 61, lease=60, limit=9)
        taskleases.finish(connection, task_id=task.id, holder="other", state=TaskState.COMPLETED, now=NOW + 62)
    assert librarysweep.SqlSweepLedger(shop.database).drop_lapsed(NOW + 63) == 1
    for use in (slow.renew, lambda: shop.library.adopt(slow.session, chunk("set"))):
        with pytest.raises(UnavailableError, match="lapsed"):
            use()
