"""Brings what dead instances of one service recorded to its store, however long the store does not answer.

The host looks when it begins, and whenever an instance has ended; while anything is left that no running instance owns,
it looks again. So records reach the store soon after the store answers, also when nobody asks the service for anything,
and when it is stopped and no instance runs at all. Nothing is counted twice: see ``gateway.shipping``.
"""

import asyncio
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import structlog

from entrepot.cloud.gateway.shipping import adopt_leftovers, holds_records
from entrepot.core.errors import EntrepotError
from entrepot.objects.store import ObjectStore

AGAIN_SECONDS: Final = 1.0
_log = structlog.get_logger("entrepot.host")


class Leftovers:
    """One service's. Belongs to the event loop; the work is done in a thread of its own, since a store that is silent
    may hold it for minutes.

    Args:
        service: its name, for the log.
        state: folder of its instances' journals.
        living: ids of the instances that run now.
    """

    def __init__(self, service: str, state: Path, store: ObjectStore, living: Callable[[], Collection[str]]) -> None:
        self._service, self._state, self._store, self._living = service, state, store, living
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="leftovers")
        self._asked = asyncio.Event()
        self._settled = asyncio.Event()
        self._ending = asyncio.Event()
        self._task = asyncio.create_task(self._run(), name=f"leftovers of {service}")
        self.look()

    def look(self) -> None:
        """An instance ended: it may have left something."""
        self._settled.clear()
        self._asked.set()

    async def settle(self, seconds: float) -> bool:
        """Wait until nothing is left, but no longer than this; tells whether nothing is."""
        try:
            async with asyncio.timeout(seconds):
                await self._settled.wait()
        except TimeoutError:
            return False
        return True

    async def end(self) -> None:
        """Look no more; on return nothing is written to the store any more. Harmless when repeated."""
        self._ending.set()
        self._asked.set()
        await asyncio.wait([self._task])
        self._thread.shutdown(wait=False)

    async def _run(self) -> None:
        while True:
            await self._asked.wait()
            self._asked.clear()
            if self._ending.is_set():
                return
            if await self._nothing_left():
                if not self._asked.is_set():
                    self._settled.set()
                continue
            self._asked.set()
            try:
                async with asyncio.timeout(AGAIN_SECONDS):
                    await self._ending.wait()
            except TimeoutError:
                continue

    async def _nothing_left(self) -> bool:
        """An instance that adopts another's folder holds its lock, and may fail: whose folder is left is looked at."""
        try:
            left = await asyncio.get_running_loop().run_in_executor(self._thread, self._look_once)
        except (EntrepotError, OSError) as error:
            _log.warning("journal.not_shipped", service=self._service, problem=str(error))
            return False
        except Exception:  # noqa: BLE001  # a defect seen once must not keep the records of all that die later
            _log.exception("journal.not_shipped", service=self._service)
            return False
        return left <= set(self._living())

    def _look_once(self) -> set[str]:
        """In the thread: adopt what can be, and name the instances in whose folders records are left."""
        adopt_leftovers(self._state, self._store)
        return {folder.name for folder in self._state.glob("*") if holds_records(folder)}
