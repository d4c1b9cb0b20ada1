"""Publishers and sweeps, step by step in any interleaving, killed anywhere: nothing needed is ever lost.

In SQL, with points and transfers beside them: ``test_sweep_transfers.py``.
"""

import contextlib
import random
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule, run_state_machine_as_test

from entrepot.content.checking import look, recheck, validate
from entrepot.content.ledger import SET, Announcement, Ledger, NewChunk
from entrepot.content.sealing import Purpose
from entrepot.content.sweep import finish_deletions, sweep, sweep_strays
from entrepot.core.errors import UnavailableError
from entrepot.core.ids import ObjectId
from entrepot.core.times import HOUR
from entrepot.objects.hashing import object_id_of
from entrepot.objects.memory import MemoryStore
from entrepot.objects.shelf import Shelf, key_of
from entrepot.rules.verdicts import Verdict

CHUNKS = st.frozensets(st.integers(0, 5), min_size=1)
MAKERS = st.integers(0, 1)
"""Two versions of the compressor: they make different objects of one chunk."""


class Publisher:
    """One attempt, which may stop for ever after any step."""

    def __init__(self, ledger: Ledger, chunks: frozenset[int], maker: int, number: int) -> None:
        self.ledger = ledger
        self.chunks = sorted(chunks)
        self.maker = maker
        self.needs: set[bytes] = set()
        self.broken: set[bytes] = set()
        self.set_data = b"set %d" % number
        self.step = 0
        self.new: dict[int, bytes] = {}

    @staticmethod
    def index(chunk: int) -> bytes:
        return bytes([chunk]) * 32

    def data(self, chunk: int) -> bytes:
        return b"chunk %d by %d" % (chunk, self.maker)

    def known(self, shelf: Shelf) -> None:
        found = self.ledger.known([self.index(chunk) for chunk in self.chunks])
        self.needs = {each.object_id for each in found.values()}
        here = shelf.has([each.object_id for each in found.values()])
        lost = {each.object_id for each, has in zip(found.values(), here, strict=True) if not has}
        assert lost <= self.broken, "an index entry without its file"
        found = {key: each for key, each in found.items() if each.object_id not in lost}  # as the keeper does
        self.needs = {each.object_id for each in found.values()}
        self.new = {chunk: self.data(chunk) for chunk in self.chunks if self.index(chunk) not in found}

    def announce(self, shelf: Shelf) -> None:
        self.ledger.announce(
            [
                Announcement(object_id=object_id_of(data), sealed_size=len(data), purpose=Purpose.CHUNK)
                for data in self.new.values()
            ]
        )

    def store(self, shelf: Shelf) -> None:
        for data in self.new.values():
            shelf.put(object_id_of(data), data)

    def add(self, shelf: Shelf) -> None:
        entered = [
            NewChunk(
                index_hash=self.index(chunk),
                object_id=object_id_of(data),
                sealed_size=len(data),
                payload_hash=bytes(32),
                generation=1,
            )
            for chunk, data in self.new.items()
        ]
        winners = self.ledger.add(entered)
        self.needs |= {
            winners[each.index_hash].object_id if each.index_hash in winners else each.object_id for each in entered
        }

    def finish(self, shelf: Shelf) -> None:
        set_id = object_id_of(self.set_data)
        self.ledger.announce([Announcement(object_id=set_id, sealed_size=len(self.set_data), purpose=SET)])
        shelf.put(set_id, self.set_data)
        held = set(self.ledger.held())
        assert self.needs <= held
        assert held - self.needs <= self.broken, "something is held that nobody asked for"

    STEPS = (known, announce, store, add, finish)


