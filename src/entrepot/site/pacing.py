"""How fast a task moves bytes from or to other machines: at most at its rate, whatever the line gives."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

from entrepot.site.reporting import Reporter

NAP: Final = 0.5
"""Seconds after which a task that waits notices that it is to stop."""


class TaskPace:
    """Lets a task's bytes pass. Work goes on while its time runs; what was not used is not saved up.

    Args:
        rate: bytes a second; 0: no limit.
        clock: seconds that only grow.
        sleep: waits some seconds.
    """

    def __init__(
        self,
        rate: int,
        report: Reporter,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._rate = rate
        self._report = report
        self._clock = clock
        self._sleep = sleep
        self._free = 0.0
        self.done = 0

    async def take(self, size: int) -> None:
        """Wait until what was taken before has had its time; then ``size`` bytes may pass.

        Raises:
            CancelledError: the task is to stop.
        """
        while self._rate and (early := self._free - self._clock()) > 0:
            self._report.check()
            await self._sleep(min(early, NAP))
        self.done += size
        if self._rate:
            self._free = self._clock() + size / self._rate
