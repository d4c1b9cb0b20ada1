"""Thresholds, health and the alerts that follow (R21, R22, R25, R26, R37)."""

import asyncio

import msgspec
import pytest
from sqlalchemy import delete

from entrepot.core.errors import BadInputError, ConflictError, ForbiddenError, NotFoundError, UnavailableError
from entrepot.core.secret import Secret
from entrepot.core.sizes import GB
from entrepot.core.times import DAY, HOUR, hour_of, iso
from entrepot.database import alerts, cloud, clouddetails, usage
from entrepot.database.tables.points import point_set
from entrepot.objects.hashing import object_id_of
from entrepot.protocol.cloudhost import RunState
from entrepot.protocol.cloudpointapi import CloudPointPatch, CloudPointState, Thresholds
from entrepot.protocol.siteapi import TaskState
from entrepot.rules.alerts import ALERT_TYPES, AlertState
from entrepot.rules.alerttypes import CLOUD_POINT_ALERTS
from entrepot.site.cloud.alerting import Alerting
from entrepot.site.cloud.info import alert_events, cloud_point_info, usage_report
from entrepot.site.cloud.loops import CloudLoops
from entrepot.site.cloud.states import CloudAction
from entrepot.trust.certificates import load_pfx
from entrepot.trust.inspection import to_pem
from entrepot.trust.pem import load_chain

from ..lightpfx import light_service_pfx
from .conftest import FQDN, LOW, NOW, PASSWORD, Gateway, SiteUnderTest, record
from .published import publish


async def _state(site: SiteUnderTest, point: str, kind: str) -> AlertState:
    return (await site.database.read(alerts.find, type_=kind, subject=point)).alert.state


async def _serve(site: SiteUnderTest, gateway: Gateway, sent: int, *, time: float | None = None) -> None:
    moment = int((site.clock() if time is None else time) * 1000)
    key, data = gateway.segment([record(sent, time=moment)], opened=moment)
    await site.cloud.services["cloud1"].holder.put_document(key, data)
    await site.services.collect("cloud1")


async def _store(site: SiteUnderTest, size: int) -> None:
    data = bytes([size % 251]) * size
    await site.cloud.services["cloud1"].holder.put(object_id_of(data), size, lambda: [data])
    await site.services.collect("cloud1")


def test_the_defaults_are_those_of_the_requirements() -> None:
    assert Thresholds() == Thresholds(
        storage_quota=2_000 * 10**9,
        storage_warning_free_percent=10,
        transfer_quota=10_000 * 10**9,
        transfer_warning_percent=50,
        transfer_critical_percent=90,
    )
    assert GB == 10**9


async def test_every_alert_exists_from_the_beginning_and_never_triggered(site) -> None:
    point = await site.make_point()
    found = await site.database.read(alerts.listed, subject=point.point)
    assert {one.alert.type for one in found} == set(CLOUD_POINT_ALERTS)
    assert {one.alert.state for one in found} == {AlertState.NEVER_TRIGGERED}
    assert all(kind.remedies for kind in ALERT_TYPES.values())


@pytest.mark.parametrize(("size", "warned"), [(899, False), (900, True), (901, True)])
async def test_the_storage_warning_comes_when_the_free_share_is_reached(site, size, warned) -> None:
    point = await site.make_point(thresholds=LOW)
    await _store(site, size)
    assert (await _state(site, point.point, "storage_warning") is AlertState.ACTIVE) is warned
    alert = (await site.database.read(alerts.find, type_="storage_warning", subject=point.point)).alert
    assert f"Measured by the cloud at {iso(site.clock())}." in alert.message, "how old the figure is"


@pytest.mark.parametrize(
    ("sent", "warning", "critical"), [(499, False, False), (500, True, False), (899, True, False), (900, True, True)]
)
async def test_transfer_alerts_open_when_reached_or_exceeded(site, sent, warning, critical) -> None:
    point = await site.make_point(thresholds=LOW)
    await _serve(site, Gateway(point.point), sent)
    assert (await _state(site, point.point, "transfer_warning") is AlertState.ACTIVE) is warning
    assert (await _state(site, point.point, "transfer_critical") is AlertState.ACTIVE) is critical


