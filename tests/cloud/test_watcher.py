"""The documents that a gateway obeys: looked at again and again, whatever the store does."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from entrepot.cloud.gateway.watcher import ControlWatcher
from entrepot.core.errors import UnavailableError
from entrepot.objects.memory import MemoryStore
from entrepot.objects.store import Fetched, Unchanged
from entrepot.protocol.control import CONTROL_KEY, TRUST_KEY, ServiceState
from entrepot.trust.root import fingerprint
from entrepot.web.control import serving

from .conftest import POINT


class Silent(MemoryStore):
    """A store that can fall silent: it then answers with what it had before, as soon as it speaks again."""

    def __init__(self) -> None:
        super().__init__()
        self.speaks = threading.Event()
        self.speaks.set()
        self.over = threading.Event()
        self.asked = 0
        self.silent_requests = 0

    def fetch(self, key: str, *, known: str = "", limit: int) -> Fetched | Unchanged:
        self.asked += 1
        found = super().fetch(key, known=known, limit=limit)
        if self.silent_requests:
            self.silent_requests -= 1
            self.over.wait()
        self.speaks.wait()
        return found


class Plane:
    """Counts cuts."""

    def __init__(self) -> None:
        self.cut_off = asyncio.Event()

    def cut_all(self, reason: str = "stopped") -> int:
        self.cut_off.set()
        return 1

    def cut(self, device: str, reason: str = "device revoked") -> int:
        return 0

    def cut_token(self, jti: str, reason: str = "token revoked") -> int:
        return 0


class Watched:
    """A watcher on a store of its own, polling ten times a second."""

    def __init__(self, site: Any) -> None:
        self.store, self.plane, self.site = Silent(), Plane(), site
        self.store.put(TRUST_KEY, site.trust().encode())
        self.store.put(CONTROL_KEY, site.control().encode())
        self.watcher = ControlWatcher(
            self.store,
            pin=fingerprint(site.root.public),
            point=POINT,
            clock=time.time,
            poll=0.1,
            apply=lambda _: None,
            patience=1.0,
        )
        self.watcher.watch(self.plane)

    @property
    def problem(self) -> str:
        """Why nobody is served; empty when clients are."""
        try:
            serving(self.watcher.obeyed, now=time.time())
        except UnavailableError as error:
            return error.message
        return ""

    async def becomes(self, wanted: str) -> None:
        async with asyncio.timeout(20):
            while True:
                if wanted in self.problem and bool(wanted) == bool(self.problem):
                    return
                await asyncio.sleep(0.02)


@pytest.fixture
async def watched(site: Any) -> AsyncIterator[Watched]:
    made = Watched(site)
    task = asyncio.create_task(made.watcher.run())
    await made.becomes("")
    made.plane.cut_off.clear()
    yield made
    made.store.speaks.set()
    made.store.over.set()
    task.cancel()


async def test_a_request_that_is_never_answered_holds_up_no_other(watched: Watched) -> None:
    watched.store.silent_requests = 2
    watched.store.put(CONTROL_KEY, watched.site.control(state=ServiceState.STOPPED).encode())
    await watched.becomes("stopped by its administrator")
    assert watched.plane.cut_off.is_set()


async def test_when_no_look_is_answered_nobody_is_served_until_one_is(watched: Watched) -> None:
    watched.store.speaks.clear()
    await watched.becomes("cannot see its control document")
    assert watched.plane.cut_off.is_set()
    asked = watched.store.asked
    watched.store.speaks.set()
    await watched.becomes("")
    assert watched.store.asked > asked, "it looked again, and did not believe what it had asked for long ago"


async def test_looks_that_wait_are_not_too_many(watched: Watched) -> None:
    watched.store.speaks.clear()
    asked = watched.store.asked
    await watched.becomes("cannot see its control document")
    assert watched.store.asked - asked <= 4


async def test_an_answer_that_was_overtaken_does_not_count(watched: Watched, until: Any) -> None:
    """The store answers a request of long ago with the document of then."""
    before = watched.watcher.counter
    watched.store.speaks.clear()
    asked = watched.store.asked

    async def is_asked() -> bool:
        return watched.store.asked > asked

    await until(is_asked)
    watched.store.put(CONTROL_KEY, watched.site.control(state=ServiceState.STOPPED).encode())
    watched.store.speaks.set()
    await watched.becomes("stopped by its administrator")
    assert watched.watcher.counter > before
