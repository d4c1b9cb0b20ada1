"""More instances than can serve one client under a budget: said when it is set, refused when they are added."""

import pytest

from entrepot.core.errors import RefusedError
from entrepot.database import device_collections
from entrepot.protocol.control import Delivery
from entrepot.protocol.costapi import BudgetInfo, BudgetRequest
from entrepot.rules.allowance import SLOTS
from entrepot.site.cloud.info import cloud_point_info
from entrepot.site.cloud.states import CloudAction
from entrepot.site.cost import budgets

from .conftest import NOW, SiteUnderTest

MANY = SLOTS + 4


@pytest.fixture(autouse=True)
def all_devices(site: SiteUnderTest) -> None:
    """The collection that a budget of all cloud points may be for."""
    with site.database.transaction() as connection:
        device_collections.add_built_in(connection)


async def _set(site: SiteUnderTest, name: str, **more: object) -> BudgetInfo:
    return await site.database.write(budgets.put, name, BudgetRequest(bytes=10**12, **more), by="anna", now=NOW)


async def _note(site: SiteUnderTest) -> str:
    point = await site.services.get("cloud1")
    return (await site.database.read(cloud_point_info, point, now=NOW)).budget_note


@pytest.mark.parametrize(("name", "scope"), [("cloud1", "cloud-point"), ("All devices", "collection")])
async def test_a_budget_warns_of_every_cloud_point_that_has_more_and_names_the_next_step(site, name, scope) -> None:
    await site.make_point(instances=MANY)
    assert await _note(site) == "", "no budget, nothing to say"
    for dry_run in (True, False):
        warning = (await _set(site, name, scope=scope, dry_run=dry_run)).warning
        assert f"cloud1 has {MANY} instances" in warning
        assert f"entrepot cloud scale cloud1 {SLOTS}" in warning
    assert await _note(site) == warning
    [listed] = await site.database.read(budgets.listed, now=NOW)
    assert listed.warning == warning


async def test_a_budget_of_another_cloud_point_says_nothing(site) -> None:
    await site.make_point(instances=MANY)
    await site.make_point("cloud2", fqdn="cloud2.contoso.com", instances=SLOTS)
    assert (await _set(site, "cloud2")).warning == ""
    assert await _note(site) == ""


async def test_under_a_budget_no_more_are_added_unless_it_is_meant(site) -> None:
    await site.make_point()
    await _set(site, "cloud1")
    with pytest.raises(RefusedError) as refused:
        await site.services.act(CloudAction.SCALE, "cloud1", instances=SLOTS + 1)
    assert "--force" in refused.value.next_step
    assert (await site.services.get("cloud1")).instances_wanted == 2, "nothing has changed"
    await site.services.act(CloudAction.SCALE, "cloud1", instances=MANY, forced=True)
    await site.settle()
    assert (await site.services.get("cloud1")).instances_wanted == MANY
    for fewer in (MANY - 1, SLOTS):
        await site.completed(await _scaled(site, fewer))
    assert await _note(site) == ""


async def _scaled(site: SiteUnderTest, instances: int):
    task = await site.services.act(CloudAction.SCALE, "cloud1", instances=instances)
    await site.settle()
    return task


async def test_a_cloud_point_is_not_created_with_more_while_a_budget_bounds_all(site) -> None:
    site.import_certificate()
    await _set(site, "All devices", scope="collection")
    with pytest.raises(RefusedError):
        await site.services.create(site.request(instances=SLOTS + 1))
    await site.services.create(site.request(instances=SLOTS))


async def test_a_plan_refuses_what_a_budget_of_all_cloud_points_forbids(site) -> None:
    site.import_certificate()
    site.cloud.instance_quota, site.cloud.redirects = MANY, True
    wanted = (site.request(delivery=Delivery.REDIRECT), site.request(instances=MANY))
    for request in wanted:
        await site.services.plan(request)
    await _set(site, "All devices", scope="collection")
    for request in wanted:
        with pytest.raises(RefusedError, match="A budget is active"):
            await site.services.plan(request)