async def test_transfers_leave_the_thirty_days_hour_by_hour(site) -> None:
    point = await site.make_point(thresholds=LOW)
    gateway = Gateway(point.point)
    start = hour_of(site.clock())
    await _serve(site, gateway, 600)
    site.clock.now = start + 30 * DAY + HOUR - 1
    await site.services.monitor.evaluate(point.point)
    assert await _state(site, point.point, "transfer_warning") is AlertState.ACTIVE
    site.clock.now = start + 30 * DAY + HOUR
    await site.services.monitor.evaluate(point.point)
    alert = (await site.database.read(alerts.find, type_="transfer_warning", subject=point.point)).alert
    assert (alert.state, alert.closed_by, alert.occurrences) == (AlertState.CANCELED, "SYSTEM", 1)
    await _serve(site, gateway, 600)
    alert = (await site.database.read(alerts.find, type_="transfer_warning", subject=point.point)).alert
    assert (alert.state, alert.occurrences) == (AlertState.ACTIVE, 2)


async def test_changed_thresholds_are_evaluated_at_once(site) -> None:
    point = await site.make_point(thresholds=LOW)
    await _serve(site, Gateway(point.point), 600)
    await site.services.patch("cloud1", CloudPointPatch(transfer_quota=10_000))
    assert await _state(site, point.point, "transfer_warning") is AlertState.CANCELED
    await site.services.patch("cloud1", CloudPointPatch(transfer_quota=600, description="busy"))
    assert await _state(site, point.point, "transfer_critical") is AlertState.ACTIVE
    assert (await site.services.get("cloud1")).description == "busy"


@pytest.mark.parametrize("patch", [CloudPointPatch(transfer_critical_percent=10), CloudPointPatch(storage_quota=-1)])
async def test_thresholds_that_contradict_each_other_are_refused(site, patch) -> None:
    await site.make_point(thresholds=LOW)
    with pytest.raises(BadInputError):
        await site.services.patch("cloud1", patch)
    assert (await site.services.get("cloud1")).thresholds == LOW


async def test_thresholds_that_contradict_each_other_are_refused_at_creation(site) -> None:
    site.import_certificate()
    wrong = msgspec.structs.replace(LOW, transfer_critical_percent=40)
    with pytest.raises(BadInputError):
        await site.services.create(site.request(thresholds=wrong))


async def test_before_the_first_collection_nothing_is_claimed(site) -> None:
    point = await site.make_point(thresholds=msgspec.structs.replace(LOW, transfer_quota=0))
    await site.services.monitor.evaluate(point.point)
    assert await _state(site, point.point, "transfer_warning") is AlertState.NEVER_TRIGGERED
    info = await site.database.read(cloud_point_info, point, now=site.clock())
    assert (info.usage.collected, info.usage.transferred_30_days) == (0, 0)


async def test_figures_that_are_not_collected_any_more_are_an_alert(site) -> None:
    point = await site.make_point()
    await site.services.collect("cloud1")
    site.clock.advance(4 * HOUR)
    site.cloud.failures["list_documents"] = [UnavailableError("The store does not answer.")]
    loops = CloudLoops(site.services)
    await loops.collect_once()
    await asyncio.gather(*loops._busy.values())
    await loops.reconcile_once()
    await asyncio.gather(*loops._busy.values())
    assert await _state(site, point.point, "figures_stale") is AlertState.ACTIVE
    kept = await site.database.read(usage.stored_usage, point.point)
    assert kept.listed_at == int(site.clock()), "the daily listing does not wait for the collection"


async def test_the_age_of_the_figures_is_shown(site) -> None:
    point = await site.make_point()
    await _serve(site, Gateway(point.point), 5)
    site.clock.advance(500)
    info = await site.database.read(cloud_point_info, point, now=site.clock())
    assert info.usage.age_seconds == 500
    assert info.usage.transferred_30_days == 5
    assert info.usage.uploaded_30_days > 0  # trust and control documents


