"""Watches cloud points: health, storage, transactions, thresholds (R26, R36, R37)."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

import msgspec
import structlog
from sqlalchemy import Connection

from entrepot.core.errors import EntrepotError, NotFoundError, TrustError
from entrepot.core.ids import object_id_from_hex
from entrepot.core.times import DAY, HOUR, Clock
from entrepot.database import cloud, clouddetails, granting, grants, tasks, usage
from entrepot.database.cloud import CloudPoint
from entrepot.database.engine import Database
from entrepot.database.tasks import Task
from entrepot.protocol.cloudhost import RunState
from entrepot.protocol.cloudpointapi import CloudPointState, CollectSummary, DnsProof
from entrepot.protocol.control import ServiceState
from entrepot.rules.alerts import Condition
from entrepot.rules.sentences import in_words
from entrepot.site.cloud import hostpins
from entrepot.site.cloud.collection import Collector
from entrepot.site.cloud.dns import Resolver, Texts, no_texts, system_resolver
from entrepot.site.cloud.health import Look, findings_of, look, settled_state
from entrepot.site.cloud.judging import certificate_finding, judge_usage
from entrepot.site.cloud.metering import Meter
from entrepot.site.cloud.presenting import Ask, ask, look_at_way
from entrepot.site.cloud.probing import (
    certificate_findings,
    certificates_detail,
    clock_finding,
    details_of,
    dns_finding,
    probe_store,
)
from entrepot.site.cloud.proofs import all_seen, look_for
from entrepot.site.cloud.proofs import details_of as proof_details
from entrepot.site.cloud.providers import Providers
from entrepot.site.cloud.states import WORKING
from entrepot.site.cloud.waiting import Sleep, running
from entrepot.site.cost.settling import read_marks, settle
from entrepot.site.findings import Finding, judge, resume_postponed

if TYPE_CHECKING:
    from entrepot.web.dataplane import Holder


class Bind(Protocol):
    """Told of a point whose name leads to it, and whose cloud does not serve it by that name. ``seen``: whether all
    records are there that the cloud wants to see."""

    async def __call__(self, point: CloudPoint, *, seen: bool) -> None: ...


COLLECT_SECONDS: Final = HOUR
RECONCILE_SECONDS: Final = DAY
T = TypeVar("T")

log = structlog.get_logger("site.cloud.monitor")


class Monitor:
    """Everything that is looked at periodically, and can be asked for now.

    Args:
        stop: told of a point whose service runs although it is not to.
    """

    def __init__(
        self,
        database: Database,
        *,
        providers: Providers,
        collector: Collector,
        meter: Meter,
        clock: Clock,
        bind: Bind,
        stop: Callable[[CloudPoint], Awaitable[None]],
        ask: Ask = ask,
        sleep: Sleep = asyncio.sleep,
        resolver: Resolver = system_resolver,
        texts: Texts = no_texts,
        lag: int = grants.LAG,
    ) -> None:
        self._resolver = resolver
        self._texts = texts
        self._bind = bind
        self._ask = ask
        self._stop = stop
        self._database = database
        self._providers = providers
        self._collector = collector
        self._meter = meter
        self._clock = clock
        self._sleep = sleep
        self._lag = lag

    async def check(self, point_id: str) -> None:
        """Look at a cloud point and let alerts follow.

        Raises:
            NotFoundError: it is gone.
        """
        point = await self._database.read(cloud.get_cloud_point, point_id)
        now = self._clock()
        if not point.ready or point.state is CloudPointState.DELETING:
            await self._database.write(_settle_orphan, point, now)
            return
        seen, leads = await asyncio.gather(self._seen(point), dns_finding(point, self._resolver))
        seen = await self._with_way(point, seen)
        probes = (leads, *await self._probe(point, seen, now))
        unserved = seen.status is not None and seen.status.notes
        proofs = await look_for(seen.status.records, self._texts) if seen.status is not None and unserved else ()
        await self._database.write(_note, point, seen, probes, proofs, now)
        if seen.status is not None and _runs_unwanted(point, seen):
            log.warning("stopping_unwanted_service", point=point.point)
            await self._stop(point)
        if unserved and leads.condition is Condition.GOOD:
            await self._bind(point, seen=all_seen(proofs))

    async def _seen(self, point: CloudPoint) -> Look:
        try:
            provider = await self._providers.of(point)
        except TrustError as error:  # the key does not open here: as bad as a refused certificate
            return Look(subscription_error=error, status_error=error)
        return await look(provider, point, sleep=self._sleep)

    async def _with_way(self, point: CloudPoint, seen: Look) -> Look:
        """The look with the way of clients, which is gone as far as a handshake where a service runs undisturbed."""
        settled = point.state not in WORKING.values() and point.wanted is ServiceState.RUNNING
        if not (settled and point.address and seen.status is not None and running(seen.status, 0)):
            return seen
        return msgspec.structs.replace(seen, way=await look_at_way(point, self._ask, self._sleep))

    async def _probe(self, point: CloudPoint, seen: Look, now: float) -> tuple[Finding, ...]:
        """What the cloud does not say itself."""
        findings = [clock_finding(seen, now, self._clock())]
        if seen.status is not None and point.address:
            findings.append(await probe_store(await self._providers.store_of(point)))
        return tuple(findings)

    async def collect(self, point_id: str) -> CollectSummary:
        """Collect now, measure, and evaluate thresholds at once (R26).

        Raises:
            NotFoundError: there is no such cloud point.
            EntrepotError: the cloud does not answer; what was collected stays.
        """
        point = await self._database.read(cloud.get_cloud_point, point_id)
        store = await self._providers.store_of(point)
        # before: what they speak of is then in the store
        marks = await self._noting(point_id, read_marks(store))
        summary = await self._collector.run_once(point, store)
        await self._noting(point_id, settle(self._database, point_id, store, marks, now=self._clock()))
        await asyncio.to_thread(self._meter.flush)
        await self._database.write(usage.count_stored, point_id, now=int(self._clock()))
        await self.check(point_id)
        await self.evaluate(point_id)
        return summary

    async def _noting(self, point_id: str, work: Awaitable[T]) -> T:
        """A part of a collection; why it failed is shown with the figures, as the collector's own failures are."""
        try:
            return await work
        except EntrepotError as error:
            await self._database.write(usage.set_collect_error, point_id, str(error))
            raise

    async def evaluate(self, point_id: str, *, strict: bool = False) -> None:
        """Compare usage with the thresholds as they are now; ``strict`` when they were changed just now."""
        await self._database.write(judge_usage, point_id, self._clock(), strict=strict)

    async def resume_postponed(self) -> None:
        """Let alerts go on whose pause is over and that nothing new was found out about."""
        await self._database.write(resume_postponed, self._clock())

    async def collect_if_due(self, point_id: str) -> bool:
        """Collect when the last collection is an hour old, or a budget waits for it; else only evaluate (the 30 days
        roll on)."""
        kept = await self._database.read(usage.stored_usage, point_id)
        awaited = await self._database.read(granting.awaits_figures, point_id, now=self._clock(), lag=self._lag)
        if self._clock() - kept.collected < COLLECT_SECONDS and not awaited:
            return False
        await self.collect(point_id)
        return True

    async def reconcile_if_due(self, point_id: str) -> bool:
        """List the whole store once a day, so that the provider's figure can be compared (architecture 4.5)."""
        kept = await self._database.read(usage.stored_usage, point_id)
        if self._clock() - kept.listed_at < RECONCILE_SECONDS:
            return False
        point = await self._database.read(cloud.get_cloud_point, point_id)
        objects, documents = await _listed_bytes(await self._providers.store_of(point))
        difference = await self._database.write(
            usage.set_listed, point_id, objects=objects, documents=documents, now=int(self._clock())
        )
        if difference:
            log.info("storage_differs", point=point_id, measured=kept.stored_bytes, listed=objects, more=difference)
        return True


