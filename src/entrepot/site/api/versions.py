"""Single versions of contents: current, uses, comparison, deletion, history."""

from typing import Annotated, Any

from litestar import Request, delete, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter

from entrepot.protocol.contentapi import ContentInfo, CurrentRequest
from entrepot.protocol.libraryapi import Comparison, ContentEvent, VersionUses
from entrepot.protocol.siteapi import TaskInfo
from entrepot.site.api.limits import Limit
from entrepot.site.comparison import Comparisons
from entrepot.site.taskinfo import task_info
from entrepot.site.versions import Versions

Number = Annotated[int, QueryParameter(ge=1, le=2**31 - 1, description="Number of a version.")]
AnyRequest = Request[Any, Any, Any]


def version_routes(versions: Versions, comparisons: Comparisons) -> list[HTTPRouteHandler]:
    """Everything about single versions below ``/contents/{id}``."""

    @post("/contents/{content:str}/current", status_code=200, tags=["Contents"])
    async def set_current_version(
        request: AnyRequest, content: FromPath[str], data: JSONBody[CurrentRequest]
    ) -> ContentInfo:
        """Roll back, or forward, to an existing version."""
        return await versions.set_current(content, data, by=request.user.name)

    @get("/contents/{content:str}/versions/{number:int}/uses", tags=["Contents"])
    async def get_version_uses(content: FromPath[str], number: FromPath[int]) -> VersionUses:
        """What uses a version, and what deleting it would mean."""
        return await versions.uses(content, number)

    @delete("/contents/{content:str}/versions/{number:int}", status_code=202, tags=["Contents"])
    async def delete_version(
        request: AnyRequest, content: FromPath[str], number: FromPath[int], force: FromQuery[bool] = False
    ) -> TaskInfo:
        """Delete a version for ever, from every point and from the library."""
        return task_info(await versions.delete(content, number, by=request.user.name, force=force))

    @get("/contents/{content:str}/history", tags=["Contents"])
    async def get_content_history(content: FromPath[str], limit: Limit = 100) -> list[ContentEvent]:
        """Which versions were made current or deleted, by whom and when; the newest first."""
        return await versions.history(content, limit=limit)

    @get("/contents/{content:str}/comparison", tags=["Contents"])
    async def compare_versions(
        content: FromPath[str], old: Number, new: Number, after: FromQuery[str] = "", limit: Limit = 1000
    ) -> Comparison:
        """What differs between two versions, and what a client on the older one fetches."""
        return await comparisons.compare(content, old, new, after=after, limit=limit)

    return [set_current_version, get_version_uses, delete_version, get_content_history, compare_versions]
