import random
import tracemalloc
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from entrepot.content import keeping
from entrepot.content.chunking import DomainKeys, domain_keys
from entrepot.content.compressing import Effort, effort_for
from entrepot.content.indexing import Tools
from entrepot.content.keeping import Keeper, Kept
from entrepot.content.ledger import Announcement, KnownChunk, NewChunk
from entrepot.content.memory import MemoryLedger, MemoryLibrary
from entrepot.content.sealing import Generation, Purpose, open_sealed
from entrepot.core.errors import RefusedError, StorageError
from entrepot.core.ids import ObjectId
from entrepot.core.secret import Secret
from entrepot.core.sizes import KIB, MIB
from entrepot.objects.memory import MemoryStore
from entrepot.objects.shelf import Shelf, key_of
from entrepot.protocol import SealedRef

FIRST = Generation(1, Secret(b"1" * 32))
SECOND = Generation(2, Secret(b"2" * 32))
DEDUPE = Secret(b"d" * 32)


def plain(number: int, size: int = 1000) -> bytes:
    return random.Random(number).randbytes(size)


class Bench:
    """A keeper with all it needs."""

    def __init__(
        self,
        library: MemoryLibrary | None = None,
        shelf: Shelf | None = None,
        keys: DomainKeys | None = None,
        ledger: Any = None,
    ) -> None:
        self.library = library or MemoryLibrary()
        self.shelf = shelf or Shelf(MemoryStore())
        self.ledger = ledger or self.library.open_session("test")
        self.kept = Kept()
        self.delivered: list[tuple[SealedRef | None, int]] = []
        self.pool = ThreadPoolExecutor(2)
        self.keeper: Keeper[int] = Keeper(
            Purpose.CHUNK,
            tools=Tools(
                shelf=self.shelf,
                ledger=self.ledger,
                keys=keys or domain_keys(DEDUPE, FIRST),
                pool=self.pool,
                disk=self.pool,
            ),
            deliver=lambda ref, note: self.delivered.append((ref, note)),
            kept=self.kept,
        )

    def keep(self, *numbers: int, size: int = 1000) -> list[SealedRef]:
        """Keep plaintexts by number; their references."""
        before = len(self.delivered)
        for number in numbers:
            self.keeper.put(plain(number, size), number)
        self.keeper.finish()
        assert [note for _, note in self.delivered[before:]] == list(numbers)
        return [ref for ref, _ in self.delivered[before:] if ref is not None]


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "BATCH_WEIGHT", 3)
    monkeypatch.setattr(keeping, "GROUP_WEIGHT", 7)


@pytest.fixture(params=["large batches", "small batches"])
def batches(request: pytest.FixtureRequest) -> None:
    if request.param == "small batches":
        request.getfixturevalue("small_batches")


@pytest.mark.usefixtures("batches")
class TestOrderAndDedupe:
    def test_references_come_in_order_and_open(self) -> None:
        bench = Bench()
        refs = bench.keep(*range(20))
        for number, ref in enumerate(refs):
            assert open_sealed(bench.shelf.read_whole(ObjectId(ref.object_id)), ref) == plain(number)
        assert bench.kept.objects == 20

    def test_references_are_given_a_few_at_a_time_until_the_end(self) -> None:
        bench = Bench()
        given = []
        for number in range(60):
            before = len(bench.delivered)
            bench.keeper.put(plain(number), number)
            given.append(len(bench.delivered) - before)
        assert max(given) <= keeping.DELIVERED_EACH_TIME
        bench.keeper.finish()
        assert [note for _, note in bench.delivered] == list(range(60))

    def test_notes_alone_keep_their_place(self) -> None:
        bench = Bench()
        for number in range(10):
            bench.keeper.put(plain(number) if number % 3 else None, number)
        bench.keeper.finish()
        assert [note for _, note in bench.delivered] == list(range(10))
        assert [number for ref, number in bench.delivered if ref is None] == [0, 3, 6, 9]

    def test_equal_plaintexts_are_stored_once(self) -> None:
        bench = Bench()
        refs = bench.keep(*[number % 4 for number in range(25)])
        assert len(set(refs)) == bench.kept.objects == len(bench.shelf.page()) == 4

    def test_what_is_known_is_not_sealed_again(self) -> None:
        first = Bench()
        refs = first.keep(1, 2, 3)
        second = Bench(first.library, first.shelf)
        assert second.keep(3, 2, 1, 4)[:3] == refs[::-1]
        assert second.kept.objects == 1

    def test_two_sessions_at_once_agree_on_one_object(self, monkeypatch: pytest.MonkeyPatch) -> None:
        one = Bench()
        other = Bench(one.library, one.shelf)
        for bench, effort in ((one, Effort.TEXT), (other, Effort.NONE)):  # as if their compressors differed
            monkeypatch.setattr(keeping, "effort_for", lambda data, effort=effort: effort)
            for number in range(8):
                bench.keeper.put(b"shrinks well " * 100 + plain(number), number)
        one.keeper.finish()
        other.keeper.finish()
        assert one.delivered == other.delivered
        held = [list(bench.ledger.held()) for bench in (one, other)]
        assert held[0] == held[1] == sorted(ref.object_id for ref, _ in one.delivered if ref)