async def test_usage_is_given_by_hour_device_and_content(site) -> None:
    point = await site.make_point()
    gateway = Gateway(point.point)
    key, data = gateway.segment([record(5), record(6, device="dev-2"), record(0, device="", set_id=b"", status=401)])
    await site.cloud.services["cloud1"].holder.put_document(key, data)
    await site.services.collect("cloud1")

    async def by(what: str) -> list[tuple[str, int, int, int]]:
        report = await site.database.read(usage_report, point, now=site.clock(), since=None, until=None, by=what)
        rows = report.buckets
        return [(row.subject, row.requests, row.failed, row.sent) for row in rows if row.requests]

    assert await by("") == [("", 3, 1, 11)]
    assert await by("device") == [("", 1, 1, 0), ("dev-1", 1, 0, 5), ("dev-2", 1, 0, 6)]
    assert await by("content") == [("", 1, 1, 0), ("set-0000000000000000", 2, 0, 11)]
    with pytest.raises(BadInputError):
        await by("weather")


async def test_a_service_that_was_stopped_at_the_cloud_is_an_alert(site) -> None:
    point = await site.make_point()
    site.cloud.services["cloud1"].state = RunState.STOPPED
    await site.services.monitor.check(point.point)
    assert await _state(site, point.point, "service_not_active") is AlertState.ACTIVE
    assert (await site.services.get("cloud1")).state is CloudPointState.FAILED
    site.cloud.services["cloud1"].state = RunState.RUNNING
    await site.services.monitor.check(point.point)
    assert await _state(site, point.point, "service_not_active") is AlertState.CANCELED
    assert (await site.services.get("cloud1")).state is CloudPointState.READY


async def test_a_service_stopped_on_purpose_is_no_alert(site) -> None:
    point = await site.make_point()
    await site.services.act(CloudAction.STOP, "cloud1")
    await site.settle()
    await site.services.monitor.check(point.point)
    assert await _state(site, point.point, "service_not_active") is AlertState.NEVER_TRIGGERED
    assert (await site.services.get("cloud1")).state is CloudPointState.STOPPED


async def test_a_service_that_runs_although_stopped_is_stopped_again(site) -> None:
    point = await site.make_point()
    await site.services.act(CloudAction.STOP, "cloud1")
    await site.settle()
    site.cloud.services["cloud1"].state = RunState.RUNNING
    await site.services.monitor.check(point.point)
    assert site.cloud.services["cloud1"].state is RunState.STOPPED


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ForbiddenError("The certificate was removed."), "subscription_problem"),
        (UnavailableError("No route."), "service_not_active"),
        (NotFoundError("No such service."), "service_not_active"),
    ],
)
async def test_what_the_cloud_says_becomes_the_right_alert(site, error, kind) -> None:
    point = await site.make_point()
    site.cloud.failures = {"check": [error] * 3, "status": [error] * 3}
    await site.services.monitor.check(point.point)
    assert await _state(site, point.point, kind) is AlertState.ACTIVE
    alert = (await site.database.read(alerts.find, type_=kind, subject=point.point)).alert
    assert error.message in alert.message


async def test_one_lost_packet_is_no_alert(site) -> None:
    point = await site.make_point()
    lost = UnavailableError("Nothing came back.")
    site.cloud.failures = {"check": [lost], "status": [lost, lost]}
    await site.services.monitor.check(point.point)
    assert await _state(site, point.point, "service_not_active") is AlertState.NEVER_TRIGGERED
    assert (await site.services.get("cloud1")).state is CloudPointState.READY


async def test_a_disabled_subscription_is_an_alert(site) -> None:
    point = await site.make_point()
    site.cloud.state = "disabled"
    await site.services.monitor.check(point.point)
    assert await _state(site, point.point, "subscription_problem") is AlertState.ACTIVE


async def test_certificates_are_warned_of_thirty_days_before_they_expire(site) -> None:
    point = await site.make_point()  # its service certificate has 200 days
    site.clock.advance(169 * DAY)
    await site.services.monitor.check(point.point)
    assert await _state(site, point.point, "certificate_problem") is AlertState.NEVER_TRIGGERED
    site.clock.now = point.certificate_expires - 30 * DAY
    await site.services.monitor.check(point.point)
    assert await _state(site, point.point, "certificate_problem") is AlertState.ACTIVE


