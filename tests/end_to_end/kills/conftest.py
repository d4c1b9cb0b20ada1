"""Sets the estate up once, and asserts in the end that killing all of it left nothing behind."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from scene import POINT, JournalWatch, Scene, make_tree, processes_below

from entrepot.cli.credentials import CONFIG_VARIABLE
from entrepot.cli.demo.processes import Servers
from entrepot.cli.demo.topology import CLOUD, Topology
from entrepot.durable.files import make_folder
from entrepot.protocol.cloudpointapi import CloudPointState, Thresholds
from entrepot.protocol.deviceapi import ClientSettingsInfo, ClientSettingsRequest, SettingsValues
from entrepot.protocol.pointapi import BoundaryGroupInfo, BoundaryGroupRequest, BoundaryPoint

FILES, SIZE = 80, 320_000


@pytest.fixture(scope="session")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """The estate, running, with the content ``tools`` on both points."""
    folder = tmp_path_factory.mktemp("kills")
    for name in ("logs", "sources", "journals"):
        make_folder(folder / name, mode=0o700)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ENTREPOT_")}
    environment |= {CONFIG_VARIABLE: str(folder / "config"), "PYTHONUNBUFFERED": "1"}
    with Servers(folder / "logs", environment) as servers:
        roles = Topology(folder, servers, environment)
        scene = Scene(roles, servers, folder / "sources")
        watch = JournalWatch(roles.home("cloud-host") / "services", folder / "journals")
        try:
            watch.start()
            set_up(scene)
            yield scene
        finally:
            watch.end()
            roles.close()
    assert processes_below(folder) == {}


def set_up(scene: Scene) -> None:
    """Start every role; publish and distribute a first content."""
    roles = scene.roles
    roles.set_up()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CONFIG_VARIABLE, roles.environment[CONFIG_VARIABLE])
        roles.start_host_and_site()
    roles.launch_points(POINT)
    roles.await_points()
    group = BoundaryGroupRequest(name="Berlin", ranges=("10.1.0.0/16",), points=(BoundaryPoint(name=POINT),))
    scene.post("/boundary-groups", group, BoundaryGroupInfo)
    allowed = ClientSettingsRequest(name="default", settings=SettingsValues(allow_cloud=True))
    scene.post("/client-settings", allowed, ClientSettingsInfo)
    roles.import_certificate()
    roles.create_cloud_point(instances=2, thresholds=Thresholds())
    source = make_tree(scene.sources / "tools", 1, files=FILES, size=SIZE)
    scene.completed(scene.publish("tools", source))
    scene.distribute("tools", POINT, CLOUD)
    scene.deploy("tools")
    scene.distributed("tools", POINT, CLOUD)
    scene.cloud_is(CloudPointState.READY, 2)