@pytest.mark.usefixtures("batches")
class TestReferencesThatAreGivenSooner:
    def test_all_come_in_order_and_nobody_finds_the_last_before_they_are_durable(self) -> None:
        bench = Bench()
        for number in range(20):
            bench.keeper.put(plain(number), number)
        bench.keeper.give()
        assert [note for _, note in bench.delivered] == list(range(20))
        assert len(bench.library.index) < 20
        bench.keeper.finish()
        assert len(bench.library.index) == 20
        assert [note for _, note in bench.delivered] == list(range(20))
        for ref, number in bench.delivered:
            assert ref is not None
            assert open_sealed(bench.shelf.read_whole(ObjectId(ref.object_id)), ref) == plain(number)

    def test_whoever_was_second_keeps_what_it_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        one = Bench()
        other = Bench(one.library, one.shelf)
        for bench, effort in ((one, Effort.TEXT), (other, Effort.NONE)):  # as if their compressors differed
            monkeypatch.setattr(keeping, "effort_for", lambda data, effort=effort: effort)
            bench.keeper.put(b"shrinks well " * 100, 0)
            bench.keeper.give()
        for bench in (one, other):
            bench.keeper.finish()
            [(ref, _)] = bench.delivered
            assert ref is not None
            assert list(bench.ledger.held()) == [ref.object_id]
        assert one.delivered != other.delivered

    def test_what_was_lost_has_left_the_session_before_its_successor_is_named(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = Bench()
        monkeypatch.setattr(keeping, "effort_for", lambda _: Effort.NONE)
        (old,) = first.keep(1)
        first.shelf.store.delete(key_of(ObjectId(old.object_id)))
        second = Bench(first.library, first.shelf, domain_keys(DEDUPE, SECOND, earlier=(FIRST,)))
        second.keeper.put(plain(1), 1)
        second.keeper.give()
        [(new, _)] = second.delivered
        assert new is not None
        assert list(second.ledger.held()) == [new.object_id] != [old.object_id]


class TestGenerations:
    def test_a_chunk_of_an_earlier_generation_keeps_its_key(self) -> None:
        first = Bench()
        refs = first.keep(1)
        rotated = domain_keys(DEDUPE, SECOND, earlier=(FIRST,))
        second = Bench(first.library, first.shelf, rotated)
        assert second.keep(1) == refs
        assert second.kept.objects == 0
        (new,) = second.keep(2)
        assert open_sealed(first.shelf.read_whole(ObjectId(new.object_id)), new) == plain(2)

    def test_a_generation_that_is_not_at_hand_is_named(self) -> None:
        first = Bench()
        first.keep(1)
        with pytest.raises(RefusedError, match="generation 1"):
            Bench(first.library, first.shelf, domain_keys(DEDUPE, SECOND)).keep(1)

    def test_domains_share_nothing(self) -> None:
        first = Bench()
        refs = first.keep(1)
        isolated = Bench(first.library, first.shelf, domain_keys(Secret(b"x" * 32), SECOND))
        assert isolated.keep(1) != refs
        assert isolated.kept.objects == 1


@pytest.mark.parametrize("left", [b"", None])
def test_a_chunk_whose_object_is_lost_is_kept_anew_even_if_it_is_sealed_otherwise(
    monkeypatch: pytest.MonkeyPatch, left: bytes | None
) -> None:
    """A newer compressor gives other bytes: the lost object must not win over the one that is there."""
    text = b"".join(b"line %d compresses well\n" % (number % 97) for number in range(5000))

    def kept(bench: Bench) -> SealedRef:
        bench.keeper.put(text, 0)
        bench.keeper.finish()
        [(ref, _)] = bench.delivered
        assert ref is not None
        return ref

    first = Bench()
    old = kept(first)
    key = key_of(ObjectId(old.object_id))
    first.shelf.store.delete(key)
    if left is not None:
        first.shelf.store.put(key, left)  # cut short
    monkeypatch.setattr(keeping, "effort_for", lambda _: 19)
    second = Bench(first.library, first.shelf)
    new = kept(second)
    assert new.object_id != old.object_id
    assert open_sealed(second.shelf.read_whole(ObjectId(new.object_id)), new) == text
    assert list(second.ledger.held()) == [new.object_id], "the version's set names nothing that is not there"
    assert kept(Bench(first.library, first.shelf)) == new


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
def test_nothing_is_entered_that_a_refusing_disk_has_not(monkeypatch: pytest.MonkeyPatch, *, large: bool) -> None:
    class Refusing(Shelf):
        def flush(self) -> None:
            raise StorageError("The disk refuses.")

    bench = Bench(shelf=Refusing(MemoryStore()))
    if large:
        monkeypatch.setattr(keeping, "BATCH_BYTES", 1)  # a flush begins before the references are given
    bench.keeper.put(plain(1), 1)
    bench.keeper.give()
    assert len(bench.delivered) == 1
    with pytest.raises(StorageError):
        bench.keeper.finish()
    assert bench.library.index == {}


class Counting(MemoryLedger):
    """Counts calls."""

    calls = 0

    def known(self, index_hashes: Sequence[bytes]) -> dict[bytes, KnownChunk]:
        self.calls += 1
        return super().known(index_hashes)

    def announce(self, objects: Sequence[Announcement], *, durable: bool = True) -> None:
        self.calls += 1
        super().announce(objects, durable=durable)

    def add(
        self, chunks: Sequence[NewChunk], *, lost: Collection[bytes] = (), named: bool = False
    ) -> dict[bytes, KnownChunk]:
        self.calls += 1
        return super().add(chunks, lost=lost, named=named)


def test_the_ledger_is_asked_per_batch() -> None:
    library = MemoryLibrary()
    ledger = Counting(library, library.open_session("test").session)
    Bench(library, ledger=ledger).keep(*range(2000))
    assert ledger.calls < 10


def test_what_gets_a_name_is_in_the_books_for_good() -> None:
    steps: list[str] = []

    class Books(MemoryLedger):
        def announce(self, objects: Sequence[Announcement], *, durable: bool = True) -> None:
            steps.append("announced for good" if durable else "announced")
            super().announce(objects, durable=durable)

        def sync(self) -> None:
            steps.append("synced")
            super().sync()

        def add(
            self, chunks: Sequence[NewChunk], *, lost: Collection[bytes] = (), named: bool = False
        ) -> dict[bytes, KnownChunk]:
            steps.append("added")
            return super().add(chunks, lost=lost, named=named)

    class Named(Shelf):
        def flush(self) -> None:
            steps.append("named")
            super().flush()

    library = MemoryLibrary()
    ledger = Books(library, library.open_session("test").session)
    Bench(library, Named(MemoryStore()), ledger=ledger).keep(*range(10))
    assert steps == ["announced", "synced", "named", "added"]


class Failing(MemoryStore):
    """A disk that fills up."""

    room = 5

    def put(self, key: str, data: Any, *, if_absent: bool = False, durable: bool = True) -> bool:
        self.room -= 1
        if self.room < 0:
            raise StorageError("No space is left.")
        return super().put(key, data, if_absent=if_absent, durable=durable)


@pytest.mark.usefixtures("small_batches")
def test_a_full_disk_is_reported_and_what_was_stored_is_used_later() -> None:
    store = Failing()
    first = Bench(shelf=Shelf(store))
    with pytest.raises(StorageError):
        first.keep(*range(20))
    for ref, number in first.delivered:
        assert ref is not None
        assert open_sealed(first.shelf.read_whole(ObjectId(ref.object_id)), ref) == plain(number)
    store.room = 100
    second = Bench(first.library, first.shelf)
    assert len(set(second.keep(*range(20)))) == 20
    assert second.kept.objects <= 20 - len(first.delivered)


def test_sealing_begins_with_the_first_mebibyte_and_batches_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    asked: list[int] = []
    known = bench.ledger.known

    def counting(index_hashes: Sequence[bytes]) -> dict[bytes, KnownChunk]:
        asked.append(len(index_hashes))
        return known(index_hashes)

    monkeypatch.setattr(bench.ledger, "known", counting)
    bench.keep(*range(40), size=MIB)
    assert asked == [1, 2, 4, 8, 12, 12, 1]


class TestAdaptiveCompression:
    def test_noise_is_not_compressed_but_text_is(self) -> None:
        assert effort_for(plain(1, MIB)) is Effort.NONE
        assert effort_for(b"text " * 300_000) is Effort.TEXT
        assert effort_for(plain(1, 10 * KIB)) is Effort.TEXT  # too small to be worth a sample

    def test_mixed_content_is(self) -> None:
        assert effort_for(plain(1, MIB) + b"text " * 100_000) is Effort.PROGRAM


class Forgetful(MemoryStore):
    """Keeps names but no bytes, so that only the pipeline's memory counts."""

    def put(self, key: str, data: Any, *, if_absent: bool = False, durable: bool = True) -> bool:
        return super().put(key, b"", if_absent=if_absent, durable=durable)


def test_memory_does_not_grow_with_the_content(library: Any, tmp_path: Path) -> None:
    big = tmp_path / "big"
    with big.open("wb") as file:
        for number in range(40):
            file.write(plain(number, 8 * MIB))
    bench = type(library)(Shelf(Forgetful()))
    tracemalloc.start()
    try:
        published = bench.publish(big, ledger=bench.ledgers.open_session("test"))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert published.chunks > 200
    assert peak < 130 * MIB
