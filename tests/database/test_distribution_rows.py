"""Distribution rows and the object sets on points: who works on what, and what a point may lose."""

import hashlib
import threading
import time
from collections.abc import Callable

import pytest
from sqlalchemy import Connection, insert

from entrepot.core.errors import ConflictError, NotFoundError
from entrepot.core.ids import ObjectId
from entrepot.database import contents, distribution, points, pointsets, retention, versions
from entrepot.database.contents import Delta, Version
from entrepot.database.distribution import Distribution
from entrepot.database.engine import Database
from entrepot.database.points import Point
from entrepot.database.pointsets import PointSet
from entrepot.database.tables.content import content as content_table
from entrepot.database.tables.library import object_, object_set, set_object
from entrepot.protocol.contentapi import DistributionState, Priority
from entrepot.site.contents import kept_content

from ..rows import content_row

NOW = 1_774_267_200.0


def an_id(text: str) -> ObjectId:
    return ObjectId(hashlib.sha256(text.encode()).digest())


def ids(names: str) -> list[ObjectId]:
    return sorted(an_id(name) for name in names)


class World:
    """A site with contents whose objects are letters."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def point(self, name: str, *, state: str = points.ACTIVE) -> str:
        with self.database.transaction() as connection:
            point = Point(id=f"pt-{name}", name=name, kind="standard", site="PS1", state=state, url="https://x")
            return points.add_point(connection, point).id

    def content(self, name: str) -> str:
        content = content_row(f"pkg-{name}", name, excludes=("*.pyc",))
        with self.database.transaction() as connection:
            return contents.add_content(connection, content).id

    def set_of(self, name: str, members: str) -> bytes:
        """An object set in the library."""
        with self.database.transaction() as connection:
            numbers = {}
            for letter in [*members, name]:
                row = insert(object_).values(
                    object_id=an_id(letter), size=10, purpose=1 if letter != name else 0, state="live", changed=NOW
                )
                known = connection.execute(object_.select().where(object_.c.object_id == an_id(letter))).first()
                numbers[letter] = known.id if known else connection.execute(row.returning(object_.c.id)).scalar_one()
            made = insert(object_set).values(object=numbers[name], created=NOW).returning(object_set.c.id)
            number = connection.execute(made).scalar_one()
            for letter in members:
                connection.execute(insert(set_object).values(object_set=number, object=numbers[letter]))
        return an_id(name)

    def version(self, content: str, number: int, members: str) -> bytes:
        set_id = self.set_of(f"{content}/{number}", members)
        zeros = dict.fromkeys(
            (
                "set_size",
                "files",
                "folders",
                "links",
                "plain_size",
                "chunks",
                "stored_size",
                "new_objects",
                "new_bytes",
            ),
            0,
        )
        version = Version(
            content=content,
            number=number,
            set_id=set_id,
            root=b"sealed",
            objects=len(members),
            warnings=("odd",),
            created=0,
            **zeros,
        )
        with self.database.transaction() as connection:
            contents.add_version(connection, version)
        return set_id

    def want(self, content: str, point: str, version: int = 1, **more: object) -> None:
        with self.database.transaction() as connection:
            distribution.want(connection, content=content, point=point, version=version, now=NOW, **more)  # type: ignore[arg-type]

    def claim(
        self, *, now: float = NOW, holder: str = "a", limit: int = 10, busy: set[str] | None = None
    ) -> list[Distribution]:
        with self.database.transaction() as connection:
            return distribution.claim(
                connection, site="PS1", holder=holder, now=now, lease=60, busy=busy or set(), limit=limit
            )

    def hold(self, point: str, set_id: bytes, content: str, *, state: str = pointsets.HELD, retired: int = 0) -> None:
        with self.database.transaction() as connection:
            new = PointSet(
                point=point,
                set_id=set_id,
                content=content,
                version=1,
                from_version=0,
                state=pointsets.SENDING,
                size=8,
                changed=0,
                retired=0,
            )
            pointsets.begin_set(connection, new)
            if state == pointsets.HELD:
                pointsets.hold_set(connection, point, set_id, now=NOW)
            if retired:
                pointsets.retire_sets(connection, point, [set_id], now=retired)

    def row(self, content: str, point: str) -> Distribution:
        with self.database.reading() as connection:
            return distribution.get(connection, content, point)

    def only_in(self, point: str, set_id: bytes) -> list[ObjectId]:
        with self.database.reading() as connection:
            return pointsets.only_in(connection, point, set_id)

    def freed_on(self, point: str, content: str) -> tuple[int, int]:
        with self.database.reading() as connection:
            return pointsets.freed_on(connection, point, content)


@pytest.fixture
def world(database: Database) -> World:
    return World(database)


def test_a_point_is_worked_on_by_one_at_a_time_in_order_of_priority(world: World) -> None:
    point, other = world.point("a"), world.point("b")
    low, high = world.content("low"), world.content("high")
    world.want(low, point, priority=Priority.LOW)
    world.want(high, point, priority=Priority.HIGH)
    world.want(low, other)
    taken = world.claim()
    assert {(row.content, row.point) for row in taken} == {(high, point), (low, other)}
    assert world.claim(holder="b") == []
    assert all(row.state is DistributionState.IN_PROGRESS for row in taken)


def test_points_that_have_not_enrolled_wait(world: World) -> None:
    world.want(world.content("app"), world.point("a", state=points.AWAITING))
    assert world.claim() == []


def test_racing_processes_never_work_on_one_point_together(world: World) -> None:
    names = [world.point(f"p{number}") for number in range(6)]
    for content in (world.content("x"), world.content("y")):
        for point in names:
            world.want(content, point)
    taken: list[tuple[str, str]] = []

    def work(holder: str) -> None:
        taken.extend((row.content, row.point) for row in world.claim(holder=holder, limit=4))

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(point for _, point in taken) == sorted({point for _, point in taken})


def test_a_point_with_a_long_backlog_hides_nothing_that_is_due_at_another(world: World) -> None:
    """A new point is given everything; what is then published must reach the others all the same."""
    new, other = world.point("new"), world.point("other")
    one = world.content("one")
    with world.database.transaction() as connection:
        known = connection.execute(content_table.select()).mappings().one()
        many = [dict(known) | {"id": f"pkg-{n:016x}", "name": f"c{n}", "name_key": f"c{n}"} for n in range(1500)]
        connection.execute(content_table.insert(), many)
        for each in many:
            distribution.want(connection, content=each["id"], point=new, version=1, now=NOW - 60)
    world.want(one, other)
    assert [row.point for row in world.claim(busy={new}, limit=2)] == [other]
    assert [row.point for row in world.claim(holder="b", limit=2)] == [new], "one run at a time"


def test_what_is_wanted_meanwhile_wins_over_the_end_of_a_run(world: World) -> None:
    content, point = world.content("app"), world.point("a")
    world.want(content, point, 1)
    (row,) = world.claim()
    world.want(content, point, 2)
    with world.database.transaction() as connection:
        assert not distribution.renew(connection, row, now=NOW, lease=60, done=5)
        assert not distribution.settle(connection, row, state=DistributionState.SUCCESS, now=NOW)
    (again,) = world.claim()
    assert (again.version, again.state) == (2, DistributionState.IN_PROGRESS)


def meanwhile(database: Database, change: Callable[[Connection], object], work: Callable[[], object]) -> None:
    """Commit a change while other work, begun before that, has read what it says otherwise."""
    with database.transaction() as connection:
        change(connection)
        other = threading.Thread(target=work)
        other.start()
        time.sleep(0.5)  # it waits for the change now: on PostgreSQL having read, embedded before it reads
    other.join()


def test_a_removal_that_is_asked_for_while_the_row_is_claimed_is_not_overwritten(world: World) -> None:
    content, point = world.content("app"), world.point("a")
    world.want(content, point)
    taken: list[Distribution] = []
    meanwhile(
        world.database,
        lambda connection: distribution.unwant(connection, content, point, now=NOW),
        lambda: taken.extend(world.claim()),
    )
    assert world.row(content, point).removal
    assert all(row.removal for row in taken)


def test_a_cancellation_while_the_row_is_claimed_is_not_overwritten(world: World) -> None:
    content, point = world.content("app"), world.point("a")
    world.want(content, point)
    meanwhile(
        world.database,
        lambda connection: distribution.cancel(connection, content, point, now=NOW),
        world.claim,
    )
    assert world.row(content, point).state is DistributionState.CANCELLED


def test_a_new_version_does_not_revive_what_is_being_taken_away_at_this_moment(world: World) -> None:
    content, point = world.content("app"), world.point("a")
    world.want(content, point)

    def publish() -> None:
        with world.database.transaction() as connection:
            distribution.want_everywhere(connection, content, 2, now=NOW)

    meanwhile(world.database, lambda connection: distribution.unwant(connection, content, point, now=NOW), publish)
    assert world.row(content, point).removal


def test_nothing_is_deployed_or_distributed_behind_a_deletion(world: World) -> None:
    """The deletion would end at the new row's reference, with the content half gone."""
    content = world.content("app")
    refused: list[str] = []

    def deploy() -> None:
        with world.database.transaction() as connection:
            try:
                kept_content(connection, content, lock=True)
            except ConflictError as error:
                refused.append(error.message)

    def delete(connection: Connection) -> None:
        versions.lock(connection, content)
        contents.mark_deleting(connection, content)

    meanwhile(world.database, delete, deploy)
    assert refused == ["The content 'app' is being deleted."]