async def test_an_issuer_that_expires_before_the_service_certificate_is_warned_of(site) -> None:
    """With it, every client loses the service, however long its own certificate lasts."""
    point = await site.make_point()
    short = load_pfx(light_service_pfx(site.keys.authority, FQDN, PASSWORD, days=100, now=NOW), Secret(PASSWORD), NOW)
    chain = load_chain(point.certificate)[0], short.certificate
    await site.database.write(cloud.update_cloud_point, point.point, certificate=to_pem(*chain))
    site.clock.advance(69 * DAY)
    await site.services.monitor.check(point.point)
    assert await _state(site, point.point, "certificate_problem") is AlertState.NEVER_TRIGGERED
    site.clock.advance(1 * DAY)
    await site.services.monitor.check(point.point)
    assert await _state(site, point.point, "certificate_problem") is AlertState.ACTIVE
    alert = (await site.database.read(alerts.find, type_="certificate_problem", subject=point.point)).alert
    assert "issuer" in alert.message
    kept = await site.database.read(clouddetails.detail, point.point)
    assert [one.state for one in kept.health if one.name == "certificates"] == ["bad"]


@pytest.mark.parametrize(
    ("days", "state"), [(61, "good"), (60, "bad"), (45, "bad"), (30, "bad"), (20, "bad"), (5, "bad"), (0, "bad")]
)
async def test_health_names_a_certificate_once_from_the_first_warning_on(site, days, state) -> None:
    point = await site.make_point()
    site.clock.now = point.certificate_expires - days * DAY
    await site.services.monitor.check(point.point)
    kept = await site.database.read(clouddetails.detail, point.point)
    [detail] = [one for one in kept.health if one.name == "certificates"]
    assert (detail.state, detail.message.count("The service certificate")) == (state, int(state == "bad"))


async def test_a_vault_that_is_not_this_servers_is_told_with_what_to_do(site) -> None:
    point = await site.make_point()
    site.services.providers._made.clear()
    await site.database.write(_spoil_key, point.management_certificate)
    await site.services.monitor.check(point.point)
    alert = (await site.database.read(alerts.find, type_="subscription_problem", subject=point.point)).alert
    assert alert.state is AlertState.ACTIVE
    assert "import" in alert.message


def _spoil_key(connection, certificate: str) -> None:
    table = cloud.management_certificate
    connection.execute(table.update().where(table.c.id == certificate).values(sealed_key=b"\x01" + bytes(100)))


async def test_a_creation_that_was_cancelled_while_it_waited_is_shown_as_failed(site) -> None:
    site.import_certificate()
    task = await site.services.create(site.request())
    await site.database.write(_cancel, task.id)
    point = await site.services.get("cloud1")
    await site.services.monitor.check(point.point)
    assert (await site.services.get("cloud1")).state is CloudPointState.FAILED
    deletion = await site.services.act(CloudAction.DELETE, "cloud1")
    await site.settle()
    assert (await site.task(deletion)).state is TaskState.COMPLETED
    assert "delete" not in site.cloud.calls  # nothing was ever created


def _cancel(connection, task: str) -> None:
    from entrepot.database import tasks

    tasks.request_cancel(connection, task, now=NOW)


async def test_alerts_of_a_deleted_point_are_closed_and_its_usage_stays(site) -> None:
    point = await site.make_point(thresholds=LOW)
    await _serve(site, Gateway(point.point), 950)
    await site.services.act(CloudAction.DELETE, "cloud1")
    await site.settle()
    left = await site.database.read(alerts.listed, subject=point.point)
    assert {(one.alert.type, one.alert.state) for one in left} == {
        ("transfer_warning", AlertState.CANCELED),
        ("transfer_critical", AlertState.CANCELED),
    }
    assert (await site.database.read(usage.totals_since, point.point, 0)).sent == 950
    assert "bytes=950" in (site.folder / "logs" / "CloudDP-cloud1.log").read_text()


