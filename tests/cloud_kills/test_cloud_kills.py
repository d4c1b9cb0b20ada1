"""SIGKILL after every step of every order, and loss of the cloud at every request: the order is carried out.

With ``ENTREPOT_EVERY_STEP=1`` every step and every request is tried, which takes half an hour; else every eleventh,
from one of the first eleven on that is drawn for each run. A test that fails tells which: ``ENTREPOT_STEP_OFFSET`` sets
it again.
"""

from typing import Any

import pytest

from entrepot.site.cloud.orphans import REMOVE
from entrepot.site.cloud.states import CloudAction

from ..cloud.arm_double import ArmDouble, Refusal
from .conftest import Lives
from .orders import GROUPS, OFFSET, STRIDE, assert_done, cut, disturbed_points, every, killed

pytestmark = [pytest.mark.end_to_end, pytest.mark.process]


def test_no_kind_of_task_is_left_out() -> None:
    tried = {f"cloud-{action}" for group in GROUPS for action in group}
    # an adoption is an update of what the site did not know; to forget is to delete, and killed in tests/site_cloud
    assert tried | {CloudAction.FORGET} == {REMOVE, "cloud-adopt", *CloudAction}


@pytest.mark.parametrize("disturbed", [killed, cut])
@pytest.mark.parametrize("group", GROUPS, ids="-".join)
def test_every_order_to_azure_is_carried_out(azure_site: Lives, arm: ArmDouble, group: Any, disturbed: Any) -> None:
    def empty() -> None:
        assert arm.things == {}

    every(azure_site, group, disturbed, empty)


@pytest.mark.parametrize("group", [("stop", "start"), ("create", "delete")], ids="-".join)
def test_an_order_that_finds_azure_at_work_is_carried_out(azure_site: Lives, arm: ArmDouble, group: Any) -> None:
    """Azure refuses more often than a task is tried (409); whoever waits for it is killed, too."""

    def busy(site: Lives, action: str, instances: int, step: int) -> bool:
        if action != "create":
            arm.occupy("/containerApps/cloud1", refusing=10)
        return killed(site, action, instances, step)

    def empty() -> None:
        assert arm.things == {}

    every(azure_site, group, busy, empty)


def test_an_update_to_another_image_arrives_wherever_it_was_killed(azure_site: Lives, arm: ArmDouble) -> None:
    azure_site.live("cloud-create", instances=1, finish=True)
    (app,) = [name for name in arm.things if name.endswith("/containerapps/cloud1")]
    reached, step = True, 0
    while reached:
        image = f"registry/gateway@sha256:{step:064x}"
        reached = azure_site.live("cloud-update", image=image, die_at=step)["killed"]
        assert_done("update", 1, azure_site.live(finish=True))
        container = arm.things[app]["properties"]["template"]["containers"][0]
        assert (container["image"], container["resources"]) == (image, {"cpu": 1.0, "memory": "2Gi"})
        step += STRIDE
    assert step > 8


def test_a_creation_that_azure_refuses_leaves_nothing_wherever_it_was_killed(azure_site: Lives, arm: ArmDouble) -> None:
    """Refused late, when nearly everything is there; the cleaning up is killed, too."""
    arm.registered.add("Microsoft.App")

    def refused(step: int) -> bool:
        arm.refusals = [("PUT .*containerApps/cloud1$", Refusal(400, "ImageNotFound"))] * 9
        reached = bool(azure_site.live("cloud-create", die_at=step)["killed"])
        found = azure_site.live(finish=True)
        assert (found["active"], found["task"]) == (0, "failed")
        assert "ImageNotFound" in found["error"]
        assert "Nothing was left in the cloud" in found["error"]
        assert arm.things == {}
        return reached

    assert disturbed_points(refused) * STRIDE > 20 - OFFSET


def test_a_creation_that_is_cancelled_after_a_kill_leaves_nothing(azure_site: Lives, arm: ArmDouble) -> None:
    def cancelled(step: int) -> bool:
        reached = bool(azure_site.live("cloud-create", die_at=step)["killed"])
        found = azure_site.live(cancel=True, finish=True)
        if "point" in found:  # killed before the work began, or when all was done
            assert (found["task"], found["point"]) in (("cancelled", "failed"), ("completed", "ready"))
            azure_site.live("cloud-delete", finish=True)
        else:
            assert (found["task"], found["active"]) == ("cancelled", 0)
            assert "Nothing was left in the cloud" in found["error"]
        assert arm.things == {}
        return reached

    assert disturbed_points(cancelled) * STRIDE > 20 - OFFSET
