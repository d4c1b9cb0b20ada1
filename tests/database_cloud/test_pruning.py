"""What is old goes in batches; what a month's cost, the 30 days or a forecast needs stays."""

import pytest
from sqlalchemy import func, select

from entrepot.core.errors import BadInputError
from entrepot.core.times import DAY, HOUR, hour_of
from entrepot.database import alerts, charges, deletedpoints, pruning, usage
from entrepot.database.collection import BucketRow, _add_buckets
from entrepot.database.deletedpoints import DeletedPoint
from entrepot.database.engine import insert_into
from entrepot.database.tables.alerts import alert, alert_history
from entrepot.database.tables.cost import budget_hour, saving_day
from entrepot.database.tables.points import point
from entrepot.database.tables.usage import transfer_bucket, usage_hour
from entrepot.rules.alerts import AlertState, Condition, evaluate
from entrepot.site.cost.charging import month_of
from entrepot.site.cost.forecasting import LOOKED_AT_DAYS
from entrepot.site.cost.pruning import Pruning, Retention
from entrepot.site.settings import Settings, check_settings

NOW = 1_774_267_200  # 2026-03-23T12:00:00Z
POINT = "pt-1"


def _used(connection, name, hour, device="dev-1"):
    row = BucketRow(hour=hour, device=device, content="pkg-1", status="2xx", requests=1, bytes=100)
    _add_buckets(connection, name, [row])


def _log_everything(connection):
    connection.execute(transfer_bucket.update().values(unlogged=False))


def _count(database, table):
    with database.reading() as connection:
        return connection.execute(select(func.count()).select_from(table)).scalar_one()


def _add_point(connection):
    values = {column.name: column.type.python_type() for column in point.c if not column.nullable}
    values |= {"id": POINT, "name": "cloud1", "name_key": "cloud1", "site": "PS1", "kind": "cloud"}
    connection.execute(point.insert().values({k: v for k, v in values.items() if k in point.c}))


@pytest.mark.parametrize("batch", [1, 7, 2000])
async def test_what_is_needed_stays_and_the_rest_goes(database, batch):
    with database.transaction() as connection:
        _add_point(connection)
        for back in range(0, 900, 9):
            _used(connection, POINT, hour_of(NOW) - back * DAY)
            usage.add_to_hour(connection, POINT, hour_of(NOW) - back * DAY, uploaded=1)
        _log_everything(connection)
    pruner = Pruning(database, Retention(usage=400, transfers=60), clock=lambda: NOW, batch=batch)
    removed = await pruner.run_once()
    hours, buckets = _count(database, usage_hour), _count(database, transfer_bucket)
    assert (hours, buckets) == (45, 7)
    assert removed == 100 - hours + 100 - buckets
    assert await pruner.run_once() == 0


async def test_the_shortest_retention_keeps_month_quota_and_forecast(database):
    shortest = Retention(usage=62, transfers=40, alerts=30)
    with database.transaction() as connection:
        _add_point(connection)
        for back in range(70 * 24):
            _used(connection, POINT, hour_of(NOW) - back * HOUR)
        _log_everything(connection)

    def looked_at():
        with database.reading() as connection:
            month, _ = month_of(NOW)
            forecast = hour_of(NOW) - LOOKED_AT_DAYS * DAY
            return (
                usage.totals_since(connection, POINT, hour_of(NOW) - 30 * DAY),
                charges.by_device(connection, POINT, since=month, devices=["dev-1", "dev-2"]),
                charges.hours(connection, POINT, since=forecast, until=NOW),
            )

    before = looked_at()
    assert await Pruning(database, shortest, clock=lambda: NOW).run_once() > 0
    assert looked_at() == before


async def test_what_budgets_counted_goes_when_no_period_has_it(database):
    rows = [{"scope": "content", "subject": "pkg-1", "hour": NOW - back * DAY, "bytes": 1} for back in range(120)]
    with database.transaction() as connection:
        connection.execute(budget_hour.insert(), rows)
    assert await Pruning(database, Retention(), clock=lambda: NOW, batch=7).run_once() == 19
    assert _count(database, budget_hour) == 101


async def test_what_the_log_owes_stays_as_long_as_its_point_does(database):
    with database.transaction() as connection:
        _add_point(connection)
        _used(connection, POINT, hour_of(NOW) - 300 * DAY)
        _used(connection, "pt-gone", hour_of(NOW) - 300 * DAY)
        assert pruning.prune_transfers(connection, before=NOW - 100 * DAY, limit=10) == 1
        left = connection.execute(select(transfer_bucket.c.point)).scalars().all()
    assert left == [POINT]


async def test_histories_savings_and_deletions_go(database):
    with database.transaction() as connection:
        _add_point(connection)
        for subject in (POINT, "pt-gone"):
            alerts.ensure(connection, type_="transfer_warning", subject=subject, subject_name="x", now=0)
            found = alerts.find(connection, type_="transfer_warning", subject=subject)
            for at, bad in ((NOW - 900 * DAY, True), (NOW - 899 * DAY, False), (NOW - 898 * DAY, True)):
                condition = Condition.BAD if bad else Condition.GOOD
                alerts.change(connection, found.id, lambda a, c=condition, t=at: evaluate(a, c, said=(), now=t))
        alerts.end_subject(connection, "pt-gone", now=NOW - 850 * DAY)
        alerts.change(
            connection,
            alerts.find(connection, type_="transfer_warning", subject=POINT).id,
            lambda a: evaluate(a, Condition.GOOD, said=(), now=NOW),
        )
        key = {"content": "pkg-1", "point": "", "kind": "deltas", "form": "", "bytes": 1, "downloads": 1}
        for day in (NOW - 900 * DAY, NOW - 3 * DAY):
            connection.execute(insert_into(connection, saving_day).values(day=day, **key))
        for name, at in (("pt-a", NOW - 900 * DAY), ("pt-b", NOW - DAY)):
            gone = DeletedPoint(point=name, name=name, site="PS1", sheet="", segments=0, ready=1, deleted=at)
            deletedpoints.keep(connection, gone)
    await Pruning(database, Retention(), clock=lambda: NOW).run_once()
    with database.reading() as connection:
        [kept] = [one for one in alerts.listed(connection) if one.alert.type == "transfer_warning"]
        assert (kept.alert.subject, kept.alert.occurrences, kept.alert.state) == (POINT, 2, AlertState.CANCELED)
        assert [row.at for row in alerts.history(connection, kept.id)] == [NOW]
        assert [one.point for one in deletedpoints.deleted_since(connection, 0, site="PS1")] == ["pt-b"]
    assert (_count(database, alert), _count(database, alert_history), _count(database, saving_day)) == (1, 1, 1)


async def test_it_runs_at_most_once_an_hour(database):
    now = [float(NOW)]
    pruner = Pruning(database, Retention(), clock=lambda: now[0])

    def old():
        with database.transaction() as connection:
            usage.add_to_hour(connection, POINT, NOW - 900 * DAY, sent=1)

    old()
    assert await pruner.run_if_due() == 1
    old()
    assert await pruner.run_if_due() == 0
    now[0] += HOUR
    assert await pruner.run_if_due() == 1


def test_settings_that_would_lose_what_is_needed_are_refused():
    good = {"site": "PS1", "url": "https://x:1", "listen": "x:1"}
    check_settings(Settings(**good))
    for wrong in ({"usage_days": 61}, {"transfer_days": 39}, {"alert_days": 0}, {"usage_days": 90}):
        with pytest.raises(BadInputError):
            check_settings(Settings(**good, **wrong))
