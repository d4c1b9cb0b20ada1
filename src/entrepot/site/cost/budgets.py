"""Transfer budgets of cloud points (R23): opt-in, off by default.

Under a budget the management point grants a token only while used plus unexpired grants stay within the budget, and the
token carries its allowance; gateways debit it slot by slot (``web.allowances``). So what is sent never exceeds the
budget. Clients that are refused are told so, and use other points or come again later.
"""

import secrets
from typing import Final

import msgspec
import structlog
from sqlalchemy import Connection

from entrepot.core.errors import EntrepotError, NotFoundError
from entrepot.core.sizes import MIB
from entrepot.core.times import DAY, HOUR, Clock
from entrepot.database import budgets, cloud, contents
from entrepot.database.budgets import Budget, Grant
from entrepot.database.cloud import CloudPoint
from entrepot.database.engine import Database
from entrepot.protocol.costapi import BudgetInfo, BudgetRequest
from entrepot.protocol.location import LocationReply, Withheld
from entrepot.protocol.tokens import ALLOWANCE_PREFIX, MAX_TOKEN_SETS
from entrepot.rules.allowance import slots
from entrepot.site.cloud.loops import has_store
from entrepot.site.cloud.services import CloudServices
from entrepot.site.keys import SiteKeys
from entrepot.trust.tokens import mint_content_token

LIFETIME: Final = 2 * HOUR
"""Of tokens under a budget: shorter than usual, so that what is granted and not used is free again soon."""
REFUSED: Final = "its transfer budget has no room now"
SWEPT_AT_ONCE: Final = 200

log = structlog.get_logger("site.cost.budgets")


class BudgetBook:
    """Grants allowances to tokens. Synchronous: called where location answers are made, in a worker thread."""

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._known: tuple[int, frozenset[str]] = (-1, frozenset())

    def points(self, counter: int) -> frozenset[str]:
        """The cloud points with a budget, as of this change counter."""
        if self._known[0] != counter:
            with self._database.reading() as connection:
                self._known = (counter, frozenset(budgets.budgets(connection)))
        return self._known[1]

    def grant(self, point: str, *, device: str, content: str, version: int, size: int) -> Grant | None:
        """The grant for a download of so many bytes at most; None: refused."""
        now = self._clock()
        wanted = Grant(
            jti=secrets.token_hex(16),
            point=point,
            device=device,
            content=content,
            version=version,
            bytes=size + size // 4 + 4 * MIB,  # what is asked again after a broken connection, and lists
            expires=int(now) + LIFETIME,
        )
        with self._database.transaction() as connection:
            return budgets.grant(connection, wanted, now)

    def token(self, keys: SiteKeys, grant: Grant, audience: str, sets: list[bytes]) -> str:
        """A token that carries the grant's allowance, and ends with it."""
        now = int(self._clock())
        return mint_content_token(
            keys.token,
            site=keys.site.code,
            device=grant.device,
            audience=audience,
            sets=sets,
            now=now,
            jti=grant.jti,
            lifetime=grant.expires - now,
            allow=grant.bytes,
        )


def within_budgets(
    reply: LocationReply, book: BudgetBook, keys: SiteKeys, *, counter: int, needed: int
) -> LocationReply:
    """The answer with an allowance in each token for a cloud point that has a budget; points whose budget has no room
    are withheld.

    Args:
        needed: bytes of the whole download, deltas and full objects together.
    """
    budgeted = book.points(counter)
    tokens, refused = dict(reply.tokens), {}
    for tier in reply.tiers:
        for source in tier.sources:
            if source.point not in budgeted:
                continue
            found = book.grant(
                source.point, device=reply.device, content=reply.content, version=reply.version, size=needed
            )
            if found is None:
                refused[source.point] = source.name
                tokens.pop(source.audience, None)
            else:
                sets = [reply.set_id, *(delta.set_id for delta in reply.deltas)][:MAX_TOKEN_SETS]
                tokens[source.audience] = book.token(keys, found, source.audience, sets)
    if tokens == reply.tokens:
        return reply
    tiers = (
        msgspec.structs.replace(tier, sources=tuple(one for one in tier.sources if one.point not in refused))
        for tier in reply.tiers
    )
    withheld = tuple(Withheld(name=name, reason=REFUSED) for name in refused.values())
    return msgspec.structs.replace(
        reply, tiers=tuple(t for t in tiers if t.sources), tokens=tokens, withheld=(*reply.withheld, *withheld)
    )


async def sweep_slots(database: Database, clouds: CloudServices) -> int:
    """Remove the slots of grants that no longer count from the stores; how many grants.

    A store that does not answer is left for the next run, and holds up no other.

    Raises:
        EntrepotError: the database does not answer; the next run goes on.
    """
    swept = 0
    for point in await clouds.points():
        if not has_store(point):
            continue
        try:
            while count := await _sweep_some(database, clouds, point):
                swept += count
        except EntrepotError as error:
            log.warning("slots_not_swept", point=point.point, error=str(error), code=error.code)
    return swept


async def _sweep_some(database: Database, clouds: CloudServices, point: CloudPoint) -> int:
    before = int(clouds.clock()) - DAY
    gone = await database.read(budgets.expired, point.point, before=before, limit=SWEPT_AT_ONCE)
    if not gone:
        return 0
    store = await clouds.providers.store_of(point)
    for grant in gone:
        for number in range(len(slots(grant.bytes))):
            await store.delete_document(f"{ALLOWANCE_PREFIX}{grant.jti}/{number}")
    await database.write(budgets.forget_grants, [grant.jti for grant in gone])
    return len(gone)


def put(connection: Connection, cloud_point: str, request: BudgetRequest, *, by: str, now: float) -> BudgetInfo:
    """Set a cloud point's budget.

    Raises:
        NotFoundError: there is no such cloud point, or content.
    """
    point = cloud.get_cloud_point(connection, cloud_point)
    critical = tuple(contents.get_content(connection, name).id for name in request.critical)
    budgets.put_budget(
        connection,
        Budget(
            point=point.point,
            bytes=request.bytes,
            critical_percent=request.critical_percent,
            critical=critical,
            created=int(now),
            by=by,
        ),
    )
    return next(info for info in listed(connection, site=point.site, now=now) if info.cloud_point == point.name)


def listed(connection: Connection, *, site: str, now: float) -> list[BudgetInfo]:
    """The budgets of a site's cloud points, and how they stand."""
    found = budgets.budgets(connection)
    infos = []
    for point in cloud.cloud_points(connection, site=site):
        if point.point not in found:
            continue
        one = found[point.point]
        used, outstanding = budgets.standing(connection, point.point, now)
        infos.append(
            BudgetInfo(
                cloud_point=point.name,
                bytes=one.bytes,
                critical_percent=one.critical_percent,
                critical=one.critical,
                used=used,
                granted=outstanding,
                left=max(0, one.bytes - used - outstanding),
                created=one.created,
                by=one.by,
            )
        )
    return infos


def delete(connection: Connection, cloud_point: str) -> None:
    """Lift a budget.

    Raises:
        NotFoundError: there is none, or no such cloud point.
    """
    point = cloud.get_cloud_point(connection, cloud_point)
    if not budgets.delete_budget(connection, point.point):
        raise NotFoundError(f"The cloud point {point.name} has no budget.")
