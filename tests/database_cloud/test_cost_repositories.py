"""Notifications, price sheets and charges on both databases."""

from decimal import Decimal

import pytest

from entrepot.core.errors import ConflictError, NotFoundError
from entrepot.core.times import DAY, HOUR, MINUTE
from entrepot.database import alerts, charges, deletedpoints, notifications, prices, usage
from entrepot.database.collection import BucketRow, _add_buckets
from entrepot.database.deletedpoints import DeletedPoint
from entrepot.database.notifications import Subscription
from entrepot.protocol.alertapi import Channel, Language, Severity
from entrepot.rules.alerts import Condition, evaluate
from entrepot.rules.prices import PriceSheet, Tier
from entrepot.rules.sentences import quoted

NOW = 1_774_267_200


def _subscription(name: str, **changes: object) -> Subscription:
    values = {
        "id": f"sub-{name}",
        "name": name,
        "channel": Channel.WEBHOOK,
        "target": "https://example.com/",
        "language": Language.ENGLISH,
        "types": (),
        "severities": (),
        "digest_minutes": 0,
        "private_networks": False,
        "authority": "",
        "sealed": b"s",
        "site": "PS1",
        "created": NOW,
    }
    return Subscription(**(values | changes))


def _turn(connection, type_: str, *conditions: Condition) -> None:
    alerts.ensure(connection, type_=type_, subject="pt-1", subject_name="cloud1", now=NOW)
    found = alerts.find(connection, type_=type_, subject="pt-1")
    for number, condition in enumerate(conditions):
        alerts.change(
            connection, found.id, lambda a, c=condition, n=number: evaluate(a, c, said=quoted("m"), now=NOW + n)
        )


def test_the_outbox_tells_each_subscriber_what_it_wants_once(database):
    with database.transaction() as connection:
        notifications.add_subscription(connection, _subscription("all"))
        notifications.add_subscription(connection, _subscription("critical", severities=(Severity.CRITICAL,)))
        notifications.add_subscription(connection, _subscription("storage", types=("storage_warning",)))
        notifications.add_subscription(connection, _subscription("later", digest_minutes=60))
        with pytest.raises(ConflictError):
            notifications.add_subscription(connection, _subscription("ALL", id="sub-x"))
        _turn(connection, "transfer_warning", Condition.BAD, Condition.GOOD)
        _turn(connection, "transfer_critical", Condition.BAD)
        due = {one.name for one in notifications.due_subscriptions(connection, site="PS1", now=NOW + MINUTE)}
        assert due == {"all", "critical"}
        counts = notifications.counts(connection)
        assert counts == {("sub-all", "waiting"): 3, ("sub-critical", "waiting"): 1, ("sub-later", "waiting"): 3}


def test_messages_are_leased_put_back_settled_and_forgotten(database):
    mine = _subscription("all")
    with database.transaction() as connection:
        notifications.add_subscription(connection, mine)
        _turn(connection, "transfer_warning", Condition.BAD, Condition.GOOD)
    lease = {"now": NOW + 10, "until": NOW + 300, "limit": 10}
    with database.transaction() as connection:
        first, second = notifications.take(connection, mine, **lease)
        assert [first.body.event, second.body.event] == ["opened", "closed"]
    with database.transaction() as connection:
        assert notifications.take(connection, mine, **lease) == []
        notifications.settle(connection, mine.id, [first.id], now=NOW + 20)
        notifications.put_back(connection, mine.id, [second.id], due=NOW + 60, error="away", now=NOW + 20)
    with database.transaction() as connection:
        [again] = notifications.take(connection, mine, now=NOW + 60, until=NOW + 400, limit=10)
        assert (again.id, again.attempts) == (second.id, 1)
        notifications.put_back(connection, mine.id, [again.id], due=None, error="gave up", now=NOW + 60)
        assert notifications.get_subscription(connection, "ALL").error == "gave up"
        assert notifications.counts(connection) == {("sub-all", "sent"): 1, ("sub-all", "failed"): 1}
        assert notifications.prune(connection, before=NOW + 30) == 1
        notifications.delete_subscription(connection, "all")
        assert notifications.counts(connection) == {}
        with pytest.raises(NotFoundError):
            notifications.get_subscription(connection, "all")


