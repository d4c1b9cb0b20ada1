"""The library: figures, validation, repair, sweep; and validation of what points have."""

from litestar import get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery, JSONBody

from entrepot.core.ids import object_id_from_hex
from entrepot.protocol.libraryapi import (
    ContentLibraryInfo,
    DeltasRequest,
    Fault,
    LibraryInfo,
    LibraryRequest,
    MissingDeltas,
    PointValidationRequest,
    SetValidation,
    SweepPreview,
    SweepRequest,
)
from entrepot.protocol.siteapi import TaskInfo
from entrepot.site.api.limits import Limit
from entrepot.site.library import LibraryCare
from entrepot.site.taskinfo import task_info

Handlers = list[HTTPRouteHandler]


def library_routes(care: LibraryCare) -> Handlers:
    """Everything below ``/library``, and validation below ``/points/{id}``."""
    return [*_questions(care), *_commands(care), *_points(care)]


def _questions(care: LibraryCare) -> Handlers:
    @get("/library", tags=["Library"])
    async def get_library() -> LibraryInfo:
        """What the library consists of, what is saved, and how sound it is."""
        return await care.info()

    @get("/library/contents", tags=["Library"])
    async def get_library_contents(content: FromQuery[str] = "") -> list[ContentLibraryInfo]:
        """The same for each content, or for one."""
        return await care.of_contents(content)

    @get("/library/faults", tags=["Library"])
    async def list_faults(content: FromQuery[str] = "", after: FromQuery[str] = "", limit: Limit = 100) -> list[Fault]:
        """Objects that validation found missing or damaged."""
        if after:
            object_id_from_hex(after)
        return await care.faults(content, after=after, limit=limit)

    @get("/library/sweep", tags=["Library"])
    async def preview_sweep(strays: FromQuery[bool] = False) -> SweepPreview:
        """What a sweep would delete; ``strays`` lists all files, which takes its time."""
        return await care.preview_sweep(strays=strays)

    @get("/library/deltas", tags=["Library"])
    async def list_missing_deltas(content: FromQuery[str] = "") -> MissingDeltas:
        """Deltas to current versions that were neither made nor found to save nothing, and that nobody makes now."""
        return await care.deltas.missing(content)

    return [get_library, get_library_contents, list_faults, preview_sweep, list_missing_deltas]


def _commands(care: LibraryCare) -> Handlers:
    @post("/library/validate", status_code=202, tags=["Library"])
    async def validate_library(data: JSONBody[LibraryRequest]) -> TaskInfo:
        """Read every object again and compare it with its id: of a content, or of all."""
        return task_info(await care.validate(data))

    @post("/library/repair", status_code=202, tags=["Library"])
    async def repair_library(data: JSONBody[LibraryRequest]) -> TaskInfo:
        """Bring back what is missing or damaged: from the source, from points, from the cloud."""
        return task_info(await care.repair(data))

    @post("/library/sweep", status_code=202, tags=["Library"])
    async def sweep_library(data: JSONBody[SweepRequest]) -> TaskInfo:
        """Delete what nothing needs any more."""
        return task_info(await care.sweep(data))

    @post("/library/deltas", status_code=200, tags=["Library"])
    async def make_missing_deltas(data: JSONBody[DeltasRequest]) -> MissingDeltas:
        """Have the deltas made that are missing, of a content or of all."""
        return await care.deltas.remake(data.content or "")

    return [validate_library, repair_library, sweep_library, make_missing_deltas]


def _points(care: LibraryCare) -> Handlers:
    @post("/points/{point:str}/validate", status_code=202, tags=["Distribution points"])
    async def validate_point(point: FromPath[str], data: JSONBody[PointValidationRequest]) -> TaskInfo:
        """Have a point, on premises or in the cloud, read its objects again; repair what is wrong, if asked."""
        return task_info(await care.validate_point(point, data))

    @get("/points/{point:str}/validation", tags=["Distribution points"])
    async def get_point_validation(point: FromPath[str], content: FromQuery[str] = "") -> list[SetValidation]:
        """What validation found on a point."""
        return await care.on_point(point, content)

    return [validate_point, get_point_validation]
