"""The documents that a gateway obeys: looked at again and again, whatever the store does."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from collections.abc import Set as AbstractSet
from typing import Any

import pytest

from entrepot.cloud.gateway.config import GatewayConfig
from entrepot.cloud.gateway.watcher import ControlWatcher
from entrepot.cloud.host.settings import REMOTE_POLL_SECONDS
from entrepot.core.errors import UnavailableError
from entrepot.core.times import HOUR
from entrepot.objects.memory import MemoryStore
from entrepot.objects.store import Fetched, Unchanged
from entrepot.protocol.control import CONTROL_KEY, TRUST_KEY, ServiceState
from entrepot.rules.prices import POLLS_AN_HOUR
from entrepot.trust.root import fingerprint
from entrepot.web.control import serving

from ..waiting import until
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
        self.refuses = False

    def fetch(self, key: str, *, known: str = "", limit: int) -> Fetched | Unchanged:
        self.asked += 1
        if self.refuses:
            raise UnavailableError("The store refuses.")
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

    def cut(self, devices: AbstractSet[str], tokens: AbstractSet[str] = frozenset(), reason: str = "revoked") -> int:
        return 0


class Watched:
    """A watcher on a store of its own, polling ten times a second."""

    def __init__(self, site: Any, patience: float = 1.0) -> None:
        self.applied: list[int] = []
        self.store, self.plane, self.site = Silent(), Plane(), site
        self.store.put(TRUST_KEY, site.trust().encode())
        self.store.put(CONTROL_KEY, site.control().encode())
        self.watcher = ControlWatcher(
            self.store,
            pin=fingerprint(site.root.public),
            point=POINT,
            clock=time.time,
            poll=0.1,
            apply=lambda control: self.applied.append(control.fresh.counter),
            patience=patience,
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
        async with asyncio.timeout(120):
            while True:
                if wanted in self.problem and bool(wanted) == bool(self.problem):
                    return
                await asyncio.sleep(0.02)

    def end(self) -> None:
        """Let every thread end that waits for the store."""
        self.store.speaks.set()
        self.store.over.set()


class Patient(Watched):
    """One that has much patience, and lives by a clock that the test moves."""

    def __init__(self, site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(site, patience=60.0)
        self._ahead = 0.0
        loop = asyncio.get_running_loop()
        true = loop.time
        monkeypatch.setattr(loop, "time", lambda: true() + self._ahead)

    async def pass_seconds(self, seconds: float) -> None:
        """Move the clock at once, as a pause of the whole machine does; then what is due happens."""
        self._ahead += seconds
        for _ in range(2):
            await asyncio.sleep(0)

    async def begin_look(self) -> "asyncio.Task[None]":
        """A look that waits for the store."""
        asked = self.store.asked
        task = asyncio.create_task(self.watcher.look())
        await until(lambda: self.store.asked > asked)
        return task

    async def look_too_long(self) -> None:
        """A look that is answered, but only when patience is over."""
        self.store.speaks.clear()
        task = await self.begin_look()
        await self.pass_seconds(70)
        self.store.speaks.set()
        await task


@pytest.fixture
async def watched(site: Any) -> AsyncIterator[Watched]:
    made = Watched(site)
    task = asyncio.create_task(made.watcher.run())
    await made.becomes("")
    made.plane.cut_off.clear()
    yield made
    made.end()
    task.cancel()


@pytest.fixture
async def patient(site: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Patient]:
    made = Patient(site, monkeypatch)
    yield made
    made.end()


async def test_a_request_that_is_never_answered_holds_up_no_other(watched: Watched) -> None:
    watched.store.silent_requests = 2
    watched.store.put(CONTROL_KEY, watched.site.control(state=ServiceState.STOPPED).encode())
    await watched.becomes("stopped by its administrator")
    assert watched.plane.cut_off.is_set()


async def test_when_no_look_is_answered_nobody_is_served_until_one_is(watched: Watched) -> None:
    watched.store.speaks.clear()
    await watched.becomes("cannot see its control document")
    assert watched.plane.cut_off.is_set()
    watched.store.speaks.set()
    await watched.becomes("")


async def test_looks_that_wait_are_not_too_many(watched: Watched) -> None:
    watched.store.speaks.clear()
    asked = watched.store.asked
    await watched.becomes("cannot see its control document")
    assert watched.store.asked - asked <= 4


async def test_an_answer_that_was_overtaken_does_not_count(watched: Watched) -> None:
    """The store answers a request of long ago with the document of then."""
    before = watched.watcher.counter
    watched.store.speaks.clear()
    asked = watched.store.asked
    await until(lambda: watched.store.asked > asked)
    watched.store.put(CONTROL_KEY, watched.site.control(state=ServiceState.STOPPED).encode())
    watched.store.speaks.set()
    await watched.becomes("stopped by its administrator")
    assert watched.watcher.counter > before


async def test_nobody_is_served_by_a_first_answer_that_came_too_late(patient: Patient) -> None:
    """What it says may be old, and no timer would tell when it is."""
    await patient.look_too_long()
    assert patient.watcher.counter == patient.site.counter
    assert "cannot see its control document" in patient.problem
    await patient.watcher.look()
    assert patient.problem == ""


async def test_a_late_answer_ends_no_doubt_and_what_it_brought_is_applied_when_clients_are_served_again(
    patient: Patient,
) -> None:
    await patient.watcher.look()
    assert patient.applied == [patient.site.counter]
    await patient.pass_seconds(55)
    await patient.pass_seconds(15)  # nobody looks meanwhile
    assert "cannot see its control document" in patient.problem
    patient.store.put(CONTROL_KEY, patient.site.control().encode())
    await patient.look_too_long()
    assert "cannot see its control document" in patient.problem
    assert patient.watcher.counter == patient.site.counter
    assert patient.applied == [patient.site.counter - 1]
    await patient.watcher.look()
    assert patient.problem == ""
    assert patient.applied == [patient.site.counter - 1, patient.site.counter]


async def test_a_stop_that_a_slow_look_found_counts_although_a_later_look_was_refused(patient: Patient) -> None:
    await patient.watcher.look()
    patient.store.put(CONTROL_KEY, patient.site.control(state=ServiceState.STOPPED).encode())
    patient.store.silent_requests = 1
    slow = await patient.begin_look()
    patient.store.refuses = True
    await patient.watcher.look()
    patient.store.refuses = False
    assert patient.problem == ""
    patient.store.over.set()
    await slow
    assert "stopped by its administrator" in patient.problem


async def test_a_pause_of_the_machine_cuts_nobody_off_when_the_store_answers_after_it(patient: Patient) -> None:
    watching = asyncio.create_task(patient.watcher.run())
    await patient.becomes("")
    patient.plane.cut_off.clear()
    asked = patient.store.asked
    await patient.pass_seconds(1000)
    await until(lambda: patient.store.asked > asked + 8)  # more than could wait since before
    assert not patient.plane.cut_off.is_set()
    assert patient.problem == ""
    watching.cancel()


async def test_after_a_pause_there_is_time_for_one_look_and_no_more(patient: Patient) -> None:
    watching = asyncio.create_task(patient.watcher.run())
    await patient.becomes("")
    patient.plane.cut_off.clear()
    patient.store.speaks.clear()
    await patient.pass_seconds(1000)
    assert patient.problem == ""
    await patient.pass_seconds(11)
    assert "cannot see its control document" in patient.problem
    assert patient.plane.cut_off.is_set()
    watching.cancel()


async def test_costs_are_estimated_by_the_reads_that_a_gateway_makes_in_an_hour(site: Any) -> None:
    made = Watched(site)
    await made.watcher.look()
    before = made.store.asked
    await made.watcher.look(whole=False)
    reads = made.store.asked - before
    of_azure = GatewayConfig(instance="gw", point=POINT, root=b"", state="", certificate="", private_key="").poll
    assert {reads * HOUR / of_azure, reads * HOUR / REMOTE_POLL_SECONDS} == {POLLS_AN_HOUR}
