"""The background work of a site server: everything that goes on without anybody asking."""

import asyncio
import contextlib
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

import structlog

from entrepot.core.errors import EntrepotError
from entrepot.site.cloud.loops import CloudLoops
from entrepot.site.cost.budgets import enforce_stops, sweep_slots
from entrepot.site.keys.loading import refresh
from entrepot.site.repeating import every
from entrepot.site.tasks import TaskEngine
from entrepot.web.process import give_back_memory
from entrepot.web.tls import TlsTrust

if TYPE_CHECKING:
    from entrepot.site.server import SiteServer

FLUSH_SECONDS: Final = 15.0
SWEEP_SECONDS: Final = 3600.0
KEYS_SECONDS: Final = 5.0
REST_SECONDS: Final = 60.0

log = structlog.get_logger("site.background")


async def background_work(server: "SiteServer") -> None:
    """All background work, until cancelled; what is interrupted goes on after the next start."""
    loop = asyncio.get_running_loop()

    def wake() -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended: nobody is left to wake
            loop.call_soon_threadsafe(server.controls.wake)

    server.database.on_change(wake)
    await asyncio.to_thread(server.deltas.sweep)
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(server.tasks.serve())
            group.create_task(server.publishing.serve())
            group.create_task(server.rehearsing.serve())
            group.create_task(server.distribution.serve())
            group.create_task(server.controls.serve())
            group.create_task(server.upkeep.serve())
            group.create_task(server.library_care.serve())
            group.create_task(every(FLUSH_SECONDS, server.management_point.flush, first=FLUSH_SECONDS))
            group.create_task(every(KEYS_SECONDS, partial(follow_keys, server), first=KEYS_SECONDS))
            group.create_task(CloudLoops(server.clouds).serve())
            group.create_task(server.outbox.serve())
            sweep, enforce = (partial(work, server.database, server.clouds) for work in (sweep_slots, enforce_stops))
            group.create_task(every(SWEEP_SECONDS, sweep, first=SWEEP_SECONDS))
            group.create_task(every(KEYS_SECONDS, enforce, first=KEYS_SECONDS))
            rest = Rest(server.tasks, server.publishing, server.rehearsing, server.library_care.tasks)
            group.create_task(every(REST_SECONDS, rest.run_once, first=REST_SECONDS))
    finally:
        await server.distribution.stop()
        engines = (server.tasks, server.publishing, server.rehearsing, server.library_care.tasks)
        await asyncio.gather(*(engine.stop() for engine in engines))
        with contextlib.suppress(EntrepotError):
            await server.management_point.flush()
        await server.clouds.close()
        await server.http.close()


class Rest:
    """When all tasks have ended, gives back the memory that they took: the C library keeps up to 90 MiB of a publish
    that lies between small blocks of longer life."""

    def __init__(self, *engines: TaskEngine, give_back: Callable[[], None] = give_back_memory) -> None:
        self._engines = engines
        self._give_back = give_back
        self._ended = 0

    async def run_once(self) -> None:
        """Give memory back, if there was work since the last time and none goes on."""
        ended = sum(engine.ended for engine in self._engines)
        if ended != self._ended and not any(engine.busy for engine in self._engines):
            self._ended = ended
            await asyncio.to_thread(self._give_back)


async def follow_keys(server: "SiteServer") -> None:
    """See what other processes of the site changed, and which points have confirmed the trust document."""
    if await server.database.read(refresh, server.keys, now=server.clock()):
        server.http.rely_on(TlsTrust.hierarchy(server.keys.authorities))
        log.info("keys_changed", generation=server.keys.generation, trust=server.keys.hierarchy.trust_number)
