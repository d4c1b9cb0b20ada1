"""A service is served by its name as soon as DNS is ready, without anybody asking for an update (R6)."""

import pytest

from entrepot.core.times import DAY, HOUR, MINUTE
from entrepot.database import clouddetails, tasks
from entrepot.database.tasks import Task
from entrepot.protocol.cloudhost import NeededRecord
from entrepot.protocol.cloudpointapi import CloudPointState
from entrepot.rules.alerts import SYSTEM
from entrepot.site.acting import act_for
from entrepot.site.cloud.dns import Resolved
from entrepot.site.cloud.proofs import look_for, missing, pause_before
from entrepot.site.cloud.states import CloudAction

from .conftest import SiteUnderTest

UNSERVED = "Azure does not serve cloud1.contoso.com yet: create the records …"


class Names:
    """DNS, which knows the service's name from some moment on, and the TXT record from another on."""

    def __init__(self) -> None:
        self.ready = False
        self.texts: tuple[str, ...] | None = ()

    async def __call__(self, name: str) -> Resolved:
        return Resolved(canonical=name, addresses=("127.0.0.1",) if self.ready else ())

    async def text(self, _: str) -> tuple[str, ...] | None:
        return self.texts


@pytest.fixture
async def names(site: SiteUnderTest) -> Names:
    """The cloud does not serve the point's name, and DNS does not know it."""
    names = Names()
    site.services.resolver = site.services.monitor._resolver = names
    site.services.texts = site.services.monitor._texts = names.text
    site.cloud.notes = [UNSERVED]
    site.cloud.records = [NeededRecord(name="asuid.cloud1.contoso.com", type="TXT", value="4711")]
    await site.make_point()
    return names


async def _look(site: SiteUnderTest) -> list[Task]:
    """The updates that were ordered after the periodic look."""
    site.clock.advance(120)
    point = await site.services.get("cloud1")
    await site.services.monitor.check(point.point)
    return await site.database.read(tasks.listed, kind=CloudAction.UPDATE.value, subject=point.point)


async def test_a_name_that_dns_knows_at_last_is_bound_by_an_update_that_nobody_asked_for(site, names) -> None:
    assert await _look(site) == [], "DNS does not know the name yet"
    names.ready, names.texts = True, ("other", "4711")
    act_for("Alice")  # whose request it may have been that made the site look
    (update,) = await _look(site)
    assert update.by == SYSTEM
    site.cloud.notes = []
    await site.settle()
    await site.completed(update)
    assert (await site.services.get("cloud1")).state is CloudPointState.READY
    assert len(await _look(site)) == 1


async def _orders(site: SiteUnderTest, seconds: float) -> int:
    """How many updates there were after so much time, in which every order was carried out, and brought nothing."""
    await site.settle()
    assert (await site.services.get("cloud1")).state is CloudPointState.DEGRADED
    site.clock.advance(seconds)
    return len(await _look(site))


async def test_a_name_whose_text_record_is_not_seen_is_tried_once_a_day(site, names) -> None:
    names.ready = True
    assert len(await _look(site)) == 1, "this server's DNS may not know what the cloud's does"
    assert await _orders(site, 12 * HOUR) == 1
    assert await _orders(site, 12 * HOUR) == 2


async def test_a_name_of_which_the_cloud_does_not_tell_the_records_is_tried_once_a_day(site, names) -> None:
    names.ready, site.cloud.records = True, []
    assert len(await _look(site)) == 1
    assert await _orders(site, 12 * HOUR) == 1
    assert await _orders(site, 12 * HOUR) == 2


async def test_a_text_record_that_appears_is_noticed_within_minutes(site, names) -> None:
    names.ready = True
    assert len(await _look(site)) == 1
    assert await _orders(site, 8 * MINUTE) == 1
    names.texts = ("4711",)
    assert await _orders(site, 0) == 2


def test_who_is_refused_with_all_records_there_is_patient() -> None:
    assert [pause_before(attempts, seen=True) / MINUTE for attempts in range(6)] == [0, 10, 20, 40, 80, 160]
    assert pause_before(16, seen=True) == pause_before(1, seen=False) == DAY


@pytest.mark.parametrize(
    ("texts", "state", "told"),
    [((), "bad", "not there yet"), (None, "unknown", "cannot tell"), (("4711",), "good", "")],
)
async def test_the_missing_record_is_told(site, names, texts, state, told) -> None:
    names.ready, names.texts = True, texts
    await site.settle()
    point = await site.services.get("cloud1")
    await site.services.monitor.check(point.point)
    health = (await site.database.read(clouddetails.detail, point.point)).health
    (line,) = [one for one in health if one.name == "DNS record asuid.cloud1.contoso.com"]
    assert line.state == state
    assert told in line.message
    assert ("TXT 4711" in line.message) is (state != "good")
    await site.settle()
    (proof,) = await site.services.awaited_proofs(await site.services.get("cloud1"))
    assert (proof.value, proof.seen) == ("4711", {"good": True, "bad": False, "unknown": None}[state])


async def test_a_service_that_is_stopped_is_left_alone(site, names) -> None:
    await site.services.act(CloudAction.STOP, "cloud1")
    await site.settle()
    names.ready, names.texts = True, ("4711",)
    assert await _look(site) == []
    assert (await site.services.get("cloud1")).state is CloudPointState.STOPPED


async def test_nobody_is_asked_to_create_a_record_of_which_the_cloud_does_not_tell_the_text() -> None:
    untold = NeededRecord(name="asuid.cloud1.contoso.com", type="TXT", value="")
    told = NeededRecord(name="asuid.cloud2.contoso.com", type="TXT", value="4711")
    proofs = await look_for([untold, told], Names().text)
    assert missing(proofs) == "Create the DNS record asuid.cloud2.contoso.com TXT 4711: it is not there yet."
