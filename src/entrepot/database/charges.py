"""Figures that are charged: sums of hours, and their split by content, device and collection."""

from collections.abc import Sequence
from typing import Final

import msgspec
from sqlalchemy import ColumnElement, Connection, exists, func, select

from entrepot.database.tables.content import content as contents
from entrepot.database.tables.cost import deleted_cloud_point
from entrepot.database.tables.devices import collection as collections
from entrepot.database.tables.devices import collection_member, device
from entrepot.database.tables.devices import download as downloads
from entrepot.database.tables.points import point as points
from entrepot.database.tables.points import point_set
from entrepot.database.tables.usage import transaction_segment, transfer_bucket, usage_hour

_AT_ONCE: Final = 500


class ChargedHour(msgspec.Struct, frozen=True, kw_only=True):
    """One hour of a cloud point; ``stored`` -1: not measured; ``drilled``: of ``sent``, to load drills; ``fetched``: by
    the site itself."""

    hour: int
    requests: int
    sent: int
    uploaded: int
    stored: int
    site_writes: int
    site_reads: int
    instances: int
    drilled: int = 0
    fetched: int = 0


class Portion(msgspec.Struct, frozen=True, kw_only=True):
    """What one content, device or collection used."""

    subject: str
    bytes: int
    requests: int


def hours(connection: Connection, point: str, *, since: int, until: int) -> list[ChargedHour]:
    """A cloud point's hours in ``since <= hour < until``, oldest first."""
    table = usage_hour
    columns = [table.c[name] for name in ChargedHour.__struct_fields__]
    query = select(*columns).where(table.c.point == point, table.c.hour >= since, table.c.hour < until)
    return [ChargedHour(**row) for row in connection.execute(query.order_by(table.c.hour)).mappings()]


def stored_before(connection: Connection, point: str, hour: int) -> int:
    """Stored bytes at the last measurement before an hour; 0 when there was none."""
    table = usage_hour
    query = select(table.c.stored).where(table.c.point == point, table.c.hour < hour, table.c.stored >= 0)
    return int(connection.execute(query.order_by(table.c.hour.desc()).limit(1)).scalar() or 0)


def lost_points(connection: Connection, *, since: int) -> int:
    """How many cloud points were in use since then, exist no longer, and left no note of their deletion."""
    table = usage_hour
    query = select(func.count(table.c.point.distinct())).where(
        table.c.hour >= since,
        table.c.point.not_in(select(points.c.id)),
        table.c.point.not_in(select(deleted_cloud_point.c.point)),
    )
    return int(connection.execute(query).scalar_one())


def segments(connection: Connection, point: str, *, since: int) -> int:
    """Transaction segments that were collected: each was put, read and deleted."""
    table = transaction_segment
    query = select(func.count()).where(table.c.point == point, table.c.collected >= since)
    return int(connection.execute(query).scalar_one())


def by_content(connection: Connection, point: str, *, since: int) -> list[Portion]:
    """Transfers by content, the most first."""
    return _portions(connection, transfer_bucket.c.content, point, since)


def busiest_devices(connection: Connection, points: Sequence[str], *, since: int, limit: int) -> tuple[list[str], int]:
    """The devices that some cloud points together sent the most, and how many devices there were."""
    table = transfer_bucket
    query = (
        select(table.c.device, func.count().over().label("devices"))
        .where(table.c.point.in_(points), table.c.hour >= since)
        .group_by(table.c.device)
        .order_by(func.sum(table.c.bytes).desc(), table.c.device)
        .limit(limit)
    )
    rows = connection.execute(query).all()
    return [row.device for row in rows], int(rows[0].devices) if rows else 0


def by_device(connection: Connection, point: str, *, since: int, devices: Sequence[str]) -> list[Portion]:
    """Transfers of some devices."""
    found: list[Portion] = []
    for begin in range(0, len(devices), _AT_ONCE):
        some = transfer_bucket.c.device.in_(devices[begin : begin + _AT_ONCE])
        found += _portions(connection, transfer_bucket.c.device, point, since, some)
    return found


