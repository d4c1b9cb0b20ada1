"""What each wrapper adds to the contract, over a store that misbehaves on purpose."""

from collections.abc import Iterator

import pytest

from entrepot.core.errors import (
    EntrepotError,
    ForbiddenError,
    IntegrityError,
    NotFoundError,
    TrustError,
    UnavailableError,
)
from entrepot.objects.hashing import object_id_of
from entrepot.objects.memory import MemoryStore
from entrepot.objects.metering import Count, Meter, MeteredStore
from entrepot.objects.remembering import RememberingStore
from entrepot.objects.retrying import Backoff, RetryingStore
from entrepot.objects.serving import ServedStore
from entrepot.objects.shelf import key_of
from entrepot.objects.throttling import LEAST_WAIT, SLICE, Pace, ThrottledStore, unlimited
from entrepot.objects.verifying import VerifyingStore
from entrepot.objects.wrapper import StoreWrapper

DATA = bytes(range(256)) * 4096
KEY = key_of(object_id_of(DATA))


class Troubled(StoreWrapper):
    """Fails the next ``failures`` calls: before they reach the store, or after they did their work."""

    def __init__(self, failures: int = 0, *, error: EntrepotError | None = None, late: bool = False) -> None:
        super().__init__(MemoryStore())
        self.failures, self.late, self.calls = failures, late, 0
        self.error = error or UnavailableError("The store is busy.")
        self.break_after: int | None = None
        self.flip = 0

    def _trouble(self, *, late: bool) -> None:
        self.calls += not late
        if self.failures and late == self.late:
            self.failures -= 1
            raise self.error

    def put(self, key, data, *, if_absent=False, durable=True):
        self._trouble(late=False)
        stored = self._inner.put(key, data, if_absent=if_absent, durable=durable)
        self._trouble(late=True)
        return stored

    def delete(self, key):
        self._trouble(late=False)
        removed = self._inner.delete(key)
        self._trouble(late=True)
        return removed

    def stat(self, key):
        self._trouble(late=False)
        return self._inner.stat(key)

    def list(self, prefix="", *, after="", limit=1000):
        self._trouble(late=False)
        return self._inner.list(prefix, after=after, limit=limit)

    def fetch(self, key, *, known="", limit):
        self._trouble(late=False)
        return self._inner.fetch(key, known=known, limit=limit)

    def read(self, key, *, start=0, length=None):
        self._trouble(late=False)
        for number, piece in enumerate(self._inner.read(key, start=start, length=length)):
            if self.break_after is not None and number == self.break_after:
                raise self.error
            if self.flip:
                self.flip -= 1
                piece = bytes([piece[0] ^ 1]) + piece[1:]
            yield piece


