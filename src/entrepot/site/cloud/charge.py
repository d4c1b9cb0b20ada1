"""Being in charge of a cloud point: what every one of its tasks does between its own steps."""

import asyncio
import contextlib
import time
from typing import Any, Final

from entrepot.core.errors import CancelledError
from entrepot.core.times import MINUTE, Clock
from entrepot.database import cloud
from entrepot.database.cloud import CloudPoint
from entrepot.database.engine import Database
from entrepot.database.tasks import Task
from entrepot.protocol.cloudhost import ServiceStatus
from entrepot.site.cloud import standing
from entrepot.site.cloud.collection import Collector
from entrepot.site.cloud.control import ControlPublisher
from entrepot.site.cloud.providers import Providers
from entrepot.site.cloud.waiting import Sleep, running, until_running
from entrepot.site.cloudport import CloudProvider, Progress
from entrepot.site.reporting import Reporter

STOP_PATIENCE: Final = MINUTE
"""So long a look waits for a cloud that is busy and takes no stop yet; whoever asked for the look waits with it."""


class Charge:
    """Knows which task is in charge of a point, and lets no other write or call.

    Args:
        root: the hierarchy root's raw public key: gateways pin it.
    """

    def __init__(
        self,
        database: Database,
        *,
        providers: Providers,
        control: ControlPublisher,
        collector: Collector,
        root: bytes,
        clock: Clock,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._database = database
        self._providers = providers
        self._control = control
        self._collector = collector
        self._root = root
        self._clock = clock
        self._sleep = sleep
        self._locks: dict[str, asyncio.Lock] = {}

    async def in_charge(self, task: Task) -> CloudPoint:
        """The point, as long as this task is the last one asked for.

        Raises:
            CancelledError: a later task took over.
            NotFoundError: the point is gone.
        """
        point = await self._database.read(cloud.get_cloud_point, task.subject)
        if point.task != task.id:
            raise CancelledError("A later request took over.")
        return point

    async def note(self, task: Task, **values: Any) -> CloudPoint:
        """Write down where the point stands, if this task is still in charge."""
        return await self._database.write(standing.note, task, values, int(self._clock()))

    async def end(self, task: Task, error: str = "", **values: Any) -> CloudPoint:
        """Write down where the point stands and how the task ends, if it is still in charge."""
        return await self._database.write(standing.end, task, values, int(self._clock()), error)

    async def stop_unordered(self, before: CloudPoint) -> None:
        """Stop a service that runs although it is not to, as a look found (R27). An order that is given meanwhile ends
        this, and is carried out after it. It ends also when it takes long, and does not wait for an order that is being
        carried out, which may take half an hour: the next look goes on.

        Args:
            before: as it was looked at; nothing is done when an order was given since.

        Raises:
            EntrepotError: the cloud does not take it.
        """
        provider = await self._providers.of(before)
        lock = self._lock(before.point)
        if lock.locked():
            return
        with contextlib.suppress(CancelledError):
            async with lock:
                check = self._while_unordered(before)
                await asyncio.to_thread(check, "")
                await provider.stop(before.service, check)

    def _while_unordered(self, before: CloudPoint) -> Progress:
        ends = time.monotonic() + STOP_PATIENCE

        def check(_: str) -> None:
            if time.monotonic() > ends:
                raise CancelledError("The next look goes on with it.")
            with self._database.reading() as connection:
                if cloud.get_cloud_point(connection, before.point).task != before.task:
                    raise CancelledError("An order was given meanwhile.")

        return check

    def _lock(self, point: str) -> asyncio.Lock:
        return self._locks.setdefault(point, asyncio.Lock())

    async def _saw(self, task: Task, report: Reporter, status: ServiceStatus) -> None:
        report.check()
        # while they are replaced, the old ones run beside the new
        report.amount(min(running(status, 0), status.wanted), status.wanted)
        await self.note(task, address=status.address, instances=status.instances)

    async def _publish(self, task: Task) -> int:
        """Tell the gateways what is wanted since the order was given; the counter of that document."""
        point = await self.in_charge(task)
        return await self._control.publish(point.point, await self._providers.store_of(point))

    async def _wait(self, task: Task, report: Reporter, provider: CloudProvider, counter: int) -> None:
        point = await self.in_charge(task)
        report.step("Waiting until the instances run", total=point.instances_wanted, unit="instances")
        await until_running(
            provider,
            point.service,
            control=counter,
            seen=lambda status: self._saw(task, report, status),
            sleep=self._sleep,
        )
