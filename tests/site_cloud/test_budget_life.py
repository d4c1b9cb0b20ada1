"""The whole life of a budget as a state machine: grant, serve, end, collect, settle, the next grant; instances are
killed and lost, clients read whatever they can (R23)."""

import asyncio
import shutil
import tempfile
from pathlib import Path

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from entrepot.cloud.gateway.marking import mark_dead
from entrepot.core.errors import LimitedError, UnauthenticatedError
from entrepot.core.sizes import MIB
from entrepot.core.times import HOUR, MINUTE
from entrepot.database import budgets, cloud, grants, usage
from entrepot.database.budgets import Budget, Scope
from entrepot.database.engine import open_database, sqlite_url
from entrepot.database.grants import LAG, Grant
from entrepot.objects.memory import MemoryStore
from entrepot.objects.shelf import Shelf
from entrepot.protocol.allowances import Mark, encode_mark, mark_key
from entrepot.site.cloud.collection import Collector
from entrepot.site.cost import settling
from entrepot.site.cost.budgets import BudgetBook
from entrepot.web.allowances import Allowances
from entrepot.web.dataplane import ShelfHolder
from entrepot.web.grants import Grant as Shown

from ..rows import certificate_row
from .bare import bare_point
from .conftest import NOW, Gateway, Ticking, _empty_database, record

POINT = "pt-1"
INSTANCES = 2
DEVICES = st.integers(0, 3)
WHICH = st.integers(0, INSTANCES - 1)


class Instance:
    """A gateway: what it won, what it recorded, and what of that it has not shipped."""

    def __init__(self, name: str, store: MemoryStore, clock: Ticking) -> None:
        self.gateway = Gateway(POINT, name)
        self.purses = Allowances(store, holder=name, now=clock)
        self.pending = []


class BudgetLife(RuleBasedStateMachine):
    """``served`` is what left the instances; the site knows only what it collects."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="entrepot-test-"))
        shutil.copyfile(_empty_database(), self.folder / "site.db")
        self.database = open_database(sqlite_url(self.folder / "site.db"))
        self.clock, self.store = Ticking(NOW + LAG + 1), MemoryStore()
        self.holder = ShelfHolder(Shelf(self.store))
        self.book = BudgetBook(self.database, clock=self.clock)
        self.collector = Collector(self.database, self.folder / "logs", holder="test", clock=self.clock)
        self.loop = asyncio.Runner()
        self.made = self.served = 0
        self.tokens: dict[int, list[Shown]] = {}
        self.dead: list[Instance] = []
        self.instances = [self._instance() for _ in range(INSTANCES)]

    def _instance(self) -> Instance:
        self.made += 1
        return Instance(f"gw-{self.made}", self.store, self.clock)

    @initialize(megabytes=st.integers(10, 90))
    def begin(self, megabytes: int) -> None:
        self.budget = Budget(scope=Scope.POINT, subject=POINT, bytes=megabytes * MIB, created=NOW)
        with self.database.transaction() as connection:
            # more than run here: small downloads are granted slots for all of them
            cloud.add_certificate(connection, certificate_row())
            four = {"instances_wanted": 4, "management_certificate": certificate_row().id}
            cloud.add_cloud_point(connection, msgspec.structs.replace(bare_point(POINT), **four))
            budgets.put_budget(connection, self.budget)
            usage.set_collected(connection, POINT, now=NOW + LAG)

    @rule(device=DEVICES, megabytes=st.sampled_from([1, 6, 30]))
    def ask(self, device: int, megabytes: int) -> None:
        found = self.book.grant(POINT, device=f"dev-{device}", content="pkg-1", version=1, size=megabytes * MIB)
        if isinstance(found, Grant):
            token = Shown(
                device=found.device, jti=found.jti, set_id=bytes(32), allow=found.bytes, expires=found.expires
            )
            self.tokens.setdefault(device, []).append(token)

    @precondition(lambda self: self.tokens)
    @rule(device=DEVICES, which=WHICH, megabytes=st.integers(1, 12), newest=st.booleans())
    def read(self, device: int, which: int, megabytes: int, newest: bool) -> None:
        """Clients show any token that they ever had, to any instance."""
        one, held = self.instances[which], self.tokens.get(device)
        if not held:
            return
        token = held[-1 if newest else 0]
        for _ in range(megabytes):
            try:
                self.loop.run(one.purses.take(token, MIB))
            except (LimitedError, UnauthenticatedError):
                return
            self.served += MIB
            one.pending.append(record(MIB, time=int(self.clock()) * 1000, device=token.device))

    @rule(which=WHICH)
    def ship(self, which: int) -> None:
        self._ship(self.instances[which])

    def _ship(self, one: Instance) -> None:
        if one.pending:
            at = int(self.clock()) * 1000
            key, data = one.gateway.segment(one.pending, opened=at)
            self.store.put(key, data)
            one.pending = []

    @rule(which=WHICH)
    def mark(self, which: int) -> None:
        one = self.instances[which]
        segments = one.gateway.sequence + bool(one.pending)
        mark = Mark(before=int(self.clock()), segments=segments, at=int(self.clock()))
        self.store.put(mark_key(one.gateway.instance), encode_mark(mark))

    @rule(which=WHICH)
    def kill(self, which: int) -> None:
        self.dead.append(self.instances[which])
        self.instances[which] = self._instance()

    @rule(which=WHICH)
    def lose(self, which: int) -> None:
        """With its disk: nobody will ever know what it sent."""
        self.instances[which] = self._instance()

    @precondition(lambda self: self.dead)
    @rule()
    def adopt(self) -> None:
        one = self.dead.pop()
        self._ship(one)
        mark_dead(self.store, one.gateway.instance, now=self.clock())

    @rule(seconds=st.sampled_from([MINUTE, HOUR, 3 * HOUR]))
    def wait(self, seconds: int) -> None:
        self.clock.advance(seconds)

    @rule(settles=st.booleans())
    def collect(self, settles: bool) -> None:
        """As ``Monitor.collect`` does; killed before it settles, or not."""

        async def run() -> None:
            marks = await settling.read_marks(self.holder)
            await self.collector.run_once(bare_point(POINT), self.holder)
            if settles:
                await settling.settle(self.database, POINT, self.holder, marks, now=self.clock())

        self.loop.run(run())

    @invariant()
    def no_more_is_served_than_the_budget(self) -> None:
        if self.served:
            assert self.served <= self.budget.bytes

    @invariant()
    def what_counts_is_never_less_than_what_was_served(self) -> None:
        if self.served:
            with self.database.reading() as connection:
                used, granted = grants.standing(connection, self.budget, self.clock())
            assert self.served <= used + granted

    def teardown(self) -> None:
        self.loop.close()
        self.database.close()
        shutil.rmtree(self.folder)


def test_from_grant_to_grant_no_more_is_served_than_the_budget_and_what_counts_is_never_less():
    run_state_machine_as_test(BudgetLife, settings=settings(max_examples=20, stateful_step_count=40, deadline=None))
