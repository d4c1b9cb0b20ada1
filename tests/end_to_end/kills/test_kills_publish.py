"""Kill the site while it publishes, distributes and makes deltas; kill those it sends to."""

import shutil
import time
from pathlib import Path

import pytest
from scene import CLOUD, OBJECTS, POINT, Scene, make_tree, until

from entrepot.protocol.contentapi import ContentInfo, VersionRequest
from entrepot.protocol.deviceapi import DeploymentInfo
from entrepot.protocol.siteapi import TaskInfo

pytestmark = [pytest.mark.end_to_end, pytest.mark.process]


def objects_of(store: Path) -> set[str]:
    """What a point holds."""
    return {path.name for path in (store / OBJECTS).rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def before(scene: Scene) -> dict[Path, set[str]]:
    """What points hold before anything of ``suite`` comes."""
    return {store: objects_of(store) for store in scene.stores()}


@pytest.fixture(scope="module")
def published(scene: Scene, before: dict[Path, set[str]]) -> Scene:
    """The content ``suite``, whose publishing was interrupted."""
    make_tree(scene.sources / "suite", 2, files=80, size=500_000)
    task = scene.publish("suite", scene.sources / "suite")
    until("something was published", lambda: scene.task(task).done > 0 or None)
    scene.kill("site")
    scene.revive("site")
    scene.harass("site", times=1, longest=0.8)
    scene.completed(task)
    return scene


def test_a_site_killed_while_publishing_publishes_everything(published: Scene) -> None:
    content = published.content("suite")
    (version,) = content.versions
    assert content.state == "ready"
    assert version.files == sum(
        1 for p in (published.sources / "suite").rglob("*") if p.is_file() and not p.is_symlink()
    )
    assert published.damaged_objects() == []


def test_site_point_and_host_killed_while_distributing_bring_it_there(published: Scene) -> None:
    scene = published
    scene.deploy("suite")
    scene.distribute("suite", POINT, CLOUD)
    scene.harass("site", times=1, longest=0.5)
    for name in (POINT, "cloud-host"):
        time.sleep(scene.random.uniform(0, 0.3))
        scene.kill(name)
        scene.revive(name)
    scene.harass("site", times=1, longest=0.5)
    scene.distributed("suite", POINT, CLOUD)
    assert scene.damaged_objects() == []
    with scene.line(0):
        fetched = {
            kind: scene.fetch(scene.client(address), "suite")
            for kind, address in (("point", "10.1.0.7"), ("cloud", "203.0.113.9"))
        }
    for kind, each in fetched.items():
        assert each.received(kind) == each.received() > 0
        assert scene.differences(scene.sources / "suite", each) == ()


def test_a_site_killed_while_it_makes_a_delta_makes_it(published: Scene) -> None:
    scene = published
    home = scene.client("10.1.0.8")
    source = scene.sources / "suite"
    scene.fetch(home, "suite")
    second = shutil.copytree(source, scene.sources / "suite-2", symlinks=True)
    for path in sorted(second.glob("part-*/*"))[::4]:
        data = path.read_bytes()
        path.write_bytes(data[:100_000] + b"patched" + data[100_000:])
    scene.post("/contents/suite/versions", VersionRequest(source=str(second)), TaskInfo)
    until("the second version is there", lambda: len(scene.content("suite").versions) == 2 or None)
    scene.kill("site")
    scene.revive("site")
    scene.harass("site", times=1, longest=0.6)

    def made() -> bool | None:
        newest = max(scene.content("suite").versions, key=lambda version: version.number)
        return any(delta.from_version == 1 for delta in newest.deltas) or None

    until("the delta is made", made)
    scene.distributed("suite", POINT, CLOUD, version=2)
    until("the delta is on the point", lambda: _offers_delta(scene, home))
    fetched = scene.fetch(home, "suite")
    assert fetched.version == 2
    assert any(one.form == "delta" and one.bytes for one in fetched.used)
    assert fetched.received() < scene.content("suite").versions[0].stored_size / 10
    assert scene.differences(second, fetched) == ()
    assert scene.damaged_objects() == []


def test_a_site_killed_while_it_deletes_a_content_leaves_nothing_of_it(
    published: Scene, before: dict[Path, set[str]]
) -> None:
    scene = published
    assert all(objects_of(store) > objects for store, objects in before.items())
    for deployment in scene.get("/deployments", list[DeploymentInfo]):
        if deployment.content_name == "suite":
            scene.delete(f"/deployments/{deployment.id}", type(None))
    task = scene.delete("/contents/suite", TaskInfo)
    for victim in scene.random.sample(("site", POINT, "cloud-host"), 3):
        time.sleep(scene.random.uniform(0, 0.3))
        scene.kill(victim)
        scene.revive(victim)
    scene.completed(task)
    assert [content.name for content in scene.get("/contents", list[ContentInfo])] == ["tools"]
    assert {store: objects_of(store) for store in before} == before


def _offers_delta(scene: Scene, home: object) -> bool | None:
    text = scene.roles.command("client", "locate", "suite", "--home", str(home), "--json")
    return '"deltas":[1]' in text.replace(" ", "").replace("\n", "") or None
