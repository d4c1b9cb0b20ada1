"""What every ledger promises, and what the sweep makes of it."""

import hashlib
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from entrepot.content.ledger import SET, Announcement, KnownChunk, Ledger, NewChunk
from entrepot.content.sealing import Purpose
from entrepot.content.sweep import finish_deletions, sweep
from entrepot.core.errors import NotFoundError, UnavailableError
from entrepot.core.ids import ObjectId
from entrepot.core.times import HOUR
from entrepot.objects.hashing import object_id_of
from entrepot.objects.memory import MemoryStore
from entrepot.objects.shelf import Shelf


def data(name: str) -> bytes:
    return f"sealed bytes of {name}".encode()


def oid(name: str) -> ObjectId:
    return object_id_of(data(name))


def key(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


def announcement(name: str, purpose: int = Purpose.CHUNK) -> Announcement:
    return Announcement(object_id=oid(name), sealed_size=len(data(name)), purpose=purpose)


def new(name: str, index: str = "") -> NewChunk:
    return NewChunk(
        index_hash=key(index or name),
        object_id=oid(name),
        sealed_size=len(data(name)),
        payload_hash=key(f"payload {name}"),
        generation=1,
    )


def known(name: str) -> KnownChunk:
    return KnownChunk(
        object_id=oid(name),
        sealed_size=len(data(name)),
        payload_hash=key(f"payload {name}"),
        generation=1,
        purpose=Purpose.CHUNK,
    )


def keep(ledger: Ledger, shelf: Shelf, *names: str) -> None:
    """What a publisher does with new chunks."""
    ledger.announce([announcement(name) for name in names])
    for name in names:
        shelf.put(oid(name), data(name))
    ledger.add([new(name) for name in names])


def adopt(ledgers: Any, ledger: Ledger, shelf: Shelf, name: str) -> ObjectId:
    ledger.announce([announcement(name, SET)])
    shelf.put(oid(name), data(name))
    ledgers.library.adopt(ledger.session, oid(name))
    return oid(name)


@pytest.fixture
def shelf() -> Shelf:
    return Shelf(MemoryStore())


def run(ledgers: Any, shelf: Shelf) -> tuple[int, int, int]:
    done = sweep(ledgers.sweeping, shelf, now=ledgers.now, grace_seconds=HOUR)
    return done.lapsed_sessions, done.condemned, done.deleted


class TestSessions:
    def test_what_one_adds_another_knows(self, ledgers: Any, shelf: Shelf) -> None:
        one, other = ledgers.library.open_session("one"), ledgers.library.open_session("other")
        keep(one, shelf, "a", "b")
        assert other.known([key("a"), key("b"), key("c")]) == {key("a"): known("a"), key("b"): known("b")}
        assert list(other.held()) == sorted([oid("a"), oid("b")])
        assert other.known([]) == {}

    def test_announced_objects_are_not_known_before_they_are_added(self, ledgers: Any) -> None:
        one, other = ledgers.library.open_session("one"), ledgers.library.open_session("other")
        one.announce([announcement("a")])
        assert other.known([key("a")]) == {}

    def test_the_loser_of_a_race_adopts_the_winners_object(self, ledgers: Any, shelf: Shelf) -> None:
        one, other = ledgers.library.open_session("one"), ledgers.library.open_session("other")
        for ledger, name in ((one, "made by one"), (other, "made by other")):
            ledger.announce([announcement(name)])
        assert one.add([new("made by one", "chunk")]) == {}
        assert other.add([new("made by other", "chunk")]) == {key("chunk"): known("made by one")}
        assert list(other.held()) == [oid("made by one")]
        assert one.add([new("made by one", "chunk")]) == {}

    def test_what_a_manifest_names_already_stays_held_by_the_loser_of_a_race(self, ledgers: Any) -> None:
        one, other = ledgers.library.open_session("one"), ledgers.library.open_session("other")
        for ledger, name in ((one, "made by one"), (other, "made by other")):
            ledger.announce([announcement(name)])
        assert one.add([new("made by one", "chunk")], named=True) == {}
        assert other.add([new("made by other", "chunk")], named=True) == {}
        assert [list(ledger.held()) for ledger in (one, other)] == [[oid("made by one")], [oid("made by other")]]
        third = ledgers.library.open_session("third")
        assert third.known([key("chunk")]) == {key("chunk"): known("made by one")}

    def test_announcing_and_adding_again_changes_nothing(self, ledgers: Any, shelf: Shelf) -> None:
        one = ledgers.library.open_session("one")
        keep(one, shelf, "a")
        keep(one, shelf, "a")
        assert list(one.held()) == [oid("a")]

    def test_totals_count_distinct_objects_of_a_purpose(self, ledgers: Any, shelf: Shelf) -> None:
        one = ledgers.library.open_session("one")
        keep(one, shelf, "a", "bb")
        one.known([key("a")])
        one.announce([announcement("part", Purpose.MANIFEST_PART), announcement("set", SET)])
        assert one.totals(Purpose.CHUNK).objects == 2
        assert one.totals(Purpose.CHUNK).size == len(data("a")) + len(data("bb"))
        assert one.totals(Purpose.MANIFEST_PART).objects == 1
        assert one.totals(Purpose.DELTA_PACK).objects == one.totals(Purpose.DELTA_PACK).size == 0
        assert oid("set") not in list(one.held())

    def test_held_is_ascending_for_many(self, ledgers: Any) -> None:
        one = ledgers.library.open_session("one")
        names = [f"n{number}" for number in range(500)]
        one.announce([announcement(name) for name in names])
        assert list(one.held()) == sorted(oid(name) for name in names)

    def test_a_lapsed_session_is_told_so(self, ledgers: Any, shelf: Shelf) -> None:
        one = ledgers.library.open_session("one")
        keep(one, shelf, "a")
        one.announce([announcement("set", SET)])
        ledgers.now += 2 * HOUR
        assert run(ledgers, shelf)[0] == 1
        for use in (
            lambda: one.known([key("a")]),
            lambda: one.announce([announcement("a")]),
            lambda: one.add([new("a")]),
            one.renew,
            lambda: ledgers.library.adopt(one.session, oid("set")),
        ):
            with pytest.raises(UnavailableError, match="lapsed"):
                use()

    def test_every_call_renews_the_lease(self, ledgers: Any, shelf: Shelf) -> None:
        one = ledgers.library.open_session("one")
        for _ in range(5):
            ledgers.now += 0.9 * HOUR
            one.renew()
            assert run(ledgers, shelf)[0] == 0

    def test_calls_in_quick_succession_keep_nine_tenths_of_it(self, ledgers: Any, shelf: Shelf) -> None:
        one = ledgers.library.open_session("one")
        for _ in range(100):
            ledgers.now += 0.01 * HOUR
            one.known([key("a")])
        ledgers.now += 0.89 * HOUR
        one.renew()
        assert run(ledgers, shelf)[0] == 0

    def test_a_set_that_was_not_announced_is_not_adopted(self, ledgers: Any) -> None:
        one = ledgers.library.open_session("one")
        with pytest.raises(NotFoundError):
            ledgers.library.adopt(one.session, oid("set"))

    def test_closing_and_dropping_what_is_unknown_is_harmless(self, ledgers: Any) -> None:
        ledgers.library.close_session("nobody")
        ledgers.library.drop(oid("nothing"))

    def test_threads_that_add_the_same_chunks_agree(self, ledgers: Any) -> None:
        used: dict[int, list[bytes]] = {}
        barrier = threading.Barrier(4)

        def publish(number: int) -> None:
            ledger = ledgers.library.open_session(f"session of {number}")
            barrier.wait()
            mine = [f"chunk {index} by {number}" for index in range(20)]
            ledger.announce([announcement(name) for name in mine])
            winners = ledger.add([new(name, f"chunk {index}") for index, name in enumerate(mine)])
            used[number] = sorted(
                winners[key(f"chunk {index}")].object_id if key(f"chunk {index}") in winners else oid(name)
                for index, name in enumerate(mine)
            )
            assert list(ledger.held()) == used[number]

        threads = [threading.Thread(target=publish, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(used) == 4
        assert all(each == used[0] for each in used.values())

    def test_an_object_that_is_lost_gives_its_place_up_and_is_not_held(self, ledgers: Any, shelf: Shelf) -> None:
        keep(ledgers.library.open_session("first"), shelf, "old sealing")
        index = key("old sealing")
        session = ledgers.library.open_session("second")
        assert session.known([index])[index].object_id == oid("old sealing")
        session.announce([announcement("new sealing")])
        shelf.put(oid("new sealing"), data("new sealing"))
        assert session.add([new("new sealing", "old sealing")], lost=[index]) == {}
        assert list(session.held()) == [oid("new sealing")]
        assert session.known([index])[index].object_id == oid("new sealing")

    def test_an_object_that_is_lost_and_stored_again_as_it_was_stays_held(self, ledgers: Any, shelf: Shelf) -> None:
        keep(ledgers.library.open_session("first"), shelf, "a")
        session = ledgers.library.open_session("second")
        session.known([key("a")])
        session.announce([announcement("a")])
        assert session.add([new("a")], lost=[key("a")]) == {}
        assert list(session.held()) == [oid("a")]


class TestSweep:
    def test_deletes_what_nobody_needs_after_the_grace_period(self, ledgers: Any, shelf: Shelf) -> None:
        one = ledgers.library.open_session("one")
        keep(one, shelf, "a", "b")
        ledgers.library.close_session(one.session)
        assert run(ledgers, shelf) == (0, 2, 0)
        ledgers.now += HOUR - 1
        assert run(ledgers, shelf) == (0, 0, 0)
        ledgers.now += 2
        assert run(ledgers, shelf) == (0, 0, 2)
        assert shelf.page() == []
        assert ledgers.library.open_session("later").known([key("a")]) == {}

    def test_spares_leased_objects_and_sets(self, ledgers: Any, shelf: Shelf) -> None:
        one = ledgers.library.open_session("one")
        keep(one, shelf, "a")
        for _ in range(3):
            assert run(ledgers, shelf) == (0, 0, 0)
            one.renew()
            ledgers.now += 0.9 * HOUR
        adopt(ledgers, one, shelf, "set")
        for _ in range(3):
            ledgers.now += 10 * HOUR
            assert run(ledgers, shelf) == (0, 0, 0)
        assert shelf.has([oid("a"), oid("set")]) == [True, True]

    def test_a_dropped_set_frees_only_what_no_other_set_has(self, ledgers: Any, shelf: Shelf) -> None:
        first = ledgers.library.open_session("1")
        keep(first, shelf, "shared", "old")
        old = adopt(ledgers, first, shelf, "set 1")
        second = ledgers.library.open_session("2")
        second.known([key("shared")])
        keep(second, shelf, "new")
        adopt(ledgers, second, shelf, "set 2")
        ledgers.library.drop(old)
        assert run(ledgers, shelf) == (0, 2, 0)
        ledgers.now += 2 * HOUR
        assert run(ledgers, shelf) == (0, 0, 2)
        assert {object_id for object_id, _ in shelf.page()} == {oid("shared"), oid("new"), oid("set 2")}

    def test_adopting_a_set_twice_changes_nothing(self, ledgers: Any, shelf: Shelf) -> None:
        one = ledgers.library.open_session("one")
        keep(one, shelf, "a")
        set_id = adopt(ledgers, one, shelf, "set")
        ledgers.library.adopt(one.session, set_id)
        again = ledgers.library.open_session("again")
        again.known([key("a")])
        adopt(ledgers, again, shelf, "set")
        ledgers.now += 5 * HOUR
        assert run(ledgers, shelf) == (0, 0, 0)

    @pytest.mark.parametrize("how", ["known", "announce"])
    def test_use_revives_a_condemned_object(self, ledgers: Any, shelf: Shelf, how: str) -> None:
        one = ledgers.library.open_session("one")
        keep(one, shelf, "a")
        ledgers.library.close_session(one.session)
        assert run(ledgers, shelf) == (0, 1, 0)
        ledgers.now += 2 * HOUR
        two = ledgers.library.open_session("two")
        if how == "known":
            assert two.known([key("a")]) == {key("a"): known("a")}
        else:
            two.announce([announcement("a")])
        assert run(ledgers, shelf) == (0, 0, 0)
        assert shelf.has([oid("a")]) == [True]

    def test_use_waits_for_a_deletion_to_end(self, ledgers: Any, shelf: Shelf) -> None:
        one = ledgers.library.open_session("one")
        keep(one, shelf, "a")
        ledgers.library.close_session(one.session)
        run(ledgers, shelf)
        ledgers.now += 2 * HOUR
        assert ledgers.sweeping.begin_deletion(ledgers.now - HOUR, 10) == 1  # the sweep is killed here
        two = ledgers.library.open_session("two")
        assert two.known([key("a")]) == {}
        ledgers.pausing = lambda: finish_deletions(ledgers.sweeping, shelf)
        keep(two, shelf, "a", "b")
        assert ledgers.pauses == 1
        assert shelf.has([oid("a"), oid("b")]) == [True, True]
        assert list(two.held()) == sorted([oid("a"), oid("b")])

    def test_use_does_not_wait_for_ever(self, ledgers: Any, shelf: Shelf) -> None:
        one = ledgers.library.open_session("one")
        keep(one, shelf, "a")
        ledgers.library.close_session(one.session)
        run(ledgers, shelf)
        ledgers.now += 2 * HOUR
        ledgers.sweeping.begin_deletion(ledgers.now, 10)
        with pytest.raises(UnavailableError, match="being deleted"):
            ledgers.library.open_session("two").announce([announcement("a")])

    def test_a_killed_sweep_is_finished_by_the_next(self, ledgers: Any, shelf: Shelf) -> None:
        one = ledgers.library.open_session("one")
        keep(one, shelf, "a", "b", "c")
        ledgers.library.close_session(one.session)
        run(ledgers, shelf)
        ledgers.now += 2 * HOUR
        ledgers.sweeping.begin_deletion(ledgers.now, 2)

        def killed(ids: Sequence[ObjectId]) -> None:
            shelf.delete(ids[0])
            raise RuntimeError("killed after one of two files")

        with pytest.raises(RuntimeError):
            ledgers.sweeping.finish_deletion(10, killed)
        assert run(ledgers, shelf) == (0, 0, 3)
        assert shelf.page() == []

    def test_goes_through_more_objects_than_one_batch(
        self, ledgers: Any, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("entrepot.content.sweep.BATCH", 7)
        monkeypatch.setattr("entrepot.content.sweep.DELETE_BATCH", 3)
        one = ledgers.library.open_session("one")
        names = [f"n{number}" for number in range(30)]
        keep(one, shelf, *names)
        ledgers.library.close_session(one.session)
        two = ledgers.library.open_session("two")
        two.known([key(name) for name in names[:10]])
        assert run(ledgers, shelf) == (0, 20, 0)
        ledgers.now += 2 * HOUR
        two.renew()
        assert run(ledgers, shelf) == (0, 0, 20)
        assert len(shelf.page()) == 10
