"""Contents, their distribution, and the downloads that devices reported."""

from litestar import delete, get, patch, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery, JSONBody

from entrepot.database import devices
from entrepot.database.contents import get_content
from entrepot.database.devices import get_device
from entrepot.database.engine import Database
from entrepot.protocol.contentapi import (
    ContentInfo,
    ContentPatch,
    ContentRequest,
    DistributionInfo,
    DistributionRequest,
    Rehearsal,
    RehearsalRequest,
    VersionPatch,
    VersionRequest,
)
from entrepot.protocol.deviceapi import DownloadInfo
from entrepot.protocol.libraryapi import ContentUses
from entrepot.protocol.siteapi import TaskInfo
from entrepot.site.api.limits import Limit
from entrepot.site.contents import Contents
from entrepot.site.rehearsals import Rehearsals
from entrepot.site.taskinfo import task_info

Handlers = list[HTTPRouteHandler]


def content_routes(contents: Contents, rehearsals: Rehearsals, database: Database) -> Handlers:
    """Everything below ``/contents``, ``/rehearsals`` and ``/downloads``."""
    return [*_publishing(contents), *_rehearsing(rehearsals), *_distributing(contents), *_reported(database)]


def _publishing(contents: Contents) -> Handlers:
    @post("/contents", status_code=202, tags=["Contents"])
    async def create_content(data: JSONBody[ContentRequest]) -> TaskInfo:
        """Create a content and publish its version 1."""
        return task_info(await contents.create(data))

    @post("/contents/{content:str}/versions", status_code=202, tags=["Contents"])
    async def publish_version(content: FromPath[str], data: JSONBody[VersionRequest]) -> TaskInfo:
        """Publish the next version."""
        return task_info(await contents.publish_next(content, data))

    @get("/contents", tags=["Contents"])
    async def list_contents() -> list[ContentInfo]:
        """All contents, by name."""
        return await contents.describe()

    @get("/contents/{content:str}", tags=["Contents"])
    async def get_content_info(content: FromPath[str]) -> ContentInfo:
        """One content, with its versions and distribution."""
        return (await contents.describe(content))[0]

    @patch("/contents/{content:str}", tags=["Contents"])
    async def change_content(content: FromPath[str], data: JSONBody[ContentPatch]) -> ContentInfo:
        """Change what applies from the next version on."""
        return await contents.change(content, data)

    @patch("/contents/{content:str}/versions/{number:int}", tags=["Contents"])
    async def annotate_version(
        content: FromPath[str], number: FromPath[int], data: JSONBody[VersionPatch]
    ) -> ContentInfo:
        """Put a note on a version; what it holds never changes."""
        return await contents.annotate(content, number, data)

    @get("/contents/{content:str}/uses", tags=["Contents"])
    async def get_content_uses(content: FromPath[str]) -> ContentUses:
        """What uses a content, and what deleting it would mean."""
        return await contents.uses(content)

    @delete("/contents/{content:str}", status_code=202, tags=["Contents"])
    async def delete_content(content: FromPath[str]) -> TaskInfo:
        """Take a content away from every point, then forget it."""
        return task_info(await contents.delete(content))

    return [
        create_content,
        publish_version,
        annotate_version,
        list_contents,
        get_content_info,
        change_content,
        get_content_uses,
        delete_content,
    ]


def _rehearsing(rehearsals: Rehearsals) -> Handlers:
    @post("/rehearsals", status_code=202, tags=["Contents"])
    async def rehearse(data: JSONBody[RehearsalRequest]) -> TaskInfo:
        """Find out what publishing would add and what clients would fetch; nothing is kept."""
        return task_info(await rehearsals.ask(data))

    @get("/rehearsals/{task:str}", tags=["Contents"])
    async def get_rehearsal(task: FromPath[str]) -> Rehearsal:
        """What a rehearsal found out, once it has completed."""
        return await rehearsals.result(task)

    return [rehearse, get_rehearsal]


def _distributing(contents: Contents) -> Handlers:
    @post("/contents/{content:str}/distribution", status_code=202, tags=["Distribution"])
    async def distribute(content: FromPath[str], data: JSONBody[DistributionRequest]) -> list[DistributionInfo]:
        """Bring the current version to points, on premises and in the cloud alike."""
        return await contents.distribute(content, data)

    @post("/contents/{content:str}/redistribute", status_code=202, tags=["Distribution"])
    async def redistribute(content: FromPath[str], data: JSONBody[DistributionRequest]) -> list[DistributionInfo]:
        """Send everything again, even what the points say they have."""
        return await contents.distribute(content, data, full=True)

    @get("/contents/{content:str}/distribution", tags=["Distribution"])
    async def get_distribution(content: FromPath[str]) -> list[DistributionInfo]:
        """How far the content is on each point."""
        return list((await contents.describe(content))[0].distribution)

    @delete("/contents/{content:str}/distribution/{point:str}", status_code=204, tags=["Distribution"])
    async def withdraw(content: FromPath[str], point: FromPath[str]) -> None:
        """Take the content away from a point."""
        await contents.withdraw(content, point)

    @post("/contents/{content:str}/distribution/{point:str}/cancel", status_code=204, tags=["Distribution"])
    async def cancel_distribution(content: FromPath[str], point: FromPath[str]) -> None:
        """Stop a distribution that is not finished."""
        await contents.cancel(content, point)

    return [distribute, redistribute, get_distribution, withdraw, cancel_distribution]


def _reported(database: Database) -> Handlers:
    @get("/downloads", tags=["Devices"])
    async def list_downloads(
        device: FromQuery[str] = "", content: FromQuery[str] = "", limit: Limit = 100
    ) -> list[DownloadInfo]:
        """Downloads that devices reported, the newest first."""
        device_id = (await database.read(get_device, device)).id if device else ""
        content_id = (await database.read(get_content, content)).id if content else ""
        return await database.read(devices.list_downloads, device=device_id, content=content_id, limit=limit)

    return [list_downloads]
