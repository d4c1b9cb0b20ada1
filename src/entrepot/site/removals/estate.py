"""Removals of points, devices, and what is arranged for them. All only read, and tell
the order (:mod:`.foreseeing`)."""

from sqlalchemy import Connection

from entrepot.database import (
    client_settings,
    deployments,
    device_collections,
    devices,
    distribution,
    points,
    pointsets,
    versions,
)
from entrepot.database.contents import get_content
from entrepot.protocol.deviceapi import DeviceState
from entrepot.protocol.removalapi import Effect, Removal, counted, named
from entrepot.site.removals.foreseeing import Foreseen


def content_from_point(connection: Connection, content: str, point: str, now: float) -> Foreseen:
    """A content from a point.

    Raises:
        NotFoundError: no such content or point, or it is not distributed there.
    """
    known, target = get_content(connection, content), points.get_point(connection, point)
    objects, size = pointsets.freed_on(connection, target.id, known.id)
    elsewhere = [row for row in distribution.described(connection, content=known.id) if row.point != target.id]
    removal = Removal(
        what="content on a distribution point",
        id=known.id,
        name=f"{known.name} on {target.name}",
        effects=(
            counted("objects that the point deletes", objects, size),
            named("other points that have it", (row.point_name for row in elsewhere if row.held)),
            named("collections it is deployed to", versions.deployed_to(connection, known.id)),
        ),
    )
    return removal, lambda writing: distribution.unwant(writing, known.id, target.id, now=now)


def point(connection: Connection, name_or_id: str) -> Foreseen:
    """A point on premises, or a cloud point, which is refused.

    Raises:
        NotFoundError: no such point.
    """
    known = points.get_point(connection, name_or_id)
    here = distribution.described(connection, point=known.id)
    elsewhere = pointsets.contents_elsewhere(connection, known.id)
    only_here = [row.content_name for row in here if row.content not in elsewhere]
    objects, size = pointsets.held_on(connection, known.id)
    groups = [group.name for group in points.list_groups(connection) if known.name in {p.name for p in group.points}]
    removal = Removal(
        what="distribution point",
        id=known.id,
        name=known.name,
        effects=(
            named("contents that it has or gets", (row.content_name for row in here)),
            named("contents that no other point has", only_here),
            counted("objects stored there, which stay on its disk", objects, size),
            named("boundary groups that it serves", groups),
        ),
    )
    return removal, lambda writing: points.remove_point(writing, known.id)


def boundary_group(connection: Connection, name_or_id: str) -> Foreseen:
    """A boundary group.

    Raises:
        NotFoundError: no such group.
    """
    group = points.get_group(connection, name_or_id)
    removal = Removal(
        what="boundary group",
        id=group.id,
        name=group.name,
        effects=(
            named("address ranges", group.ranges),
            named("points that serve it", (each.name for each in group.points)),
        ),
    )
    return removal, lambda writing: points.remove_group(writing, group.id)


def enrolment_code(connection: Connection, code_id: str) -> Foreseen:
    """An enrolment code.

    Raises:
        NotFoundError: no such code.
    """
    code = devices.get_code(connection, code_id)
    collection = [device_collections.get(connection, code.collection).name] if code.collection else []
    removal = Removal(
        what=f"enrolment code of a {code.kind.value}",
        id=code.id,
        name=code.name or code.id,
        effects=(
            counted("enrolments that it still allows", code.uses_left),
            named("collection that they would join", collection),
        ),
    )
    return removal, lambda writing: devices.remove_code(writing, code.id)


def device(connection: Connection, name_or_id: str, now: float) -> Foreseen:
    """A device that is forgotten.

    Raises:
        NotFoundError: no such device.
    """
    known = devices.get_device(connection, name_or_id)
    removal = Removal(
        what=f"device, {known.state.value}",
        id=known.id,
        name=known.name,
        effects=(
            *_reached(connection, known.id),
            counted("downloads that it reported", devices.count_downloads(connection, known.id)),
        ),
    )
    return removal, lambda writing: devices.remove_device(writing, known.id, now=now)


def blocking(connection: Connection, name_or_id: str, now: float) -> Foreseen:
    """A device that is blocked.

    Raises:
        NotFoundError: no such device.
    """
    known = devices.get_device(connection, name_or_id)
    removal = Removal(
        what=f"device, {known.state.value}", id=known.id, name=known.name, effects=_reached(connection, known.id)
    )
    return removal, lambda writing: devices.set_state(writing, known.id, DeviceState.BLOCKED, now=now)


def collection(connection: Connection, name_or_id: str) -> Foreseen:
    """A device collection.

    Raises:
        NotFoundError: no such collection.
    """
    known = device_collections.get(connection, name_or_id)
    sets = [each.name for each in client_settings.listed(connection) if each.collection == known.id]
    removal = Removal(
        what="collection",
        id=known.id,
        name=known.name,
        effects=(
            counted("devices that are no longer its members", device_collections.count_members(connection, known.id)),
            named("contents deployed to it", _deployed(connection, {known.id})),
            named("client settings for it", sets),
        ),
    )
    return removal, lambda writing: device_collections.remove(writing, known.id)


def deployment(connection: Connection, deployment_id: str) -> Foreseen:
    """A deployment.

    Raises:
        NotFoundError: no such deployment.
    """
    known = deployments.get(connection, deployment_id)
    reached = device_collections.count_members(connection, known.collection)
    removal = Removal(
        what="deployment",
        id=known.id,
        name=f"{known.content_name} to {known.collection_name}",
        effects=(counted("devices that are offered it no more, and keep what they have", reached),),
    )
    return removal, lambda writing: deployments.remove(writing, known.id)


def settings(connection: Connection, name_or_id: str) -> Foreseen:
    """A set of client settings.

    Raises:
        NotFoundError: no such set.
    """
    known = client_settings.get(connection, name_or_id)
    reached = known.collection or device_collections.ALL_DEVICES_ID
    removal = Removal(
        what="set of client settings",
        id=known.id,
        name=known.name,
        effects=(
            counted("devices whose settings other sets decide", device_collections.count_members(connection, reached)),
        ),
    )
    return removal, lambda writing: client_settings.remove(writing, known.id)


def _reached(connection: Connection, device_id: str) -> tuple[Effect, ...]:
    """What a device is in, and gets no more."""
    mine = devices.collections_of(connection, device_id)
    names = sorted(device_collections.get(connection, each).name for each in mine)
    every = {*mine, device_collections.ALL_DEVICES_ID}
    return (
        named("collections that it is in", names),
        named("contents deployed to it", _deployed(connection, every)),
    )


def _deployed(connection: Connection, collections: set[str]) -> list[str]:
    found = {row.content_name for row in deployments.listed(connection) if row.collection in collections}
    return sorted(found)