async def test_administrators_postpone_cancel_disable_and_enable(site) -> None:
    point = await site.make_point(thresholds=LOW)
    await _serve(site, Gateway(point.point), 600)
    alerting = Alerting(site.database, clock=site.clock)
    alert = (await site.database.read(alerts.find, type_="transfer_warning", subject=point.point)).id
    postponed = await alerting.postpone(alert, 2, by="ann", comment="known")
    assert postponed.alert.state is AlertState.POSTPONED
    site.clock.advance(3 * HOUR)
    await site.services.monitor.evaluate(point.point)
    assert await _state(site, point.point, "transfer_warning") is AlertState.ACTIVE
    canceled = await alerting.cancel(alert, by="ann", comment="")
    assert (canceled.alert.closed_by, canceled.alert.occurrences) == ("ann", 1)
    with pytest.raises(ConflictError):
        await alerting.cancel(alert, by="ann", comment="")
    await alerting.disable(alert, by="ann", comment="")
    await site.services.monitor.evaluate(point.point)
    assert await _state(site, point.point, "transfer_warning") is AlertState.DISABLED
    await alerting.enable(alert, by="ann", comment="")
    await site.services.monitor.evaluate(point.point)
    assert await _state(site, point.point, "transfer_warning") is AlertState.ACTIVE
    events = [event.event for event in await site.database.read(alert_events, alert)]
    assert events == ["opened", "postponed", "resumed", "canceled", "disabled", "enabled", "opened"]
    with pytest.raises(NotFoundError):
        await alerting.cancel("alert-unknown", by="ann", comment="")


async def test_an_accepted_gap_does_not_hide_the_next_one(site) -> None:
    point = await site.make_point()
    gateway = Gateway(point.point)
    gateway.segment([record(1)])
    await _serve(site, gateway, 1)
    alert = (await site.database.read(alerts.find, type_="accounting_gap", subject=point.point)).id
    await Alerting(site.database, clock=site.clock).cancel(alert, by="ann", comment="disk lost")
    await _serve(site, gateway, 1)
    assert await _state(site, point.point, "accounting_gap") is AlertState.CANCELED
    gateway.segment([record(1)])
    await _serve(site, gateway, 1)
    reopened = (await site.database.read(alerts.get, alert)).alert
    assert (reopened.state, reopened.occurrences) == (AlertState.ACTIVE, 2)


async def test_a_comment_on_an_accepted_gap_accepts_no_other(site) -> None:
    point = await site.make_point()
    gateway, alerting = Gateway(point.point), Alerting(site.database, clock=site.clock)
    gateway.segment([record(1)])
    await _serve(site, gateway, 1)
    alert = (await site.database.read(alerts.find, type_="accounting_gap", subject=point.point)).id
    await alerting.cancel(alert, by="ann", comment="disk lost")
    await site.services.monitor.evaluate(point.point)
    gateway.segment([record(1)])
    holder = site.cloud.services["cloud1"].holder
    await holder.put_document(*gateway.segment([record(1)]))
    await site.services.collector.run_once(point, holder)
    await alerting.annotate(alert, by="ann", comment="the disk was replaced")
    await site.services.monitor.evaluate(point.point)
    assert await _state(site, point.point, "accounting_gap") is AlertState.ACTIVE


async def test_where_the_cloud_tells_no_storage_what_it_told_last_and_the_books_are_judged(site) -> None:
    point = await site.make_point()
    await site.services.patch("cloud1", CloudPointPatch(storage_quota=1000))
    await _store(site, 990)
    assert await _state(site, point.point, "storage_warning") is AlertState.ACTIVE
    site.cloud.tells_stored = False
    await site.services.collect("cloud1")
    kept = await site.database.read(usage.stored_usage, point.point)
    assert kept.stored_bytes == 990, "not told is not nothing"
    site.clock.advance(2 * DAY)
    await site.services.collect("cloud1")
    alert = (await site.database.read(alerts.find, type_="storage_warning", subject=point.point)).alert
    assert alert.state is AlertState.ACTIVE, "the books were empty then as now: nothing has gone"
    assert (
        f"Counted by the site at {iso(site.clock())}, since the cloud measured at {iso(kept.stored_at)}."
        in alert.message
    )


