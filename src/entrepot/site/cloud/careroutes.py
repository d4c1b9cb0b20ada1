"""More of the admin API of cloud points (models: ``protocol.cloudapi``): plan, update, renew, upload limits, health,
the cloud's own metrics, orphans."""

from litestar import Router, get, post, put
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery, JSONBody
from sqlalchemy import Connection

from entrepot.core.times import DAY
from entrepot.database import cloud, clouddetails
from entrepot.protocol.cloudapi import (
    AcceptedPin,
    AcceptPin,
    CloudHealth,
    CloudMetrics,
    CloudPlan,
    CloudResources,
    Orphan,
    OrphanRequest,
    OrphanSearch,
    Reconciliation,
    RenewalPlan,
    RenewManagementCertificate,
    RenewServiceCertificate,
    UpdatePlan,
    UpdateRequest,
    UploadSchedule,
)
from entrepot.protocol.cloudpointapi import CertificateInfo, CloudPointRequest
from entrepot.protocol.siteapi import TaskInfo
from entrepot.site.cloud.services import CloudServices
from entrepot.site.cloud.status import status_of
from entrepot.site.taskinfo import task_info

Handlers = list[HTTPRouteHandler]


def care_router(services: CloudServices) -> Router:
    """Everything that looks after cloud points beside their first life."""
    handlers = [
        *_planning_routes(services),
        *_renewal_routes(services),
        *_look_routes(services),
        *_upload_routes(services),
        *_orphans(services),
    ]
    return Router(path="/", route_handlers=handlers, tags=["Cloud"])


def _planning_routes(services: CloudServices) -> Handlers:
    @post("/cloud-points/plan", status_code=200)
    async def plan_cloud_point(data: JSONBody[CloudPointRequest]) -> CloudPlan:
        return await services.plan(data)

    @post("/cloud-points/{name:str}/update", status_code=202)
    async def update_cloud_point(name: FromPath[str], data: JSONBody[UpdateRequest | None] = None) -> TaskInfo:
        return task_info(await services.update(name, data or UpdateRequest()))

    @post("/cloud-points/{name:str}/update/plan", status_code=200)
    async def plan_cloud_point_update(name: FromPath[str], data: JSONBody[UpdateRequest | None] = None) -> UpdatePlan:
        return await services.plan_update(name, data or UpdateRequest())

    return [plan_cloud_point, update_cloud_point, plan_cloud_point_update]


def _renewal_routes(services: CloudServices) -> Handlers:
    @post("/cloud-points/{name:str}/certificate", status_code=202)
    async def renew_service_certificate(name: FromPath[str], data: JSONBody[RenewServiceCertificate]) -> TaskInfo:
        return task_info(await services.renew(name, data))

    @post("/cloud-points/{name:str}/certificate/plan", status_code=200)
    async def plan_service_certificate(name: FromPath[str], data: JSONBody[RenewServiceCertificate]) -> RenewalPlan:
        return await services.renewal.plan_service(await services.get(name), data)

    @post("/cloud-points/{name:str}/host-pin", status_code=200)
    async def accept_host_pin(name: FromPath[str], data: JSONBody[AcceptPin]) -> AcceptedPin:
        return await services.pins.accept(name, data.host_pin)

    @post("/management-certificates/{name:str}/renew", status_code=200)
    async def renew_management_certificate(
        name: FromPath[str], data: JSONBody[RenewManagementCertificate]
    ) -> CertificateInfo:
        await services.renewal.management(name, data)
        return services.certificates.info(await services.database.read(cloud.certificate, name))

    @post("/management-certificates/{name:str}/renew/plan", status_code=200)
    async def plan_management_certificate(
        name: FromPath[str], data: JSONBody[RenewManagementCertificate]
    ) -> RenewalPlan:
        return await services.renewal.plan_management(name, data)

    return [
        renew_service_certificate,
        plan_service_certificate,
        accept_host_pin,
        renew_management_certificate,
        plan_management_certificate,
    ]


def _look_routes(services: CloudServices) -> Handlers:
    database = services.database

    def health_of(connection: Connection, name: str) -> CloudHealth:
        point = cloud.get_cloud_point(connection, name)
        kept = clouddetails.detail(connection, point.point)
        return CloudHealth(status=status_of(point.state), checked=kept.looked, details=kept.health)

    @get("/cloud-points/{name:str}/health")
    async def get_cloud_point_health(name: FromPath[str], now: FromQuery[bool] = False) -> CloudHealth:
        if now:
            await services.monitor.check((await services.get(name)).point)
        return await database.read(health_of, name)

    @get("/cloud-points/{name:str}/metrics")
    async def get_cloud_point_metrics(name: FromPath[str], days: FromQuery[int] = 30) -> CloudMetrics:
        point = await services.get(name)
        until = int(services.clock())
        provider = await services.providers.of(point)
        return await provider.metrics(point.service, until - min(max(days, 1), 90) * DAY, until)

    @get("/cloud-points/{name:str}/reconciliation")
    async def reconcile_cloud_point(name: FromPath[str], days: FromQuery[int] = 30) -> Reconciliation:
        return await services.books.reconcile(await services.get(name), days)

    @get("/cloud-points/{name:str}/resources")
    async def list_cloud_point_resources(name: FromPath[str]) -> CloudResources:
        return await services.books.resources(await services.get(name))

    return [get_cloud_point_health, get_cloud_point_metrics, reconcile_cloud_point, list_cloud_point_resources]


def _upload_routes(services: CloudServices) -> Handlers:
    database = services.database

    @get("/cloud-points/{name:str}/upload")
    async def get_upload_schedule(name: FromPath[str]) -> UploadSchedule:
        point = await services.get(name)
        return (await database.read(clouddetails.detail, point.point)).upload

    @put("/cloud-points/{name:str}/upload")
    async def set_upload_schedule(name: FromPath[str], data: JSONBody[UploadSchedule]) -> UploadSchedule:
        point = await services.get(name)
        await database.write(clouddetails.keep_upload, point.point, data)
        services.providers.pace(point.point, data)
        return data

    return [get_upload_schedule, set_upload_schedule]


def _orphans(services: CloudServices) -> Handlers:
    @post("/cloud-orphans/search", status_code=200)
    async def search_orphans(data: JSONBody[OrphanSearch]) -> list[Orphan]:
        return await services.orphans.search(data.account)

    @post("/cloud-orphans/remove", status_code=202)
    async def remove_orphan(data: JSONBody[OrphanRequest]) -> TaskInfo:
        return task_info(await services.remove_orphan(data))

    @post("/cloud-orphans/adopt", status_code=202)
    async def adopt_orphan(data: JSONBody[CloudPointRequest]) -> TaskInfo:
        return task_info(await services.adopt(data))

    return [search_orphans, remove_orphan, adopt_orphan]
