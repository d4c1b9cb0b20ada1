"""The admin API of load drills (models: ``protocol.drillapi``)."""

from typing import Any

from litestar import Request, Router, get, post, put
from litestar.params import FromPath, JSONBody

from entrepot.protocol.drillapi import DrillPermit, DrillPlan, DrillRecord, DrillReport, DrillRequest
from entrepot.site.drills.permits import Drills


def drill_router(drills: Drills) -> Router:
    """Everything under ``/cloud-points/{id}/drills`` and ``/drills``."""

    @post("/cloud-points/{name:str}/drills/plan", status_code=200)
    async def plan_drill(name: FromPath[str], data: JSONBody[DrillRequest]) -> DrillPlan:
        """What a load drill would transfer and cost at most; nothing is begun."""
        return await drills.plan(name, data)

    @post("/cloud-points/{name:str}/drills")
    async def permit_drill(
        request: Request[Any, Any, Any], name: FromPath[str], data: JSONBody[DrillRequest]
    ) -> DrillPermit:
        """Tokens of synthetic devices for one content on one cloud point, for a few minutes."""
        by = str(getattr(request.scope.get("user"), "name", "") or "administrator")
        return await drills.permit(name, data, by=by)

    @get("/cloud-points/{name:str}/drills")
    async def list_drills(name: FromPath[str]) -> list[DrillRecord]:
        """The load drills of a cloud point, the newest first."""
        return await drills.listed(name)

    @put("/drills/{drill:str}/report", status_code=204)
    async def report_drill(drill: FromPath[str], data: JSONBody[DrillReport]) -> None:
        """Keep what came of a load drill, once."""
        await drills.report(drill, data)

    return Router(path="/", route_handlers=[plan_drill, permit_drill, list_drills, report_drill], tags=["Cloud"])
