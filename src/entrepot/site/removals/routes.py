"""The addresses that tell what an order that destroys would do."""

from litestar import get
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery

from entrepot.core.times import Clock
from entrepot.database.engine import Database
from entrepot.protocol.costapi import BudgetScope
from entrepot.protocol.removalapi import Removal
from entrepot.site.cloud.orders import Orders
from entrepot.site.removals import estate, services
from entrepot.site.removals.foreseeing import foresee

Handlers = list[HTTPRouteHandler]


def removal_routes(database: Database, orders: Orders, clock: Clock) -> Handlers:
    """``…/removal`` of all that can be removed, and what some orders would end."""
    return [
        *_points(database, clock),
        *_devices(database, clock),
        *_arranged(database),
        *_cloud(database, clock),
        *_alerting(database),
        *_orders(database, orders, clock),
    ]


def _points(database: Database, clock: Clock) -> Handlers:
    @get("/contents/{content:str}/distribution/{point:str}/removal", tags=["Distribution"])
    async def get_withdrawal(content: FromPath[str], point: FromPath[str]) -> Removal:
        """What taking the content away from the point would do."""
        return await foresee(database, estate.content_from_point, content, point, clock())

    @get("/points/{point:str}/removal", tags=["Distribution points"])
    async def get_point_removal(point: FromPath[str]) -> Removal:
        """What removing the point would do."""
        return await foresee(database, estate.point, point)

    @get("/boundary-groups/{group:str}/removal", tags=["Boundary groups"])
    async def get_boundary_group_removal(group: FromPath[str]) -> Removal:
        """What removing the boundary group would do."""
        return await foresee(database, estate.boundary_group, group)

    return [get_withdrawal, get_point_removal, get_boundary_group_removal]


def _devices(database: Database, clock: Clock) -> Handlers:
    @get("/devices/{device:str}/removal", tags=["Devices"])
    async def get_device_removal(device: FromPath[str]) -> Removal:
        """What forgetting the device would do."""
        return await foresee(database, estate.device, device, clock())

    @get("/enrolment-codes/{code:str}/removal", tags=["Devices"])
    async def get_enrolment_code_removal(code: FromPath[str]) -> Removal:
        """What withdrawing the code would do."""
        return await foresee(database, estate.enrolment_code, code)

    @get("/collections/{collection:str}/removal", tags=["Collections"])
    async def get_collection_removal(collection: FromPath[str]) -> Removal:
        """What removing the collection would do."""
        return await foresee(database, estate.collection, collection)

    return [get_device_removal, get_enrolment_code_removal, get_collection_removal]


def _arranged(database: Database) -> Handlers:
    @get("/deployments/{deployment:str}/removal", tags=["Deployments"])
    async def get_deployment_removal(deployment: FromPath[str]) -> Removal:
        """What withdrawing the deployment would do."""
        return await foresee(database, estate.deployment, deployment)

    @get("/client-settings/{name:str}/removal", tags=["Client settings"])
    async def get_client_settings_removal(name: FromPath[str]) -> Removal:
        """What removing the set would do."""
        return await foresee(database, estate.settings, name)

    return [get_deployment_removal, get_client_settings_removal]


def _cloud(database: Database, clock: Clock) -> Handlers:
    @get("/management-certificates/{name:str}/removal", tags=["Cloud"])
    async def get_management_certificate_removal(name: FromPath[str]) -> Removal:
        """What removing the certificate would do."""
        return await foresee(database, services.certificate, name)

    @get("/budgets/{name:str}/removal", tags=["Cost"])
    async def get_budget_removal(name: FromPath[str], of: FromQuery[BudgetScope] = "cloud-point") -> Removal:
        """What lifting the budget would do."""
        return await foresee(database, services.budget, name, of, clock())

    return [get_management_certificate_removal, get_budget_removal]


def _alerting(database: Database) -> Handlers:
    @get("/alert-subscriptions/{name:str}/removal", tags=["Alerts"])
    async def get_alert_subscription_removal(name: FromPath[str]) -> Removal:
        """What removing the subscription would do."""
        return await foresee(database, services.subscription, name)

    @get("/maintenance-windows/{name:str}/removal", tags=["Alerts"])
    async def get_maintenance_window_removal(name: FromPath[str]) -> Removal:
        """What removing the window would do."""
        return await foresee(database, services.window, name)

    return [get_alert_subscription_removal, get_maintenance_window_removal]


def _orders(database: Database, orders: Orders, clock: Clock) -> Handlers:
    @get("/devices/{device:str}/block", tags=["Devices"])
    async def get_device_blocking(device: FromPath[str]) -> Removal:
        """What blocking the device would do."""
        return await foresee(database, estate.blocking, device, clock())

    @get("/cloud-points/{name:str}/stop", tags=["Cloud"])
    async def get_cloud_point_stop(name: FromPath[str]) -> Removal:
        """What stopping the service would do."""
        return await foresee(database, services.stop, name, orders)

    @get("/cloud-points/{name:str}/removal", tags=["Cloud"])
    async def get_cloud_point_removal(name: FromPath[str], forget: FromQuery[bool] = False) -> Removal:
        """What deleting the cloud point would do, or forgetting it."""
        return await foresee(database, services.deletion, name, orders, forget=forget)

    @get("/tasks/{task:str}/cancel", tags=["Tasks"])
    async def get_task_cancellation(task: FromPath[str]) -> Removal:
        """What cancelling the task would do."""
        return await foresee(database, services.task, task, clock())

    return [get_device_blocking, get_cloud_point_stop, get_cloud_point_removal, get_task_cancellation]