async def _listed_bytes(store: "Holder") -> tuple[int, int]:
    """Bytes of all objects, and of all documents."""
    in_objects, after, more = 0, None, True
    while more:
        objects = await store.page(after)
        in_objects += sum(objects.sizes)
        more = objects.more and bool(objects.ids)
        after = object_id_from_hex(objects.ids[-1]) if objects.ids else None
    in_documents, key, more = 0, "", True
    while more:
        documents = await store.list_documents("", after=key)
        in_documents += sum(documents.sizes)
        more = documents.more and bool(documents.keys)
        key = documents.keys[-1] if documents.keys else ""
    return in_objects, in_documents


def _runs_unwanted(point: CloudPoint, seen: Look) -> bool:
    settled = point.state not in WORKING.values()
    stopped = point.wanted is ServiceState.STOPPED
    return settled and stopped and seen.status is not None and seen.status.state is not RunState.STOPPED


def _note(
    connection: Connection,
    before: CloudPoint,
    seen: Look,
    probes: tuple[Finding, ...],
    proofs: tuple[DnsProof, ...],
    now: float,
) -> None:
    """Write down what was seen, unless the point changed hands meanwhile."""
    point = cloud.get_cloud_point(connection, before.point, locked=True)
    if point.task != before.task:
        return
    values: dict[str, object] = {"checked": int(now)} | hostpins.changes(point, before, seen.subscription)
    if seen.status is not None:
        values |= {"address": seen.status.address, "instances": seen.status.instances}
        usage.set_stored(
            connection,
            point.point,
            stored=seen.status.stored_bytes,
            objects=seen.status.stored_objects,
            now=int(now),
            at=seen.status.stored_at,
            instances=sum(1 for instance in seen.status.instances if instance.state == "running"),
        )
    if not _busy(connection, point):
        state, said = settled_state(point, seen)
        values |= {"state": state, "message": in_words(said)}
    certificate = cloud.certificate(connection, point.management_certificate)
    levels = certificate_findings(point, certificate.not_after, now)
    findings: list[Finding] = [certificate_finding(point, certificate.not_after, now), *levels, *probes]
    certificates = certificates_detail(point, certificate.not_after, now)
    details = (*details_of(point, seen, probes), certificates, *proof_details(proofs))
    clouddetails.keep_health(connection, point.point, details, int(now))
    if not _busy(connection, point):
        findings += findings_of(point, seen)
    cloud.update_cloud_point(connection, point.point, **values)
    judge(connection, point.point, point.name, findings, now)


def _busy(connection: Connection, point: CloudPoint) -> bool:
    """Whether the task in charge is still under way."""
    if point.state not in WORKING.values():
        return False
    task = _task(connection, point)
    return task is not None and not task.state.final


def _task(connection: Connection, point: CloudPoint) -> Task | None:
    """The task in charge; None when it ended so long ago that it was forgotten."""
    try:
        return tasks.get(connection, point.task)
    except NotFoundError:
        return None


def _settle_orphan(connection: Connection, before: CloudPoint, now: float) -> None:
    """A creation or deletion whose task ended without its handler (cancelled while waiting, given up) is failed."""
    point = cloud.get_cloud_point(connection, before.point, locked=True)
    if point.state not in WORKING.values() or _busy(connection, point):
        return
    task = _task(connection, point)
    reason = "The task ended without a result." if task is None else task.error or f"The task {task.state.value}."
    state = point.state if point.state is CloudPointState.DELETING else CloudPointState.FAILED
    if (point.state, point.message) != (state, reason):
        cloud.update_cloud_point(connection, point.point, state=state, message=reason, checked=int(now))
