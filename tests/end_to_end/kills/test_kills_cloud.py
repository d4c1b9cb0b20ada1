"""Kill site and cloud host while a cloud point is accounted for, stopped, started, scaled, deleted and created."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from scene import CLOUD, LOOPBACK, POINT, Scene, nobody_listens, until

from entrepot.core.encoding import unpack
from entrepot.protocol.cloudpointapi import CloudPointInfo, CloudPointState, ScaleRequest, UsageReport
from entrepot.protocol.siteapi import TaskInfo
from entrepot.protocol.transactions import Record, frames
from entrepot.site.cloud.summary import parse_summary

pytestmark = [pytest.mark.end_to_end, pytest.mark.process]


def recorded(journals: Path) -> tuple[int, int]:
    """Requests and bytes in all journals that any gateway ever wrote."""
    requests = sent = 0
    for path in journals.iterdir():
        whole = iter(frames(path.read_bytes(), torn_tail=True))
        next(whole, None)
        for _, payload in whole:
            records = unpack(payload, list[Record], "frame")
            requests += len(records)
            sent += sum(record.sent for record in records)
    return requests, sent


def collected(scene: Scene) -> tuple[int, int]:
    """Requests and bytes in the hourly figures."""
    buckets = scene.get(f"/cloud-points/{CLOUD}/usage", UsageReport).buckets
    return sum(bucket.requests for bucket in buckets), sum(bucket.sent for bucket in buckets)


def logged(scene: Scene) -> tuple[int, int]:
    """Requests and bytes in the log, every line of which must parse."""
    text = (scene.roles.home("site") / "logs" / f"CloudDP-{CLOUD}.log").read_bytes().decode()
    rows = [parse_summary(line) for line in text.splitlines()]
    return sum(row.requests for row in rows), sum(row.bytes for row in rows)


def test_transactions_are_counted_once_whoever_is_killed(scene: Scene) -> None:
    journals = scene.roles.folder / "journals"
    received = 0
    with scene.line(0):
        for victim in ("site", "cloud-host", "site"):
            fetched = scene.fetch(scene.client("203.0.113.7"), "tools")
            received += fetched.received("cloud")
            killer = threading.Timer(scene.random.uniform(0, 0.2), scene.kill, [victim])
            killer.start()
            while killer.is_alive():
                scene.collect()
            killer.join()
            scene.revive(victim)
            scene.cloud_is(CloudPointState.READY, 2)

    def everything() -> bool | None:
        scene.collect()
        return collected(scene) == recorded(journals) or None

    until("the figures are what gateways recorded", everything)
    assert recorded(journals)[1] >= received > 0
    assert logged(scene) == collected(scene)


def test_stop_start_and_scale_are_finished(scene: Scene) -> None:
    for verb, body, victim, state, instances in (
        ("stop", None, "site", CloudPointState.STOPPED, 0),
        ("start", None, "cloud-host", CloudPointState.READY, 2),
        ("scale", ScaleRequest(instances=3), "site", CloudPointState.READY, 3),
        ("stop", None, "cloud-host", CloudPointState.STOPPED, 0),
        ("start", None, "site", CloudPointState.READY, 3),
        ("scale", ScaleRequest(instances=2), "cloud-host", CloudPointState.READY, 2),
    ):
        task = scene.post(f"/cloud-points/{CLOUD}/{verb}", body, TaskInfo)
        time.sleep(scene.random.uniform(0, 0.4))
        scene.kill(victim)
        scene.revive(victim)
        scene.completed(task)
        scene.cloud_is(state, instances)


def test_a_stopped_service_stays_stopped_when_its_host_was_killed(scene: Scene) -> None:
    address = urlsplit(scene.cloud().url)
    scene.completed(scene.post(f"/cloud-points/{CLOUD}/stop", None, TaskInfo))
    scene.kill("cloud-host", "site")
    scene.revive("cloud-host", "site")
    scene.cloud_is(CloudPointState.STOPPED, 0)
    scene.completed(scene.post(f"/cloud-points/{CLOUD}/start", None, TaskInfo))
    scene.cloud_is(CloudPointState.READY, 2)
    assert urlsplit(scene.cloud().url) == address


def interrupted(scene: Scene, begin: Callable[[], TaskInfo]) -> None:
    """Begin something, kill both who work on it at random moments, and wait until it has ended well by itself."""
    task = begin()
    for victim in scene.random.sample(("site", "cloud-host", "site"), 3):
        time.sleep(scene.random.uniform(0, 0.5))
        scene.kill(victim)
        scene.revive(victim)
    scene.completed(task)


def test_a_cloud_point_is_deleted_wholly_and_made_anew(scene: Scene) -> None:
    services = scene.roles.home("cloud-host") / "services"
    port = urlsplit(scene.cloud().url).port or 443
    interrupted(scene, lambda: scene.delete(f"/cloud-points/{CLOUD}", TaskInfo))
    assert scene.get("/cloud-points", list[CloudPointInfo]) == []
    assert [path for path in services.rglob("*") if path.is_file()] == []
    assert scene.gateways() == {}
    assert nobody_listens(LOOPBACK, port)
    interrupted(scene, scene.order_cloud_point)
    scene.cloud_is(CloudPointState.READY, 2)
    scene.distribute("tools", CLOUD)
    scene.distributed("tools", POINT, CLOUD)
    with scene.line(0):
        fetched = scene.fetch(scene.client("203.0.113.7"), "tools")
    assert fetched.received("cloud") == fetched.received() > 0
    assert scene.differences(scene.sources / "tools", fetched) == ()