SHEET = PriceSheet(name="Ours", currency="EUR", storage_gb_month=Decimal("0.02"), egress=(Tier(per_gb=Decimal(1)),))


def test_sheets_have_versions_and_points_use_the_newest(database):
    with database.transaction() as connection:
        assert prices.sheet_of(connection, "pt-1") is None
        prices.add_version(connection, SHEET, by="ann", now=NOW)
        dearer = PriceSheet(name="OURS", currency="EUR", storage_gb_month=Decimal(1), egress=SHEET.egress)
        assert prices.add_version(connection, dearer, by="ann", now=NOW).version == 2
        prices.add_version(connection, PriceSheet(**{**_fields(SHEET), "name": "other"}), by="ann", now=NOW)
        prices.use(connection, "", "other")
        prices.use(connection, "pt-1", "other")
        prices.use(connection, "pt-1", "ours")
        assert prices.sheet_of(connection, "pt-1") == dearer
        assert prices.sheet_of(connection, "pt-2").name == "other"
        assert [one.version for one in prices.versions(connection, "ours")] == [1, 2]
        prices.forget_point(connection, "pt-1")
        assert prices.key_of(connection, "pt-1") == "other"


def _fields(sheet: PriceSheet) -> dict:
    return {name: getattr(sheet, name) for name in PriceSheet.__struct_fields__}


def test_what_is_charged_is_summed_by_content_and_device(database):
    hour = NOW // HOUR * HOUR
    with database.transaction() as connection:
        for number, (device, content) in enumerate((("dev-1", "a"), ("dev-2", "a"), ("dev-1", "b"))):
            row = {"device": device, "content": content, "status": "2xx", "requests": 1, "bytes": 10**number}
            _add_buckets(connection, "pt-1", [BucketRow(hour=hour, **row)])
        usage.set_stored(connection, "pt-1", stored=7, objects=1, now=hour, instances=2)
        usage.set_stored(connection, "pt-1", stored=9, objects=1, now=hour + 60, instances=1)
        [charged] = charges.hours(connection, "pt-1", since=hour, until=hour + 1)
        assert (charged.sent, charged.requests, charged.stored, charged.instances) == (111, 3, 9, 2)
        assert charges.stored_before(connection, "pt-1", hour + HOUR) == 9
        assert charges.stored_before(connection, "pt-1", hour) == 0
        by_content = charges.by_content(connection, "pt-1", since=hour)
        assert [(one.subject, one.bytes) for one in by_content] == [("b", 100), ("a", 11)]
        assert charges.busiest_devices(connection, ["pt-1", "pt-2"], since=hour, limit=1) == (["dev-1"], 2)
        assert charges.busiest_devices(connection, ["pt-1"], since=hour + 1, limit=1) == ([], 0)
        [first] = charges.by_device(connection, "pt-1", since=hour, devices=["dev-1", "dev-3"])
        assert (first.subject, first.bytes, first.requests) == ("dev-1", 101, 2)
        assert charges.by_device(connection, "pt-1", since=hour + 1, devices=["dev-1"]) == []
        everyone = charges.whole(connection, "pt-1", since=hour)
        assert (everyone.bytes, everyone.requests) == (111, 3)


def test_a_deletion_is_kept_once_and_found_by_name_within_its_time(database):
    gone = DeletedPoint(point="pt-1", name="Cloud1", site="PS1", sheet="ours", segments=3, ready=1, deleted=NOW)
    with database.transaction() as connection:
        usage.add_to_hour(connection, "pt-1", NOW, sent=1)
        assert charges.lost_points(connection, since=NOW) == 1
        deletedpoints.keep(connection, gone)
        deletedpoints.keep(connection, gone)
        assert charges.lost_points(connection, since=NOW) == 0
        assert deletedpoints.deleted_since(connection, NOW, site="PS1") == [gone]
        assert deletedpoints.find_deleted(connection, "cloud1", since=NOW - DAY, site="PS1") == gone
        for wrong in ({"since": NOW + 1, "site": "PS1"}, {"since": 0, "site": "XX1"}):
            with pytest.raises(NotFoundError):
                deletedpoints.find_deleted(connection, "cloud1", **wrong)
        assert deletedpoints.forget_deleted(connection, before=NOW + 1) == 1
