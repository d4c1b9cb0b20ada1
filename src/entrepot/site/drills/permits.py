"""Plans a load drill, permits it, and keeps its report."""

import asyncio
import secrets
from decimal import ROUND_HALF_UP, Decimal
from typing import Final

import msgspec
import structlog
from sqlalchemy import Connection

from entrepot.core.errors import ConflictError, NotFoundError, RefusedError
from entrepot.core.ids import prefixed_id
from entrepot.core.sizes import format_size
from entrepot.core.times import MINUTE, Clock
from entrepot.database import budgets, cloud, contents, drills, granting, grants, pointsets, prices, usage
from entrepot.database.cloud import CloudPoint
from entrepot.database.drills import Drill
from entrepot.database.engine import Database
from entrepot.database.grants import Grant
from entrepot.database.pointsets import HELD, PointSet
from entrepot.protocol.cloudpointapi import CloudPointState
from entrepot.protocol.drillapi import (
    MAX_OBJECTS,
    DrillObject,
    DrillPermit,
    DrillPlan,
    DrillRecord,
    DrillReport,
    DrillRequest,
    drill_device,
)
from entrepot.site.cost.charging import month_of
from entrepot.site.cost.quoting import transfer_cost
from entrepot.site.keys.sitekeys import SiteKeys
from entrepot.trust.tokens import mint_content_token

AFTERWARDS: Final = MINUTE
"""How long tokens outlast their drill: its last requests, and clocks that differ."""
_CENT: Final = Decimal("0.01")

log = structlog.get_logger("site.drills")


