"""What a cloud point is made of and what that costs now, and the cloud's own figures held against the site's."""

import asyncio
from collections.abc import Sequence
from typing import Final

import msgspec
import structlog
from sqlalchemy import Connection

from entrepot.core.errors import EntrepotError, UnavailableError
from entrepot.core.sizes import GB
from entrepot.core.times import DAY, HOUR, MINUTE, Clock, hour_of
from entrepot.database import cloud, prices, usage
from entrepot.database.cloud import CloudPoint
from entrepot.database.engine import Database
from entrepot.database.usage import StoredUsage
from entrepot.protocol.cloudapi import CloudResources, Comparison, PlannedResource, Reconciled, Reconciliation
from entrepot.protocol.control import Delivery
from entrepot.rules.reconciling import (
    DIFFERS,
    Verdict,
    awaited,
    days_to_compare,
    judge_granted,
    judge_sent,
    judge_stored,
    lasting,
)
from entrepot.site.cloud.judging import comparison_finding
from entrepot.site.cloud.planning import monthly_sum, priced
from entrepot.site.cloud.providers import Providers
from entrepot.site.findings import judge

LONGEST: Final = 90
"""Days: clouds keep their figures about so long."""
ASK_AGAIN_SECONDS: Final = HOUR
"""A cloud that does not answer a daily comparison is asked again after so long."""
ANSWER_SECONDS: Final = 5 * MINUTE
_STORED_METER: Final = "storage_gb_month"

log = structlog.get_logger("site.cloud.books")


class Books:
    """Looks into the books of cloud points.

    Args:
        patience: seconds that a daily comparison waits for the cloud's answer.
    """

    def __init__(
        self,
        database: Database,
        providers: Providers,
        *,
        clock: Clock,
        patience: float = ANSWER_SECONDS,
    ) -> None:
        self._patience = patience
        self._database = database
        self._providers = providers
        self._clock = clock

    async def resources(self, point: CloudPoint) -> CloudResources:
        """What it is made of, priced as it is now: so many instances, so much stored.

        Raises:
            EntrepotError: the cloud does not answer.
        """
        provider = await self._providers.of(point)
        parts = await provider.plan(point.service, point.point, point.instances_wanted)
        kept = await self._database.read(usage.stored_usage, point.point)
        sheet = await self._database.read(prices.sheet_of, point.point)
        plan = priced(with_stored(parts, kept.present()[0]), sheet, ())
        staying = [one for one in plan.resources if one.stays]
        return CloudResources(
            resources=plan.resources,
            running=plan.monthly,
            stopped=None if plan.monthly is None else monthly_sum(staying),
            currency=plan.currency,
            unpriced=plan.unpriced,
        )

    async def reconcile(self, point: CloudPoint, days: int) -> Reconciliation:
        """The cloud's figures of the last days, up to the last full hour that was collected, beside the site's.

        Raises:
            EntrepotError: the cloud does not answer.
        """
        kept = await self._database.read(usage.stored_usage, point.point)
        until = hour_of(min(self._clock(), kept.collected or self._clock()))
        return await self._compare(point, until - min(max(days, 1), LONGEST) * DAY, until, kept)

    async def compare_if_due(self, point: CloudPoint) -> bool:
        """Once a day, hold the cloud's figures of the days that have passed against the site's, keep what that finds,
        and let the alert follow. Whether it was done; why not is kept, and what was found before stays.
        """
        kept, last = await self._database.read(_known, point.point)
        now = self._clock()
        days = days_to_compare(now, ready=point.ready, collected=kept.collected, compared=last.until)
        if days is None or 0 <= now - last.tried < ASK_AGAIN_SECONDS:  # later than now: the clock was set back
            return False
        try:
            async with asyncio.timeout(self._patience):
                await self._database.write(usage.count_stored, point.point, now=int(now))
                kept = await self._database.read(usage.stored_usage, point.point)
                found = await self._compare(point, *days, kept)
        except (EntrepotError, TimeoutError) as error:
            known = error if isinstance(error, EntrepotError) else _silent()
            log.warning("figures_not_compared", point=point.point, error=str(known), code=known.code)
            failed = msgspec.structs.replace(last, tried=int(now), error=str(known))
            await self._database.write(usage.set_comparison, point.point, failed)
            return False
        return await self._database.write(_keep, point.point, found, now=now)

    async def _compare(self, point: CloudPoint, since: int, until: int, kept: StoredUsage) -> Reconciliation:
        """The cloud's figures beside the site's own, with verdicts."""
        provider = await self._providers.of(point)
        told = await provider.metrics(point.service, since, until)
        sent, granted, fetched = (
            await self._database.read(_sent, point.point, since, until) if kept.collected else (None, None, 0)
        )
        stored = kept.counted_bytes if kept.counted_at else None
        figures = [_figure("sent to clients", told.egress_bytes, sent, judge_sent(told.egress_bytes, sent))]
        if (
            granted or point.delivery is Delivery.REDIRECT
        ):  # what the store sent itself, by links that clients were given
            by_store = told.store_egress_bytes
            figures.append(
                _figure("granted by links", by_store, granted, judge_granted(by_store, granted, sent, fetched))
            )
        figures.append(_figure("stored", told.stored_bytes, stored, judge_stored(told.stored_bytes, stored)))
        return Reconciliation(since=since, until=until, figures=tuple(figures))


def with_stored(parts: Sequence[PlannedResource], stored: int) -> tuple[PlannedResource, ...]:
    """The parts, with what is stored now in place of nothing."""
    return tuple(
        msgspec.structs.replace(one, quantity=stored / GB) if one.meter == _STORED_METER else one for one in parts
    )


def _figure(name: str, by_cloud: int | None, by_site: int | None, verdict: Verdict) -> Reconciled:
    return Reconciled(
        figure=name,
        by_cloud=by_cloud,
        by_site=by_site,
        verdict=verdict.word,
        message=verdict.message,
        reason=verdict.reason,
    )


def _known(connection: Connection, point: str) -> tuple[StoredUsage, Comparison]:
    return usage.stored_usage(connection, point), usage.comparison(connection, point)


def _keep(connection: Connection, point_id: str, found: Reconciliation, *, now: float) -> bool:
    """Keep a daily comparison, unless another process made it meanwhile; with it, the alert."""
    point = cloud.get_cloud_point(connection, point_id)
    last = usage.comparison(connection, point_id)
    if last.until >= found.until:
        return False
    differed = {one.figure for one in last.figures if one.verdict == DIFFERS} | {*last.awaited}
    verdicts = [(one.figure, one.verdict) for one in found.figures]
    made = Comparison(
        at=int(now),
        tried=int(now),
        since=found.since,
        until=found.until,
        figures=found.figures,
        lasting=lasting(verdicts, differed=differed, lasted={*last.lasting}),
        awaited=awaited(verdicts, differed=differed),
    )
    usage.set_comparison(connection, point_id, made)
    judge(connection, point.point, point.name, [comparison_finding(made)], now)
    return True


def _sent(connection: Connection, point: str, since: int, until: int) -> tuple[int, int, int]:
    """Bytes that gateways sent, bytes that they granted, and bytes that the site fetched."""
    rows = usage.hours(connection, point, since=since, until=until, limit=LONGEST * DAY // HOUR + 1)
    granted = sum(row.granted for row in rows)
    return sum(row.sent for row in rows) - granted, granted, sum(row.fetched for row in rows)


def _silent() -> UnavailableError:
    return UnavailableError(
        "The cloud does not answer.", next_step="It is asked again in an hour; `entrepot cloud health` shows its state."
    )
