"""Transfer budgets of cloud points, contents and collections (R23): opt-in, off by default.

Under a budget the management point grants a token only while used plus unexpired grants stay within the budget, and the
token carries its allowance; gateways debit it slot by slot (``web.allowances``). So what is sent never exceeds the
budget. Clients that are refused are told so, and use other points or come again later.
"""

import secrets
from collections.abc import Mapping
from typing import Final
from zoneinfo import available_timezones

import msgspec
import structlog
from sqlalchemy import Connection

from entrepot.core.errors import BadInputError, ConflictError, EntrepotError, NotFoundError
from entrepot.core.sizes import format_size
from entrepot.core.times import DAY, HOUR, MINUTE, Clock
from entrepot.database import budgets, cloud, contents, granting, grants, usage
from entrepot.database.budgets import Budget, Scope
from entrepot.database.cloud import CloudPoint
from entrepot.database.engine import Database
from entrepot.database.granting import Refusal
from entrepot.database.grants import Grant
from entrepot.protocol.control import ServiceState
from entrepot.protocol.costapi import BudgetChange, BudgetInfo, BudgetRequest
from entrepot.protocol.location import LocationReply, Withheld
from entrepot.protocol.tokens import MAX_TOKEN_SETS
from entrepot.rules.allowance import LEAST, SLOTS, enough
from entrepot.rules.budgets import WORDS, Shares, described, grade, next_period, period_start, stops
from entrepot.rules.throttle import LEAST_RATE, kept_rate
from entrepot.site.cloud import crowding
from entrepot.site.cloud.loops import has_store
from entrepot.site.cloud.orders import Keep
from entrepot.site.cloud.services import CloudServices
from entrepot.site.cloud.states import CloudAction
from entrepot.site.cost import settling
from entrepot.site.cost.naming import label_of, name_of, subject_of
from entrepot.site.keys.sitekeys import SiteKeys
from entrepot.trust.tokens import mint_content_token

LIFETIME: Final = 2 * HOUR
"""Of tokens under a budget: shorter than usual, so that what is granted and not used is free again soon."""
SMALL: Final = SLOTS * LEAST
LIFETIME_OF_SMALL: Final = HOUR
"""Of tokens for downloads that are no larger than :data:`SMALL`: most of what is granted for them is for the chance
that several instances serve them."""
REFUSED: Final = "the transfer budget of the {budget} has no room now"
PEERS_ONLY: Final = "peers only: the transfer budget of the {budget} leaves this to neighbours; ask again later"
EARLY: Final = (
    "what was sent before the transfer budget of the {budget} was set is being collected; ask again in a minute"
)
RETRY_AFTER: Final = HOUR // 2
RETRY_SOON: Final = MINUTE

log = structlog.get_logger("site.cost.budgets")


class BudgetBook:
    """Grants allowances to tokens. Synchronous: called where location answers are made, in a worker thread."""

    def __init__(self, database: Database, *, clock: Clock, lag: int = grants.LAG) -> None:
        self._database = database
        self._lag = lag
        self._clock = clock
        self._known: tuple[int, tuple[Budget, ...]] = (-1, ())

    def bounds(self, counter: int, point: str) -> bool:
        """Whether a budget bounds what this cloud point sends, as of this change counter."""
        if self._known[0] != counter:
            with self._database.reading() as connection:
                self._known = (counter, tuple(budgets.budgets(connection)))
        return any(one.scope is not Scope.POINT or one.subject == point for one in self._known[1])

    def grant(self, point: str, *, device: str, content: str, version: int, size: int) -> Grant | Withheld:
        """The grant for a download of so many bytes at most, or why it is refused (without the point's name)."""
        now = self._clock()
        wanted = Grant(
            jti=secrets.token_hex(16),
            point=point,
            device=device,
            content=content,
            version=version,
            bytes=enough(size),
            expires=int(now) + (LIFETIME if size > SMALL else LIFETIME_OF_SMALL),
        )
        with self._database.transaction() as connection:
            found = granting.grant(connection, wanted, now, size=size, lag=self._lag)
            return found if isinstance(found, Grant) else _withheld(connection, found)

    def token(self, keys: SiteKeys, grant: Grant, audience: str, sets: list[bytes]) -> str:
        """A token that carries the grant's allowance and rate, and ends with it."""
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
            rate=grant.rate,
        )


def _withheld(connection: Connection, refusal: Refusal) -> Withheld:
    why = EARLY if refusal.early else PEERS_ONLY if refusal.peers else REFUSED
    reason = why.format(budget=label_of(connection, refusal.budget))
    return Withheld(name="", reason=reason, retry_after=RETRY_SOON if refusal.early else RETRY_AFTER)