class SweepMachine(RuleBasedStateMachine):
    """The model is a dict: adopted set → objects it needs."""

    make: Callable[[], Any]
    publishers = Bundle("publishers")

    def __init__(self) -> None:
        super().__init__()
        self.ledgers = self.make()
        self.ledgers.pausing = lambda: finish_deletions(self.ledgers.sweeping, self.shelf)
        self.shelf = Shelf(MemoryStore())
        self.adopted: dict[bytes, set[bytes]] = {}
        self.broken: set[bytes] = set()
        self.copies: dict[bytes, bytes] = {}
        self.opened = 0
        self.after: ObjectId | None = None

    @rule(target=publishers, chunks=CHUNKS, maker=MAKERS)
    def open(self, chunks: frozenset[int], maker: int) -> Publisher:
        self.opened += 1
        publisher = Publisher(self.ledgers.library.open_session("s"), chunks, maker, self.opened)
        publisher.broken = self.broken
        return publisher

    @rule(publisher=publishers)
    def publish_step(self, publisher: Publisher) -> None:
        if publisher.step < len(Publisher.STEPS):
            try:
                Publisher.STEPS[publisher.step](publisher, self.shelf)
            except UnavailableError:
                publisher.step = len(Publisher.STEPS) + 1  # lapsed: this attempt has failed
                return
            publisher.step += 1
        elif publisher.step == len(Publisher.STEPS):
            set_id = object_id_of(publisher.set_data)
            try:
                self.adopt(publisher.ledger.session, set_id)
            except UnavailableError:
                return
            finally:
                publisher.step += 1
            self.adopted[set_id] = publisher.needs | {set_id}

    def adopt(self, session: str, set_id: ObjectId) -> None:
        self.ledgers.library.adopt(session, set_id)

    @rule(publisher=consumes(publishers))
    def kill_publisher(self, publisher: Publisher) -> None:
        """Nobody hears of it again; its lease lapses."""

    @rule(publisher=consumes(publishers))
    def close(self, publisher: Publisher) -> None:
        self.ledgers.library.close_session(publisher.ledger.session)

    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        if self.adopted:
            set_id = data.draw(st.sampled_from(sorted(self.adopted)))
            self.ledgers.library.drop(set_id)
            del self.adopted[set_id]

    @rule(hours=st.sampled_from([0.1, 0.9, 1.5]))
    def time_passes(self, hours: float) -> None:
        self.ledgers.now += hours * HOUR

    @rule()
    def drop_lapsed(self) -> None:
        self.ledgers.sweeping.drop_lapsed(self.ledgers.now)

    @rule(limit=st.integers(1, 4))
    def condemn(self, limit: int) -> None:
        _, self.after = self.ledgers.sweeping.condemn(self.ledgers.now, self.after, limit)

    @rule(limit=st.integers(1, 4), grace=st.sampled_from([0, HOUR]))
    def begin_deletion(self, limit: int, grace: float) -> None:
        self.ledgers.sweeping.begin_deletion(self.ledgers.now - grace, limit)

    @rule(limit=st.integers(1, 3))
    def delete(self, limit: int) -> None:
        self.ledgers.sweeping.finish_deletion(limit, lambda ids: [self.shelf.delete(each) for each in ids])

    @rule(limit=st.integers(1, 3), survive=st.integers(0, 2))
    def delete_and_be_killed(self, limit: int, survive: int) -> None:
        def killed(ids: Sequence[ObjectId]) -> None:
            for each in ids[:survive]:
                self.shelf.delete(each)
            raise InterruptedError

        with contextlib.suppress(InterruptedError):
            self.ledgers.sweeping.finish_deletion(limit, killed)

    @rule(data=st.data(), lose=st.booleans())
    def break_an_object(self, data: st.DataObject, lose: bool) -> None:
        """The disk loses an object that a set needs, or flips a bit of it."""
        sound = sorted(set().union(*self.adopted.values()) - self.broken)
        if sound:
            object_id = ObjectId(data.draw(st.sampled_from(sound)))
            self.copies[object_id] = self.shelf.read_whole(object_id)
            if lose:
                self.shelf.delete(object_id)
            else:
                self.shelf.store.put(key_of(object_id), b"other bytes")
            self.broken.add(object_id)

    @rule()
    def validate_all(self) -> None:
        """What is broken is found, and nothing else: neither what is announced and not stored yet, nor what goes."""
        self.ledgers.now += 1
        now = self.ledgers.now
        validate(self.ledgers.checking, self.shelf, before=now, clock=lambda: now, paced=self.shelf)
        found = {each.object_id for each in self.ledgers.checking.faulty(None, 1000)}
        here = {object_id for object_id, _ in self.shelf.page()}
        needed: set[bytes] = set().union(*self.adopted.values())
        self.broken -= {each for each in self.broken & here if look(self.shelf, ObjectId(each)) is Verdict.GOOD}
        assert found == self.broken & needed
        assert not found & here, "a damaged file was kept"

    @rule()
    def repair_all(self) -> None:
        """Bytes come back from elsewhere; a second look clears the verdicts."""
        for each in self.ledgers.checking.faulty(None, 1000):
            self.shelf.put(each.object_id, self.copies[each.object_id], replace=True)
        recheck(self.ledgers.checking, self.shelf, now=self.ledgers.now)
        assert self.ledgers.checking.faulty(None, 1000) == []

    @rule(size=st.integers(1, 3))
    def stray_files_go(self, size: int) -> None:
        """Files without a row, as after a restore; whatever has a row stays."""
        for number in range(size):
            data = b"stray %d" % number
            self.shelf.put(object_id_of(data), data)
        before = {object_id for object_id, _ in self.shelf.page()}
        sweep_strays(self.ledgers.sweeping, self.shelf, now=self.ledgers.now)
        after = {object_id for object_id, _ in self.shelf.page()}
        assert {object_id_of(b"stray %d" % number) for number in range(size)} <= before - after

    @rule()
    def whole_sweep(self) -> None:
        sweep(self.ledgers.sweeping, self.shelf, now=self.ledgers.now)

    @invariant()
    def every_set_is_whole(self) -> None:
        here = {object_id for object_id, _ in self.shelf.page()}
        for needs in self.adopted.values():
            assert needs - self.broken <= here

    def teardown(self) -> None:
        for set_id in self.adopted:
            self.ledgers.library.drop(set_id)
        for _ in range(3):
            self.ledgers.now += 3 * HOUR
            sweep(self.ledgers.sweeping, self.shelf, now=self.ledgers.now)
        assert self.shelf.page() == [], "a file was left that nobody needs"


