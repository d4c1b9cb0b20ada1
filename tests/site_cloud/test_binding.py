"""A service is served by its name as soon as DNS is ready, without anybody asking for an update (R6)."""

import pytest

from entrepot.core.times import HOUR
from entrepot.database import tasks
from entrepot.database.tasks import Task
from entrepot.protocol.cloudpointapi import CloudPointState
from entrepot.site.cloud.dns import Resolved
from entrepot.site.cloud.states import CloudAction

from .conftest import SiteUnderTest

UNSERVED = "Azure does not serve cloud1.contoso.com yet: create the records …"


class Names:
    """DNS, which knows the service's name from some moment on."""

    def __init__(self) -> None:
        self.ready = False

    async def __call__(self, name: str) -> Resolved:
        return Resolved(canonical=name, addresses=("127.0.0.1",) if self.ready else ())


@pytest.fixture
async def names(site: SiteUnderTest) -> Names:
    """The cloud does not serve the point's name, and DNS does not know it."""
    names = Names()
    site.services.monitor._resolver = names
    site.cloud.notes = [UNSERVED]
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
    names.ready = True
    (update,) = await _look(site)
    site.cloud.notes = []
    await site.settle()
    await site.completed(update)
    assert (await site.services.get("cloud1")).state is CloudPointState.READY
    assert len(await _look(site)) == 1


async def test_a_name_whose_proof_is_still_missing_is_tried_again_once_an_hour(site, names) -> None:
    names.ready = True
    assert len(await _look(site)) == 1
    await site.settle()
    assert (await site.services.get("cloud1")).state is CloudPointState.DEGRADED
    assert len(await _look(site)) == 1
    site.clock.advance(HOUR)
    assert len(await _look(site)) == 2


async def test_a_service_that_is_stopped_is_left_alone(site, names) -> None:
    await site.services.act(CloudAction.STOP, "cloud1")
    await site.settle()
    names.ready = True
    assert await _look(site) == []
    assert (await site.services.get("cloud1")).state is CloudPointState.STOPPED