async def test_a_cloud_that_measures_once_a_day_delays_no_storage_alert_and_makes_no_figure_look_fresh(site) -> None:
    point = await site.make_point()
    await site.services.patch("cloud1", CloudPointPatch(storage_quota=1000))
    site.cloud.measured_at = NOW - 20 * HOUR
    await _store(site, 10)
    publish(site, point.point, "app", (600, 360))
    site.clock.advance(600)
    await site.services.collect("cloud1")
    alert = (await site.database.read(alerts.find, type_="storage_critical", subject=point.point)).alert
    assert alert.state is AlertState.ACTIVE, "the books know at once what was sent: two objects and their set"
    measured = f"since the cloud measured at {iso(NOW - 20 * HOUR)}."
    assert f"Counted by the site at {iso(site.clock())}, {measured}" in alert.message
    used = (await site.database.read(cloud_point_info, point, now=site.clock())).usage
    assert (used.stored_bytes, used.stored_at) == (10, NOW - 20 * HOUR)
    told = (used.present_bytes, used.present_at, used.age_seconds)
    assert told == (1010, int(site.clock()), 0), "and 10 of which no books know"
    site.cloud.measured_at = int(site.clock()) + 60
    await _store(site, 11)
    alert = (await site.database.read(alerts.find, type_="storage_critical", subject=point.point)).alert
    assert alert.state is AlertState.CANCELED
    assert f"Measured by the cloud at {iso(site.clock())}." in alert.message, "nobody measures the future"


async def test_a_cloud_that_stores_more_than_the_books_say_makes_no_storage_alert_swing(site) -> None:
    """Whichever of the two was asked last: one figure, which goes with what comes and goes."""
    point = await site.make_point()
    await site.services.patch("cloud1", CloudPointPatch(storage_quota=1150))  # a warning at 1,035
    publish(site, point.point, "app", (600, 360))  # 1,000 by the books
    await _store(site, 1040)
    seen = []
    for hours in range(1, 7):
        site.clock.advance(HOUR)
        site.cloud.measured_at = 0 if hours % 2 else int(site.clock()) - 1800  # now, or before the books were counted
        await site.services.collect("cloud1")
        alert = (await site.database.read(alerts.find, type_="storage_warning", subject=point.point)).alert
        used = (await site.database.read(cloud_point_info, point, now=site.clock())).usage
        seen.append((used.present_bytes, alert.state, alert.occurrences))
    assert seen == [(1040, AlertState.ACTIVE, 1)] * 6
    await site.database.write(_forget_sets, point.point)
    site.cloud.tells_stored = False
    await site.services.collect("cloud1")
    assert await _state(site, point.point, "storage_warning") is AlertState.CANCELED, "before it is measured again"


async def test_what_a_cloud_holds_beyond_the_books_stays_and_what_came_meanwhile_is_not_counted_twice(site) -> None:
    point = await site.make_point()
    begin = hour_of(NOW) + 10 * HOUR

    def count(minutes: int) -> int:
        """The books are counted; the present figure by then."""
        with site.database.transaction() as connection:
            usage.count_stored(connection, point.point, now=begin + minutes * 60)
            return usage.stored_usage(connection, point.point).present()[0]

    def measure(minutes: int, stored: int) -> None:
        with site.database.transaction() as connection:
            usage.set_stored(connection, point.point, stored=stored, objects=1, now=begin + minutes * 60)

    publish(site, point.point, "first", (960,))  # 1,000 with its set
    assert count(0) == 1000
    measure(61, 1040)
    assert count(62) == 1040, "40 beyond the books"
    publish(site, point.point, "second", (560,))
    assert count(120) == 1640, "600 came"
    measure(181, 3640)  # 2,000 came since the books were counted
    publish(site, point.point, "third", (1960,))
    assert count(182) == 3640, "they are in the books by now, and the 40 still are not"
    publish(site, point.point, "fourth", (960,))
    measure(240, 4640)
    assert count(420) == 4640, "also when the next count is late"


def _forget_sets(connection, point: str) -> None:
    connection.execute(delete(point_set).where(point_set.c.point == point))


async def test_a_daily_listing_is_kept_beside_the_clouds_own_figure(site) -> None:
    point = await site.make_point()
    await _store(site, 700)
    assert await site.services.monitor.reconcile_if_due(point.point)
    assert not await site.services.monitor.reconcile_if_due(point.point)
    kept = await site.database.read(usage.stored_usage, point.point)
    assert kept.stored_bytes == 700
    assert kept.listed_bytes > 700  # control and trust documents are in the store as well
    assert kept.listed_difference == 700, "the books of the site do not have that object"
    with site.database.transaction() as connection:
        usage.count_stored(connection, point.point, now=int(site.clock()) + 60)
    assert (await site.database.read(usage.stored_usage, point.point)).listed_difference == 700
