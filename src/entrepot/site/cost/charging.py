"""What cloud points cost so far this month, and at its end, by point, content, collection and device.

Measured: bytes to clients, from the site and to it, requests of clients and of the site, stored bytes, instances.
Estimated: the reads by which gateways watch their documents (from instance hours). A month is the calendar month in
UTC.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec
from sqlalchemy import Connection

from entrepot.core.errors import ConflictError, NotFoundError
from entrepot.core.times import HOUR, hour_of, iso
from entrepot.database import charges, cloud, deletedpoints, prices, usage
from entrepot.database.charges import ChargedHour
from entrepot.database.cloud import CloudPoint
from entrepot.database.deletedpoints import DeletedPoint
from entrepot.protocol.costapi import CostBy, CostLine, CostReport
from entrepot.rules.prices import POLLS_AN_HOUR, ZERO, Usage, cost
from entrepot.site.cost.forecasting import forecasts
from entrepot.site.cost.splitting import Charged, Lines, line_of, split

_NOTES: Final = (
    "Reads by which gateway instances watch their documents are estimated from instance hours; all else is measured.",
    "Under budgets gateways also write slots of allowances and, every five minutes, marks: these are in no figure.",
    "Prices are those of the price sheet as it is now, for the whole month.",
)
_COLLECTIONS: Final = (
    "A device in several collections counts in each of them, so these lines may add up to more than was transferred. "
    "What all devices cost together is the total.",
)
_DELETED: Final = "Cloud points deleted this month are in these amounts until their deletion: {names}."
_LOST: Final = "{lost} cloud points of this month left no note when they were deleted, and are not in these amounts."
_MOST_NAMED: Final = 20


def month_of(now: float) -> tuple[int, int]:
    """Begin and end of the UTC month that holds this instant."""
    moment = datetime.fromtimestamp(now, UTC)
    first = moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    following = first.replace(year=first.year + first.month // 12, month=first.month % 12 + 1)
    return int(first.timestamp()), int(following.timestamp())


def report(connection: Connection, *, by: CostBy, cloud_point: str, site: str, now: float) -> CostReport:
    """The report.

    Raises:
        NotFoundError: there is no such cloud point.
        ConflictError: no price sheet was chosen.
    """
    since, until = month_of(now)
    points, gone = _wanted(connection, cloud_point, site, since)
    found = [charge(connection, point, now) for point in points]
    found += [charge_deleted(connection, point, now) for point in gone]
    charged = [one for one in found if one is not None]
    if found and not charged:
        raise ConflictError("No price sheet was chosen.", next_step="Run: entrepot cost sheet list")
    currency = charged[0].sheet.currency if charged else ""
    counted = [one for one in charged if one.sheet.currency == currency]
    found_lines = Lines(lines=_by_point(counted)) if by is CostBy.POINT else split(connection, counted, by, since)
    included = {one.point for one in counted}
    named = [(point.point, point.name) for point in points] + [(point.point, point.name) for point in gone]
    kept = [at for point, at in usage.collections(connection).items() if point in included]
    figures_from = min(kept, default=max((point.deleted for point in gone), default=0))
    return CostReport(
        by=by,
        since=since,
        until=until,
        currency=currency,
        total=sum((one.cost.total for one in counted), ZERO),
        month_end=sum((one.month_end for one in counted), ZERO),
        lines=found_lines.lines,
        rest=found_lines.rest,
        rest_count=found_lines.count,
        others=tuple(name for point, name in named if point not in included),
        notes=_notes(connection, by, found_lines.unsplit, gone, since=0 if cloud_point else since),
        figures_from=figures_from,
        age_seconds=max(0, int(now) - figures_from) if figures_from else 0,
    )


def _wanted(
    connection: Connection, cloud_point: str, site: str, since: int
) -> tuple[list[CloudPoint], list[DeletedPoint]]:
    """The cloud points to charge: those that are there, and those deleted this month."""
    if not cloud_point:
        return cloud.cloud_points(connection, site=site), deletedpoints.deleted_since(connection, since, site=site)
    try:
        return [cloud.get_cloud_point(connection, cloud_point)], []
    except NotFoundError as error:
        try:
            return [], [deletedpoints.find_deleted(connection, cloud_point, since=since, site=site)]
        except NotFoundError:
            raise error from None


def _notes(
    connection: Connection, by: CostBy, unsplit: str, gone: Sequence[DeletedPoint], *, since: int
) -> tuple[str, ...]:
    """What the amounts are not; ``since`` 0: nothing is said of other cloud points than those asked for."""
    notes = [unsplit] if unsplit else []
    notes += [*_NOTES, *_COLLECTIONS] if by is CostBy.COLLECTION else _NOTES
    if gone:
        names = [f"{point.name} ({iso(point.deleted)})" for point in gone]
        more = [f"{len(names) - _MOST_NAMED} more"] if len(names) > _MOST_NAMED else []
        notes.append(_DELETED.format(names=", ".join([*names[:_MOST_NAMED], *more])))
    if since and (lost := charges.lost_points(connection, since=since)):
        notes.append(_LOST.format(lost=lost))
    return tuple(notes)


def keep_for_cost(connection: Connection, point: CloudPoint, now: int) -> None:
    """A cloud point is being deleted: keep what its cost of this month needs. One that never was ready has none."""
    if not point.ready:
        return
    since, _ = month_of(now)
    gone = DeletedPoint(
        point=point.point,
        name=point.name,
        site=point.site,
        sheet=prices.key_of(connection, point.point),
        segments=charges.segments(connection, point.point, since=since),
        ready=point.ready,
        deleted=now,
    )
    deletedpoints.keep(connection, gone)


def charge_deleted(connection: Connection, gone: DeletedPoint, now: float) -> Charged | None:
    """The month of a cloud point that was deleted in it, until then; None without a sheet."""
    sheet = prices.sheet_by_key(connection, gone.sheet or prices.key_of(connection, ""))
    if sheet is None:
        return None
    since, until = month_of(now)
    rows = charges.hours(connection, gone.point, since=since, until=hour_of(gone.deleted) + HOUR)
    before = charges.stored_before(connection, gone.point, since)
    begin = max(since, hour_of(gone.ready))
    used = _usage(rows, before, gone.segments, since=begin, now=gone.deleted, until=until, begin=since)
    amounts = cost(sheet, used)
    return Charged(point=gone.point, name=gone.name, sheet=sheet, usage=used, cost=amounts, month_end=amounts.total)


def charge(connection: Connection, point: CloudPoint, now: float) -> Charged | None:
    """A cloud point's month by its price sheet; None without a sheet."""
    sheet = prices.sheet_of(connection, point.point)
    if sheet is None:
        return None
    since, until = month_of(now)
    rows = charges.hours(connection, point.point, since=since, until=hour_of(now) + HOUR)
    before = charges.stored_before(connection, point.point, since)
    records = charges.segments(connection, point.point, since=since)
    begun = max(since, hour_of(point.ready or now))
    used = _usage(rows, before, records, since=begun, now=now, until=until, begin=since)
    stored, transfer = forecasts(connection, point, now)
    left = max(0, (until - hour_of(now)) // HOUR - 1)
    elapsed = max(1, (hour_of(now) - begun) // HOUR + 1)
    days = left / 24
    growth = stored.per_day if stored.days else 0
    sent = (
        round(max(0.0, transfer.per_day * days + transfer.per_day_change * days * days / 2))
        if transfer.days
        else max(0, used.sent - sum(row.drilled for row in rows)) * left // elapsed  # a drill is no trend
    )
    running = rows[-1].instances if rows else 0
    present = usage.stored_usage(connection, point.point).present()[0]
    unpolled = used.overhead_reads - used.instance_hours * POLLS_AN_HOUR
    rest = Usage(
        month_hours=used.month_hours,
        byte_hours=max(0, round(left * (present + growth * days / 2))),
        sent=sent,
        fetched=used.fetched * left // elapsed,
        uploaded=used.uploaded * left // elapsed,
        client_reads=used.client_reads * sent // used.sent if used.sent else 0,
        upload_writes=used.upload_writes * left // elapsed,
        overhead_reads=running * left * POLLS_AN_HOUR + unpolled * left // elapsed,
        overhead_writes=used.overhead_writes * left // elapsed,
        instance_hours=running * left,
    )
    so_far = cost(sheet, used)
    coming = cost(sheet, rest, sent_before=used.sent + used.fetched)
    return Charged(
        point=point.point,
        name=point.name,
        sheet=sheet,
        usage=used,
        cost=so_far,
        month_end=so_far.total + coming.total,
    )


def _usage(
    rows: Sequence[ChargedHour], stored: int, records: int, *, since: int, now: float, until: int, begin: int
) -> Usage:
    by_hour = {row.hour: row for row in rows}
    byte_hours = instance_hours = instances = 0
    for hour in range(begin, hour_of(now) + HOUR, HOUR):
        row = by_hour.get(hour)
        if row is not None:
            stored = row.stored if row.stored >= 0 else stored
            instances = row.instances
        if hour >= since:
            byte_hours += stored
            instance_hours += instances
    return Usage(
        month_hours=(until - begin) // HOUR,
        byte_hours=byte_hours,
        sent=sum(row.sent for row in rows),
        fetched=sum(row.fetched for row in rows),
        uploaded=sum(row.uploaded for row in rows),
        client_reads=sum(row.requests for row in rows),
        upload_writes=sum(row.site_writes for row in rows),
        overhead_reads=sum(row.site_reads for row in rows) + records + instance_hours * POLLS_AN_HOUR,
        overhead_writes=records,
        instance_hours=instance_hours,
    )


def _by_point(charged: Sequence[Charged]) -> tuple[CostLine, ...]:
    return tuple(
        msgspec.structs.replace(
            line_of(one.point, one.name, one.usage.sent, one.usage.client_reads, one.cost),
            fetched_bytes=one.usage.fetched,
            month_end=one.month_end,
        )
        for one in charged
    )