def test_a_process_that_lost_its_row_leaves_it_to_the_one_that_took_it_over(world: World) -> None:
    content, point = world.content("app"), world.point("a")
    world.want(content, point)
    (lost,) = world.claim(holder="slow")
    (taken,) = world.claim(holder="next", now=NOW + 61)
    with world.database.transaction() as connection:
        assert not distribution.is_ours(connection, lost)
        assert not distribution.settle(connection, lost, state=DistributionState.PENDING, now=NOW + 61)
        assert not distribution.forget(connection, lost)
        assert distribution.is_ours(connection, taken)
    row = world.row(content, point)
    assert (row.state, row.holder) == (DistributionState.IN_PROGRESS, "next")
    assert world.claim(holder="third", now=NOW + 62) == [], "the point is worked on"


def test_a_dead_process_loses_its_rows_when_the_lease_ends(world: World) -> None:
    world.want(world.content("app"), world.point("a"))
    world.claim(holder="dead")
    assert world.claim(holder="b", now=NOW + 59) == []
    assert len(world.claim(holder="b", now=NOW + 61)) == 1


def test_after_a_restart_the_rows_of_the_dead_are_free_at_once(world: World) -> None:
    world.want(world.content("app"), world.point("a"))
    world.claim(holder="dead")
    with world.database.transaction() as connection:
        assert distribution.release_foreign(connection, site="PS1", holder="new") == 1
    assert len(world.claim(holder="new", now=NOW + 1)) == 1


