"""Certificates of points on premises, and of the site itself, are watched (R37)."""

import pytest

from entrepot.core.times import DAY
from entrepot.database import alerts, points
from entrepot.database.points import ACTIVE, STANDARD, Point
from entrepot.rules.alerts import AlertState
from entrepot.rules.alerttypes import SERVER_CERTIFICATE, SERVER_CERTIFICATE_ENDED
from entrepot.site.certificatealert import SITE, findings_of, judge_certificates
from entrepot.site.upkeep import load_tls_certificate
from entrepot.trust.inspection import expires

NOW = 1_800_000_000


@pytest.mark.parametrize(
    ("days", "late", "ended"), [(398, "good", "good"), (46, "good", "good"), (45, "bad", "good"), (0, "good", "bad")]
)
def test_one_that_was_not_renewed_is_warned_of_and_one_that_ended_is_critical(days, late, ended) -> None:
    found = {one.type: one for one in findings_of("dp-berlin", NOW + days * DAY, NOW)}
    assert (found[SERVER_CERTIFICATE].condition, found[SERVER_CERTIFICATE_ENDED].condition) == (late, ended)
    assert all("dp-berlin" in one.message for one in found.values() if one.condition == "bad")


async def test_a_point_that_does_not_renew_is_an_alert_until_it_does_or_is_removed(site, clock) -> None:
    ends = int(clock()) + 40 * DAY
    point = Point(
        id="pt-1", site="PS1", name="dp-berlin", kind=STANDARD, state=ACTIVE, url="", certificate_expires=ends
    )
    with site.database.transaction() as connection:
        points.add_point(connection, point)

    async def states(subject: str) -> dict[str, AlertState]:
        await site.server.upkeep.run_once()
        found = await site.database.read(alerts.listed, subject=subject)
        return {one.alert.type: one.alert.state for one in found}

    assert await states("pt-1") == {
        SERVER_CERTIFICATE: AlertState.ACTIVE,
        SERVER_CERTIFICATE_ENDED: AlertState.NEVER_TRIGGERED,
    }
    clock.advance(41 * DAY)
    assert await states("pt-1") == {
        SERVER_CERTIFICATE: AlertState.CANCELED,
        SERVER_CERTIFICATE_ENDED: AlertState.ACTIVE,
    }
    with site.database.transaction() as connection:
        points.change_point(connection, "pt-1", certificate_expires=int(clock()) + 398 * DAY)
    assert set((await states("pt-1")).values()) == {AlertState.CANCELED}
    with site.database.transaction() as connection:
        points.change_point(connection, "pt-1", certificate_expires=int(clock()) - 1)
    await states("pt-1")
    with site.database.transaction() as connection:
        points.remove_point(connection, "pt-1")
    assert (await states("pt-1"))[SERVER_CERTIFICATE_ENDED] is AlertState.CANCELED


async def test_the_sites_own_is_watched_too(site, clock) -> None:
    ends = expires(load_tls_certificate(site.home))
    with site.database.transaction() as connection:
        judge_certificates(connection, "PS1", load_tls_certificate(site.home), ends - 40 * DAY)
        opened = alerts.find(connection, type_=SERVER_CERTIFICATE, subject=SITE)
        judge_certificates(connection, "PS1", None, ends - 40 * DAY)
        unread = alerts.find(connection, type_=SERVER_CERTIFICATE, subject=SITE)
    assert opened.alert.state is unread.alert.state is AlertState.ACTIVE, "a file that cannot be read is no good news"
    assert "40 days" in opened.alert.message
