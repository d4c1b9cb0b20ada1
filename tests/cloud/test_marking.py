"""The last mark of an instance is the last: an earlier one, still on its way, never lands after it."""

import asyncio
import threading
from collections.abc import Iterable

import pytest

from entrepot.cloud.gateway.marking import Marker
from entrepot.objects.memory import MemoryStore
from entrepot.objects.wrapper import StoreWrapper
from entrepot.protocol.allowances import Mark, decode_mark, mark_key

INSTANCE = "gw-1"


class SlowStore(StoreWrapper):
    """A store whose first write waits until it is let go."""

    def __init__(self) -> None:
        super().__init__(MemoryStore())
        self.begun, self.go, self.done = threading.Event(), threading.Event(), threading.Event()

    def put(self, key: str, data: bytes | Iterable[bytes], *, if_absent: bool = False, durable: bool = True) -> bool:
        if self.begun.is_set():
            return super().put(key, data, if_absent=if_absent, durable=durable)
        self.begun.set()
        assert self.go.wait(30)
        try:
            return super().put(key, data, if_absent=if_absent, durable=durable)
        finally:
            self.done.set()

    def mark(self) -> Mark:
        return decode_mark(b"".join(self.read(mark_key(INSTANCE))))


@pytest.fixture
def store() -> SlowStore:
    return SlowStore()


@pytest.fixture
def marker(store: SlowStore) -> Marker:
    async def noted() -> int:
        return 3

    return Marker(
        store,
        instance=INSTANCE,
        latest=lambda: 100,
        settled_before=lambda now: int(now),
        noted=noted,
        clock=lambda: 50.0,
    )


async def test_a_mark_on_its_way_when_the_instance_ends_does_not_land_after_the_last(
    store: SlowStore, marker: Marker
) -> None:
    earlier = asyncio.create_task(marker.run_once())
    await asyncio.to_thread(store.begun.wait, 30)
    earlier.cancel()  # which does not stop its thread
    ending = asyncio.create_task(asyncio.to_thread(marker.end, 7))
    await asyncio.wait({ending}, timeout=0.1)  # as far as it gets while the earlier one is on its way
    store.go.set()
    await asyncio.to_thread(store.done.wait, 30)
    await ending
    mark = store.mark()
    assert (mark.ended, mark.segments, mark.before) == (True, 7, 101)


async def test_a_mark_that_has_not_begun_when_the_instance_ends_is_not_written(
    store: SlowStore, marker: Marker
) -> None:
    store.go.set()
    await asyncio.to_thread(marker.end, 7)
    await marker.run_once()
    assert store.mark().ended
