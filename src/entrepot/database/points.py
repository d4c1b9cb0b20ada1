"""Distribution points and boundary groups. Cloud points are here too, as far as they are points like any other."""

from typing import Any, Final

import msgspec
from sqlalchemy import Connection, and_, delete, func, insert, not_, select, update

from entrepot.core.errors import ConflictError, NotFoundError
from entrepot.core.names import name_key
from entrepot.database.hierarchy import note_change
from entrepot.database.names import check_name, find, refuse_taken, taken_name
from entrepot.database.tables.cloud import control_document
from entrepot.database.tables.devices import enrolment_code
from entrepot.database.tables.points import (
    boundary_group,
    boundary_point,
    boundary_range,
    distribution,
    point_set,
)
from entrepot.database.tables.points import point as points
from entrepot.protocol.pointapi import BoundaryGroupInfo, BoundaryGroupRequest, BoundaryPoint, Speed

AWAITING = "awaiting"
PENDING = "pending"
ACTIVE = "active"
REMOVED = "removed"
STANDARD = "standard"
CLOUD = "cloud"


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """A distribution point. ``public_key`` raw Ed25519; ``csr`` DER, kept until an administrator approves."""

    id: str
    name: str
    kind: str
    site: str
    state: str
    url: str
    public_key: bytes = b""
    certificates: str = ""
    csr: bytes = b""
    certificate_expires: int = 0
    fallback: bool = False
    internet_facing: bool = False
    message: str = ""
    created: int = 0


_WAITS: Final = and_(points.c.state == PENDING, points.c.kind == STANDARD)
"""Of a point that only waits for an administrator."""


def add_point(connection: Connection, point: Point) -> Point:
    """Add a point. One that an administrator makes takes its name from one that only waits: anybody may wait, under any
    name.

    Raises:
        ConflictError: the name is taken.
        BadInputError: no proper name.
    """
    name = check_name(point.name, "distribution point")
    if (point.state, point.kind) != (PENDING, STANDARD):
        connection.execute(delete(points).where(points.c.name_key == name_key(name), _WAITS))
    refuse_taken(connection, points, name, "distribution point")
    connection.execute(
        insert(points).values(msgspec.structs.asdict(point) | {"name": name, "name_key": name_key(name)})
    )
    note_change(connection)
    return get_point(connection, point.id)


def refuse_name(connection: Connection, name: str) -> None:
    """Check that a point which an administrator makes could have this name now.

    Raises:
        ConflictError: the name is taken.
    """
    if connection.execute(select(points.c.id).where(points.c.name_key == name_key(name), not_(_WAITS))).first():
        taken_name(name, "distribution point")


def get_point(connection: Connection, name_or_id: str) -> Point:
    """One point.

    Raises:
        NotFoundError: there is none with this id or name.
    """
    found = find(connection, points, name_or_id, "distribution point").id
    return _point(dict(connection.execute(select(points).where(points.c.id == found)).mappings().one()))


def list_points(connection: Connection, *, site: str = "", kind: str = "", state: str = "") -> list[Point]:
    """Points by name."""
    query = select(points).order_by(points.c.name_key)
    for column, wanted in ((points.c.site, site), (points.c.kind, kind), (points.c.state, state)):
        if wanted:
            query = query.where(column == wanted)
    return [_point(dict(row)) for row in connection.execute(query).mappings()]


def point_of_key(connection: Connection, public_key: bytes) -> Point | None:
    """The point that enrolled with this key."""
    mine = select(points).where(points.c.public_key == public_key, points.c.kind == STANDARD)
    row = connection.execute(mine).mappings().first()
    return None if row is None else _point(dict(row))


def find_point(connection: Connection, point_id: str) -> Point | None:
    """The point with this id, if there is one."""
    row = connection.execute(select(points).where(points.c.id == point_id)).mappings().first()
    return None if row is None else _point(dict(row))


def count_pending(connection: Connection) -> int:
    """How many points on premises wait for approval."""
    query = select(func.count()).select_from(points).where(points.c.state == PENDING, points.c.kind == STANDARD)
    return int(connection.execute(query).scalar_one())


def change_point(connection: Connection, point_id: str, **values: Any) -> Point:
    """Change columns of a point.

    Raises:
        NotFoundError: it is gone.
    """
    if connection.execute(update(points).where(points.c.id == point_id).values(values)).rowcount != 1:
        raise NotFoundError(f"There is no distribution point {point_id!r}.")
    note_change(connection)
    return get_point(connection, point_id)


