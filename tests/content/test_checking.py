"""Validation on every ledger: what is looked at, what is believed, how it goes on, how fast it is."""

import errno
from collections.abc import Iterator
from typing import Any

import pytest

from entrepot.content.checking import look, recheck, validate
from entrepot.content.ledger import SET, Announcement, NewChunk
from entrepot.content.sealing import Purpose
from entrepot.core.errors import CancelledError, StorageError
from entrepot.core.ids import ObjectId
from entrepot.objects.hashing import object_id_of
from entrepot.objects.memory import MemoryStore
from entrepot.objects.shelf import Shelf, key_of
from entrepot.objects.throttling import Pace, ThrottledStore, unlimited
from entrepot.objects.wrapper import StoreWrapper
from entrepot.rules.verdicts import Verdict


@pytest.fixture
def shelf() -> Shelf:
    return Shelf(MemoryStore())


def announced(ledgers: Any, data: list[bytes], purpose: int = Purpose.CHUNK) -> Any:
    ledger = ledgers.library.open_session("s")
    rows = [Announcement(object_id=object_id_of(each), sealed_size=len(each), purpose=purpose) for each in data]
    ledger.announce(rows)
    return ledger


def adopted(ledgers: Any, shelf: Shelf, data: list[bytes], name: bytes = b"set") -> list[ObjectId]:
    """A set of these objects; their ids, ascending."""
    ledger = announced(ledgers, data)
    for each in [*data, name]:
        shelf.put(object_id_of(each), each)
    ledger.announce([Announcement(object_id=object_id_of(name), sealed_size=len(name), purpose=SET)])
    ledgers.library.adopt(ledger.session, object_id_of(name))
    return sorted(object_id_of(each) for each in [*data, name])


def run(ledgers: Any, shelf: Shelf, **more: Any) -> Any:
    given = {"before": ledgers.now, "clock": lambda: ledgers.now, "paced": shelf} | more
    return validate(ledgers.checking, shelf, **given)


def test_only_what_a_set_needs_is_looked_at(ledgers, shelf) -> None:
    announced(ledgers, [b"announced and not stored yet"])
    ids = adopted(ledgers, shelf, [b"one", b"two"])
    done = run(ledgers, shelf)
    assert (done.objects, done.missing, done.damaged) == (len(ids), 0, 0)


def test_what_was_looked_at_is_left_out_until_it_is_due_again(ledgers, shelf) -> None:
    ids = adopted(ledgers, shelf, [b"one", b"two"])
    begun = ledgers.now
    assert run(ledgers, shelf, before=begun).objects == len(ids)
    assert run(ledgers, shelf, before=begun).objects == 0
    ledgers.now += 10
    assert run(ledgers, shelf).objects == len(ids)


def test_a_stopped_run_goes_on_with_the_rest(ledgers, shelf, monkeypatch) -> None:
    monkeypatch.setattr("entrepot.content.checking.BATCH", 2)
    ids = adopted(ledgers, shelf, [b"%d" % number for number in range(7)])
    looked: list[int] = []
    with pytest.raises(CancelledError):
        run(ledgers, shelf, progress=lambda done: looked.append(done.objects), cancelled=lambda: len(looked) == 2)
    assert looked == [2, 4]
    assert run(ledgers, shelf).objects == len(ids) - 4


def test_damage_is_believed_after_a_second_look_only(ledgers, shelf) -> None:
    """A sweep deleted the object and a publisher stored it anew between the two looks."""
    [first, *_] = adopted(ledgers, shelf, [b"one", b"two"])
    verdicts = ledgers.checking.note([], [first], ledgers.now, lambda _: Verdict.GOOD)
    assert verdicts == {first: Verdict.GOOD}
    assert ledgers.checking.faulty(None, 10) == []


def test_nothing_is_said_of_what_nobody_needs(ledgers, shelf) -> None:
    lonely = object_id_of(b"announced and not stored yet")
    announced(ledgers, [b"announced and not stored yet"])
    assert ledgers.checking.note([], [lonely], ledgers.now, lambda _: Verdict.MISSING) == {}
    assert ledgers.checking.faulty(None, 10) == []


def test_a_damaged_file_goes_and_its_verdict_stays_until_it_is_back(ledgers, shelf) -> None:
    ids = adopted(ledgers, shelf, [b"one", b"two"])
    shelf.store.put(key_of(ids[0]), b"other")
    done = run(ledgers, shelf)
    assert (done.damaged, shelf.has([ids[0]])) == (1, [False])
    assert [each.object_id for each in ledgers.checking.faulty(None, 10)] == [ids[0]]
    assert recheck(ledgers.checking, shelf, now=ledgers.now) == 0
    data = next(each for each in (b"one", b"two", b"set") if object_id_of(each) == ids[0])
    shelf.put(ids[0], data)
    assert recheck(ledgers.checking, shelf, now=ledgers.now) == 1
    assert ledgers.checking.faulty(None, 10) == []


