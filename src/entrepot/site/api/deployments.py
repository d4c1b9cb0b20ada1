"""Deployments and client settings."""

from litestar import delete, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, JSONBody
from msgspec.structs import replace
from sqlalchemy import Connection

from entrepot.core.times import Clock
from entrepot.database import client_settings, deployments, device_collections, distribution
from entrepot.database.engine import Database
from entrepot.protocol.deviceapi import ClientSettingsInfo, ClientSettingsRequest, DeploymentInfo, DeploymentRequest
from entrepot.rules.restrictions import PointKind, RunMode, check_deployment
from entrepot.site.contents import kept_content
from entrepot.site.keys.sitekeys import new_id


def deployment_routes(database: Database, clock: Clock) -> list[HTTPRouteHandler]:
    """Everything below ``/deployments`` and ``/client-settings``."""

    @get("/deployments", tags=["Deployments"])
    async def list_deployments() -> list[DeploymentInfo]:
        """All deployments."""
        return await database.read(deployments.listed)

    @post("/deployments", tags=["Deployments"])
    async def add_deployment(data: JSONBody[DeploymentRequest]) -> DeploymentInfo:
        """Deploy a content to a collection."""
        return await database.write(_deploy, data, clock())

    @delete("/deployments/{deployment:str}", status_code=204, tags=["Deployments"])
    async def remove_deployment(deployment: FromPath[str]) -> None:
        """Withdraw a deployment."""
        await database.write(deployments.remove, deployment)

    @get("/client-settings", tags=["Client settings"])
    async def list_client_settings() -> list[ClientSettingsInfo]:
        """All sets, the one that decides first first."""
        return await database.read(client_settings.listed)

    @post("/client-settings", status_code=200, tags=["Client settings"])
    async def put_client_settings(data: JSONBody[ClientSettingsRequest]) -> ClientSettingsInfo:
        """Add a set, replace the one of that name, or change values of the default set."""
        return await database.write(client_settings.put, new_id("set"), data)

    @delete("/client-settings/{name:str}", status_code=204, tags=["Client settings"])
    async def remove_client_settings(name: FromPath[str]) -> None:
        """Remove a custom set."""
        await database.write(client_settings.remove, name)

    return [
        list_deployments,
        add_deployment,
        remove_deployment,
        list_client_settings,
        put_client_settings,
        remove_client_settings,
    ]


def _deploy(connection: Connection, data: DeploymentRequest, now: float) -> DeploymentInfo:
    content = kept_content(connection, data.content, lock=True)
    collection = device_collections.get(connection, data.collection)
    kinds = [PointKind(kind) for kind in distribution.point_kinds(connection, content.id)]
    warnings = check_deployment(RunMode(data.options.run.value), kinds)
    made = deployments.add(
        connection,
        new_id("dep"),
        content=content.id,
        collection=collection.id,
        options=data.options,
        now=now,
    )
    return replace(made, warnings=warnings)
