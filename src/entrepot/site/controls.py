"""Keeps points on premises supplied with their control document: which devices are blocked, which token keys are valid.

It is signed anew hourly and whenever what it says changes (``site.cloud.control`` does that for every kind of point),
and pushed at once: a revocation bites when the point has it. A point that cannot be reached stops serving when its
document expires, after eight hours. A point that is removed is told to serve nobody before it is forgotten.
"""

import asyncio
import contextlib
from typing import Final

import msgspec
import structlog

from entrepot.core.errors import EntrepotError, NotFoundError
from entrepot.database import points
from entrepot.database.engine import Database
from entrepot.database.points import Point
from entrepot.site.cloud.control import ControlPublisher
from entrepot.site.holders import Holders, wait_or

LOOK_SECONDS: Final = 5.0
LONGEST_PAUSE: Final = 300.0
PUSH_SECONDS: Final = 60.0
RETIRE_SECONDS: Final = 5.0
"""So long a point that is being removed may take to hear of it."""

log = structlog.get_logger("site.controls")


class Controls:
    """Supplies the points on premises of one site, each on its own: one that is slow keeps no revocation from another.
    Points that do not answer are asked less and less often."""

    def __init__(self, database: Database, *, site: str, publisher: ControlPublisher, holders: Holders) -> None:
        self._database = database
        self._site = site
        self._publisher = publisher
        self._holders = holders
        self._wake = asyncio.Event()
        self._pauses: dict[str, tuple[float, float]] = {}
        self._pushing: dict[str, asyncio.Task[bool]] = {}
        self._again: set[str] = set()
        self._looked = False

    def wake(self) -> None:
        """Look now: something changed that control documents say. Call it from the event loop."""
        self._wake.set()

    def retry(self) -> None:
        """Look now, also at points that did not answer before."""
        self._pauses.clear()
        self._wake.set()

    def answered(self, point: str) -> None:
        """A point that did not answer before does so now: it gets its document at once, without which it serves nobody.
        Call it from the event loop."""
        if self._pauses.pop(point, None) is not None:
            self._wake.set()

    async def run_once(self) -> int:
        """Bring every point's document up to date; how many points failed."""
        return sum(await asyncio.gather(*await self._start()))

    async def _start(self) -> list["asyncio.Task[bool]"]:
        """Begin with every point that is due; what is under way."""
        active = await self._database.read(
            points.list_points, site=self._site, kind=points.STANDARD, state=points.ACTIVE
        )
        if not self._looked:  # what a server that was killed had begun
            for left in await self._database.read(points.list_points, site=self._site, state=points.REMOVED):
                await self._forget(left)
            self._looked = True
        now = asyncio.get_running_loop().time()
        for point in active:
            if point.id in self._pushing:
                self._again.add(point.id)  # what it is being told may be out of date already
            elif self._pauses.get(point.id, (0.0, 0.0))[0] <= now:
                self._pushing[point.id] = asyncio.create_task(self._push(point), name=f"control of {point.id}")
        return list(self._pushing.values())

    async def serve(self) -> None:
        """Do so until cancelled."""
        try:
            while True:
                try:
                    await self._start()
                except EntrepotError as error:  # the database did not answer: look again later
                    log.warning("controls_not_looked_at", error=str(error), code=error.code)
                except Exception:  # a defect here must not end the server's other work
                    log.exception("controls_broke")
                await wait_or(self._wake, LOOK_SECONDS)
        finally:
            for push in self._pushing.values():
                push.cancel()

    async def retire(self, name_or_id: str) -> None:
        """Forget a point on premises. If it can be reached it is told first to serve nobody; else its last control
        document expires within eight hours.

        Raises:
            NotFoundError: there is no such point.
            ConflictError: it is a cloud point.
        """
        point = await self._database.write(points.retire_point, name_or_id)
        await self._forget(point)

    async def _forget(self, point: Point) -> None:
        if point.public_key and point.url:
            try:
                holder = self._holders.of(msgspec.structs.replace(point, state=points.ACTIVE))
                async with asyncio.timeout(RETIRE_SECONDS):
                    await self._publisher.publish(point.id, holder)
            except (EntrepotError, TimeoutError) as error:
                log.warning("removed_point_not_told", point=point.id, error=str(error))
        with contextlib.suppress(NotFoundError):  # another request was faster
            await self._database.write(points.remove_point, point.id)

    async def _push(self, point: Point) -> bool:
        """Bring one point's document up to date; whether that failed."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(PUSH_SECONDS):
                await self._publisher.publish(point.id, self._holders.of(point))
        except (EntrepotError, TimeoutError) as error:
            pause = min(2 * self._pauses.get(point.id, (0.0, 0.5))[1], LONGEST_PAUSE)
            self._pauses[point.id] = (loop.time() + pause, pause)
            log.warning("control_not_pushed", point=point.id, error=str(error), seconds=pause)
            return True
        except Exception:
            self._pauses[point.id] = (loop.time() + LONGEST_PAUSE, LONGEST_PAUSE)
            log.exception("control_push_broke", point=point.id)
            return True
        finally:
            del self._pushing[point.id]
            if point.id in self._again:
                self._again.discard(point.id)
                self._wake.set()
        self._pauses.pop(point.id, None)
        return False
