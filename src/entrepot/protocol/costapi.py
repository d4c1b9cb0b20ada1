"""The admin API of money: price sheets, cost, forecasts, quotes. Paths below ``/api/v1``.

Amounts and prices are decimal numbers in strings. GB is 10^9 bytes; a month is the calendar month in UTC.
"""

from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Literal

from msgspec import Meta

from entrepot.protocol.deviceapi import ALL_DEVICES
from entrepot.protocol.siteapi import Model, Name, Text


class EgressTier(Model, frozen=True, kw_only=True):
    """Gigabytes of a month up to ``up_to_gb`` cost ``per_gb`` each; the last tier has no upper end."""

    per_gb: Decimal
    up_to_gb: int | None = None


class PriceSheetRequest(Model, frozen=True, kw_only=True):
    """``PUT /price-sheets/{name}``: a new version of a sheet; earlier ones stay."""

    currency: Annotated[str, Meta(min_length=3, max_length=3)]
    storage_gb_month: Decimal
    egress: Annotated[tuple[EgressTier, ...], Meta(min_length=1, max_length=50)]
    ingress_gb: Decimal = Decimal(0)
    writes_per_10000: Decimal = Decimal(0)
    reads_per_10000: Decimal = Decimal(0)
    instance_hour: Decimal = Decimal(0)
    source: Annotated[str, Meta(max_length=1024)] = ""


class PriceSheetInfo(Model, frozen=True, kw_only=True):
    """``GET /price-sheets``. ``version`` 0: an example that is shipped. ``used_by``: names of cloud points, or ``*``
    for all that have none of their own."""

    name: str
    version: int
    currency: str
    storage_gb_month: Decimal
    egress: tuple[EgressTier, ...]
    ingress_gb: Decimal
    writes_per_10000: Decimal
    reads_per_10000: Decimal
    instance_hour: Decimal
    source: str
    created: int
    by: str
    used_by: tuple[str, ...]


class PriceUseRequest(Model, frozen=True, kw_only=True):
    """``POST /price-sheets/{name}/use``: for a cloud point, or, when empty, for all that have none of their own. An
    example that is shipped becomes version 1 by it."""

    cloud_point: Annotated[str, Meta(max_length=128)] = ""


class CostBy(StrEnum):
    """What costs are told by."""

    POINT = "point"
    CONTENT = "content"
    COLLECTION = "collection"
    DEVICE = "device"


class CostLine(Model, frozen=True, kw_only=True):
    """Cost so far this month. ``month_end``: at the present trend, by point only. ``fetched_bytes`` (by point only):
    what the site itself fetched, to validate, repair and collect, and ``fetched`` what that costs; ``bytes`` and
    ``egress`` are of clients. An empty ``subject`` among collections: the devices that are in none."""

    subject: str
    name: str
    bytes: int
    requests: int
    total: Decimal
    storage: Decimal
    egress: Decimal
    uploads: Decimal
    requests_cost: Decimal
    instances: Decimal
    overhead: Decimal
    fetched: Decimal = Decimal(0)
    fetched_bytes: int = 0
    month_end: Decimal | None = None


class CostReport(Model, frozen=True, kw_only=True):
    """``GET /cost?by=point``. One currency a report: lines of sheets with another one are in ``others``. At most 1,000
    lines, the dearest first; ``rest_count`` further contents, collections or devices come together to ``rest``.
    ``figures_from``: when the cloud point that was collected longest ago was (0: one never was); of points that were
    all deleted, when the last of them was. ``age_seconds``: how long that is ago."""

    by: CostBy
    since: int
    until: int
    currency: str
    total: Decimal
    month_end: Decimal
    lines: tuple[CostLine, ...]
    others: tuple[str, ...]
    notes: tuple[str, ...]
    figures_from: int
    age_seconds: int = 0
    rest: CostLine | None = None
    rest_count: int = 0


BudgetScope = Literal["cloud-point", "content", "collection"]


class BudgetRequest(Model, frozen=True, kw_only=True):
    """``PUT /budgets/{name}`` (R23), in place of what was there: bytes to clients in a period that are never exceeded
    in stream mode. The shares say from where each grade holds; 0: never. ``zone``: calendar months there; empty: 30
    rolling days. ``rate``: bytes a second of a throttled token, 64,000 or more (``rules.throttle``); 0: none.
    ``dry_run``: say what it would do now, and set nothing."""

    bytes: Annotated[int, Meta(ge=1, le=2**62)]
    scope: BudgetScope = "cloud-point"
    throttle_percent: Annotated[int, Meta(ge=0, le=100)] = 0
    peers_percent: Annotated[int, Meta(ge=0, le=100)] = 0
    critical_percent: Annotated[int, Meta(ge=0, le=100)] = 100
    grant_percent: Annotated[int, Meta(ge=1, le=100)] = 100
    stop_percent: Annotated[int, Meta(ge=0, le=100)] = 0
    rate: Annotated[int, Meta(ge=0, le=2**40)] = 0
    critical: Annotated[tuple[Name, ...], Meta(max_length=1000)] = ()
    zone: Annotated[str, Meta(max_length=64)] = ""
    dry_run: bool = False