def test_removal_hides_the_content_at_once_and_forgets_it_at_the_end(world: World) -> None:
    content, point = world.content("app"), world.point("a")
    world.version(content, 1, "abc")
    world.want(content, point)
    (row,) = world.claim()
    with world.database.transaction() as connection:
        distribution.note_held(connection, row, 1)
        distribution.settle(connection, row, state=DistributionState.SUCCESS, now=NOW)
        distribution.unwant(connection, content, point, now=NOW)
    assert world.row(content, point).held == 0
    (removal,) = world.claim()
    assert removal.removal
    with world.database.transaction() as connection:
        assert distribution.forget(connection, removal)
    with pytest.raises(NotFoundError):
        world.row(content, point)


def test_content_that_is_wanted_again_during_its_removal_is_not_forgotten(world: World) -> None:
    content, point = world.content("app"), world.point("a")
    world.want(content, point)
    with world.database.transaction() as connection:
        distribution.unwant(connection, content, point, now=NOW)
    (removal,) = world.claim()
    world.want(content, point)
    with world.database.transaction() as connection:
        assert not distribution.forget(connection, removal)
    (row,) = world.claim()
    assert not row.removal


def test_a_cancelled_row_is_not_worked_on_until_it_is_wanted_again(world: World) -> None:
    content, point = world.content("app"), world.point("a")
    world.want(content, point)
    with world.database.transaction() as connection:
        distribution.cancel(connection, content, point, now=NOW)
    assert world.claim() == []
    world.want(content, point)
    assert len(world.claim()) == 1


def test_a_new_version_goes_wherever_the_content_is_wanted(world: World) -> None:
    content = world.content("app")
    kept, going = world.point("a"), world.point("b")
    world.want(content, kept, 1)
    world.want(content, going, 1)
    with world.database.transaction() as connection:
        distribution.unwant(connection, content, going, now=NOW)
        assert distribution.want_everywhere(connection, content, 2, now=NOW) == 1
    assert world.row(content, kept).version == 2
    assert world.row(content, going).removal


def test_a_point_loses_only_what_no_other_of_its_sets_names(world: World) -> None:
    point, other = world.point("a"), world.point("b")
    first, second = world.set_of("one", "abcd"), world.set_of("two", "cdef")
    world.hold(point, first, "pkg-one")
    world.hold(point, second, "pkg-two", state=pointsets.SENDING)
    world.hold(other, first, "pkg-one")
    assert world.only_in(point, first) == ids("ab")
    assert world.only_in(other, first) == ids("abcd")
    assert world.freed_on(point, "pkg-one") == (3, 30), "two, and the set's own object"
    with world.database.transaction() as connection:
        pointsets.begin_removal(connection, point, second, now=NOW)
    assert world.only_in(point, first) == ids("abcd"), "a set that is being removed protects nothing"
    assert world.freed_on(point, "pkg-one") == (5, 50)


