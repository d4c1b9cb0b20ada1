"""The transaction journal: what is durable, what a crash leaves, how it reaches the store."""

import errno
import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from entrepot.cloud.gateway.folderlock import FolderLock
from entrepot.cloud.gateway.journal import Limits, journal_path, journals, recover
from entrepot.cloud.gateway.shipping import adopt_leftovers, ship_closed, ship_segment
from entrepot.core.errors import ConflictError, StorageError, UnavailableError
from entrepot.objects.memory import MemoryStore
from entrepot.protocol import transactions as tx
from entrepot.protocol.transactions import Record

from .journaling import LIMITS, NOW, MakeRecord, numbers, open_journal, sent


def test_records_arrive_in_chained_segments(state: Path, make_record: MakeRecord) -> None:
    store, journal = MemoryStore(), open_journal(state)
    for number in range(20):
        journal.append([make_record(number)], now_ms=NOW + number, limits=LIMITS)
    journal.close_segment()
    assert ship_closed(state / "gw-1", store, below=journal.closed) == journal.closed > 2
    journal.release()
    assert numbers(store) == list(range(20))
    assert list(state.iterdir()) == []


def test_an_idle_instance_writes_nothing(state: Path) -> None:
    journal = open_journal(state)
    assert not journal.due(now_ms=NOW + 10**9, limits=LIMITS)
    journal.close_segment()
    assert journals(state / "gw-1") == []
    journal.release()


def test_a_segment_is_due_when_it_is_old(state: Path, make_record: MakeRecord) -> None:
    journal = open_journal(state)
    journal.append([make_record(1)], now_ms=NOW, limits=LIMITS)
    assert not journal.due(now_ms=NOW + 29_999, limits=LIMITS)
    assert journal.due(now_ms=NOW + 30_000, limits=LIMITS)
    journal.release()


def test_the_growing_segment_is_never_shipped(state: Path, make_record: MakeRecord) -> None:
    store, journal = MemoryStore(), open_journal(state)
    journal.append([make_record(1)], now_ms=NOW, limits=LIMITS)
    assert ship_closed(state / "gw-1", store, below=journal.closed) == 0
    assert adopt_leftovers(state, store) == 0, "its folder is locked while the instance lives"
    journal.release()
    assert adopt_leftovers(state, store) == 1


def test_an_instance_id_is_never_used_twice(state: Path, make_record: MakeRecord) -> None:
    journal = open_journal(state)
    with pytest.raises(ConflictError):
        open_journal(state)
    journal.append([make_record(1)], now_ms=NOW, limits=LIMITS)
    journal.release()
    with pytest.raises(ConflictError, match="used before"):
        open_journal(state)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=60, deadline=None
)
@given(
    batches=st.lists(st.integers(min_value=1, max_value=5), min_size=1, max_size=12),
    cut=st.integers(min_value=0, max_value=2000),
    garbage=st.binary(max_size=64) | st.integers(min_value=1, max_value=64).map(bytes),
    closed_first=st.booleans(),
)
def test_a_crash_anywhere_loses_only_the_torn_tail(
    tmp_path_factory: pytest.TempPathFactory, batches: list[int], cut: int, garbage: bytes, closed_first: bool
) -> None:
    """Whole frames before the tear survive, in order and chained; repeated adoption changes nothing."""
    state = tmp_path_factory.mktemp("state")
    journal = open_journal(state)
    written: list[tuple[int, int, list[int]]] = []  # (sequence, end of frame, records)
    number = 0
    for size in batches:
        records = [Record(NOW, "dev", b"", bytes(32), 200, number + index, 1) for index in range(size)]
        journal.append(records, now_ms=NOW, limits=LIMITS)
        path = journals(state / "gw-1")[-1]
        written.append((journal.closed, path.stat().st_size, [record.sent for record in records]))
        number += size
    if closed_first:
        journal.close_segment()
    journal.release()
    last = journals(state / "gw-1")[-1]
    whole = last.read_bytes()
    keep = max(0, len(whole) - cut)
    last.write_bytes(whole[:keep] + (garbage if cut else b""))
    final = max(sequence for sequence, _, _ in written)
    expected = [sent for sequence, end, sents in written for sent in sents if sequence < final or end <= keep]

    store = MemoryStore()
    copies = {path: path.read_bytes() for path in journals(state / "gw-1")}
    adopt_leftovers(state, store)
    assert numbers(store) == expected
    assert list(state.iterdir()) == []
    before = {entry.key: b"".join(store.read(entry.key)) for entry in store.list("tx/").entries}
    for path, data in copies.items():  # as if the crash had come before the local files were removed
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    adopt_leftovers(state, store)
    assert {entry.key: b"".join(store.read(entry.key)) for entry in store.list("tx/").entries} == before