def test_in_memory(make_memory_ledgers: Callable[[], Any]) -> None:
    class Machine(SweepMachine):
        make = staticmethod(make_memory_ledgers)

    run_state_machine_as_test(Machine, settings=settings(max_examples=150, stateful_step_count=50, deadline=None))


def race(seed: int, ledgers: Any, shelf: Shelf) -> None:
    """A publisher that makes and drops small versions of few chunks."""
    chance = random.Random(seed)
    for number in range(15):
        ledger = ledgers.library.open_session(f"{seed}")
        chunks = frozenset(chance.sample(range(6), 3))
        publisher = Publisher(ledger, chunks, chance.randrange(2), seed * 1000 + number)
        for step in Publisher.STEPS:
            step(publisher, shelf)
        set_id = object_id_of(publisher.set_data)
        ledgers.library.adopt(ledger.session, set_id)
        assert all(shelf.has([ObjectId(each) for each in publisher.needs]))
        ledgers.library.drop(set_id)


@pytest.mark.postgres
def test_threads_race_in_postgres(postgres_database: Any, make_ledgers_of: Callable[[Any], Any]) -> None:
    """No lost object, no deadlock, while publishers and two sweeps race."""
    ledgers = make_ledgers_of(postgres_database)
    shelf = Shelf(MemoryStore())
    stop = threading.Event()

    def sweep_until_stopped() -> None:
        while not stop.is_set():
            sweep(ledgers.sweeping, shelf, now=ledgers.now, grace_seconds=-1)

    with ThreadPoolExecutor(5) as pool:
        sweeps = [pool.submit(sweep_until_stopped) for _ in range(2)]
        races = [pool.submit(race, seed, ledgers, shelf) for seed in range(3)]
        wait(races)
        stop.set()
        for future in (*races, *sweeps):
            future.result()
    for _ in range(3):
        sweep(ledgers.sweeping, shelf, now=ledgers.now, grace_seconds=-1)
    assert shelf.page() == []
