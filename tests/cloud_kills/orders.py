"""Orders to a cloud that are disturbed at each point in turn, and what holds when they were carried out."""

import os
import random
from collections.abc import Callable
from typing import Any

from entrepot.cloud.host.settings import Folders

from ..cloud.conftest import HostProcess
from .conftest import Lives

STRIDE = 1 if os.environ.get("ENTREPOT_EVERY_STEP") else 11
OFFSET = int(os.environ.get("ENTREPOT_STEP_OFFSET") or random.randrange(STRIDE)) % STRIDE
GROUPS = (("create", "delete"), ("update",), ("renew",), ("scale",), ("stop", "start"), ("adopt", "remove-orphan"))

ENDS = ("delete", "remove-orphan")
"""Nothing is left after them."""


def disturbed_points(disturbed: Callable[[int], bool]) -> int:
    """Disturb once at each point, from the offset on; how many points there were.

    Args:
        disturbed: does it at the point of this number; whether there was that point.
    """
    print(f"ENTREPOT_STEP_OFFSET={OFFSET}")  # noqa: T201  # what pytest shows of a test that fails
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

    points = disturbed_points(all_orders)
    print(f"{', '.join(group)}: {points} points")  # noqa: T201  # for the table of docs/azure.md
    assert points * STRIDE > 8


def assert_host_empty(host: HostProcess) -> None:
    """Neither content nor records nor keys nor processes."""
    assert list(Folders(host.home).services.iterdir()) == []
    assert [path.name for path in host.key_folder().iterdir()] == ["lock"]
    assert host.gateways() == []
