"""The admin API of money, forecasts and quotes (models: ``protocol.costapi``)."""

from typing import Any

import msgspec
from litestar import Request, Router, delete, get, patch, post, put
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery, JSONBody
from sqlalchemy import Connection

from entrepot.core.errors import BadInputError
from entrepot.core.times import Clock
from entrepot.database import cloud
from entrepot.database.engine import Database
from entrepot.protocol.costapi import (
    BudgetChange,
    BudgetInfo,
    BudgetPatch,
    BudgetRequest,
    BudgetScope,
    CostBy,
    CostReport,
    PointForecast,
    PriceSheetInfo,
    PriceSheetRequest,
    PriceUseRequest,
    Quote,
    QuoteRequest,
    SavingsBy,
    SavingsReport,
)
from entrepot.protocol.deviceapi import ALL_DEVICES
from entrepot.rules.forecast import Planned
from entrepot.site.cost import budgets, sheets
from entrepot.site.cost.changing import change
from entrepot.site.cost.charging import report
from entrepot.site.cost.quoting import foresee, point_forecast, quote
from entrepot.site.cost.saving import savings_report


def cost_router(database: Database, *, site: str, clock: Clock) -> Router:
    """Everything under ``/price-sheets``, ``/cost`` and ``/quotes``, and the forecasts of cloud points."""
    handlers = [
        *_sheet_routes(database, clock),
        *_figure_routes(database, site, clock),
        *_budget_routes(database, clock),
    ]
    return Router(path="/", route_handlers=handlers, tags=["Cost"])


def _sheet_routes(database: Database, clock: Clock) -> list[HTTPRouteHandler]:
    @get("/price-sheets")
    async def list_price_sheets() -> list[PriceSheetInfo]:
        """All sheets in their newest version, and the examples that are shipped."""
        return await database.read(sheets.listed)

    @get("/price-sheets/{name:str}")
    async def get_price_sheet(name: FromPath[str]) -> list[PriceSheetInfo]:
        """All versions of a sheet, oldest first."""
        return await database.read(sheets.versions, name)

    @put("/price-sheets/{name:str}")
    async def put_price_sheet(
        request: Request[Any, Any, Any], name: FromPath[str], data: JSONBody[PriceSheetRequest]
    ) -> PriceSheetInfo:
        """Add a version of a sheet."""
        return await database.write(sheets.put, name, data, by=_who(request), now=int(clock()))

    @post("/price-sheets/{name:str}/use", status_code=200)
    async def use_price_sheet(
        request: Request[Any, Any, Any], name: FromPath[str], data: JSONBody[PriceUseRequest]
    ) -> PriceSheetInfo:
        """Charge a cloud point, or all, by a sheet."""
        return await database.write(sheets.use, name, data.cloud_point, by=_who(request), now=int(clock()))

    return [list_price_sheets, get_price_sheet, put_price_sheet, use_price_sheet]


def _figure_routes(database: Database, site: str, clock: Clock) -> list[HTTPRouteHandler]:
    @get("/cost")
    async def get_cost(by: FromQuery[CostBy] = CostBy.POINT, cloud_point: FromQuery[str] = "") -> CostReport:
        """Cost so far this month, and at its end."""
        return await database.read(report, by=by, cloud_point=cloud_point, site=site, now=clock())

    @get("/cloud-points/{name:str}/forecast")
    async def get_cloud_point_forecast(
        name: FromPath[str],
        planned_storage: FromQuery[int] = 0,
        planned_transfer: FromQuery[int] = 0,
        content: FromQuery[str] = "",
        collection: FromQuery[str] = ALL_DEVICES,
        version: FromQuery[int] = 0,
        cloud_share: FromQuery[int | None] = None,
    ) -> PointForecast:
        """When storage and transfers reach their thresholds at the present trend, and with a deployment on top."""
        planned = Planned(stored=max(0, planned_storage), sent=max(0, planned_transfer))
        asked = {"content": content, "collection": collection, "version": version, "cloud_share": cloud_share}
        deployment = _deployment(asked) if content else None
        return await database.read(_forecast, name, clock(), planned, deployment, site)

    @get("/savings")
    async def get_savings(by: FromQuery[SavingsBy] = SavingsBy.CONTENT, days: FromQuery[int] = 30) -> SavingsReport:
        """What dedupe, compression, deltas, caches and peers kept from being transferred."""
        return await database.read(savings_report, by=by, days=days, now=clock())

    @post("/quotes", status_code=200)
    async def make_quote(data: JSONBody[QuoteRequest]) -> Quote:
        """What a deployment would send through the cloud, and cost."""
        return await database.read(quote, data, site=site, now=clock())

    return [get_cost, get_cloud_point_forecast, get_savings, make_quote]


def _budget_routes(database: Database, clock: Clock) -> list[HTTPRouteHandler]:
    @get("/budgets")
    async def list_budgets() -> list[BudgetInfo]:
        """The budgets, and how they stand."""
        return await database.read(budgets.listed, now=clock())

    @put("/budgets/{name:str}")
    async def put_budget(
        request: Request[Any, Any, Any], name: FromPath[str], data: JSONBody[BudgetRequest]
    ) -> BudgetInfo:
        """Set the budget of a cloud point, content or collection, or say what it would do now."""
        return await database.write(budgets.put, name, data, by=_who(request), now=clock())

    @patch("/budgets/{name:str}")
    async def change_budget(
        request: Request[Any, Any, Any], name: FromPath[str], data: JSONBody[BudgetPatch]
    ) -> BudgetInfo:
        """Change what is given; the rest stays. Sets the budget where there is none yet."""
        return await database.write(change, name, data, by=_who(request), now=clock())

    @delete("/budgets/{name:str}")
    async def delete_budget(
        request: Request[Any, Any, Any], name: FromPath[str], of: FromQuery[BudgetScope] = "cloud-point"
    ) -> None:
        """Lift a budget."""
        await database.write(budgets.delete, name, scope=of, by=_who(request), now=clock())

    @get("/budget-changes")
    async def list_budget_changes() -> list[BudgetChange]:
        """Who changed which budget, newest first."""
        return await database.read(budgets.history)

    return [list_budgets, put_budget, change_budget, delete_budget, list_budget_changes]


def _deployment(asked: dict[str, object]) -> QuoteRequest:
    try:
        return msgspec.convert(asked, QuoteRequest)
    except msgspec.ValidationError as error:
        raise BadInputError(f"There can be no such deployment: {error}.") from None


def _forecast(
    connection: Connection, name: str, now: float, planned: Planned, deployment: QuoteRequest | None, site: str
) -> PointForecast:
    point = cloud.get_cloud_point(connection, name)
    if deployment is not None:
        more = foresee(connection, deployment, site=site, now=now).planned(point.point)
        planned = Planned(stored=planned.stored + more.stored, sent=planned.sent + more.sent)
    return point_forecast(connection, point, now, planned)


def _who(request: Request[Any, Any, Any]) -> str:
    return str(getattr(request.scope.get("user"), "name", "") or "administrator")
