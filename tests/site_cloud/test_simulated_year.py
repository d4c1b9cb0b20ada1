"""A year of a cloud point through the code that serves: segments in the store, collection, hourly buckets, thresholds,
alerts, forecast, cost and outbox, under a clock that the test moves; held against a model that only adds up.

Most of the year goes by in steps of a day; around the changes of daylight saving, the new year, the leap day and
an outage of the cloud it goes hour by hour. Some segments come days late, and thresholds are changed on the way.
"""

import math
from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import func, select

from entrepot.core.errors import UnavailableError
from entrepot.core.sizes import GB
from entrepot.database import alerts, notifications, prices, usage
from entrepot.database.notifications import Subscription
from entrepot.database.tables.alerts import alert_message
from entrepot.database.tables.usage import transfer_bucket
from entrepot.protocol.alertapi import Channel, Language
from entrepot.protocol.cloudpointapi import CloudPointPatch, Thresholds
from entrepot.protocol.costapi import CostBy
from entrepot.rules.prices import PriceSheet, Tier
from entrepot.site.cost.charging import report
from entrepot.site.cost.forecasting import forecasts

from .conftest import SITE, Gateway, SiteUnderTest, record

BEGIN = datetime(2027, 10, 1, tzinfo=UTC)
END = datetime(2028, 10, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
BERLIN = ZoneInfo("Europe/Berlin")
CLOSE = [
    datetime(2027, 10, 31, 1, tzinfo=UTC),  # clocks go back
    datetime(2028, 1, 1, tzinfo=UTC),
    datetime(2028, 1, 15, 12, tzinfo=UTC),  # the outage
    datetime(2028, 2, 29, 12, tzinfo=UTC),
    datetime(2028, 3, 26, 1, tzinfo=UTC),  # clocks go forward
]
OUTAGE = (datetime(2028, 1, 15, tzinfo=UTC), datetime(2028, 1, 16, 4, tzinfo=UTC))
CHANGES = {
    datetime(2028, 2, 10, tzinfo=UTC): 1_900 * GB,
    datetime(2028, 4, 20, tzinfo=UTC): 800 * GB,
    datetime(2028, 7, 7, tzinfo=UTC): 1_000 * GB,
}
STORAGE_QUOTA = 500 * GB
WATCHED = ("transfer_warning", "transfer_critical", "storage_warning", "storage_critical", "figures_stale")
SHEET = PriceSheet(
    name="ours",
    currency="EUR",
    storage_gb_month=Decimal("0.02"),
    egress=(Tier(per_gb=Decimal(0), up_to_gb=100), Tier(per_gb=Decimal("0.08"))),
)


def _traffic(hour: datetime) -> int:
    """What clients fetch in an hour: two waves a year, quiet nights and weekends by the clocks on their walls."""
    local = hour.astimezone(BERLIN)
    wave = 0.35 + 0.75 * math.sin(2 * math.pi * (hour - BEGIN).days / 366) ** 2
    week = (1.4, 1.3, 1.2, 1.1, 1.0, 0.5, 0.4)[local.weekday()]
    day = 1.8 if 8 <= local.hour < 18 else 0.45
    return int(1.5 * GB * wave * week * day)


def _stored(hour: datetime) -> int:
    return int((350 + 170 * math.sin(2 * math.pi * (hour - BEGIN).days / 120)) * GB)


class Model:
    """What should be, by addition alone."""

    def __init__(self) -> None:
        self.sent: dict[datetime, int] = {}
        self.measured: dict[datetime, int] = {}
        self.collected: datetime | None = None
        self.quota = 1_000 * GB
        self.rolled = 0  # bytes of the thirty days, when it was last looked
        self.open: set[str] = set()
        self.events: list[tuple[str, str, datetime]] = []

    def rolling(self, now: datetime) -> int:
        first = now - timedelta(days=30)
        return sum(self.sent.get(first + number * HOUR, 0) for number in range(30 * 24 + 1))

    def evaluate(self, now: datetime, stored: int, *, strict: bool = False) -> None:
        sent = self.rolled = self.rolling(now)
        for name, figure, level in (
            ("transfer_warning", sent, self.quota * 50 / 100),
            ("transfer_critical", sent, self.quota * 90 / 100),
            ("storage_warning", stored, STORAGE_QUOTA * 90 / 100),
            ("storage_critical", stored, STORAGE_QUOTA),
        ):
            kept = name in self.open and not strict and figure >= level * 0.98
            self._turn(name, figure >= level or kept, now)
        assert self.collected is not None
        self._turn("figures_stale", now - self.collected >= 3 * HOUR, now)

    def _turn(self, name: str, bad: bool, now: datetime) -> None:
        if bad != (name in self.open):
            (self.open.add if bad else self.open.discard)(name)
            self.events.append((name, "opened" if bad else "closed", now))

    def cost(self, now: datetime) -> tuple[int, Decimal]:
        """Bytes of this month so far, and what they and the storage cost."""
        first = now.replace(day=1, hour=0)
        sent = sum(count for hour, count in self.sent.items() if first <= hour)
        following = (first + timedelta(days=32)).replace(day=1)
        held, byte_hours = 0, 0
        for hour in sorted(self.measured):
            if hour < first:
                held = self.measured[hour]
        hour = first
        while hour <= now:
            held = self.measured.get(hour, held)
            byte_hours += held
            hour += HOUR
        storage = Decimal(byte_hours) / ((following - first) // HOUR) / GB * Decimal("0.02")
        return sent, storage + max(Decimal(0), Decimal(sent) / GB - 100) * Decimal("0.08")


def _steps() -> list[datetime]:
    """The moments at which something is collected or judged."""
    found, now = [], BEGIN + 24 * HOUR
    while now <= END:
        found.append(now)
        near = any(abs(now - moment) < timedelta(days=1, hours=6) for moment in CLOSE)
        now += HOUR if near or now.hour else 24 * HOUR
    return found


class Year:
    """Drives the site and the model side by side."""

    def __init__(self, site: SiteUnderTest, point: str) -> None:
        self.site = site
        self.point = point
        self.model = Model()
        self.gateways = [Gateway(point, "gw-1"), Gateway(point, "gw-2")]
        self.late: list[tuple[datetime, str, bytes, dict[datetime, int]]] = []
        self.waiting: dict[datetime, int] = {}
        self.by_device: Counter[str] = Counter()
        self.reached = BEGIN

    async def serve(self, now: datetime, number: int) -> None:
        """Clients fetch until now; instances ship, one of them sometimes two days late."""
        counts: dict[datetime, int] = {}
        records = []
        while self.reached < now:
            count = _traffic(self.reached)
            counts[self.reached] = count
            device = f"dev-{self.reached.hour % 5}"
            self.by_device[device] += count
            at = int(self.reached.timestamp() * 1000) + 1_234_567
            records.append(record(count, time=at, device=device))
            self.reached += HOUR
        key, data = self.gateways[number % 2].segment(records, opened=int(now.timestamp() * 1000))
        if number % 41 == 40:
            self.late.append((now + timedelta(days=2), key, data, counts))
        else:
            await self._put(key, data, counts)
        for one in [one for one in self.late if one[0] <= now]:
            self.late.remove(one)
            await self._put(*one[1:])

    async def _put(self, key: str, data: bytes, counts: dict[datetime, int]) -> None:
        await self.site.cloud.services["cloud1"].holder.put_document(key, data)
        self.waiting.update(counts)

    async def collect(self, now: datetime) -> None:
        """Collect, or fail to, and judge."""
        point = await self.site.services.get("cloud1")
        store = await self.site.services.providers.store_of(point)
        if OUTAGE[0] <= now < OUTAGE[1]:
            self.site.cloud.failures["list_documents"] = [UnavailableError("The cloud is away.")]
            with pytest.raises(UnavailableError):
                await self.site.services.collector.run_once(point, store)
        else:
            await self.site.services.collector.run_once(point, store)
            with self.site.database.transaction() as connection:
                usage.set_stored(connection, self.point, stored=_stored(now), objects=1, now=int(self.site.clock()))
            self.model.sent.update(self.waiting)
            self.model.measured[now] = _stored(now)
            self.model.collected = now
            self.waiting = {}
        await self.site.services.monitor.evaluate(self.point)
        self.model.evaluate(now, self.stored)

    @property
    def stored(self) -> int:
        """What the site last measured."""
        return self.model.measured[max(self.model.measured)]

    async def change_quota(self, now: datetime, quota: int) -> None:
        await self.site.services.patch("cloud1", CloudPointPatch(transfer_quota=quota))
        self.model.quota = quota
        self.model.evaluate(now, self.stored, strict=True)


def _subscription() -> Subscription:
    return Subscription(
        id="sub-1",
        name="Operators",
        channel=Channel.WEBHOOK,
        target="https://example.com/",
        language=Language.ENGLISH,
        types=WATCHED,
        severities=(),
        digest_minutes=0,
        private_networks=False,
        authority="",
        sealed=b"",
        site=SITE,
        created=0,
    )


@pytest.mark.long
async def test_a_year_is_counted_alerted_and_charged_as_simple_addition_says(site):
    point = await site.make_point(thresholds=Thresholds(storage_quota=STORAGE_QUOTA, transfer_quota=1_000 * GB))
    with site.database.transaction() as connection:
        notifications.add_subscription(connection, _subscription())
        prices.add_version(connection, SHEET, by="ann", now=0)
        prices.use(connection, "", "ours")
    year = Year(site, point.point)
    steps = _steps()
    foreseen = []
    for number, now in enumerate(steps):
        site.clock.now = now.timestamp()
        await year.serve(now, number)
        await year.collect(now)
        if now in CHANGES:
            await year.change_quota(now, CHANGES[now])
        with site.database.reading() as connection:
            since = int((now - timedelta(days=30)).timestamp())
            assert usage.totals_since(connection, point.point, since).sent == year.model.rolled, now
            if number % 15 == 0:
                _, transfer = forecasts(connection, await site.services.get("cloud1"), site.clock())
                foreseen.append((now, transfer))
            if (now + 24 * HOUR).month != now.month:
                charged = report(connection, by=CostBy.POINT, cloud_point="", site=SITE, now=site.clock())
                sent, amount = year.model.cost(now)
                assert (charged.lines[0].bytes, charged.total) == (sent, pytest.approx(amount)), now
    _check_alerts(year)
    _check_sums(year)
    _check_forecasts(year, foreseen)


def _check_alerts(year: Year) -> None:
    """Every alert opened and closed when the model says, and was put into the outbox, and nothing else was."""
    found = []
    with year.site.database.reading() as connection:
        for name in WATCHED:
            alert = alerts.find(connection, type_=name, subject=year.point)
            rows = alerts.history(connection, alert.id)
            found += [(name, row.event.value, datetime.fromtimestamp(row.at, UTC)) for row in rows]
        told = connection.execute(select(func.count()).select_from(alert_message)).scalar_one()
    assert sorted(found) == sorted(year.model.events)
    assert told == len(found)
    seen = Counter(name for name, _, _ in found)
    assert all(seen[name] >= 2 for name in WATCHED), seen
    assert seen["figures_stale"] == 2  # the outage, and nothing else
    assert max(seen.values()) <= 16  # no flapping


def _check_sums(year: Year) -> None:
    """Not a byte was lost or counted twice, whatever the hour was called on the wall."""
    table = transfer_bucket
    with year.site.database.reading() as connection:
        devices = connection.execute(select(table.c.device, func.sum(table.c.bytes)).group_by(table.c.device)).all()
        hours = usage.hours(connection, year.point, since=0, until=2**40, limit=100_000)
    late = {hour for one in year.late for hour in one[3]}
    counted = {datetime.fromtimestamp(row.hour, UTC): row.sent for row in hours if row.sent}
    assert counted == {hour: count for hour, count in year.model.sent.items() if hour not in late}
    assert sum(row[1] for row in devices) == sum(year.model.sent.values())
    if not late:
        assert {row[0]: row[1] for row in devices} == year.by_device


def _check_forecasts(year: Year, foreseen: list) -> None:
    """What is said of thirty days ahead was mostly right, and never absurd."""
    peak = max(year.model.rolling(now) for now, _ in foreseen)
    errors = []
    for now, forecast in foreseen:
        if not forecast.days:
            assert now - BEGIN < timedelta(days=4)
            continue
        assert 0 <= forecast.in_thirty_days <= 2.5 * peak
        ahead = now + timedelta(days=30)
        if ahead < END - timedelta(days=3) and now - BEGIN > timedelta(days=28):
            real = sum(count for hour, count in year.model.sent.items() if now <= hour < ahead)
            errors.append(abs(forecast.in_thirty_days - real) / real)
    errors.sort()
    assert errors[len(errors) // 2] < 0.35, errors
