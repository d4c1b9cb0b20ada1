"""What a killed instance was sending: noted while it lives, counted once after its death."""

import asyncio
import hashlib
import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from entrepot.cloud.gateway.journal import Journal, Limits, journals
from entrepot.cloud.gateway.recorder import TransactionRecorder
from entrepot.cloud.gateway.running import NAME, Note, restore, without
from entrepot.cloud.gateway.shipping import adopt_leftovers, ship_closed
from entrepot.core.encoding import unpack
from entrepot.core.errors import StorageError, UnavailableError
from entrepot.objects.memory import MemoryStore
from entrepot.protocol import transactions as tx
from entrepot.protocol.allowances import ALL_SEGMENTS, decode_mark
from entrepot.protocol.tokens import MAX_TOKEN_LIFETIME
from entrepot.protocol.transactions import Record

NOW = 1_700_000_000_000
INSTANCE = "gw-1"
LIMITS = Limits(size=300, seconds=3.0)


def download(number: int, sent: int) -> Record:
    """What is known of one download when it has sent so much."""
    return Record(NOW + number, f"dev-{number:016x}", bytes(32), number.to_bytes(32, "big"), 200, sent, 5)


def shipped(store: MemoryStore) -> list[tuple[int, int]]:
    """(download, bytes) of all records in the store, whose segments must be chained without a gap."""
    found, previous = [], bytes(32)
    for number, entry in enumerate(sorted(store.list("tx/").entries, key=lambda one: one.key.split("/")[2:])):
        data = b"".join(store.read(entry.key))
        header, batches = tx.decode_segment(data)
        assert (header.sequence, header.previous, header.instance) == (number, previous, INSTANCE)
        previous = hashlib.sha256(data).digest()
        found += [(record.time - NOW, record.sent) for batch in batches for record in batch]
    return found


class Instance:
    """An instance whose clock, downloads and death are ours."""

    def __init__(self, state: Path) -> None:
        self.state, self.folder, self.store = state, state / INSTANCE, MemoryStore()
        self.now = NOW / 1000
        self.running: dict[int, int] = {}
        self.journal = Journal(self.folder, point="pt-1", instance=INSTANCE)
        self.recorder = TransactionRecorder(
            self.journal,
            state=state,
            folder=self.folder,
            store=self.store,
            clock=lambda: self.now,
            limits=lambda: LIMITS,
            running=lambda: [self.record_of(number, sent) for number, sent in self.running.items()],
            on_failure=lambda: None,
        )

    def record_of(self, number: int, sent: int) -> Record:
        return download(number, sent)

    def finish(self, number: int) -> None:
        self.recorder.record(self.record_of(number, self.running.pop(number)))

    def cycle(self) -> None:
        """A second passes."""
        self.now += 1
        self.recorder.run_once()

    def die(self) -> None:
        """SIGKILL: the lock goes, everything else stays as it is."""
        self.journal._lock.release()


@pytest.fixture
def instance(state: Path) -> Instance:
    return Instance(state)


def test_the_bytes_of_a_killed_instances_downloads_are_counted(instance: Instance) -> None:
    instance.running = {1: 100, 2: 200}
    instance.cycle()
    instance.running = {1: 150, 2: 200, 3: 7}
    instance.cycle()
    instance.die()
    adopt_leftovers(instance.state, instance.store)
    assert sorted(shipped(instance.store)) == [(1, 150), (2, 200), (3, 7)]
    assert list(instance.state.iterdir()) == []


def test_who_ended_before_the_death_is_counted_once(instance: Instance) -> None:
    instance.running = {1: 100, 2: 200}
    instance.cycle()
    instance.finish(1)
    instance.now += 0.25
    instance.recorder.run_once()  # its record is durable, and the note is not renewed yet
    instance.die()
    adopt_leftovers(instance.state, instance.store)
    assert sorted(shipped(instance.store)) == [(1, 100), (2, 200)]


def test_an_instance_that_ends_in_order_leaves_no_note_and_counts_whom_it_broke_off(instance: Instance) -> None:
    instance.recorder.start()
    instance.running = {1: 100, 2: 50}
    instance.cycle()
    instance.finish(2)
    instance.recorder.close(ship_seconds=20)
    assert sorted(shipped(instance.store)) == [(1, 100), (2, 50)]
    assert list(instance.state.iterdir()) == []


def test_without_downloads_there_is_no_note(instance: Instance) -> None:
    instance.cycle()
    assert not (instance.folder / NAME).exists()
    instance.running = {1: 1}
    instance.cycle()
    assert (instance.folder / NAME).exists()
    instance.running = {}
    instance.cycle()
    assert not (instance.folder / NAME).exists()


def test_a_damaged_note_is_put_aside_and_the_records_travel(instance: Instance) -> None:
    instance.running = {1: 100}
    instance.finish(1)
    instance.running = {2: 5}
    instance.cycle()
    instance.die()
    (instance.folder / NAME).write_bytes(b"torn")
    adopt_leftovers(instance.state, instance.store)
    assert shipped(instance.store) == [(1, 100)]
    assert (instance.folder / "running.damaged").read_bytes() == b"torn", "kept as evidence"
    assert not instance.store.list("marks/").entries, "what it sent is not known to be all recorded"


def test_whoever_adopts_all_that_a_dead_instance_left_says_so(instance: Instance) -> None:
    instance.running = {1: 100}
    instance.finish(1)
    instance.cycle()
    instance.die()
    adopt_leftovers(instance.state, instance.store)
    mark = decode_mark(b"".join(instance.store.read(f"marks/{INSTANCE}")))
    assert (mark.ended, mark.segments) == (True, ALL_SEGMENTS)
    assert mark.before > time.time() + MAX_TOKEN_LIFETIME, "whatever tokens it served"