class _Target:
    """A cloud point, the set that is asked for, and a sample of its objects."""

    def __init__(self, connection: Connection, name: str, request: DrillRequest, site: str) -> None:
        self.point = _ready(connection, name, site)
        self.held = _held(connection, self.point, request)
        self.content = contents.get_content(connection, self.held.content)
        found = pointsets.objects_of(connection, self.held.set_id, limit=MAX_OBJECTS)
        self.objects = [DrillObject(id=one.object_id, size=one.size) for one in found if one.size]
        if not self.objects:
            raise ConflictError(f"{self.content.name!r} has nothing to download.", next_step="Choose another content.")
        largest = max(one.size for one in self.objects)  # each device may be in the middle of one at the end
        paced = request.devices * (request.rate * request.seconds + largest) if request.rate else request.most_bytes
        self.bytes = min(request.most_bytes, paced)
        self.mean = max(1, sum(one.size for one in self.objects) // len(self.objects))


class Drills:
    """The use cases of load drills."""

    def __init__(self, database: Database, keys: SiteKeys, *, clock: Clock, lag: int = grants.LAG) -> None:
        self._database = database
        self._lag = lag
        self._keys = keys
        self._clock = clock

    async def plan(self, name: str, request: DrillRequest) -> DrillPlan:
        """What a drill would transfer at most, and cost; everything is checked and nothing is begun.

        Raises:
            NotFoundError: there is no such cloud point or content.
            ConflictError: the cloud point does not serve now, or does not have that content.
        """
        return await self._database.read(self._plan, name, request)

    async def permit(self, name: str, request: DrillRequest, *, by: str) -> DrillPermit:
        """Note a drill and make its tokens.

        Raises:
            RefusedError: a budget has no room for it.
            ConflictError: another one is under way; else as :meth:`plan`.
        """
        target, permit, allowed = await self._database.write(self._begin, name, request, by)
        tokens = await asyncio.to_thread(self._tokens, target, permit, allowed)
        log.info("drill_permitted", drill=permit.drill, point=target.point.name, by=by, devices=request.devices)
        return msgspec.structs.replace(permit, tokens=tokens)

    async def report(self, drill: str, found: DrillReport) -> None:
        """Keep what came of a drill.

        Raises:
            NotFoundError, ConflictError: there is no such drill, or it was reported before.
        """
        await self._database.write(drills.report, drill, found)

    async def listed(self, name: str) -> list[DrillRecord]:
        """The drills of a cloud point, the newest first.

        Raises:
            NotFoundError: there is no such cloud point.
        """
        return await self._database.read(_listed, name)

    def _plan(self, connection: Connection, name: str, request: DrillRequest) -> DrillPlan:
        return self._plan_of(connection, _Target(connection, name, request, self._keys.site.code), request)

    def _plan_of(self, connection: Connection, target: _Target, request: DrillRequest) -> DrillPlan:
        currency, amount = _price(connection, target, self._clock())
        version = contents.get_version(connection, target.content.id, target.held.version)
        return DrillPlan(
            cloud_point=target.point.name,
            url=target.point.url,
            address=target.point.address,
            content=target.content.id,
            content_name=target.content.name,
            version=target.held.version,
            objects=len(target.objects),
            stored=version.stored_size,
            devices=request.devices,
            seconds=request.seconds,
            ramp=min(request.ramp, request.seconds),
            rate=request.rate,
            bytes=target.bytes,
            currency=currency,
            amount=amount,
            notes=_notes(connection, target, request),
        )

    def _begin(
        self, connection: Connection, name: str, request: DrillRequest, by: str
    ) -> tuple[_Target, DrillPermit, Grant | None]:
        """Everything but the tokens, which take their time: no transaction waits for them."""
        now = int(self._clock())
        target = _Target(connection, name, request, self._keys.site.code)
        plan = self._plan_of(connection, target, request)
        new = Drill(
            id=prefixed_id("drill", secrets.token_bytes(8)),
            point=target.point.point,
            point_name=target.point.name,
            by=by[:128],
            begun=now,
            expires=now + request.seconds + AFTERWARDS,
            content_name=plan.content_name,
            version=plan.version,
            devices=request.devices,
            bytes=target.bytes,
        )
        drills.begin(connection, new)
        permit = DrillPermit(drill=new.id, plan=plan, objects=tuple(target.objects), tokens=(), expires=new.expires)
        return target, permit, _grant(connection, new, target, now, self._lag)

    def _tokens(self, target: _Target, permit: DrillPermit, allowed: Grant | None) -> tuple[str, ...]:
        """A token for each device. They share their id, so that one allowance bounds all together."""
        now = int(self._clock())
        return tuple(
            mint_content_token(
                self._keys.token,
                site=self._keys.site.code,
                device=drill_device(permit.drill, number),
                audience=target.point.point,
                sets=[target.held.set_id],
                now=now,
                jti=permit.drill,
                lifetime=permit.expires - now,
                allow=allowed.bytes if allowed else 0,
                rate=allowed.rate if allowed else 0,
            )
            for number in range(permit.plan.devices)
        )


def _ready(connection: Connection, name: str, site: str) -> CloudPoint:
    point = cloud.get_cloud_point(connection, name)
    if point.site != site:
        raise NotFoundError(
            f"{point.name} belongs to the site {point.site}.", next_step="Ask that site: drills are for one's own."
        )
    if point.state not in (CloudPointState.READY, CloudPointState.DEGRADED) or not point.url:
        raise ConflictError(
            f"{point.name} is {point.state.value}: it serves no clients now.",
            next_step="Start it, or wait until it is ready: entrepot cloud show NAME",
        )
    return point


def _held(connection: Connection, point: CloudPoint, request: DrillRequest) -> PointSet:
    """The set of the version that is asked for; of the largest where nobody says which."""
    wanted = contents.get_content(connection, request.content) if request.content else None
    found = [
        one
        for one in pointsets.sets_on(connection, point.point, wanted.id if wanted else "")
        if one.state == HELD and not one.from_version and not one.retired
    ]
    number = request.version or (wanted.current if wanted else 0)
    chosen = max((one for one in found if not number or one.version == number), key=lambda one: one.size, default=None)
    if chosen is None:
        what = f"version {number} of {wanted.name!r}" if wanted else "any content"
        raise ConflictError(
            f"{point.name} does not have {what} whole.",
            next_step="Distribute it first: entrepot content distribute CONTENT --to NAME",
        )
    return chosen


def _price(connection: Connection, target: _Target, now: float) -> tuple[str, Decimal | None]:
    """Egress at the tier that this month has reached, and the requests."""
    sheet = prices.sheet_of(connection, target.point.point)
    if sheet is None:
        return "", None
    before = usage.totals_since(connection, target.point.point, month_of(now)[0])
    requests = -(-target.bytes // target.mean)
    amount = transfer_cost(sheet, target.bytes, requests, before.sent + before.fetched)
    return sheet.currency, amount.quantize(_CENT, rounding=ROUND_HALF_UP)


def _notes(connection: Connection, target: _Target, request: DrillRequest) -> tuple[str, ...]:
    found = ["What is transferred counts towards this cloud point's figures, thresholds, budgets and cost."]
    if budgets.touches(connection, target.point.point):
        found.append("A budget bounds this cloud point: the drill takes its room as any download does.")
    quota = target.point.thresholds.transfer_quota
    if quota and target.bytes > quota // 100:
        share = 100 * target.bytes / quota
        found.append(
            f"That may be {share:,.{1 if share < 100 else 0}f} % of its transfer threshold, {format_size(quota)}."
        )
    if target.bytes < request.devices * target.mean:
        found.append(
            f"That is less than an object of {format_size(target.mean)} for each device: not all of them will download."
        )
    if target.point.state is CloudPointState.DEGRADED:
        found.append(f"{target.point.name} is degraded now: {target.point.message}")
    if request.ramp >= request.seconds:
        found.append("The ramp takes all the time: throughput is measured while devices still begin.")
    return tuple(found)


def _grant(connection: Connection, new: Drill, target: _Target, now: int, lag: int) -> Grant | None:
    """The allowance of the whole drill where a budget bounds the point."""
    if not budgets.touches(connection, new.point):
        return None
    wanted = Grant(
        jti=new.id,
        point=new.point,
        device=new.id,
        content=target.content.id,
        version=new.version,
        bytes=new.bytes,
        expires=new.expires,
    )
    found = granting.grant(connection, wanted, now, lag=lag)
    if isinstance(found, Grant):
        return found
    if found.early:
        raise RefusedError(
            "What was sent before the transfer budget was set is being collected.", next_step="Ask again in a minute."
        )
    raise RefusedError(
        f"The transfer budget of the {found.budget.scope.value.replace('-', ' ')} has no room for "
        f"{format_size(new.bytes)} now.",
        next_step="Ask for fewer bytes, or raise the budget: entrepot budget list",
    )


def _listed(connection: Connection, name: str) -> list[DrillRecord]:
    return drills.listed(connection, cloud.get_cloud_point(connection, name).point)