def whole(connection: Connection, point: str, *, since: int) -> Portion:
    """Transfers of all devices, with an empty subject."""
    table = transfer_bucket
    sums = (func.coalesce(func.sum(table.c.bytes), 0), func.coalesce(func.sum(table.c.requests), 0))
    sent, requests = connection.execute(select(*sums).where(table.c.point == point, table.c.hour >= since)).one()
    return Portion(subject="", bytes=int(sent), requests=int(requests))


def by_collection(connection: Connection, point: str, *, since: int) -> list[Portion]:
    """Transfers by collection, the most first; a device in two collections counts in both."""
    table, member = transfer_bucket, collection_member
    total = func.sum(table.c.bytes)
    query = (
        select(member.c.collection, total, func.sum(table.c.requests))
        .join(member, member.c.device == table.c.device)
        .where(table.c.point == point, table.c.hour >= since)
        .group_by(member.c.collection)
        .order_by(total.desc(), member.c.collection)
    )
    return [Portion(subject=row[0], bytes=int(row[1]), requests=int(row[2])) for row in connection.execute(query)]


def outside_collections(connection: Connection, point: str, *, since: int) -> Portion:
    """Transfers of devices that are in no collection, together, with an empty subject."""
    table, member = transfer_bucket, collection_member
    sums = (func.coalesce(func.sum(table.c.bytes), 0), func.coalesce(func.sum(table.c.requests), 0))
    inside = exists().where(member.c.device == table.c.device)
    query = select(*sums).where(table.c.point == point, table.c.hour >= since, ~inside)
    sent, requests = connection.execute(query).one()
    return Portion(subject="", bytes=int(sent), requests=int(requests))


def _portions(
    connection: Connection, column: ColumnElement[str], point: str, since: int, *conditions: ColumnElement[bool]
) -> list[Portion]:
    table = transfer_bucket
    total = func.sum(table.c.bytes)
    query = (
        select(column, total, func.sum(table.c.requests))
        .where(table.c.point == point, table.c.hour >= since, *conditions)
        .group_by(column)
        .order_by(total.desc(), column)
    )
    return [Portion(subject=row[0], bytes=int(row[1]), requests=int(row[2])) for row in connection.execute(query)]


def held_sizes(connection: Connection, point: str) -> dict[str, int]:
    """Bytes of the sets that a point holds or is sent, by content; what contents share counts for each of them."""
    table = point_set
    query = select(table.c.content, func.sum(table.c.size)).where(table.c.point == point).group_by(table.c.content)
    return {row[0]: int(row[1]) for row in connection.execute(query)}


def point_names(connection: Connection) -> dict[str, str]:
    """Names of distribution points by id."""
    return {row.id: row.name for row in connection.execute(select(points.c.id, points.c.name))}


def names(connection: Connection) -> dict[str, str]:
    """Names of contents and collections by id."""
    found: dict[str, str] = {}
    for table in (contents, collections):
        found.update((row.id, row.name) for row in connection.execute(select(table.c.id, table.c.name)))
    return found


def device_names(connection: Connection, ids: list[str]) -> dict[str, str]:
    """Names of some devices by id."""
    found: dict[str, str] = {}
    for start in range(0, len(ids), _AT_ONCE):
        query = select(device.c.id, device.c.name).where(device.c.id.in_(ids[start : start + _AT_ONCE]))
        found.update((row.id, row.name) for row in connection.execute(query))
    return found


def held_versions(connection: Connection, content: str) -> dict[str, int]:
    """The newest version of a content that each device reported to have installed."""
    table = downloads
    query = select(table.c.device, func.max(table.c.version)).where(
        table.c.content == content, table.c.outcome == "success"
    )
    return {row[0]: int(row[1]) for row in connection.execute(query.group_by(table.c.device))}


def networks(connection: Connection, *, since: int) -> dict[str, str]:
    """The network that each device was in at its last report since then."""
    table = downloads
    last = (
        select(table.c.device, func.max(table.c.received).label("at"))
        .where(table.c.received >= since)
        .group_by(table.c.device)
        .subquery()
    )
    query = select(table.c.device, table.c.network).join(
        last, (last.c.device == table.c.device) & (last.c.at == table.c.received)
    )
    return {row.device: row.network for row in connection.execute(query)}
