"""A quote before a deployment: what it would send through the cloud, and cost."""

from collections import Counter
from decimal import ROUND_HALF_UP, Decimal
from typing import Final

import msgspec
from sqlalchemy import Connection

from entrepot.core.errors import ConflictError, NotFoundError
from entrepot.core.sizes import GB, format_size
from entrepot.core.times import DAY
from entrepot.database import (
    charges,
    cloud,
    contents,
    device_collections,
    devices,
    distribution,
    locations,
    prices,
    usage,
)
from entrepot.database.cloud import CloudPoint
from entrepot.database.contents import Content, Version
from entrepot.protocol.control import ServiceState
from entrepot.protocol.costapi import CrossingInfo, ForecastInfo, PointForecast, Quote, QuoteRequest
from entrepot.protocol.deviceapi import DeviceState
from entrepot.rules.forecast import NOTHING_PLANNED, Forecast, Planned
from entrepot.rules.prices import ZERO, PriceSheet, egress_cost
from entrepot.rules.quote import Size, Volume, volume
from entrepot.site.cost.charging import month_of
from entrepot.site.cost.forecasting import forecasts
from entrepot.site.snapshot import Snapshot

LOOK_BACK: Final = 30 * DAY
INTERNET: Final = "internet"
NO_SHEET: Final = "; choose a price sheet to see what it costs (entrepot cost sheet list)"
_CENT: Final = Decimal("0.01")
_PER: Final = 10_000


