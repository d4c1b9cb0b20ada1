"""The admin API of alert subscriptions, the mail server and maintenance windows (models: ``protocol.alertapi``)."""

from litestar import Router, delete, get, patch, post, put
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, JSONBody

from entrepot.protocol.alertapi import (
    AlertSubscriptionChange,
    AlertSubscriptionInfo,
    AlertSubscriptionRequest,
    Delivered,
    MailServerInfo,
    MailServerRequest,
    MailTestRequest,
    MaintenanceWindowInfo,
    MaintenanceWindowRequest,
)
from entrepot.site.notifications.subscriptions import Subscriptions


def notification_router(subscriptions: Subscriptions) -> Router:
    """Everything under ``/alert-subscriptions``, ``/mail-server`` and ``/maintenance-windows``."""
    handlers = [*_subscription_routes(subscriptions), *_mail_routes(subscriptions), *_window_routes(subscriptions)]
    return Router(path="/", route_handlers=handlers, tags=["Alerts"])


def _subscription_routes(subscriptions: Subscriptions) -> list[HTTPRouteHandler]:
    @post("/alert-subscriptions")
    async def add_alert_subscription(data: JSONBody[AlertSubscriptionRequest]) -> AlertSubscriptionInfo:
        """Tell somebody of alerts, by mail or by webhook."""
        return await subscriptions.add(data)

    @get("/alert-subscriptions")
    async def list_alert_subscriptions() -> list[AlertSubscriptionInfo]:
        """Who is told, and whether messages reach them."""
        return await subscriptions.listed()

    @patch("/alert-subscriptions/{name:str}")
    async def change_alert_subscription(
        name: FromPath[str], data: JSONBody[AlertSubscriptionChange]
    ) -> AlertSubscriptionInfo:
        """Change what is given; the rest stays."""
        return await subscriptions.change(name, data)

    @delete("/alert-subscriptions/{name:str}")
    async def delete_alert_subscription(name: FromPath[str]) -> None:
        """Tell them no longer."""
        await subscriptions.delete(name)

    @post("/alert-subscriptions/{name:str}/test", status_code=200)
    async def test_alert_subscription(name: FromPath[str]) -> Delivered:
        """Deliver a test message now."""
        return await subscriptions.test(name)

    return [
        add_alert_subscription,
        list_alert_subscriptions,
        change_alert_subscription,
        delete_alert_subscription,
        test_alert_subscription,
    ]


def _mail_routes(subscriptions: Subscriptions) -> list[HTTPRouteHandler]:
    @get("/mail-server")
    async def get_mail_server() -> MailServerInfo:
        """The site's mail server, without its password."""
        return await subscriptions.mail_server()

    @put("/mail-server")
    async def put_mail_server(data: JSONBody[MailServerRequest]) -> MailServerInfo:
        """Set the site's mail server."""
        return await subscriptions.set_mail_server(data)

    @post("/mail-server/test", status_code=200)
    async def test_mail_server(data: JSONBody[MailTestRequest]) -> Delivered:
        """Send a test mail now."""
        return await subscriptions.test_mail(data.address)

    return [get_mail_server, put_mail_server, test_mail_server]


def _window_routes(subscriptions: Subscriptions) -> list[HTTPRouteHandler]:
    @post("/maintenance-windows")
    async def add_maintenance_window(data: JSONBody[MaintenanceWindowRequest]) -> MaintenanceWindowInfo:
        """Let no alert open for a while."""
        return await subscriptions.add_window(data)

    @get("/maintenance-windows")
    async def list_maintenance_windows() -> list[MaintenanceWindowInfo]:
        """All maintenance windows."""
        return await subscriptions.windows()

    @delete("/maintenance-windows/{name:str}")
    async def delete_maintenance_window(name: FromPath[str]) -> None:
        """Forget a window."""
        await subscriptions.delete_window(name)

    return [add_maintenance_window, list_maintenance_windows, delete_maintenance_window]
