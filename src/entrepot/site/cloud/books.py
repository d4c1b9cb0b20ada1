"""What a cloud point is made of and what that costs now, and the cloud's own figures held against the site's."""

from collections.abc import Callable, Sequence
from typing import Final

import msgspec
from sqlalchemy import Connection

from entrepot.core.sizes import GB
from entrepot.core.times import DAY, HOUR, Clock, hour_of
from entrepot.database import prices, usage
from entrepot.database.cloud import CloudPoint
from entrepot.database.engine import Database
from entrepot.protocol.cloudapi import CloudResources, PlannedResource, Reconciled, Reconciliation
from entrepot.protocol.control import Delivery
from entrepot.rules.reconciling import judge_granted, judge_sent, judge_stored
from entrepot.site.cloud.planning import Prices, priced, sheet_prices
from entrepot.site.cloud.providers import Providers

LONGEST: Final = 90
"""Days: clouds keep their figures about so long."""
_STORED_METER: Final = "storage_gb_month"


class Books:
    """Looks into the books of cloud points.

    Args:
        rates: prices where no sheet was chosen for a cloud point.
    """

    def __init__(self, database: Database, providers: Providers, *, clock: Clock, rates: Callable[[], Prices]) -> None:
        self._database = database
        self._providers = providers
        self._clock = clock
        self._rates = rates

    async def resources(self, point: CloudPoint) -> CloudResources:
        """What it is made of, priced as it is now: so many instances, so much stored.

        Raises:
            EntrepotError: the cloud does not answer.
        """
        provider = await self._providers.of(point)
        parts = await provider.plan(point.service, point.point, point.instances_wanted)
        kept = await self._database.read(usage.stored_usage, point.point)
        sheet = await self._database.read(prices.sheet_of, point.point)
        rates = self._rates() if sheet is None else sheet_prices(sheet)
        plan = priced(with_stored(parts, kept.stored_bytes), rates, point.region, ())
        costs = [(one.stays, one.monthly) for one in plan.resources if one.monthly is not None]
        return CloudResources(
            resources=plan.resources,
            running=plan.monthly,
            stopped=round(sum(monthly for stays, monthly in costs if stays), 2),
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
        since = until - min(max(days, 1), LONGEST) * DAY
        provider = await self._providers.of(point)
        told = await provider.metrics(point.service, since, until)
        sums = await self._database.read(_sent, point.point, since, until) if kept.collected else (None, None)
        sent, granted = sums
        stored = kept.counted_bytes if kept.counted_at else None
        by_sent, by_stored = judge_sent(told.egress_bytes, sent), judge_stored(told.stored_bytes, stored)
        links = _links(told.store_egress_bytes, granted, sent) if granted or point.delivery is Delivery.REDIRECT else ()
        return Reconciliation(
            since=since,
            until=until,
            figures=(
                Reconciled(
                    figure="sent to clients",
                    by_cloud=told.egress_bytes,
                    by_site=sent,
                    verdict=by_sent.word,
                    message=by_sent.message,
                ),
                *links,
                Reconciled(
                    figure="stored",
                    by_cloud=told.stored_bytes,
                    by_site=stored,
                    verdict=by_stored.word,
                    message=by_stored.message,
                ),
            ),
        )


def with_stored(parts: Sequence[PlannedResource], stored: int) -> tuple[PlannedResource, ...]:
    """The parts, with what is stored now in place of nothing."""
    return tuple(
        msgspec.structs.replace(one, quantity=stored / GB) if one.meter == _STORED_METER else one for one in parts
    )


def _links(by_store: int | None, granted: int | None, sent: int | None) -> tuple[Reconciled, ...]:
    """What the store sent itself, where clients were given links to it."""
    verdict = judge_granted(by_store, granted, sent)
    return (
        Reconciled(
            figure="granted by links",
            by_cloud=by_store,
            by_site=granted,
            verdict=verdict.word,
            message=verdict.message,
        ),
    )


def _sent(connection: Connection, point: str, since: int, until: int) -> tuple[int, int]:
    """Bytes that gateways sent, and bytes that they granted."""
    rows = usage.hours(connection, point, since=since, until=until, limit=LONGEST * DAY // HOUR + 1)
    granted = sum(row.granted for row in rows)
    return sum(row.sent for row in rows) - granted, granted