def test_a_chunk_that_was_lost_is_replaced_in_the_index_by_another_sealing_of_it(ledgers, shelf) -> None:
    """A newer compressor makes another object of the same chunk; it must not be dropped for the lost one."""

    def entered(ledger: Any, data: bytes) -> dict[bytes, Any]:
        chunk = NewChunk(
            index_hash=b"i" * 32,
            object_id=object_id_of(data),
            sealed_size=len(data),
            payload_hash=bytes(32),
            generation=1,
        )
        return ledger.add([chunk])

    ledger = announced(ledgers, [b"old sealing"])
    shelf.put(object_id_of(b"old sealing"), b"old sealing")
    assert entered(ledger, b"old sealing") == {}
    ledger.announce([Announcement(object_id=object_id_of(b"s"), sealed_size=1, purpose=SET)])
    shelf.put(object_id_of(b"s"), b"s")
    ledgers.library.adopt(ledger.session, object_id_of(b"s"))
    newer = announced(ledgers, [b"new sealing"])
    assert entered(newer, b"new sealing")[b"i" * 32].object_id == object_id_of(b"old sealing")
    shelf.delete(object_id_of(b"old sealing"))
    run(ledgers, shelf)
    newest = announced(ledgers, [b"new sealing"])
    assert entered(newest, b"new sealing") == {}
    assert newest.known([b"i" * 32])[b"i" * 32].object_id == object_id_of(b"new sealing")


def test_a_file_without_a_row_is_claimed_and_one_with_a_row_is_not(ledgers, shelf) -> None:
    [mine, *_] = adopted(ledgers, shelf, [b"one"])
    stray = object_id_of(b"stray")
    assert ledgers.sweeping.unknown([(mine, 3), (stray, 5)]) == [(stray, 5)]
    assert ledgers.sweeping.claim_strays([(mine, 3), (stray, 5)], ledgers.now) == 1
    gone: list[ObjectId] = []
    assert ledgers.sweeping.finish_deletion(10, gone.extend) == 1
    assert gone == [stray]


def test_what_is_validated_is_read_at_the_pace_and_waiting_can_be_stopped(ledgers, shelf) -> None:
    now, end = [0.0], [10_000.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds
        if now[0] > end[0]:
            raise CancelledError("The work was stopped.")

    def paced() -> Shelf:
        pace = Pace(lambda: 100.0, clock=lambda: now[0], sleep=sleep)
        return Shelf(ThrottledStore(shelf.store, up=Pace(unlimited), down=pace))

    ids = adopted(ledgers, shelf, [b"1" * 100, b"2" * 100, b"3" * 100])
    assert run(ledgers, shelf, paced=paced()).objects == len(ids)
    assert now[0] == pytest.approx(3.03, abs=0.05), "303 bytes at 100 a second"
    ledgers.now += 10
    end[0] = now[0] + 1.5
    with pytest.raises(CancelledError):
        run(ledgers, shelf, paced=paced())
    assert now[0] <= end[0] + 1
    assert 0 < run(ledgers, shelf).objects < len(ids), "what was looked at by then is written down"


def test_the_second_look_waits_for_no_pace(ledgers, shelf) -> None:
    """A row is locked meanwhile: nobody else could write."""
    slow: list[str] = []

    class Slow(StoreWrapper):
        def read(self, key: str, *, start: int = 0, length: int | None = None) -> Iterator[bytes]:
            slow.append(key)
            return super().read(key, start=start, length=length)

    ids = adopted(ledgers, shelf, [b"one", b"two"])
    shelf.store.put(key_of(ids[0]), b"other")
    assert run(ledgers, shelf, paced=Shelf(Slow(shelf.store))).damaged == 1
    assert sorted(slow) == sorted(map(key_of, ids)), "once each"


def test_looking_tells_good_missing_and_damaged_apart(shelf) -> None:
    one = object_id_of(b"one")
    assert look(shelf, one) is Verdict.MISSING
    shelf.put(one, b"one")
    assert look(shelf, one) is Verdict.GOOD
    shelf.store.put(key_of(one), b"on")
    assert look(shelf, one) is Verdict.DAMAGED


class RefusingStore(StoreWrapper):
    """A store whose disk refuses to read."""

    def __init__(self, inner: Any, number: int) -> None:
        super().__init__(inner)
        self._number = number

    def read(self, key: str, *, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        raise StorageError(f"Cannot read {key}.") from OSError(self._number, "refused")


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EACCES, errno.ENOSPC])
def test_an_object_that_cannot_be_read_just_now_is_never_taken_for_damaged_and_removed(ledgers, shelf, number) -> None:
    """A process that has too many files open would otherwise delete a sound library."""
    ids = adopted(ledgers, shelf, [b"one", b"two"])
    refusing = Shelf(RefusingStore(shelf.store, number))
    with pytest.raises(StorageError):
        run(ledgers, refusing)
    assert shelf.has(ids) == [True] * len(ids)
    assert ledgers.checking.faulty(None, 10) == []
    assert run(ledgers, shelf).damaged == 0


def test_an_object_on_a_sector_that_the_disk_has_lost_is_damaged(ledgers, shelf) -> None:
    ids = adopted(ledgers, shelf, [b"one"])
    done = run(ledgers, Shelf(RefusingStore(shelf.store, errno.EIO)))
    assert (done.damaged, shelf.has(ids)) == (len(ids), [False] * len(ids))