class TestRetrying:
    @pytest.fixture
    def pauses(self) -> list[float]:
        return []

    @pytest.fixture
    def make(self, pauses: list[float]):
        def make(inner: Troubled, attempts: int = 5) -> RetryingStore:
            backoff = Backoff(attempts=attempts, first=1, longest=3)
            return RetryingStore(inner, backoff, sleep=pauses.append, draw=lambda: 0.5)

        return make

    @pytest.mark.parametrize(
        "use",
        [
            lambda store: store.put("k", b"x"),
            lambda store: store.stat("there"),
            lambda store: store.list(),
            lambda store: store.fetch("there", limit=9),
            lambda store: b"".join(store.read("there")),
            lambda store: store.delete("there"),
        ],
        ids=["put", "stat", "list", "fetch", "read", "delete"],
    )
    def test_every_operation_is_tried_again_with_growing_pauses(self, make, pauses, use):
        inner = Troubled()
        inner.put("there", b"value")
        inner.failures, inner.calls = 4, 0
        use(make(inner))
        assert inner.calls == 5
        assert pauses == [0.5, 1.0, 1.5, 1.5]

    def test_it_gives_up_with_the_last_error(self, make):
        inner = Troubled(5)
        with pytest.raises(UnavailableError, match="busy"):
            make(inner).put("k", b"x")
        assert inner.calls == 5
        with pytest.raises(NotFoundError):
            inner.stat("k")

    @pytest.mark.parametrize("error", [ForbiddenError("no"), IntegrityError("bad"), NotFoundError("none")])
    def test_refusals_are_final(self, make, pauses, error):
        inner = Troubled(1, error=error)
        with pytest.raises(type(error)):
            make(inner).stat("k")
        assert (inner.calls, pauses) == (1, [])

    def test_a_source_that_fails_is_not_asked_again(self, make):
        asked = []

        def source() -> Iterator[bytes]:
            asked.append(1)
            yield b"half"
            raise UnavailableError("The sender is gone.")

        inner = Troubled()
        with pytest.raises(UnavailableError, match="sender"):
            make(inner).put("k", source())
        assert (len(asked), inner.calls) == (1, 0)

    def test_a_source_is_read_once_however_often_the_store_fails(self, make):
        inner = Troubled(3)
        assert make(inner).put("k", iter([b"one", b"two"]))
        assert b"".join(inner.read("k")) == b"onetwo"

    def test_a_conditional_put_whose_answer_was_lost_knows_its_own_value(self, make):
        inner = Troubled(1, late=True)
        assert make(inner).put("k", b"mine", if_absent=True)

    def test_a_conditional_put_does_not_take_another_value_for_its_own(self, make):
        for other in (b"other", b"min", b"mine!", b""):
            inner = Troubled()
            inner.put("k", other)
            inner.failures = 1
            assert not make(inner).put("k", b"mine", if_absent=True)
            assert b"".join(inner.read("k")) == other

    def test_a_deletion_whose_answer_was_lost_counts(self, make):
        inner = Troubled()
        inner.put("k", b"x")
        inner.failures, inner.late = 1, True
        assert make(inner).delete("k")
        assert not make(inner).delete("k")

    def test_a_broken_read_of_an_object_goes_on_where_it_was(self, make):
        inner = Troubled()
        inner.put(KEY, DATA)
        inner.break_after = 1
        for start, length in ((0, None), (100_000, None), (5, 700_000)):
            end = None if length is None else start + length
            assert b"".join(make(inner).read(KEY, start=start, length=length)) == DATA[start:end]

    def test_a_broken_read_of_a_document_is_not_patched_together(self, make):
        inner = Troubled()
        inner.put("control", DATA)
        inner.break_after = 1
        pieces = make(inner).read("control")
        next(pieces)
        with pytest.raises(UnavailableError):
            next(pieces)

    def test_a_store_that_never_gives_a_byte_is_given_up(self, make, pauses):
        inner = Troubled()
        inner.put(KEY, DATA)
        inner.break_after = 0
        with pytest.raises(UnavailableError):
            next(make(inner).read(KEY))
        assert len(pauses) == 4


class TestVerifying:
    @pytest.fixture
    def inner(self) -> Troubled:
        inner = Troubled()
        inner.put(KEY, DATA)
        return inner

    def test_a_damaged_object_is_never_given_whole(self, inner):
        inner.flip = 10**6
        for length in (None, len(DATA), len(DATA) + 5):
            gathered = bytearray()
            with pytest.raises(IntegrityError):
                for piece in VerifyingStore(inner).read(KEY, length=length):
                    gathered += piece
            assert len(gathered) < len(DATA)

    def test_of_a_small_damaged_object_nothing_is_given(self, inner):
        small = b"small"
        key = key_of(object_id_of(small))
        inner.put(key, b"smalk")
        with pytest.raises(IntegrityError, match="damaged"):
            next(VerifyingStore(inner).read(key))
        with pytest.raises(IntegrityError):
            VerifyingStore(inner).fetch(key, limit=9)

    def test_damage_on_the_way_is_read_again(self, inner):
        small = b"small"
        key = key_of(object_id_of(small))
        inner.put(key, small)
        inner.flip = 1
        assert b"".join(VerifyingStore(inner).read(key)) == small

    def test_an_object_that_ends_early_is_damaged(self, inner):
        inner.put(KEY, DATA[:-1])
        with pytest.raises(IntegrityError):
            list(VerifyingStore(inner).read(KEY))

    def test_ranges_and_documents_pass(self, inner):
        inner.put("control", b"anything")
        assert b"".join(VerifyingStore(inner).read("control")) == b"anything"
        assert b"".join(VerifyingStore(inner).read(KEY, start=3, length=4)) == DATA[3:7]
        assert b"".join(VerifyingStore(inner).read(KEY, length=4)) == DATA[:4]


class TestMetering:
    def test_requests_and_bytes_are_counted_by_operation(self):
        meter = Meter()
        store = MeteredStore(MemoryStore(), meter)
        store.put("a", b"12345")
        store.put("b", iter([b"12", b"3"]))
        list(store.read("a", start=1))
        version = store.fetch("a", limit=9).version
        store.fetch("a", known=version, limit=9)
        store.list()
        store.delete("a")
        with pytest.raises(NotFoundError):
            store.stat("a")
        counts = meter.counts
        assert counts["put"] == Count(requests=2, sent=8)
        assert counts["read"] == Count(requests=1, received=4)
        assert counts["fetch"] == Count(requests=2, received=5)
        assert (counts["list"], counts["delete"], counts["stat"]) == (Count(requests=1),) * 3
        assert meter.total == Count(requests=8, sent=8, received=9)

    def test_every_try_costs(self):
        meter = Meter()
        store = RetryingStore(MeteredStore(Troubled(2), meter), sleep=lambda _: None)
        store.put("k", b"123")
        assert meter.counts["put"] == Count(requests=3, failed=2, sent=9)