def within_budgets(
    reply: LocationReply, book: BudgetBook, keys: SiteKeys, *, counter: int, needed: int
) -> LocationReply:
    """The answer with an allowance in each token for a cloud point that a budget bounds; points for which a budget has
    no room are withheld, and the reason names the budget.

    Args:
        needed: bytes of the whole download, deltas and full objects together.
    """
    tokens, refused = dict(reply.tokens), {}
    for tier in reply.tiers:
        for source in tier.sources:
            if source.audience != source.point or not book.bounds(counter, source.point):
                continue
            found = book.grant(
                source.point, device=reply.device, content=reply.content, version=reply.version, size=needed
            )
            if isinstance(found, Withheld):
                refused[source.point] = msgspec.structs.replace(found, name=source.name)
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
    return msgspec.structs.replace(
        reply,
        tiers=tuple(tier for tier in tiers if tier.sources),
        tokens=tokens,
        withheld=(*reply.withheld, *refused.values()),
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
            store = await clouds.providers.store_of(point)
            swept += await settling.sweep(database, point.point, store, now=clouds.clock())
        except EntrepotError as error:
            log.warning("slots_not_swept", point=point.point, error=str(error), code=error.code)
    return swept


async def enforce_stops(database: Database, clouds: CloudServices) -> None:
    """Stop the services whose budgets say so, and start again those that a budget stopped and no longer would.

    It starts again when what was used is clearly below the share: days that roll do not stop and start it in turn.
    Both are ordinary tasks of the cloud point. Whoever starts the service by hand meanwhile is obeyed: the budget does
    not stop it again before what was used has been below its share once (the next period, or a higher budget). Whoever
    stops it by hand is obeyed, too (``site.cloud.orders``): the budget does not start it again.
    """
    now = clouds.clock()
    for one, name, wanted, reached in await database.read(_stops, clouds.keys.site.code, now):
        try:
            await _enforce(database, clouds, one, name, wanted, reached=reached)
        except EntrepotError as error:  # not in a state for it: the next run asks again
            log.warning("budget_not_enforced", point=one.subject, error=str(error), code=error.code)


async def _enforce(
    database: Database, clouds: CloudServices, one: Budget, name: str, wanted: ServiceState, *, reached: bool
) -> None:
    """Order what a budget wants, and note it in the same transaction: whoever is killed in between would forget that
    the budget stopped the service, and never start it again."""
    running = wanted is ServiceState.RUNNING

    def noting(stopped: str, what: str) -> Keep:
        def keep(connection: Connection, point: CloudPoint) -> None:
            kept = budgets.find(connection, one.scope, one.subject)
            if point.wanted is not wanted or kept is None or kept.stopped != one.stopped:
                raise ConflictError(
                    f"Somebody else stopped or started {name} just now.", next_step="It is looked at again by itself."
                )
            _note_stop(connection, one, stopped, f"{what} {name}", now=clouds.clock())

        return keep

    if reached and not one.stopped and running:
        await clouds.orders.act(CloudAction.STOP, one.subject, keep=noting(budgets.STOPPED, "stopped"))
    elif reached and one.stopped == budgets.STOPPED and running:
        await database.write(_note_stop, one, budgets.WAIVED, f"{name} was started by hand", now=clouds.clock())
    elif one.stopped == budgets.STOPPED and not reached and not running:
        await clouds.orders.act(CloudAction.START, one.subject, keep=noting("", "started"))
    elif one.stopped and not reached:
        await database.write(_note_stop, one, "", f"{name} may run again", now=clouds.clock())


def _stops(connection: Connection, site: str, now: float) -> list[tuple[Budget, str, ServiceState, bool]]:
    points = {each.point: each for each in cloud.cloud_points(connection, site=site)}
    found = []
    for one in budgets.budgets(connection):
        if one.scope is Scope.POINT and one.subject in points and (one.stop_percent or one.stopped):
            used, _ = grants.standing(connection, one, now)
            reached = stops(one.shares, one.bytes, used=used, stopped=bool(one.stopped))
            found.append((one, points[one.subject].name, points[one.subject].wanted, reached))
    return found


def _note_stop(connection: Connection, one: Budget, stopped: str, what: str, *, now: float) -> None:
    budgets.set_stopped(connection, one, stopped)
    budgets.note_change(connection, one.scope, one.subject, at=now, by="SYSTEM", what=what)


def put(connection: Connection, name: str, request: BudgetRequest, *, by: str, now: float) -> BudgetInfo:
    """Set a budget, or with ``dry_run`` only say what it would do now.

    Raises:
        NotFoundError: there is no such cloud point, content or collection.
        BadInputError: shares, zone or rate that do not fit.
    """
    scope = Scope(request.scope)
    _check(request, scope)
    one = Budget(
        scope=scope,
        subject=subject_of(connection, scope, name),
        bytes=request.bytes,
        **{share: getattr(request, share) for share in Shares.__struct_fields__},
        rate=request.rate,
        critical=tuple(contents.get_content(connection, each).id for each in request.critical),
        zone=request.zone,
        created=int(now),
        by=by,
    )
    before = budgets.find(connection, scope, one.subject)
    if before is not None:  # as it will be kept
        one = msgspec.structs.replace(one, created=before.created, stopped=before.stopped)
    info = _info(connection, one, usage.collections(connection), now)
    if not request.dry_run:
        budgets.put_budget(connection, one)
        budgets.note_change(connection, scope, one.subject, at=now, by=by, what=_told(one, request.critical))
    return info


def _told(one: Budget, critical: tuple[str, ...]) -> str:
    """A budget in words, for its history."""
    period = f"the month of {one.zone}" if one.zone else "30 days"
    named = f"; critical: {', '.join(critical)}" if critical else ""
    return f"{format_size(one.bytes)} in {period}: {described(one.shares, one.rate)}{named}"


def _check(request: BudgetRequest, scope: Scope) -> None:
    if request.stop_percent and scope is not Scope.POINT:
        raise BadInputError(
            "Only the budget of a cloud point can stop the service.", next_step="Set one for the cloud point, too."
        )
    if bool(request.throttle_percent) != bool(request.rate):
        raise BadInputError("To throttle needs both a share and a rate.", next_step="Give both, or neither.")
    if 0 < request.rate < LEAST_RATE:
        raise BadInputError(
            f"Downloads that are throttled below {format_size(LEAST_RATE)}/s would run into the clients' time limits.",
            next_step=f"Give a rate of {LEAST_RATE // 1000}KB or more; to hold back more, lower the share for grants.",
        )
    if request.zone and request.zone not in available_timezones():
        raise BadInputError(
            f"There is no time zone {request.zone}.", next_step="Give a name such as Europe/Berlin; none: 30 days."
        )


def _info(connection: Connection, one: Budget, kept: Mapping[str, int], now: float) -> BudgetInfo:
    used, outstanding = grants.standing(connection, one, now)
    collected = kept.get(one.subject, 0) if one.scope is Scope.POINT else min(kept.values(), default=0)
    return BudgetInfo(
        scope=one.scope.value,
        name=name_of(connection, one),
        bytes=one.bytes,
        **{share: getattr(one, share) for share in Shares.__struct_fields__},
        rate=kept_rate(one.rate),
        critical=one.critical,
        zone=one.zone,
        used=used,
        granted=outstanding,
        unaccounted=grants.unaccounted(connection, one, now, ended=int(now) - DAY),
        left=max(0, one.bytes - used - outstanding),
        grades=described(one.shares, one.rate),
        grade=WORDS[grade(one.shares, one.bytes, used=used, granted=outstanding)],
        period_from=period_start(one.zone, now),
        period_ends=next_period(one.zone, now),
        stopped=one.stopped,
        created=one.created,
        by=one.by,
        refused=one.refused,
        warning=crowding.note_of(connection, one),
        collected=collected,
        age_seconds=max(0, int(now) - collected) if collected else 0,
    )


def listed(connection: Connection, *, now: float) -> list[BudgetInfo]:
    """The budgets, and how they stand."""
    kept = usage.collections(connection)
    return [_info(connection, one, kept, now) for one in budgets.budgets(connection)]


def history(connection: Connection) -> list[BudgetChange]:
    """Who changed which budget, newest first."""
    return [
        BudgetChange(
            scope=each.scope,
            name=name_of(connection, Budget(scope=Scope(each.scope), subject=each.subject, bytes=0)),
            at=each.at,
            by=each.by,
            what=each.what,
        )
        for each in budgets.changes(connection)
    ]


def delete(connection: Connection, name: str, *, scope: str = "cloud-point", by: str, now: float) -> None:
    """Lift a budget. A service that it stopped stays stopped until it is started.

    Raises:
        NotFoundError: there is none, or no such cloud point, content or collection.
    """
    which = Scope(scope)
    subject = subject_of(connection, which, name)
    if not budgets.delete_budget(connection, which, subject):
        raise NotFoundError(f"The {scope.replace('-', ' ')} {name} has no budget.")
    budgets.note_change(connection, which, subject, at=now, by=by, what="lifted")
