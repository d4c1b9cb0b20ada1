"""Kill the commands that set roles up, and all servers at once."""

import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from scene import CLOUD, POINT, Scene, nobody_listens, processes_below, until

from entrepot.cli.demo.processes import Server, command_in_background
from entrepot.cli.demo.topology import LOOPBACK
from entrepot.core.sizes import MIB
from entrepot.protocol.cloudpointapi import CloudPointState
from entrepot.protocol.deviceapi import DeviceInfo, EnrolmentCodeReply, EnrolmentCodeRequest
from entrepot.protocol.pointapi import PointCode, PointInfo, PointRequest
from entrepot.web.ports import lasting_port

pytestmark = [pytest.mark.end_to_end, pytest.mark.process]


def killed_at_each_file(scene: Scene, words: Sequence[str], home: Path, finished: Path, moments: Sequence[int]) -> None:
    """Run a command, kill it as soon as so many files are in its home, again and again; then run it to its end."""
    for moment in moments:
        process = command_in_background(words, environment=scene.roles.environment)
        while process.poll() is None and len(files(home)) < moment:
            time.sleep(0.0005)
        process.kill()
        process.communicate()
        if finished.exists():
            return
    scene.roles.command(*words)
    assert finished.exists()


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_site_is_set_up_however_often_that_was_interrupted(scene: Scene, tmp_path: Path) -> None:
    home, secrets = tmp_path / "second-site", scene.roles.folder / "secrets"
    url = f"https://{LOOPBACK}:{lasting_port(LOOPBACK)}"
    words = ["site", "init", "--home", str(home), "--site", "PS2", "--name", "Fabrikam", "--url", url]
    words += ["--passphrase-file", str(secrets / "root"), "--password-file", str(secrets / "administrator"), "--json"]
    killed_at_each_file(scene, words, home, home / "site.toml", (2, 5, 7))
    serves(scene, tmp_path, url, "site", "serve", "--home", str(home))


def test_a_cloud_host_is_set_up_however_often_that_was_interrupted(scene: Scene, tmp_path: Path) -> None:
    home, listen = tmp_path / "second-host", f"{LOOPBACK}:{lasting_port(LOOPBACK)}"
    words = ("host", "init", "--home", str(home), "--listen", listen, "--json")
    killed_at_each_file(scene, words, home, home / "host.toml", (1, 3, 5))
    serves(scene, tmp_path, f"https://{listen}", "host", "serve", "--home", str(home))


def serves(scene: Scene, logs: Path, url: str, *words: str) -> None:
    """Start a server, see it serve, end it."""
    server = Server("second", words, log=logs / "second.log", environment=scene.roles.environment)
    server.launch()
    try:
        assert server.await_ready() == url
    finally:
        server.ask_to_end()
        server.end()


def test_a_point_enrols_with_one_code_however_often_that_was_interrupted(scene: Scene, tmp_path: Path) -> None:
    code = scene.post("/points", PointRequest(name="dp-late"), PointCode).code
    home, listen = tmp_path / "dp-late", f"{LOOPBACK}:{lasting_port(LOOPBACK)}"
    words = ("point", "init", "--home", str(home), "--code", code, "--listen", listen)
    killed_at_each_file(scene, words, home, home / "point.toml", (1, 3, 4, 5))
    serves(scene, tmp_path, f"https://{listen}", "point", "serve", "--home", str(home))
    assert scene.get("/points/dp-late", PointInfo).state == "active"


def test_a_device_enrols_with_one_code_however_often_that_was_interrupted(scene: Scene, tmp_path: Path) -> None:
    request = EnrolmentCodeRequest(uses=1, name="pc-late")
    code = scene.post("/enrolment-codes", request, EnrolmentCodeReply).code
    home = tmp_path / "pc-late"
    words = ("client", "enrol", "--home", str(home), "--code", code, "--name", "pc-late")
    killed_at_each_file(scene, words, home, home / "device.json", (1, 3, 4, 5))
    scene.roles.command("client", "policy", "--home", str(home))
    devices = scene.get("/devices", list[DeviceInfo])
    assert [device.state.value for device in devices if device.name == "pc-late"] == ["approved"]


def test_when_everything_is_killed_nothing_is_left_and_everything_comes_back(scene: Scene) -> None:
    roles = scene.roles
    home = scene.client("203.0.113.7")
    ports = [int(url.rpartition(":")[2]) for url in (roles.site_url, roles.host_url, scene.cloud().url)]
    ports.append(int(scene.server(POINT).url.rpartition(":")[2]))
    with scene.line(8 * MIB) as line:
        with scene.fetching(home, "tools") as running:
            until("the client is under way", lambda: running.ended or line.passed > MIB)
            scene.kill("cloud-host", "site", POINT)
            running.kill()
        until("every process ended", lambda: not processes_below(roles.folder))
        assert [port for port in ports if not nobody_listens(LOOPBACK, port)] == []
        scene.revive("cloud-host", "site", POINT)
        scene.cloud_is(CloudPointState.READY, 2)
        line.rate = 0
        fetched = scene.fetch(home, "tools")
    assert scene.differences(scene.sources / "tools", fetched) == ()
    scene.distributed("tools", POINT, CLOUD)
    assert scene.damaged_objects() == []