def test_the_tail_is_cut_off_before_anything_travels(state: Path, make_record: MakeRecord) -> None:
    journal = open_journal(state)
    journal.append([make_record(1)], now_ms=NOW, limits=LIMITS)
    journal.release()
    path = journal_path(state / "gw-1", 0)
    whole = path.read_bytes()
    path.write_bytes(whole + b"\x00\x00\x00\x05torn")
    found = recover(path)
    assert found is not None
    assert path.read_bytes() == whole == found.data
    assert not path.with_suffix(".damaged").exists(), "a torn tail is no damage"


def three_segments(state: Path, make_record: MakeRecord) -> list[Path]:
    """Segments 0 and 1 are closed, 2 is open; each has two frames of records."""
    journal = open_journal(state)
    for number in range(6):
        journal.append([make_record(number)], now_ms=NOW, limits=Limits(size=10**6, seconds=30.0))
        if number in (1, 3):
            journal.close_segment()
    journal.release()
    return journals(state / "gw-1")


def flip(path: Path, at: int) -> bytes:
    """Damage one byte; gives the file as it is then."""
    data = bytearray(path.read_bytes())
    data[at] ^= 0x40
    path.write_bytes(data)
    return bytes(data)


def gaps(store: MemoryStore) -> list[int]:
    """Sequence numbers of segments that do not name their predecessor as it is in the store, or have none there."""
    found, previous = [], {-1: bytes(32)}
    for entry in sorted(store.list("tx/").entries, key=lambda stored: stored.key):
        data = b"".join(store.read(entry.key))
        header, _ = tx.decode_segment(data)
        if previous.get(header.sequence - 1) != header.previous:
            found.append(header.sequence)
        previous[header.sequence] = hashlib.sha256(data).digest()
    return found