class TestThrottling:
    def test_bytes_pass_at_the_rate_whatever_they_take(self):
        now = [0.0]

        def sleep(seconds: float) -> None:
            now[0] += seconds

        up = Pace(lambda: 1000.0, clock=lambda: now[0], sleep=sleep)
        store = ThrottledStore(MemoryStore(), up=up, down=Pace(unlimited))
        store.put("a", bytes(3000))
        assert now[0] == pytest.approx(3.0)
        now[0] += 0.4  # time that the store itself takes is part of the rate
        store.put("b", iter([bytes(500), bytes(500)]))
        assert now[0] == pytest.approx(4.4)
        list(store.read("a"))
        assert now[0] == pytest.approx(4.4), "reading has no limit"

    def test_many_small_values_are_waited_for_together(self):
        now, waits = [0.0], []

        def sleep(seconds: float) -> None:
            waits.append(seconds)
            now[0] += seconds + 0.001  # as clocks do

        down = Pace(lambda: 1_000_000.0, clock=lambda: now[0], sleep=sleep)
        store = ThrottledStore(MemoryStore(), up=Pace(unlimited), down=down)
        store.put("a", bytes(100))
        for _ in range(10_000):
            list(store.read("a"))
        assert min(waits) >= LEAST_WAIT
        assert now[0] == pytest.approx(1.0, rel=0.15)

    def test_a_rate_that_changes_counts_at_once(self):
        now, rate = [0.0], [1000.0]

        def sleep(seconds: float) -> None:
            now[0] += seconds
            if now[0] >= 1:
                rate[0] = 0.0  # the schedule's night begins

        down = Pace(lambda: rate[0], clock=lambda: now[0], sleep=sleep)
        store = ThrottledStore(MemoryStore(), up=Pace(unlimited), down=down)
        store.put("a", bytes(1_000_000))
        assert len(store.fetch("a", limit=10**6).data) == 1_000_000
        assert now[0] <= 1 + SLICE


class TestRemembering:
    def test_an_object_is_asked_for_once(self):
        inner = Troubled()
        store = RememberingStore(inner)
        store.put(KEY, DATA)
        inner.calls = 0
        assert [store.stat(KEY).size for _ in range(5)] == [len(DATA)] * 5
        assert inner.calls == 1

    def test_what_is_not_there_and_documents_are_asked_for_every_time(self):
        inner = Troubled()
        store = RememberingStore(inner)
        with pytest.raises(NotFoundError):
            store.stat(KEY)
        inner.put(KEY, DATA)
        assert store.stat(KEY).size == len(DATA)
        store.put("control", b"1")
        assert store.stat("control").size == 1
        inner.put("control", b"22")
        assert store.stat("control").size == 2

    def test_an_object_that_is_gone_shows_when_it_is_read(self):
        inner = Troubled()
        store = RememberingStore(inner)
        store.put(KEY, DATA)
        store.stat(KEY)
        inner.delete(KEY)
        with pytest.raises(NotFoundError):
            next(store.read(KEY))

    def test_memory_is_bounded(self):
        inner = MemoryStore()
        store = RememberingStore(inner, most=10)
        for number in range(50):
            key = key_of(object_id_of(bytes([number])))
            inner.put(key, b"x")
            store.stat(key)
        assert len(store._known) == 10


@pytest.mark.parametrize("error", [ForbiddenError("Our key is refused."), TrustError("Not trusted.")])
def test_trouble_between_a_server_and_its_store_is_not_the_callers(error):
    inner = Troubled(10**6, error=error)
    inner.failures = 0
    inner.put("k", b"x")
    inner.failures = 10**6
    store = ServedStore(inner)
    for use in (
        lambda: store.put("k", b""),
        lambda: store.stat("k"),
        lambda: list(store.read("k")),
        lambda: store.fetch("k", limit=9),
        lambda: store.delete("k"),
        lambda: store.list(),
    ):
        with pytest.raises(UnavailableError) as raised:
            use()
        assert error.message not in str(raised.value)
