"""What the location rules need to know, read in one consistent transaction.

A snapshot is valid as long as the change counter is what it was (``hierarchy.note_change``). Devices are not in it:
they are many, and each request needs one; it is read beside the counter.
"""

import msgspec
from sqlalchemy import Connection, select

from entrepot.database import client_settings, contents, deployments, devices, hierarchy, points, pointsets
from entrepot.database.contents import Content, Delta, Version
from entrepot.database.devices import Device
from entrepot.database.engine import CHANGES
from entrepot.database.points import Point
from entrepot.database.tables.cloud import cloud_point
from entrepot.database.tables.points import boundary_group, boundary_point, boundary_range
from entrepot.database.tables.points import point_set as sets
from entrepot.protocol.control import ServiceState
from entrepot.protocol.deviceapi import ClientSettingsInfo, DeploymentInfo


class CloudState(msgspec.Struct, frozen=True, kw_only=True):
    """What locating needs to know of a cloud point besides its row in ``point``."""

    running: bool
    state: str
    region: str


class BoundaryRows(msgspec.Struct, frozen=True, kw_only=True):
    """A boundary group as stored: ranges as text, (point id, speed) pairs."""

    id: str
    ranges: tuple[str, ...]
    points: tuple[tuple[str, str], ...]


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What answers to clients depend on, devices aside. ``holders``: the points that hold an object set whole."""

    counter: int
    epoch: int
    contents: tuple[Content, ...]
    versions: tuple[Version, ...]
    deltas: tuple[Delta, ...]
    points: tuple[Point, ...]
    clouds: dict[str, CloudState]
    holders: dict[bytes, frozenset[str]]
    boundaries: tuple[BoundaryRows, ...]
    deployments: tuple[DeploymentInfo, ...]
    settings: tuple[ClientSettingsInfo, ...]


class AskerRow(msgspec.Struct, frozen=True, kw_only=True):
    """One device as a request needs it, and the change counter at the same moment."""

    counter: int
    device: Device | None
    collections: frozenset[str]


def asker(connection: Connection, device_id: str) -> AskerRow:
    """A device, its collections, and the change counter."""
    return AskerRow(
        counter=hierarchy.count(connection, CHANGES),
        device=devices.find_device(connection, device_id),
        collections=devices.collections_of(connection, device_id),
    )


def facts(connection: Connection) -> Facts:
    """Read everything."""
    return Facts(
        counter=hierarchy.count(connection, CHANGES),
        epoch=hierarchy.get_hierarchy(connection).epoch,
        contents=tuple(contents.list_contents(connection)),
        versions=tuple(contents.list_versions(connection)),
        deltas=tuple(contents.list_deltas(connection)),
        points=tuple(points.list_points(connection, state=points.ACTIVE)),
        clouds=_clouds(connection),
        holders=_holders(connection),
        boundaries=_boundaries(connection),
        deployments=tuple(deployments.listed(connection)),
        settings=tuple(client_settings.listed(connection)),
    )


def _clouds(connection: Connection) -> dict[str, CloudState]:
    query = select(cloud_point.c.point, cloud_point.c.wanted, cloud_point.c.state, cloud_point.c.region)
    return {
        row.point: CloudState(running=row.wanted == ServiceState.RUNNING.value, state=row.state, region=row.region)
        for row in connection.execute(query)
    }


def _holders(connection: Connection) -> dict[bytes, frozenset[str]]:
    found: dict[bytes, set[str]] = {}
    for set_id, point in connection.execute(select(sets.c.set_id, sets.c.point).where(sets.c.state == pointsets.HELD)):
        found.setdefault(bytes(set_id), set()).add(point)
    return {set_id: frozenset(holding) for set_id, holding in found.items()}


def _boundaries(connection: Connection) -> tuple[BoundaryRows, ...]:
    ranges: dict[str, list[str]] = {}
    for group, text in connection.execute(select(boundary_range.c.group_id, boundary_range.c.range)):
        ranges.setdefault(group, []).append(text)
    serving: dict[str, list[tuple[str, str]]] = {}
    for row in connection.execute(select(boundary_point)):
        serving.setdefault(row.group_id, []).append((row.point, row.speed))
    return tuple(
        BoundaryRows(id=group, ranges=tuple(ranges.get(group, ())), points=tuple(serving.get(group, ())))
        for group in connection.scalars(select(boundary_group.c.id).order_by(boundary_group.c.id))
    )
