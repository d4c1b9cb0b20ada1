"""Distribution points and boundary groups."""

from collections.abc import Awaitable, Callable

import msgspec
from litestar import delete, get, patch, post, put
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, JSONBody
from sqlalchemy import Connection

from entrepot.core.addresses import server_url
from entrepot.core.errors import BadInputError
from entrepot.database import controldocuments, points
from entrepot.database.engine import Database
from entrepot.database.points import Point
from entrepot.protocol.pointapi import (
    BoundaryGroupInfo,
    BoundaryGroupRequest,
    PointCode,
    PointInfo,
    PointPatch,
    PointRequest,
)
from entrepot.rules.boundaries import parse_range
from entrepot.site.enrolment import Enrolment
from entrepot.site.keys.sitekeys import new_id
from entrepot.trust.enrolment import key_fingerprint

Handlers = list[HTTPRouteHandler]


Retire = Callable[[str], Awaitable[None]]


def point_routes(database: Database, enrolment: Enrolment, retire: Retire) -> Handlers:
    """Everything below ``/points`` and ``/boundary-groups``; ``retire`` stops and forgets a point by name or id."""
    return [*_adding(database, enrolment), *_changing(database, retire), *_boundaries(database)]


def _adding(database: Database, enrolment: Enrolment) -> Handlers:
    @post("/points", tags=["Distribution points"])
    async def add_point(data: JSONBody[PointRequest]) -> PointCode:
        """Announce a point on premises; its enrolment code is shown once."""
        point, code = await enrolment.add_point(data)
        return PointCode(point=await database.read(_described, point.id), code=code)

    @get("/points", tags=["Distribution points"])
    async def list_points() -> list[PointInfo]:
        """All points, on premises and in the cloud."""
        return await database.read(_all)

    @get("/points/{point:str}", tags=["Distribution points"])
    async def get_point(point: FromPath[str]) -> PointInfo:
        """One point."""
        return await database.read(_described, point)

    @post("/points/{point:str}/approve", status_code=200, tags=["Distribution points"])
    async def approve_point(point: FromPath[str]) -> PointInfo:
        """Approve a point that enrolled without a code; compare fingerprints first."""
        return await database.read(_described, (await enrolment.approve_point(point)).id)

    return [add_point, list_points, get_point, approve_point]


def _changing(database: Database, retire: Retire) -> Handlers:
    @patch("/points/{point:str}", tags=["Distribution points"])
    async def change_point(point: FromPath[str], data: JSONBody[PointPatch]) -> PointInfo:
        """Change what is given; the rest stays."""
        return await database.write(_change, point, data)

    @delete("/points/{point:str}", status_code=204, tags=["Distribution points"])
    async def remove_point(point: FromPath[str]) -> None:
        """Forget a point on premises; it serves nobody from now on. What it stores is removed with the point itself."""
        await retire(point)

    return [change_point, remove_point]


def _boundaries(database: Database) -> Handlers:
    @get("/boundary-groups", tags=["Boundary groups"])
    async def list_boundary_groups() -> list[BoundaryGroupInfo]:
        """All boundary groups."""
        return await database.read(points.list_groups)

    @post("/boundary-groups", tags=["Boundary groups"])
    async def add_boundary_group(data: JSONBody[BoundaryGroupRequest]) -> BoundaryGroupInfo:
        """Say which points are near which addresses."""
        _check_ranges(data)
        return await database.write(points.put_group, new_id("bg"), data)

    @get("/boundary-groups/{group:str}", tags=["Boundary groups"])
    async def get_boundary_group(group: FromPath[str]) -> BoundaryGroupInfo:
        """One boundary group."""
        return await database.read(points.get_group, group)

    @put("/boundary-groups/{group:str}", tags=["Boundary groups"])
    async def replace_boundary_group(group: FromPath[str], data: JSONBody[BoundaryGroupRequest]) -> BoundaryGroupInfo:
        """Replace a boundary group."""
        _check_ranges(data)
        return await database.write(points.put_group, "", data, replace=group)

    @delete("/boundary-groups/{group:str}", status_code=204, tags=["Boundary groups"])
    async def remove_boundary_group(group: FromPath[str]) -> None:
        """Remove a boundary group."""
        await database.write(points.remove_group, group)

    return [
        list_boundary_groups,
        add_boundary_group,
        get_boundary_group,
        replace_boundary_group,
        remove_boundary_group,
    ]


def _check_ranges(data: BoundaryGroupRequest) -> None:
    for text in data.ranges:
        parse_range(text)


def _all(connection: Connection) -> list[PointInfo]:
    held, controls = points.held_contents(connection), controldocuments.controls(connection)
    none = controldocuments.ControlRow()
    return [_info(point, held, controls.get(point.id, none)) for point in points.list_points(connection)]


def _described(connection: Connection, name_or_id: str) -> PointInfo:
    point = points.get_point(connection, name_or_id)
    return _info(point, points.held_contents(connection), controldocuments.control(connection, point.id))


def _change(connection: Connection, name_or_id: str, data: PointPatch) -> PointInfo:
    point = points.get_point(connection, name_or_id)
    given = {name: value for name, value in msgspec.structs.asdict(data).items() if value is not None}
    if given.get("internet_facing") and point.kind == points.CLOUD:
        raise BadInputError("A cloud point serves internet clients anyway: the option is for points on premises.")
    if "url" in given:
        if point.kind == points.CLOUD:
            raise BadInputError("The address of a cloud point follows from its service certificate.")
        given["url"] = server_url(given["url"].rstrip("/"), "a point")
    if given:
        points.change_point(connection, point.id, **given)
    return _described(connection, point.id)


def _info(point: Point, held: dict[str, int], control: controldocuments.ControlRow) -> PointInfo:
    return PointInfo(
        id=point.id,
        name=point.name,
        kind=point.kind,
        url=point.url,
        state=point.state,
        fallback=point.fallback,
        internet_facing=point.internet_facing,
        fingerprint=key_fingerprint(point.public_key) if point.public_key else "",
        certificate_expires=point.certificate_expires,
        control_counter=control.counter,
        control_pushed=control.pushed_at,
        contents=held.get(point.id, 0),
        message=point.message or control.error,
    )