def test_what_a_point_stores_for_one_content_alone_and_for_all_is_counted_once(world: World) -> None:
    point, other = world.point("dp"), world.point("other")
    first, second = world.set_of("one", "abcd"), world.set_of("two", "cdef")
    newer = world.set_of("newer", "abx")
    for set_id, content in ((first, "pkg-one"), (newer, "pkg-one"), (second, "pkg-two")):
        world.hold(point, set_id, content)
    world.hold(other, second, "pkg-two")
    with world.database.reading() as connection:
        assert pointsets.freed_on(connection, point, "pkg-one") == (5, 50), "a, b, x and two sets"
        assert pointsets.freed_on(connection, point, "pkg-two") == (3, 30), "e, f and the set"
        assert pointsets.held_on(connection, point) == (10, 100)
        assert pointsets.freed_on(connection, other, "pkg-one") == (0, 0)


def test_sets_are_read_in_pages(world: World) -> None:
    set_id = world.set_of("one", "abcdefg")
    found: list[ObjectId] = []
    with world.database.reading() as connection:
        after = b""
        while page := pointsets.objects_of(connection, set_id, after=after, limit=3):
            assert len(page) <= 3
            found += [each.object_id for each in page]
            after = page[-1].object_id
        assert pointsets.set_totals(connection, set_id) == (7, 70)
        assert pointsets.object_size(connection, set_id) == 10
    assert found == ids("abcdefg")


def test_a_held_set_stays_held_while_it_is_sent_again_and_is_no_longer_retired(world: World) -> None:
    point, set_id = world.point("a"), world.set_of("one", "ab")
    world.hold(point, set_id, "pkg-one", retired=5)
    world.hold(point, set_id, "pkg-one", state=pointsets.SENDING)
    with world.database.reading() as connection:
        (row,) = pointsets.sets_on(connection, point)
    assert (row.state, row.retired) == (pointsets.HELD, 0)


def test_superseded_sets_are_due_when_their_time_has_come(world: World) -> None:
    content, point = world.content("app"), world.point("a")
    world.want(content, point)
    (row,) = world.claim()
    with world.database.transaction() as connection:
        distribution.settle(connection, row, state=DistributionState.SUCCESS, now=NOW)
    world.hold(point, world.set_of("old", "ab"), content, retired=int(NOW))
    with world.database.reading() as connection:
        assert pointsets.due_for_removal(connection, site="PS1", retired_before=NOW, limit=10) == []
        due = pointsets.due_for_removal(connection, site="PS1", retired_before=NOW + 1, limit=10)
    assert due == [(content, point)]


def test_the_library_keeps_a_set_as_long_as_a_point_has_it(world: World) -> None:
    content, point = world.content("app"), world.point("a")
    set_id = world.version(content, 1, "abc")
    world.hold(point, set_id, content)
    with world.database.transaction() as connection:
        assert contents.remove_content(connection, content) == [set_id]
        assert retention.drop_unused_sets(connection) == 0
        pointsets.forget_set(connection, point, set_id)
        assert retention.drop_unused_sets(connection) == 1
        assert pointsets.objects_of(connection, set_id) == []


def test_deltas_to_old_versions_are_forgotten(world: World) -> None:
    content = world.content("app")
    for number in (1, 2, 3, 4):
        world.version(content, number, "abc"[: number % 3 + 1])
    with world.database.transaction() as connection:
        for to_version in (2, 3, 4):
            delta = Delta(
                content=content,
                from_version=1,
                to_version=to_version,
                set_id=an_id(f"delta{to_version}"),
                root=b"sealed",
                size=1,
                created=0,
            )
            contents.add_delta(connection, delta)
        assert retention.drop_old_deltas(connection) == 1
        assert [delta.to_version for delta in contents.list_deltas(connection, content)] == [3, 4]


def test_rows_are_described_with_names(world: World) -> None:
    content, point = world.content("app"), world.point("berlin")
    world.want(content, point, priority=Priority.HIGH)
    with world.database.reading() as connection:
        (info,) = distribution.described(connection, content=content)
        assert distribution.point_kinds(connection, content) == ["standard"]
    assert (info.content_name, info.point_name, info.priority) == ("app", "berlin", Priority.HIGH)
    assert info.state is DistributionState.PENDING
