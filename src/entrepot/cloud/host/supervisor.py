"""Brings all services in line with what is wanted, after crashes, restarts and interrupted deletions too."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from entrepot.cloud.host.address import try_port
from entrepot.cloud.host.removal import remove_content, remove_parts
from entrepot.cloud.host.runner import ServiceRunner, Surroundings
from entrepot.cloud.host.services import ServiceRow, Wanted
from entrepot.core.errors import EntrepotError
from entrepot.protocol.cloudhost import Remains

LOOK_SECONDS = 0.5
DELETE_AGAIN_SECONDS = 10.0
_log = structlog.get_logger("entrepot.host")


class Supervisor:
    """Follows the durable wishes in ``services``. Belongs to the event loop.

    Args:
        before_removal: awaited with a service before its parts are removed: whoever still uses them lets go.
    """

    def __init__(self, around: Surroundings, before_removal: Callable[[ServiceRow], Coroutine[Any, Any, None]]) -> None:
        self._around = around
        self._before_removal = before_removal
        self._runners: dict[str, ServiceRunner] = {}
        self._deleting: dict[str, asyncio.Lock] = {}
        self._delete_again: dict[str, float] = {}
        self._changed = asyncio.Event()
        self._problems: dict[str, str] = {}

    def runner(self, service_id: str) -> ServiceRunner:
        """The runner of a service."""
        found = self._runners.get(service_id)
        if found is None:
            found = self._runners[service_id] = ServiceRunner(service_id, self._around, self._changed.set)
        return found

    async def try_port(self, port: int) -> None:
        """See that a new service could have this port.

        Raises:
            ConflictError: another program has it, or the host may not open it.
        """
        await asyncio.to_thread(try_port, self._around.listen_host, port)

    def signal(self, service_id: str) -> None:
        """Let a service's instances read their documents now."""
        if service_id in self._runners:
            self._runners[service_id].signal()

    async def run(self) -> None:
        """Look after all services until cancelled."""
        while True:
            self._changed.clear()
            await self.run_once()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._changed.wait()

    async def run_once(self) -> None:
        """Look after each service once. One service's trouble is not another's."""
        try:
            rows = await asyncio.to_thread(self._around.services.all)
        except EntrepotError as error:
            _log.error("services.unreadable", problem=str(error))
            return
        await asyncio.gather(*(self._look_after(row) for row in rows))
        known = {row.id for row in rows}
        for service_id in [one for one, runner in self._runners.items() if one not in known and runner.idle]:
            del self._runners[service_id]  # made for a request that came during a deletion

    async def _look_after(self, row: ServiceRow) -> None:
        loop = asyncio.get_running_loop()
        try:
            if row.state is not Wanted.DELETING:
                await self.runner(row.id).converge()
            elif loop.time() >= self._delete_again.get(row.id, 0.0) and not self._is_deleting(row.id):
                await self.delete(row)
            self._problems.pop(row.id, None)
        except EntrepotError as error:
            if self._problems.get(row.id) != error.message:
                self._problems[row.id] = error.message
                _log.error("service.troubled", service=row.name, problem=str(error))
        except Exception:  # noqa: BLE001  # a defect of ours must not end the care of all other services
            _log.exception("service.defect", service=row.name)

    async def delete(self, row: ServiceRow) -> Remains:
        """Remove a service that is marked as deleting: its instances, its port, everything it stored.

        Returns:
            what could not be removed; then the service stays marked, and this is tried again.
        """
        async with self._deleting.setdefault(row.id, asyncio.Lock()):
            await self.runner(row.id).retire()
            await self._before_removal(row)
            left = await self._remove(row)
            if left:
                self._delete_again[row.id] = asyncio.get_running_loop().time() + DELETE_AGAIN_SECONDS
                _log.error("service.not_deleted", service=row.name, left=left)
                return Remains(left=left)
            await asyncio.to_thread(self._around.services.remove, row.id)
            self._around.storage.forget(row.id)
            self._runners.pop(row.id, None)
        self._deleting.pop(row.id, None)
        self._delete_again.pop(row.id, None)
        _log.info("service.deleted", service=row.name)
        return Remains(left=())

    async def _remove(self, row: ServiceRow) -> tuple[str, ...]:
        """First what lies far away: how to get there is forgotten with the rest."""
        around = self._around
        try:
            left = await asyncio.to_thread(remove_content, around.storage, row)
        except EntrepotError as error:
            return (f"the content in the object store: {error.message}",)
        return left or await asyncio.to_thread(remove_parts, row.id, around.folders, around.keys)

    async def close(self) -> None:
        """End all instances; what is wanted stays, and comes back with the next start."""
        await asyncio.gather(*(runner.close() for runner in self._runners.values()))

    def _is_deleting(self, service_id: str) -> bool:
        lock = self._deleting.get(service_id)
        return lock is not None and lock.locked()
