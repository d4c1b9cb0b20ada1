"""A postponed alert is decided when its pause is over, whatever can be found out then (R25)."""

from datetime import UTC, datetime

from entrepot.core.errors import UnavailableError
from entrepot.core.times import HOUR
from entrepot.database import alerts, maintenance
from entrepot.database.maintenance import StoredWindow
from entrepot.rules.alerts import AlertState
from entrepot.rules.maintenance import Window
from entrepot.site.cloud.alerting import Alerting

from .conftest import LOW, Gateway, record


async def test_a_postponed_alert_is_not_silent_for_longer_because_its_cloud_does_not_answer(site) -> None:
    point = await site.make_point()
    site.cloud.state = "disabled"
    await site.services.monitor.check(point.point)
    alert = (await site.database.read(alerts.find, type_="subscription_problem", subject=point.point)).id
    await Alerting(site.database, clock=site.clock).postpone(alert, 2, by="anna", comment="asked the provider")
    site.cloud.failures["check"] = [UnavailableError("The cloud is away.")] * 9
    site.clock.advance(2 * HOUR)
    await site.services.monitor.check(point.point)
    assert (await site.database.read(alerts.get, alert)).alert.state is AlertState.POSTPONED, "nothing new is known"
    await site.services.monitor.resume_postponed()
    resumed = (await site.database.read(alerts.get, alert)).alert
    assert (resumed.state, resumed.occurrences, resumed.comment) == (AlertState.ACTIVE, 1, "asked the provider")
    assert "disabled" in resumed.message


async def test_a_pause_that_ends_in_a_maintenance_window_ends_with_the_window(site) -> None:
    point = await site.make_point(thresholds=LOW)
    key, data = Gateway(point.point).segment([record(950)])
    await site.cloud.services["cloud1"].holder.put_document(key, data)
    await site.services.collect("cloud1")
    alert = (await site.database.read(alerts.find, type_="transfer_critical", subject=point.point)).id
    await Alerting(site.database, clock=site.clock).postpone(alert, 1, by="anna", comment="")
    window = Window(start=_wall_clock(site.clock() + HOUR), zone="UTC", minutes=120)
    stored = StoredWindow(id="mw-1", name="patching", subject="", window=window)
    await site.database.write(maintenance.add_window, stored, now=0)
    for hours, state in ((1.5, AlertState.POSTPONED), (2, AlertState.ACTIVE)):
        site.clock.advance(hours * HOUR)
        await site.services.monitor.resume_postponed()
        assert (await site.database.read(alerts.get, alert)).alert.state is state


def _wall_clock(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M")
