"""The admin API of cloud points, certificates and alerts, below ``/api/v1`` (``protocol.cloudpointapi``, ``alertapi``).

Work that takes long answers 202 with its task.
"""

import asyncio
from typing import Any

from litestar import Request, Router, delete, get, patch, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery, JSONBody
from sqlalchemy import Connection

from entrepot.core.secret import Secret
from entrepot.database import alerts, cloud
from entrepot.database.cloud import CloudPoint
from entrepot.protocol.alertapi import (
    AlertCommentRequest,
    AlertEvent,
    AlertInfo,
    AlertPostponeRequest,
    AlertState,
    Severity,
)
from entrepot.protocol.cloudpointapi import (
    CertificateInfo,
    CloudPointInfo,
    CloudPointPatch,
    CloudPointRequest,
    CollectSummary,
    DnsCheck,
    ManagementCertificateRequest,
    PublicCertificate,
    ScaleRequest,
    ServiceCertificate,
    ServiceCertificateRequest,
    UsageReport,
)
from entrepot.protocol.siteapi import TaskInfo
from entrepot.site.cloud.alerting import Alerting
from entrepot.site.cloud.dns import problem_with, record_for
from entrepot.site.cloud.info import alert_events, alert_info, alert_infos, cloud_point_info, usage_report
from entrepot.site.cloud.proofs import missing
from entrepot.site.cloud.services import CloudServices
from entrepot.site.cloud.states import CloudAction
from entrepot.site.taskinfo import task_info

Handlers = list[HTTPRouteHandler]


def cloud_router(services: CloudServices) -> Router:
    """Everything under ``/cloud-points``, ``/management-certificates``, ``/service-certificates``, ``/alerts``."""
    handlers = [
        *_certificate_routes(services),
        *_point_routes(services),
        *_figure_routes(services),
        *_action_routes(services),
        *_alert_routes(services),
        *_alert_action_routes(services),
    ]
    return Router(path="/", route_handlers=handlers, tags=["Cloud"])


def _certificate_routes(services: CloudServices) -> Handlers:
    certificates = services.certificates

    @post("/management-certificates", sync_to_thread=True)
    def import_management_certificate(data: JSONBody[ManagementCertificateRequest]) -> CertificateInfo:
        return certificates.import_management(data.name, data.pfx, Secret(data.password), data.subscription)

    @get("/management-certificates", sync_to_thread=True)
    def list_management_certificates() -> list[CertificateInfo]:
        return certificates.management()

    @get("/management-certificates/{name:str}/public", sync_to_thread=True)
    def show_public_certificate(name: FromPath[str]) -> PublicCertificate:
        return certificates.public(name)

    @delete("/management-certificates/{name:str}", sync_to_thread=True)
    def delete_management_certificate(name: FromPath[str]) -> None:
        certificates.delete_management(name)

    @post("/service-certificates", sync_to_thread=True)
    def issue_service_certificate(data: JSONBody[ServiceCertificateRequest]) -> ServiceCertificate:
        return certificates.issue_service(data.fqdn, data.days, Secret(data.password), renews=data.renews)

    return [
        import_management_certificate,
        list_management_certificates,
        show_public_certificate,
        delete_management_certificate,
        issue_service_certificate,
    ]


def _point_routes(services: CloudServices) -> Handlers:
    database = services.database

    def info(connection: Connection, point: CloudPoint) -> CloudPointInfo:
        return cloud_point_info(connection, point, now=services.clock())

    def all_infos(connection: Connection) -> list[CloudPointInfo]:
        return [info(connection, point) for point in cloud.cloud_points(connection, site=services.keys.site.code)]

    def one_info(connection: Connection, name: str) -> CloudPointInfo:
        return info(connection, cloud.get_cloud_point(connection, name))

    @post("/cloud-points", status_code=202)
    async def create_cloud_point(data: JSONBody[CloudPointRequest]) -> TaskInfo:
        return task_info(await services.create(data))

    @get("/cloud-points")
    async def list_cloud_points() -> list[CloudPointInfo]:
        return await database.read(all_infos)

    @get("/cloud-points/{name:str}")
    async def get_cloud_point(name: FromPath[str]) -> CloudPointInfo:
        return await database.read(one_info, name)

    @patch("/cloud-points/{name:str}")
    async def change_cloud_point(name: FromPath[str], data: JSONBody[CloudPointPatch]) -> CloudPointInfo:
        return await database.read(info, await services.patch(name, data))

    @delete("/cloud-points/{name:str}", status_code=202)
    async def delete_cloud_point(name: FromPath[str], forget: FromQuery[bool] = False) -> TaskInfo:
        """Delete it with all that it stores. ``forget``: after a deletion that failed because its cloud is gone."""
        return task_info(await services.act(CloudAction.FORGET if forget else CloudAction.DELETE, name))

    return [create_cloud_point, list_cloud_points, get_cloud_point, change_cloud_point, delete_cloud_point]