@pytest.mark.parametrize("alive", [True, False])
def test_damage_in_a_closed_segment_is_reported_kept_and_shows_as_a_gap(
    state: Path, make_record: MakeRecord, alive: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """At its very end, where a torn tail would be: closed is closed."""
    store, paths = MemoryStore(), three_segments(state, make_record)
    as_found = flip(paths[1], -1)
    if alive:
        assert ship_closed(state / "gw-1", store, below=2) == 2
        ship_closed(state / "gw-1", store)
    else:
        adopt_leftovers(state, store)
    assert sent(store) == [0, 1, 2, 4, 5], "what stands before the damage is kept"
    assert gaps(store) == [2]
    assert paths[1].with_suffix(".damaged").read_bytes() == as_found
    assert "journal.damaged" in capsys.readouterr().out
    assert journals(state / "gw-1") == []
    assert adopt_leftovers(state, store) == 0, "looked at again, nothing changes"
    assert sent(store) == [0, 1, 2, 4, 5]


def test_a_closed_segment_of_which_nothing_can_be_read_is_kept_and_missing(
    state: Path, make_record: MakeRecord
) -> None:
    store, paths = MemoryStore(), three_segments(state, make_record)
    as_found = flip(paths[1], 0)
    adopt_leftovers(state, store)
    assert (sent(store), gaps(store)) == ([0, 1, 4, 5], [2])
    assert paths[1].with_suffix(".damaged").read_bytes() == as_found


def test_damage_amid_the_open_segment_is_no_torn_tail(state: Path, make_record: MakeRecord) -> None:
    store, paths = MemoryStore(), three_segments(state, make_record)
    ends = [end for end, _ in tx.frames(paths[2].read_bytes())]
    as_found = flip(paths[2], ends[0] + 20)
    adopt_leftovers(state, store)
    assert sent(store) == [0, 1, 2, 3]
    assert paths[2].with_suffix(".damaged").read_bytes() == as_found


def test_an_adopter_that_is_killed_amid_the_repair_repeats_it(state: Path, make_record: MakeRecord) -> None:
    store, paths = MemoryStore(), three_segments(state, make_record)
    as_found = flip(paths[1], -1)
    assert recover(paths[1], closed=True) is not None
    paths[1].write_bytes(as_found)  # as if the truncation had not reached the disk
    adopt_leftovers(state, store)
    assert (sent(store), gaps(store)) == ([0, 1, 2, 4, 5], [2])
    assert paths[1].with_suffix(".damaged").read_bytes() == as_found


class _Failing(MemoryStore):
    """A store that does not answer the first few times."""

    def __init__(self, failures: int) -> None:
        super().__init__()
        self.failures = failures

    def put(self, key: str, data: object, *, if_absent: bool = False, durable: bool = True) -> bool:
        if self.failures:
            self.failures -= 1
            raise UnavailableError("The store does not answer.")
        return super().put(key, data, if_absent=if_absent, durable=durable)  # type: ignore[arg-type]  # passed on


def test_the_local_file_stays_until_the_store_has_it(state: Path, make_record: MakeRecord) -> None:
    journal, store = open_journal(state), _Failing(1)
    journal.append([make_record(7)], now_ms=NOW, limits=LIMITS)
    journal.release()
    with pytest.raises(UnavailableError):
        adopt_leftovers(state, store)
    assert journals(state / "gw-1")
    assert adopt_leftovers(state, store) == 1
    assert numbers(store) == [7]


def test_a_different_segment_under_the_same_name_is_kept_as_evidence(state: Path, make_record: MakeRecord) -> None:
    journal, store = open_journal(state), MemoryStore()
    journal.append([make_record(7)], now_ms=NOW, limits=LIMITS)
    journal.release()
    store.put("tx/1699999200/gw-1/00000000", b"forged")
    assert not ship_segment(journal_path(state / "gw-1", 0), store)
    assert (state / "gw-1" / "00000000.conflict").exists()


def test_a_full_disk_forgets_nothing_and_doubles_nothing(
    state: Path, make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, store = open_journal(state), MemoryStore()
    journal.append([make_record(1)], now_ms=NOW, limits=LIMITS)
    real = os.write
    calls = iter([5, OSError(28, "No space left on device")])

    def partly(descriptor: int, data: bytes) -> int:
        outcome = next(calls, None)
        if isinstance(outcome, OSError):
            raise outcome
        return real(descriptor, bytes(data)[:outcome])

    monkeypatch.setattr(os, "write", partly)
    with pytest.raises(StorageError, match="space"):
        journal.append([make_record(2)], now_ms=NOW, limits=LIMITS)
    journal.append([make_record(2)], now_ms=NOW, limits=LIMITS)
    journal.release()
    adopt_leftovers(state, store)
    assert numbers(store) == [1, 2]


def test_long_records_are_split_into_frames_that_readers_accept(state: Path) -> None:
    journal, store = open_journal(state), MemoryStore()
    records = [Record(NOW, "d" * 6000, b"", bytes(32), 200, index, 1) for index in range(1024)]
    journal.append(records, now_ms=NOW, limits=LIMITS)
    journal.release()
    adopt_leftovers(state, store)
    assert numbers(store) == list(range(1024))


def test_a_folder_that_was_removed_cannot_be_locked(state: Path) -> None:
    lock = FolderLock.create(state / "gw-1")
    assert FolderLock.try_take(state / "gw-1") is None
    lock.remove_folder()
    lock.release()
    assert FolderLock.try_take(state / "gw-1") is None
    FolderLock.create(state / "gw-1").release()


def test_a_folder_that_the_disk_refuses_does_not_hold_up_the_others(
    state: Path, make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, instance in enumerate(("gw-1", "gw-2")):
        journal = open_journal(state, instance)
        journal.append([make_record(number)], now_ms=NOW, limits=LIMITS)
        journal.sync()
        journal.release()
    really = os.open

    def refusing(path, *arguments):
        if str(path).endswith("gw-1/lock"):
            raise OSError(errno.EMFILE, "Too many open files")
        return really(path, *arguments)

    monkeypatch.setattr(os, "open", refusing)
    store = MemoryStore()
    with pytest.raises(StorageError):
        adopt_leftovers(state, store)
    assert numbers(store, "gw-2") == [1]
    monkeypatch.undo()
    assert adopt_leftovers(state, store) == 1


_WRITER = """
import sys
import time
from pathlib import Path
from entrepot.cloud.gateway.journal import Journal, Limits
from entrepot.protocol.transactions import Record
state, instance = Path(sys.argv[1]), sys.argv[2]
journal = Journal(state / instance, point="pt-1", instance=instance)
number = 0
while True:
    journal.append([Record(1, "dev", b"", bytes(32), 200, number, 1)], now_ms=1, limits=Limits(size=2000, seconds=30))
    journal.sync()
    print(number, flush=True)
    number += 1
"""


@pytest.mark.process
def test_a_killed_writer_loses_no_record_that_it_had_committed(state: Path) -> None:
    store = MemoryStore()
    for attempt in range(3):
        instance = f"gw-{attempt}"
        with subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(state), instance], stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None
            committed = -1
            while committed < 50 + attempt * 17:
                committed = int(writer.stdout.readline())
            assert adopt_leftovers(state, store) == 0, "a living instance keeps its folder"
            writer.send_signal(signal.SIGKILL)
            committed = max([committed, *(int(line) for line in writer.stdout if line.endswith("\n"))])
        adopt_leftovers(state, store)
        found = numbers(store, instance)
        assert found == list(range(len(found)))
        assert len(found) > committed
    assert list(state.iterdir()) == []