class Deployment(msgspec.Struct, frozen=True, kw_only=True):
    """What a deployment would do. ``members``: devices that may use the cloud; ``share``: percent of them that come
    through it; ``points``: the cloud points that serve; ``stored``: by their ids, bytes that each stores on top."""

    content: Content
    collection: str
    version: int
    members: int
    share: int
    assumptions: tuple[str, ...]
    points: tuple[CloudPoint, ...]
    volume: Volume
    stored: dict[str, int]

    def planned(self, point: str) -> Planned:
        """What it adds to a cloud point: clients choose among those that serve at random."""
        serves = any(one.point == point for one in self.points)
        return Planned(stored=self.stored[point], sent=self.volume.sent // len(self.points)) if serves else Planned()


def foresee(connection: Connection, request: QuoteRequest, *, site: str, now: float) -> Deployment:
    """Work out what a deployment would send and store.

    Raises:
        NotFoundError: no such content, version or collection.
        ConflictError: the content has no version yet.
    """
    content = contents.get_content(connection, request.content)
    collection = device_collections.get(connection, request.collection)
    number = request.version or content.current
    if not number:
        raise ConflictError(f"{content.name!r} has no version yet.", next_step="Publish one first.")
    snapshot = Snapshot(locations.facts(connection))
    version = snapshot.version(content.id, number)
    if version is None:
        raise NotFoundError(f"{content.name!r} has no version {number}.")
    points, where = _points(connection, content.id, site)
    members = _members(connection, snapshot, collection.id)
    share, assumptions = _share(connection, members, request.cloud_share, now)
    held = charges.held_versions(connection, content.id)
    size = Size(
        stored=version.stored_size,
        objects=version.objects,
        new_bytes=version.new_bytes,
        new_objects=version.new_objects,
        deltas={delta.from_version: delta.size for delta in snapshot.deltas(content.id, number)},
    )
    return Deployment(
        content=content,
        collection=collection.id,
        version=number,
        members=len(members),
        share=share,
        assumptions=(*assumptions, *where),
        points=tuple(points),
        volume=volume(size, Counter(held.get(one, 0) for one in members), version=number, share=share / 100),
        stored={p.point: _on_top(snapshot, p.point, version) for p in points},
    )


def _on_top(snapshot: Snapshot, point: str, version: Version) -> int:
    """Bytes that a cloud point stores on top for a version: what was new in it, where the one before is there."""
    if snapshot.holds(point, version.set_id):
        return 0
    before = snapshot.version(version.content, version.number - 1)
    there = before is not None and snapshot.holds(point, before.set_id)
    return min(version.new_bytes, version.stored_size) if there else version.stored_size


def quote(connection: Connection, request: QuoteRequest, *, site: str, now: float) -> Quote:
    """Work it out, and what it costs.

    Raises:
        NotFoundError: no such content, version or collection.
        ConflictError: the content has no version yet.
    """
    planned = foresee(connection, request, site=site, now=now)
    found = planned.volume
    currency, amount, full, unpriced = _amounts(connection, list(planned.points), found, planned.stored, now)
    return Quote(
        content=planned.content.id,
        content_name=planned.content.name,
        collection=planned.collection,
        version=planned.version,
        devices=planned.members,
        clients=found.clients,
        cloud_share=planned.share,
        sent=found.sent,
        full=found.full,
        stored=sum(planned.stored.values()),
        requests=found.requests,
        by_delta=found.by_delta,
        by_difference=found.by_difference,
        by_whole=found.by_whole,
        up_to_date=found.up_to_date,
        currency=currency,
        amount=amount,
        amount_full=full,
        summary=_summary(found, amount, currency, there_are_points=bool(planned.points)),
        assumptions=(*planned.assumptions, *unpriced, *_ASSUMED),
        forecasts=tuple(point_forecast(connection, one, now, planned.planned(one.point)) for one in planned.points),
    )


_ASSUMED: Final = (
    "Clients that hold an older version without a delta fetch what was new in this one; with a newer one, all of it.",
    "Peers are not counted: what neighbours share makes it less.",
    "Storage is charged until the end of this month; egress by the tier that this month has reached.",
)


def _members(connection: Connection, snapshot: Snapshot, collection: str) -> list[str]:
    """Approved devices of the collection whose settings allow the cloud (R5)."""
    approved = [one.id for one in devices.list_devices(connection, state=DeviceState.APPROVED, limit=10_000_000)]
    belongs = devices.membership(connection, approved)
    built_in = collection == device_collections.ALL_DEVICES_ID
    found = []
    allowed: dict[frozenset[str], bool] = {}
    for one in approved:
        of = frozenset(belongs.get(one, ()))
        if built_in or collection in of:
            if of not in allowed:
                allowed[of] = bool(snapshot.effective(of).values["allow_cloud"])
            if allowed[of]:
                found.append(one)
    return found


def _share(connection: Connection, members: list[str], given: int | None, now: float) -> tuple[int, list[str]]:
    """Percent of the clients that come through the cloud: those that were on the internet at their last report."""
    if given is not None:
        return given, [f"{given} % of the clients come through the cloud, as you said."]
    networks = charges.networks(connection, since=int(now) - LOOK_BACK)
    known = [networks[one] for one in members if one in networks]
    if not known:
        return 100, ["No reports of the last 30 days: every client is taken to come through the cloud."]
    outside = sum(1 for network in known if network == INTERNET)
    share = -(-outside * 100 // len(known))
    return share, [
        f"{share} % of the clients come through the cloud: so many were on the internet at their last report."
    ]


def _points(connection: Connection, content: str, site: str) -> tuple[list[CloudPoint], list[str]]:
    """The cloud points that clients would come to: those to which the content is distributed, else all that run."""
    running = [p for p in cloud.cloud_points(connection, site=site) if p.wanted is ServiceState.RUNNING]
    sent_to = {row.point for row in distribution.described(connection, content=content)}
    there = [point for point in running if point.point in sent_to]
    if there or not running:
        return there, []
    return running, [f"It is on no cloud point yet, and taken to go to {', '.join(point.name for point in running)}."]


def _amounts(
    connection: Connection, points: list[CloudPoint], found: Volume, stored: dict[str, int], now: float
) -> tuple[str, Decimal, Decimal, list[str]]:
    """Currency, the amount, what it would be without deltas and reuse, and whose costs are not in it. Clients choose
    cloud points at random: each has its share, whether it has a price sheet or not."""
    sheets = [(point, prices.sheet_of(connection, point.point)) for point in points]
    currency = next((sheet.currency for _, sheet in sheets if sheet is not None), "")
    since, until = month_of(now)
    left = Decimal(max(0, until - int(now))) / (until - since)
    amount = full = ZERO
    without = []
    for point, sheet in sheets:
        if sheet is None or sheet.currency != currency:
            without.append(point.name)
            continue
        totals = usage.totals_since(connection, point.point, since)
        before = totals.sent + totals.fetched
        storage = Decimal(stored.get(point.point, 0)) / GB * sheet.storage_gb_month * left
        share = len(points)
        amount += storage + transfer_cost(sheet, found.sent // share, found.requests // share, before)
        full += storage + transfer_cost(sheet, found.full // share, found.full_requests // share, before)
    unpriced = [f"Not in the amount, without a price sheet in {currency}: {', '.join(without)}."] if currency else []
    return currency, _cents(amount), _cents(full), unpriced if without else []


def transfer_cost(sheet: PriceSheet, sent: int, requests: int, before: int) -> Decimal:
    """What clients' transfers cost in a month in which ``before`` bytes were sent already."""
    return egress_cost(sheet, sent, before=before) + requests * sheet.reads_per_10000 / _PER


def _cents(amount: Decimal) -> Decimal:
    return amount.quantize(_CENT, rounding=ROUND_HALF_UP)


def _summary(found: Volume, amount: Decimal, currency: str, *, there_are_points: bool) -> str:
    instead = f" with deltas and reuse instead of {format_size(found.full)}" if found.full > found.sent else ""
    money = f", about {amount} {currency}"
    if not currency:
        money = NO_SHEET if there_are_points else ", and there is no cloud point"
    clients = f"{found.clients:,} {'client' if found.clients == 1 else 'clients'}"
    return f"This deployment: {clients} through the cloud, {format_size(found.sent)}{instead}{money}."


def point_forecast(connection: Connection, point: CloudPoint, now: float, planned: Planned) -> PointForecast:
    """A cloud point's forecast as the API shows it; with something planned, also what would be without it."""
    storage, transfer = forecasts(connection, point, now, planned)
    plain = forecasts(connection, point, now) if planned != NOTHING_PLANNED else (None, None)
    return PointForecast(
        cloud_point=point.name,
        now=int(now),
        collected=usage.stored_usage(connection, point.point).collected,
        storage=_forecast("storage", storage, plain[0]),
        transfer=_forecast("transfer", transfer, plain[1]),
        planned_storage=planned.stored,
        planned_transfer=planned.sent,
    )


def _forecast(metric: str, found: Forecast, plain: Forecast | None) -> ForecastInfo:
    return ForecastInfo(
        metric=metric,
        present=found.present,
        days=found.days,
        per_day=found.per_day,
        per_day_change=found.per_day_change,
        in_thirty_days=found.in_thirty_days,
        rhythm=found.rhythm,
        crossings=_crossings(found),
        without_plan=() if plain is None else _crossings(plain),
    )


def _crossings(found: Forecast) -> tuple[CrossingInfo, ...]:
    return tuple(
        CrossingInfo(level=one.name, bytes=one.level, at=one.at, earliest=one.earliest, latest=one.latest)
        for one in found.crossings
    )