def _figure_routes(services: CloudServices) -> Handlers:
    @get("/cloud-points/{name:str}/dns")
    async def check_cloud_point_dns(name: FromPath[str]) -> DnsCheck:
        point = await services.get(name)
        leads, proofs = await asyncio.gather(
            problem_with(point.fqdn, point.address, services.resolver), services.awaited_proofs(point)
        )
        problem = f"{leads} {missing(proofs)}".strip()
        record = record_for(point.fqdn, point.address)
        return DnsCheck(record=record, good=not problem, problem=problem, proofs=proofs)

    @post("/cloud-points/{name:str}/collect", status_code=200)
    async def collect_cloud_point(name: FromPath[str]) -> CollectSummary:
        return await services.collect(name)

    @get("/cloud-points/{name:str}/usage")
    async def get_cloud_point_usage(
        name: FromPath[str],
        since: FromQuery[int | None] = None,
        until: FromQuery[int | None] = None,
        by: FromQuery[str] = "",
    ) -> UsageReport:
        """Hourly figures of clients and of the site, and how old they are."""
        point = await services.get(name)
        return await services.database.read(usage_report, point, now=services.clock(), since=since, until=until, by=by)

    return [check_cloud_point_dns, collect_cloud_point, get_cloud_point_usage]


def _action_routes(services: CloudServices) -> Handlers:
    @post("/cloud-points/{name:str}/start", status_code=202)
    async def start_cloud_point(name: FromPath[str]) -> TaskInfo:
        return task_info(await services.act(CloudAction.START, name))

    @post("/cloud-points/{name:str}/stop", status_code=202)
    async def stop_cloud_point(name: FromPath[str]) -> TaskInfo:
        return task_info(await services.act(CloudAction.STOP, name))

    @post("/cloud-points/{name:str}/scale", status_code=202)
    async def scale_cloud_point(name: FromPath[str], data: JSONBody[ScaleRequest]) -> TaskInfo:
        return task_info(await services.act(CloudAction.SCALE, name, instances=data.instances, forced=data.force))

    return [start_cloud_point, stop_cloud_point, scale_cloud_point]


def _alert_routes(services: CloudServices) -> Handlers:
    @get("/alerts")
    async def list_alerts(
        open_only: FromQuery[bool] = False,
        in_state: FromQuery[AlertState | None] = None,
        subject: FromQuery[str] = "",
        of_type: FromQuery[str] = "",
        severity: FromQuery[Severity | None] = None,
    ) -> list[AlertInfo]:
        """Open alerts first. ``open_only``: active and postponed ones; ``in_state``: those in one state; ``subject``:
        id or name of what they are about."""
        return await services.database.read(
            alert_infos, only_open=open_only, state=in_state, subject=subject, of_type=of_type, severity=severity
        )

    @get("/alerts/{alert:str}")
    async def get_alert(alert: FromPath[str]) -> AlertInfo:
        return alert_info(await services.database.read(alerts.get, alert))

    @get("/alerts/{alert:str}/history")
    async def get_alert_history(alert: FromPath[str]) -> list[AlertEvent]:
        return await services.database.read(alert_events, alert)

    return [list_alerts, get_alert, get_alert_history]


def _alert_action_routes(services: CloudServices) -> Handlers:
    alerting = Alerting(services.database, clock=services.clock)

    @post("/alerts/{alert:str}/postpone", status_code=200)
    async def postpone_alert(
        request: Request[Any, Any, Any], alert: FromPath[str], data: JSONBody[AlertPostponeRequest]
    ) -> AlertInfo:
        return alert_info(await alerting.postpone(alert, data.hours, by=_who(request), comment=data.comment))

    @post("/alerts/{alert:str}/cancel", status_code=200)
    async def cancel_alert(
        request: Request[Any, Any, Any], alert: FromPath[str], data: JSONBody[AlertCommentRequest]
    ) -> AlertInfo:
        return alert_info(await alerting.cancel(alert, by=_who(request), comment=data.comment))

    @post("/alerts/{alert:str}/disable", status_code=200)
    async def disable_alert(
        request: Request[Any, Any, Any], alert: FromPath[str], data: JSONBody[AlertCommentRequest]
    ) -> AlertInfo:
        return alert_info(await alerting.disable(alert, by=_who(request), comment=data.comment))

    @post("/alerts/{alert:str}/enable", status_code=200)
    async def enable_alert(
        request: Request[Any, Any, Any], alert: FromPath[str], data: JSONBody[AlertCommentRequest]
    ) -> AlertInfo:
        return alert_info(await alerting.enable(alert, by=_who(request), comment=data.comment))

    @post("/alerts/{alert:str}/comment", status_code=200)
    async def comment_alert(
        request: Request[Any, Any, Any], alert: FromPath[str], data: JSONBody[AlertCommentRequest]
    ) -> AlertInfo:
        return alert_info(await alerting.annotate(alert, by=_who(request), comment=data.comment))

    return [postpone_alert, cancel_alert, disable_alert, enable_alert, comment_alert]


def _who(request: Request[Any, Any, Any]) -> str:
    """The administrator's name, as the site's authentication found it."""
    return str(getattr(request.scope.get("user"), "name", "") or "administrator")
