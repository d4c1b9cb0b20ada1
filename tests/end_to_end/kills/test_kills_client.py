"""Kill whoever takes part in a download: it is finished all the same, and little is fetched twice."""

import os
import signal
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from scene import LOOPBACK, POINT, Running, Scene, nobody_listens, until

from entrepot.cli.demo.slowline import SlowLine
from entrepot.core.sizes import MIB
from entrepot.protocol.cloudpointapi import CloudPointState

pytestmark = [pytest.mark.end_to_end, pytest.mark.process]

CLOUD_RATE = 12 * MIB
IN_FLIGHT = 5 * MIB
"""What a client may lose by being killed: the objects it is receiving, and their neighbours in the line's buffers."""


def stored_size(scene: Scene, content: str = "tools") -> int:
    """What a client that has nothing receives."""
    return scene.content(content).versions[0].stored_size


def under_way(running: Running, line: SlowLine, size: float) -> None:
    """Wait until so many bytes went through the line, or the client has ended."""
    until("the client is under way", lambda: running.ended or line.passed >= size)


def bytes_below(folder: Path) -> int:
    """What a client has written so far."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())


def test_a_client_killed_again_and_again_finishes_and_fetches_little_twice(scene: Scene) -> None:
    home, size = scene.client("203.0.113.7"), stored_size(scene)
    with scene.line(CLOUD_RATE) as line:
        for part in sorted(scene.random.uniform(0.05, 0.9) for _ in range(4)):
            with scene.fetching(home, "tools") as running:
                under_way(running, line, part * size)
                assert not running.ended
                running.kill()
        line.rate = 0
        fetched = scene.fetch(home, "tools")
        received = line.passed
    assert scene.differences(scene.sources / "tools", fetched) == ()
    assert 0 < fetched.received() < size / 2
    assert received < size + 4 * IN_FLIGHT


def test_a_client_killed_while_it_shows_the_tree_has_it_afterwards(scene: Scene) -> None:
    home, size = scene.client("203.0.113.7"), stored_size(scene)
    with scene.line(0) as line:
        with scene.fetching(home, "tools") as running:
            under_way(running, line, size)
            running.kill()
        fetched = scene.fetch(home, "tools")
    assert scene.differences(scene.sources / "tools", fetched) == ()
    assert fetched.received() < IN_FLIGHT


def test_a_point_killed_in_a_download_costs_a_client_nothing(scene: Scene) -> None:
    home, size = scene.client("10.1.0.5"), stored_size(scene)
    with scene.line(0), scene.fetching(home, "tools") as running:
        until("the point delivers", lambda: running.ended or bytes_below(home) > size / 50, pause=0.001)
        scene.kill(POINT)
        assert not running.ended
        fetched = running.result()
    assert fetched is not None, "the cloud has it, too"
    assert scene.differences(scene.sources / "tools", fetched) == ()
    assert fetched.received("cloud") > 0
    scene.revive(POINT)
    again = scene.fetch(scene.client("10.1.0.6"), "tools")
    assert again.received("point") > 0
    assert again.received("cloud") == 0
    assert scene.differences(scene.sources / "tools", again) == ()


def test_gateways_killed_in_a_download_cost_a_client_nothing(scene: Scene) -> None:
    home, size = scene.client("203.0.113.7"), stored_size(scene)
    first, second = scene.gateways()
    with scene.line(CLOUD_RATE) as line, scene.fetching(home, "tools") as running:
        under_way(running, line, size / 4)
        os.kill(first, signal.SIGKILL)
        under_way(running, line, size / 2)
        os.kill(second, signal.SIGKILL)
        fetched = running.result()
    assert fetched is not None
    assert scene.differences(scene.sources / "tools", fetched) == ()
    scene.cloud_is(CloudPointState.READY, 2)
    assert not {first, second} & scene.gateways().keys()


def test_a_cloud_host_killed_in_a_download_leaves_nothing_and_comes_back(scene: Scene) -> None:
    home, size = scene.client("203.0.113.7"), stored_size(scene)
    port = urlsplit(scene.cloud().url).port or 443
    with scene.line(CLOUD_RATE) as line:
        with scene.fetching(home, "tools") as running:
            under_way(running, line, size / 3)
            scene.kill("cloud-host")
            until("the gateways ended with their host", lambda: not scene.gateways())
            until("the service's port is free", lambda: nobody_listens(LOOPBACK, port))
            scene.revive("cloud-host")
            running.result()  # it may have given up meanwhile: there was no source
        line.rate = 0
        scene.cloud_is(CloudPointState.READY, 2)
        fetched = scene.fetch(home, "tools")
        received = line.passed
    assert urlsplit(scene.cloud().url).port == port
    assert scene.differences(scene.sources / "tools", fetched) == ()
    assert received < size + IN_FLIGHT
