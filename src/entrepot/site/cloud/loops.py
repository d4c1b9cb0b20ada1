"""The background work of cloud points. Every loop is a ``run_once`` of something that can also be asked for."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from entrepot.core.errors import CancelledError, EntrepotError, NotFoundError
from entrepot.core.times import HOUR, MINUTE
from entrepot.database.cloud import CloudPoint
from entrepot.protocol.cloudpointapi import CloudPointState
from entrepot.site.cloud.services import CloudServices
from entrepot.site.repeating import every

CONTROL_SECONDS: Final = 5.0
METER_SECONDS: Final = 1.0
HEALTH_SECONDS: Final = 2 * MINUTE
COLLECT_LOOK_SECONDS: Final = MINUTE
TIDY_SECONDS: Final = HOUR
LONGEST_PAUSE: Final = 5 * MINUTE

log = structlog.get_logger("site.cloud.loops")


class CloudLoops:
    """Runs until stopped; a point that fails never holds up another.

    Args:
        services: the wired use cases; changes of the database wake the control loop at once.
    """

    def __init__(self, services: CloudServices) -> None:
        self._services = services
        self._changed = asyncio.Event()
        self._busy: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._not_before: dict[tuple[str, str], tuple[float, float]] = {}

    async def serve(self) -> None:
        """All loops; cancel to stop. What was metered is written down at the end."""
        loop = asyncio.get_running_loop()

        def wake() -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended: nobody is left to wake
                loop.call_soon_threadsafe(self._changed.set)

        self._services.database.on_change(wake)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(every(CONTROL_SECONDS, self.control_once, wake=self._changed))
                group.create_task(every(METER_SECONDS, self.meter_once))
                group.create_task(every(HEALTH_SECONDS, self.health_once))
                group.create_task(every(COLLECT_LOOK_SECONDS, self.collect_once))
                group.create_task(every(COLLECT_LOOK_SECONDS, self.reconcile_once))
                group.create_task(every(TIDY_SECONDS, self.tidy_once))
        finally:
            for task in self._busy.values():
                task.cancel()
            with contextlib.suppress(EntrepotError):
                await asyncio.to_thread(self._services.meter.flush)

    async def control_once(self) -> None:
        """Bring the control documents of all points up to date."""
        await self._for_each("control", self._publish, has_store)

    async def _publish(self, point: CloudPoint) -> None:
        store = await self._services.providers.store_of(point)
        await self._services.control.publish(point.point, store)

    async def health_once(self) -> None:
        """Look at every point."""
        await self._for_each("health", lambda point: self._services.monitor.check(point.point), lambda _: True)

    async def collect_once(self) -> None:
        """Collect where an hour has passed; evaluate everywhere."""
        await self._for_each("collect", self._collect, lambda point: point.ready > 0 and has_store(point))
        await self._services.monitor.resume_postponed()
        await self._services.collector.drop_left_if_due()

    async def _collect(self, point: CloudPoint) -> None:
        monitor = self._services.monitor
        try:
            await monitor.collect_if_due(point.point)
        finally:  # also when the store does not answer: only then do figures grow old
            await monitor.evaluate(point.point)

    async def reconcile_once(self) -> None:
        """List where a day has passed, and hold the cloud's own figures against the site's; collections do not wait for
        either."""
        await self._for_each("reconcile", self._reconcile, lambda point: point.ready > 0 and has_store(point))

    async def _reconcile(self, point: CloudPoint) -> None:
        try:
            await self._services.monitor.reconcile_if_due(point.point)
        finally:  # two questions: that one brings no answer does not keep the other from being asked
            await self._services.books.compare_if_due(point)

    async def tidy_once(self) -> None:
        """Close connections to clouds of which nothing is needed any more."""
        await self._services.providers.tidy(await self._services.points())

    async def meter_once(self) -> None:
        """Write down what was sent to cloud points."""
        await asyncio.to_thread(self._services.meter.flush)

    async def _for_each(
        self,
        what: str,
        work: Callable[[CloudPoint], Awaitable[object]],
        applies: Callable[[CloudPoint], bool],
    ) -> None:
        """Start ``work`` for every point for which it is not under way, and wait until they are done or slow."""
        now = asyncio.get_running_loop().time()
        for point in await self._services.points():
            key = (what, point.point)
            running = self._busy.get(key)
            if not applies(point) or (running is not None and not running.done()):
                continue
            if now >= self._not_before.get(key, (0.0, 0.0))[0]:
                self._busy[key] = asyncio.create_task(self._guarded(key, work, point))
        mine = [task for (kind, _), task in self._busy.items() if kind == what and not task.done()]
        if mine:
            await asyncio.wait(mine, timeout=METER_SECONDS)

    async def _guarded(
        self, key: tuple[str, str], work: Callable[[CloudPoint], Awaitable[object]], point: CloudPoint
    ) -> None:
        loop = asyncio.get_running_loop()
        try:
            await work(point)
        except (NotFoundError, CancelledError) as error:
            log.info("cloud_point_changed_meanwhile", work=key[0], point=point.point, error=str(error))
        except EntrepotError as error:
            pause = min(max(1.0, self._not_before.get(key, (0.0, 0.5))[1] * 2), LONGEST_PAUSE)
            self._not_before[key] = (loop.time() + pause, pause)
            log.warning("cloud_work_failed", work=key[0], point=point.point, error=str(error), again_in=pause)
            return
        except Exception:  # a defect seen at one point must not end the loops
            log.exception("cloud_work_broke", work=key[0], point=point.point)
            self._not_before[key] = (loop.time() + LONGEST_PAUSE, LONGEST_PAUSE)
            return
        self._not_before.pop(key, None)


def has_store(point: CloudPoint) -> bool:
    """Whether there is a store to write control documents to, and to read transactions from."""
    return bool(point.address) and point.state is not CloudPointState.DELETING