class BudgetPatch(Model, frozen=True, kw_only=True):
    """``PATCH /budgets/{name}``: what is left out stays, or is as in :class:`BudgetRequest` where there is no budget
    yet, which needs ``bytes``. ``throttle_percent`` 0 takes the rate off, too; an empty ``critical`` or ``zone`` that
    is given is meant."""

    scope: BudgetScope = "cloud-point"
    bytes: Annotated[int, Meta(ge=1, le=2**62)] | None = None
    throttle_percent: Annotated[int, Meta(ge=0, le=100)] | None = None
    peers_percent: Annotated[int, Meta(ge=0, le=100)] | None = None
    critical_percent: Annotated[int, Meta(ge=0, le=100)] | None = None
    grant_percent: Annotated[int, Meta(ge=1, le=100)] | None = None
    stop_percent: Annotated[int, Meta(ge=0, le=100)] | None = None
    rate: Annotated[int, Meta(ge=0, le=2**40)] | None = None
    critical: Annotated[tuple[Name, ...], Meta(max_length=1000)] | None = None
    zone: Annotated[str, Meta(max_length=64)] | None = None
    dry_run: bool = False


class BudgetInfo(Model, frozen=True, kw_only=True):
    """``GET /budgets``. ``used`` is what was collected, ``granted`` what tokens may still use, or used uncollected;
    ``unaccounted``: of this what gateway instances won on tokens that ended a day ago, and never accounted for.
    ``stopped``: empty, ``stopped`` by this budget, or ``waived`` (started or stopped by hand since). ``refused``: when
    it last had no room for a download, since it was set or changed; 0: never. ``warning``: cloud points that it bounds
    have more instances than can serve one client under a budget. ``grades``: the shares in words, ``grade``: how far
    it has come. ``collected``: when the cloud point that it bounds and that was collected longest ago was (0: one never
    was, or there is none), ``age_seconds`` how long that is ago."""

    scope: str
    name: str
    bytes: int
    throttle_percent: int
    peers_percent: int
    critical_percent: int
    grant_percent: int
    stop_percent: int
    rate: int
    critical: tuple[str, ...]
    zone: str
    used: int
    granted: int
    unaccounted: int = 0
    left: int
    grade: str
    period_from: int
    period_ends: int
    stopped: str
    created: int
    by: str
    refused: int = 0
    warning: str = ""
    grades: str = ""
    collected: int = 0
    age_seconds: int = 0


class BudgetChange(Model, frozen=True, kw_only=True):
    """``GET /budget-changes``: who changed a budget, and to what."""

    scope: str
    name: str
    at: int
    by: str
    what: str


class SavingsBy(StrEnum):
    """What savings are told by."""

    CONTENT = "content"
    POINT = "point"


class SavingsLine(Model, frozen=True, kw_only=True):
    """Bytes that were transferred, and bytes that were not, by what kept them from it. ``plain``: what whole downloads
    would have been without anything (by content only)."""

    subject: str
    name: str
    downloads: int
    plain: int
    transferred: int
    dedupe: int
    compression: int
    own_cache: int
    installed: int
    peers: int
    deltas: int


class SavingsReport(Model, frozen=True, kw_only=True):
    """``GET /savings?by=content&days=30`` (R28): from what devices reported."""

    by: SavingsBy
    since: int
    lines: tuple[SavingsLine, ...]


class CrossingInfo(Model, frozen=True, kw_only=True):
    """When a level is reached: seconds since 1970, 0: not within a year."""

    level: str
    bytes: int
    at: int
    earliest: int
    latest: int


class ForecastInfo(Model, frozen=True, kw_only=True):
    """A forecast of storage or of transfers (rolling 30 days). ``days`` 0: too few figures, nothing is claimed.
    ``without_plan``: when something is planned, when the levels would be reached without it."""

    metric: str
    present: int
    days: int
    per_day: int
    per_day_change: int
    in_thirty_days: int
    rhythm: tuple[float, ...]
    crossings: tuple[CrossingInfo, ...]
    without_plan: tuple[CrossingInfo, ...] = ()


class PointForecast(Model, frozen=True, kw_only=True):
    """``GET /cloud-points/{id}/forecast``; with ``planned_storage`` and ``planned_transfer`` bytes on top, or what the
    deployment of a ``content`` to a ``collection`` adds, worked out as for a quote."""

    cloud_point: str
    now: int
    collected: int
    storage: ForecastInfo
    transfer: ForecastInfo
    planned_storage: int = 0
    planned_transfer: int = 0


class QuoteRequest(Model, frozen=True, kw_only=True):
    """``POST /quotes``: what a deployment would send through the cloud, and cost. ``version`` 0: the current one;
    ``cloud_share``: percent of the clients that come through the cloud, else estimated from reports."""

    content: Name
    collection: Name = ALL_DEVICES
    version: Annotated[int, Meta(ge=0)] = 0
    cloud_share: Annotated[int, Meta(ge=0, le=100)] | None = None


class Quote(Model, frozen=True, kw_only=True):
    """``POST /quotes``. ``sent`` bytes through the cloud with deltas and reuse, ``full`` without; ``stored``: bytes
    that cloud points store on top; ``summary`` says it in a sentence, ``assumptions`` what it rests on."""

    content: str
    content_name: str
    collection: str
    version: int
    devices: int
    clients: int
    cloud_share: int
    sent: int
    full: int
    stored: int
    requests: int
    by_delta: int
    by_difference: int
    by_whole: int
    up_to_date: int
    currency: str
    amount: Decimal
    amount_full: Decimal
    summary: Text
    assumptions: tuple[str, ...]
    forecasts: tuple[PointForecast, ...] = ()