async def test_what_may_be_sent_is_durably_noted_before_it_is_sent(instance: Instance) -> None:
    instance.recorder.start()
    instance.running = {3: 4_000_000}
    assert await instance.recorder.noted() == 0, "nothing has ended: no segment"
    assert [record.sent for record in unpack((instance.folder / NAME).read_bytes(), Note, "note").records] == [
        4_000_000
    ]
    instance.finish(3)
    assert await instance.recorder.noted() == 1, "the record is durable, in the first segment"
    instance.recorder.close(ship_seconds=5)
    assert shipped(instance.store) == [(3, 4_000_000)]
    with pytest.raises(UnavailableError):
        await instance.recorder.noted()


async def test_when_the_disk_refuses_nobody_is_told_that_it_is_noted(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise StorageError("The disk is full.")

    monkeypatch.setattr("entrepot.cloud.gateway.recorder.write_note", refuse)
    instance.running = {1: 5}
    waiting = asyncio.create_task(instance.recorder.noted())
    await asyncio.sleep(0)
    with pytest.raises(StorageError):
        instance.recorder.run_once()
    with pytest.raises(UnavailableError):
        await waiting


def test_equal_downloads_are_told_apart_by_number() -> None:
    """One device may ask for one object twice in a millisecond."""
    twins = [download(1, 10), download(1, 20)]
    assert without(twins, [download(1, 99)]) == [download(1, 20)]


def test_a_twin_that_had_ended_before_does_not_cancel_one_that_still_ran(instance: Instance) -> None:
    instance.running = {1: 1000}
    instance.finish(1)  # its record is in the segment that stays open
    instance.running = {1: 70}  # the same device asked for the same object in the same millisecond
    instance.cycle()
    instance.die()
    adopt_leftovers(instance.state, instance.store)
    assert sorted(shipped(instance.store)) == [(1, 70), (1, 1000)]


def test_a_damaged_segment_that_the_note_names_leaves_a_gap_and_what_ran_is_counted_once(instance: Instance) -> None:
    instance.running = {1: 1000, 2: 70}
    instance.finish(1)
    instance.cycle()
    instance.die()
    [segment], note = journals(instance.folder), instance.folder / NAME
    segment.write_bytes(b"\0" * segment.stat().st_size)
    kept = note.read_bytes()
    assert restore(instance.folder) == 1
    note.write_bytes(kept)  # as if the adopter had been killed before it removed the note
    assert restore(instance.folder) == 0
    adopt_leftovers(instance.state, instance.store)
    [entry] = instance.store.list("tx/").entries
    header, batches = tx.decode_segment(b"".join(instance.store.read(entry.key)))
    assert (header.sequence, [record.sent for batch in batches for record in batch]) == (1, [70])


class Watched(Instance):
    """An instance, and what its killing must not lose. Each method is a step of the test below.

    Downloads come in twins, which nothing tells apart: one device asks for one object twice in a millisecond.
    """

    def __init__(self, state: Path) -> None:
        super().__init__(state)
        self._numbers = itertools.count(1)
        self._fresh: dict[int, int] = {}
        self.noted: dict[int, int] = {}
        self.recorded: dict[int, int] = {}

    def begin(self) -> None:
        self.running |= {next(self._numbers): 1, next(self._numbers): 1}

    def send(self) -> None:
        self.running = {number: sent + 10 * (1 + number % 3) for number, sent in self.running.items()}

    def end(self, which: Callable[[Iterable[int]], int] = min) -> None:
        if self.running:
            number = which(self.running)
            self._fresh[number] = self.running[number]
            self.finish(number)

    def end_last(self) -> None:
        self.end(max)

    def record_of(self, number: int, sent: int) -> Record:
        return download(twins_of(number), sent)

    def commit(self) -> None:
        self.now += 0.1
        self.recorder.run_once()
        self._remember()

    def second(self) -> None:
        self.cycle()
        self._remember()
        self.noted |= self.running

    def _remember(self) -> None:
        self.recorded |= self._fresh
        self._fresh.clear()

    def ship(self) -> None:
        ship_closed(self.folder, self.store, below=self.recorder._shippable)

    def hurry(self) -> None:
        self.recorder.ship_soon()


def twins_of(number: int) -> int:
    """The number that a download shares with its twin: 1 and 2 are twins, 3 and 4, and so on."""
    return (number + 1) // 2


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=80, deadline=None
)
@given(
    steps=st.lists(
        st.sampled_from(["begin", "send", "end", "end_last", "second", "commit", "ship", "hurry"]), max_size=40
    ),
    repeat=st.booleans(),
)
def test_killed_anywhere_every_byte_that_was_noted_is_counted_once(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str], repeat: bool
) -> None:
    instance = Watched(tmp_path_factory.mktemp("state"))
    for step in steps:
        getattr(instance, step)()
    instance.die()
    if repeat:
        copies = {path: path.read_bytes() for path in instance.folder.iterdir()}
        restore(instance.folder)
        for path, data in copies.items():  # as if the adopter had been killed before it removed the note
            path.write_bytes(data)
    adopt_leftovers(instance.state, instance.store)
    counted = shipped(instance.store)
    sent, known = Counter[int](), instance.noted | instance.recorded  # what was recorded is more than what was noted
    for twins, count in counted:
        sent[twins] += count
    for twins in {twins_of(number) for number in known}:
        assert sent[twins] >= sum(count for number, count in known.items() if twins_of(number) == twins)
    assert max(Counter(twins for twins, _ in counted).values(), default=0) <= 2, "none is counted twice"
    recorded = Counter((twins_of(number), count) for number, count in instance.recorded.items())
    assert recorded <= Counter(counted)
    assert journals(instance.folder) == []
