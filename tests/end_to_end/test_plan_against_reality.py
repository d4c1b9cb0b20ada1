"""The planner against a fleet of real processes: a site, a cloud host with a gateway, and clients that fetch real
content through it. What the plan says of bytes sent and stored is within a tenth of what the site then measures, and of
requests within 15 %, when it is told how many objects the content was cut into."""

import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from entrepot.cli.credentials import CONFIG_VARIABLE
from entrepot.cli.demo.processes import Servers
from entrepot.cli.demo.topology import CLOUD, Topology
from entrepot.protocol.cloudpointapi import CloudPointInfo, CollectSummary, Thresholds, UsageReport
from entrepot.protocol.contentapi import (
    ContentInfo,
    ContentRequest,
    DistributionInfo,
    DistributionRequest,
    VersionRequest,
)
from entrepot.protocol.deviceapi import ClientSettingsInfo, ClientSettingsRequest, SettingsValues
from entrepot.protocol.siteapi import TaskInfo
from entrepot.rules.plan import Fleet, PlannedContent, plan
from entrepot.site.cost.shipped import shipped

CLIENTS = 3
FILES = 12
SIZE = FILES << 20
CHANGED_PERCENT = 25
DELTA_PERCENT = 15
BYTES_WITHIN = 0.1
REQUESTS_WITHIN = 0.15
NAME = "software"

pytestmark = pytest.mark.process


@pytest.fixture
def roles(tmp_path: Path) -> Iterator[Topology]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ENTREPOT_")}
    environment[CONFIG_VARIABLE] = str(tmp_path / "config")
    with Servers(tmp_path / "logs", environment) as servers:
        (tmp_path / "logs").mkdir()
        topology = Topology(tmp_path, servers, environment)
        try:
            yield topology
        finally:
            topology.close()


def _write(folder: Path, *, second: bool) -> Path:
    """Content of twelve files; the second version changes 15 % of every part of a quarter of them."""
    folder.mkdir()
    draw, other = random.Random(1), random.Random(2)
    for number in range(FILES):
        data = bytearray(draw.randbytes(SIZE // FILES))
        if second and number < FILES * CHANGED_PERCENT // 100:
            step = 64 * 1024
            for begin in range(0, len(data), step):
                length = step * DELTA_PERCENT // 100
                data[begin : begin + length] = other.randbytes(length)
        (folder / f"{number:02}.bin").write_bytes(data)
    return folder


def _until(ask, seconds: float = 300.0) -> None:
    deadline = time.monotonic() + seconds
    while not ask():
        assert time.monotonic() < deadline, "it does not come about"
        time.sleep(0.2)


def _there(roles: Topology, version: int) -> bool:
    rows = roles.session.get(f"/contents/{NAME}/distribution", list[DistributionInfo])
    return all(row.held >= version for row in rows)


def _fetch_all(roles: Topology, homes: dict[str, Path]) -> None:
    for home in homes.values():
        roles.command("client", "fetch", NAME, "--home", str(home), "--json")


def test_a_plan_foretells_what_a_small_fleet_uses(roles: Topology, tmp_path: Path) -> None:
    roles.set_up()
    roles.start_host_and_site()
    roles.launch_points()
    roles.import_certificate()
    roles.create_cloud_point(instances=1, thresholds=Thresholds())
    session = roles.session
    allowed = ClientSettingsRequest(name="default", settings=SettingsValues(allow_cloud=True))
    session.post("/client-settings", allowed, ClientSettingsInfo)
    first, second = _write(tmp_path / "first", second=False), _write(tmp_path / "second", second=True)
    roles.finish(session.post("/contents", ContentRequest(name=NAME, source=str(first)), TaskInfo))
    session.post(f"/contents/{NAME}/distribution", DistributionRequest(points=(CLOUD,)), list[DistributionInfo])
    _deploy(roles)
    _until(lambda: _there(roles, 1))
    foretold = _foretold(session.get(f"/contents/{NAME}", ContentInfo).versions[0].chunks)
    homes = roles.enrol_clients({f"laptop-{number}": f"203.0.113.{number + 1}" for number in range(CLIENTS)})
    _fetch_all(roles, homes)
    roles.finish(session.post(f"/contents/{NAME}/versions", VersionRequest(source=str(second)), TaskInfo))
    _until(lambda: max(session.get(f"/contents/{NAME}", ContentInfo).versions, key=lambda v: v.number).deltas)
    _until(lambda: _there(roles, 2) and not _waiting(roles))
    _fetch_all(roles, homes)
    sent, requests, stored = _measured(roles)
    figures = {"sent": (foretold.sent, sent), "stored": (foretold.stored, stored)}
    for planned, real in figures.values():
        assert planned == pytest.approx(real, rel=BYTES_WITHIN), figures
    assert foretold.requests == pytest.approx(requests, rel=REQUESTS_WITHIN), (foretold.requests, requests)


def _foretold(objects: int):
    """The plan: two releases a month, far enough apart for everyone to have the first when the second comes."""
    fleet = Fleet(
        clients=CLIENTS,
        internet_percent=100,
        hours=1,
        days=30,
        instances=1,
        already_installed=False,
    )
    content = PlannedContent(
        name=NAME,
        size=SIZE,
        objects=objects,
        releases_a_month=2,
        changed_percent=CHANGED_PERCENT,
        delta_percent=DELTA_PERCENT,
    )
    found = plan(fleet, (content,), shipped()["azure-blob"])
    assert found.downloads == 2 * CLIENTS
    return next(one for one in found.tallies if one.deltas and not one.peers)


def _deploy(roles: Topology) -> None:
    from entrepot.protocol.deviceapi import DeploymentInfo, DeploymentOptions, DeploymentRequest

    request = DeploymentRequest(content=NAME, options=DeploymentOptions(allow_remote=True))
    roles.session.post("/deployments", request, DeploymentInfo)


def _waiting(roles: Topology) -> bool:
    rows = roles.session.get(f"/contents/{NAME}/distribution", list[DistributionInfo])
    tasks = roles.session.get("/tasks", list[TaskInfo])
    return any(row.state.value != "success" for row in rows) or any(not task.state.final for task in tasks)


def _measured(roles: Topology) -> tuple[int, int, int]:
    """Bytes, requests and stored bytes, as the site counted them, once two collections in a row say the same."""
    before = -1
    while True:
        roles.session.post(f"/cloud-points/{CLOUD}/collect", None, CollectSummary)
        buckets = roles.session.get(f"/cloud-points/{CLOUD}/usage", UsageReport).buckets
        sent = sum(bucket.sent for bucket in buckets)
        if sent == before:
            usage = roles.session.get(f"/cloud-points/{CLOUD}", CloudPointInfo).usage
            return sent, sum(bucket.requests for bucket in buckets), usage.stored_bytes
        before = sent
        time.sleep(2.5)
