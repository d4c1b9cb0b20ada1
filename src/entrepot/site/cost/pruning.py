"""Figures and histories go when they are older than they are kept, in short transactions that hold nobody up."""

from collections.abc import Callable
from typing import Final

import msgspec
import structlog

from entrepot.core.times import DAY, HOUR, Clock, hour_of
from entrepot.database import deletedpoints, drills, pruning
from entrepot.database.engine import Database

BATCH: Final = 2000
EVERY_SECONDS: Final = HOUR

log = structlog.get_logger("site.cost")


class Retention(msgspec.Struct, frozen=True, kw_only=True):
    """Days for which figures are kept: ``usage`` the hours of cloud points and savings, ``transfers`` these hours by
    device and content, and budgets' sums of them, ``alerts`` what happened to alerts."""

    usage: int = 800
    transfers: int = 100
    alerts: int = 800


class Pruning:
    """Forgets what is old, at most once an hour."""

    def __init__(self, database: Database, retention: Retention, *, clock: Clock, batch: int = BATCH) -> None:
        self._database = database
        self._retention = retention
        self._clock = clock
        self._batch = batch
        self._last = -float(EVERY_SECONDS)

    async def run_if_due(self) -> int:
        """Forget, unless that was done within the hour; how many rows."""
        now = self._clock()
        if now - self._last < EVERY_SECONDS:
            return 0
        removed = await self.run_once()
        self._last = now
        return removed

    async def run_once(self) -> int:
        """Forget what is old; how many rows.

        Raises:
            EntrepotError: by the database; the next run goes on.
        """
        today = hour_of(self._clock())
        kept = self._retention
        usage, transfers, alerts = (today - days * DAY for days in (kept.usage, kept.transfers, kept.alerts))
        removed = await self._all(pruning.prune_transfers, transfers)  # found by the hours: before these go
        removed += await self._all(pruning.prune_budget_hours, transfers)
        removed += await self._all(pruning.prune_hours, usage)
        removed += await self._all(pruning.prune_savings, usage)
        removed += await self._all(pruning.prune_alert_events, alerts)
        removed += await self._all(pruning.prune_alerts, alerts)
        await self._database.write(deletedpoints.forget_deleted, before=usage)
        await self._database.write(drills.prune, before=usage)
        if removed:
            log.info("old_figures_forgotten", rows=removed)
        return removed

    async def _all(self, prune: Callable[..., int], before: int) -> int:
        total, count = 0, self._batch
        while count >= self._batch:
            count = await self._database.write(prune, before=before, limit=self._batch)
            total += count
        return total