def note_problem(connection: Connection, point_id: str, message: str) -> None:
    """Say what is wrong with a point, or with an empty message that nothing is; clients' answers do not change."""
    connection.execute(
        update(points).where(points.c.id == point_id, points.c.message != message).values(message=message)
    )


def retire_point(connection: Connection, name_or_id: str) -> Point:
    """Let a point on premises serve nobody any more, before it is forgotten; gives it as it was.

    Raises:
        ConflictError: it is a cloud point: those are deleted through their own task.
    """
    point = get_point(connection, name_or_id)
    if point.kind == CLOUD:
        raise ConflictError("This is a cloud point.", next_step="Delete it as a cloud point.")
    change_point(connection, point.id, state=REMOVED)
    return point


def remove_point(connection: Connection, name_or_id: str) -> Point:
    """Forget a point on premises with its enrolment code and everything that is known about its content.

    Raises:
        ConflictError: it is a cloud point: those are deleted through their own task.
    """
    point = get_point(connection, name_or_id)
    if point.kind == CLOUD:
        raise ConflictError("This is a cloud point.", next_step="Delete it as a cloud point.")
    for table in (distribution, point_set, boundary_point, control_document, enrolment_code):
        connection.execute(delete(table).where(table.c.point == point.id))
    connection.execute(delete(points).where(points.c.id == point.id))
    note_change(connection)
    return point


def held_contents(connection: Connection) -> dict[str, int]:
    """How many contents each point has whole."""
    query = select(distribution.c.point, func.count()).where(distribution.c.held > 0).group_by(distribution.c.point)
    return {row[0]: int(row[1]) for row in connection.execute(query)}


def _point(values: dict[str, Any]) -> Point:
    del values["name_key"]
    return Point(**values)


# ------------------------------------------------------------------------------------------------- boundary groups


def put_group(
    connection: Connection, new_id: str, request: BoundaryGroupRequest, *, replace: str = ""
) -> BoundaryGroupInfo:
    """Add a boundary group, or replace one.

    Raises:
        ConflictError: the name is taken.
        NotFoundError: a point, or the group to replace, does not exist.
        BadInputError: no proper name.
    """
    name = check_name(request.name, "boundary group")
    group = find(connection, boundary_group, replace, "boundary group").id if replace else new_id
    refuse_taken(connection, boundary_group, name, "boundary group", own_id=group)
    if replace:
        for table in (boundary_range, boundary_point):
            connection.execute(delete(table).where(table.c.group_id == group))
        values = {"name": name, "name_key": name_key(name)}
        connection.execute(update(boundary_group).where(boundary_group.c.id == group).values(values))
    else:
        connection.execute(insert(boundary_group).values(id=group, name=name, name_key=name_key(name)))
    for text in dict.fromkeys(request.ranges):
        connection.execute(insert(boundary_range).values(group_id=group, range=text))
    speeds = {get_point(connection, member.name).id: member.speed for member in request.points}
    for point, speed in speeds.items():
        connection.execute(insert(boundary_point).values(group_id=group, point=point, speed=speed.value))
    note_change(connection)
    return get_group(connection, group)


def get_group(connection: Connection, name_or_id: str) -> BoundaryGroupInfo:
    """One boundary group.

    Raises:
        NotFoundError: there is none with this id or name.
    """
    wanted = find(connection, boundary_group, name_or_id, "boundary group").id
    return next(group for group in list_groups(connection) if group.id == wanted)


def list_groups(connection: Connection) -> list[BoundaryGroupInfo]:
    """All boundary groups, by name."""
    ranges: dict[str, list[str]] = {}
    for row in connection.execute(select(boundary_range).order_by(boundary_range.c.range)):
        ranges.setdefault(row.group_id, []).append(row.range)
    serving: dict[str, list[BoundaryPoint]] = {}
    query = select(boundary_point, points.c.name).join(points, points.c.id == boundary_point.c.point)
    for row in connection.execute(query.order_by(points.c.name_key)):
        serving.setdefault(row.group_id, []).append(BoundaryPoint(name=row.name, speed=Speed(row.speed)))
    return [
        BoundaryGroupInfo(
            id=row.id,
            name=row.name,
            ranges=tuple(ranges.get(row.id, ())),
            points=tuple(serving.get(row.id, ())),
        )
        for row in connection.execute(select(boundary_group).order_by(boundary_group.c.name_key))
    ]


def remove_group(connection: Connection, name_or_id: str) -> None:
    """Remove a boundary group.

    Raises:
        NotFoundError: there is none with this id or name.
    """
    group = find(connection, boundary_group, name_or_id, "boundary group").id
    connection.execute(delete(boundary_group).where(boundary_group.c.id == group))
    note_change(connection)
