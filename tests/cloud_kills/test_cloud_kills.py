"""SIGKILL after every step of every order, and loss of the cloud at every request: the order is carried out.

With ``ENTREPOT_EVERY_STEP=1`` every step and every request is tried, which takes half an hour; else every eleventh,
from one of the first eleven on that is drawn for each run. A test that fails tells which: ``ENTREPOT_STEP_OFFSET`` sets
it again.
"""

import os
import random
from collections.abc import Callable
from typing import Any

import pytest

from entrepot.cloud.host.settings import Folders
from entrepot.site.cloud.orphans import REMOVE
from entrepot.site.cloud.states import CloudAction

from ..cloud.arm_double import ArmDouble, Refusal
from ..cloud.conftest import HostProcess
from .conftest import Lives

pytestmark = [pytest.mark.end_to_end, pytest.mark.process]

STRIDE = 1 if os.environ.get("ENTREPOT_EVERY_STEP") else 11
OFFSET = int(os.environ.get("ENTREPOT_STEP_OFFSET") or random.randrange(STRIDE)) % STRIDE
GROUPS = (("create", "delete"), ("update",), ("renew",), ("scale",), ("stop", "start"), ("adopt", "remove-orphan"))


ENDS = ("delete", "remove-orphan")
"""Nothing is left after them."""


@pytest.fixture(autouse=True)
def _tell_offset() -> None:
    """Shown when a test fails."""
    print(f"ENTREPOT_STEP_OFFSET={OFFSET}")  # noqa: T201  # what pytest shows of a test that failed


def disturbed_points(disturbed: Callable[[int], bool]) -> int:
    """Disturb once at each point, from the offset on; how many points there were.

    Args:
        disturbed: does it at the point of this number; whether there was that point.
    """
    at, count = OFFSET, 0
    while True:
        if disturbed(at):
            count += 1
            at += STRIDE
        elif count or not at:
            return count
        else:
            at //= 2  # the order has fewer points than that


def assert_done(action: str, instances: int, found: dict[str, Any]) -> None:
    """The order was carried out, once, and everything agrees about it."""
    assert (found["active"], found["task"], found["error"]) == (0, "completed", ""), found
    if action in ENDS:
        assert "point" not in found
        return
    stopped = action == "stop"
    assert found["point"] == found["service"] == found["control"] if stopped else "stopped" not in found.values(), found
    assert found["point"] == ("stopped" if stopped else "ready"), found
    running = found["instances"].count("running")
    assert running == 0 if stopped else running >= instances, found  # those that give way may finish downloads
    assert found["wanted"] == instances
    assert found["expires"]  # the cloud has the certificate that the site has
    assert len(set(found["counter"])) == 1, found


def killed(site: Lives, action: str, instances: int, step: int) -> bool:
    """Give the order, die after that step, and let the next process go on; whether the step was reached."""
    first = site.live(f"cloud-{action}", instances=instances, die_at=step)
    assert_done(action, instances, site.live(finish=True))
    return bool(first["killed"])


def cut(site: Lives, action: str, instances: int, request: int) -> bool:
    """Give the order, lose the cloud at the answer to that request, and try again; whether there was that request."""
    found = site.live(f"cloud-{action}", instances=instances, cut_at=request, finish=True)
    assert_done(action, instances, found)
    return bool(found["requests"] > request)


def every(site: Lives, group: tuple[str, ...], disturbed: Callable[..., bool], empty: Callable[[], None]) -> None:
    """All orders of a group in turn, disturbed once at each point."""
    if group[0] not in ("create", "adopt"):
        site.live("cloud-create", instances=1, finish=True)
    rounds = 0

    def all_orders(at: int) -> bool:
        nonlocal rounds
        rounds += 1
        reached = set()
        for action in group:
            if action == "adopt":
                site.live("cloud-create", instances=1, finish=True)
            if action in ("adopt", "remove-orphan"):
                site.live("forget")
            instances = 1 + rounds % 2 if action == "scale" else 1
            reached.add(disturbed(site, action, instances, at))
            if action in ENDS:
                empty()
        return any(reached)

    assert disturbed_points(all_orders) * STRIDE > 8


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


@pytest.mark.parametrize("disturbed", [killed, cut])
@pytest.mark.parametrize("group", GROUPS, ids="-".join)
def test_every_order_to_a_cloud_host_is_carried_out(
    host_site: Lives, host: HostProcess, group: Any, disturbed: Any
) -> None:
    def empty() -> None:
        assert_host_empty(host)

    every(host_site, group, disturbed, empty)


def assert_host_empty(host: HostProcess) -> None:
    """Neither content nor records nor keys nor processes."""
    assert list(Folders(host.home).services.iterdir()) == []
    assert [path.name for path in host.key_folder().iterdir()] == ["lock"]
    assert host.gateways() == []


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
