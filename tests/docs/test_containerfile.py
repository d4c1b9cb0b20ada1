"""The gateway's image: what its Containerfile says fits the package, its lock file and what Azure is told."""

import importlib.util
import json
import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from entrepot.cloud.host.server import GATEWAY_COMMAND
from entrepot.cloud.providers.azure.bodies import CONFIG_PATH, PORT, STATE_PATH


@pytest.fixture(scope="module")
def lines(repository) -> dict[str, list[str]]:
    """Its instructions by name; continued lines are one."""
    text = (repository / "Containerfile").read_text("utf-8").replace("\\\n", " ")
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            word, _, rest = line.partition(" ")
            found.setdefault(word, []).append(rest)
    return found


def test_it_starts_a_gateway_as_a_cloud_host_does_with_the_file_that_azure_mounts(lines) -> None:
    _, *how = GATEWAY_COMMAND
    assert json.loads(lines["ENTRYPOINT"][0]) == ["python", *how]
    assert importlib.util.find_spec(f"{how[-1]}.__main__") is not None
    assert json.loads(lines["CMD"][0]) == [f"{CONFIG_PATH}/gateway.json"]


def test_port_and_folder_are_those_that_azure_is_told(lines) -> None:
    assert lines["EXPOSE"] == [str(PORT)]
    assert lines["VOLUME"] == [STATE_PATH]
    assert f"--home-dir {STATE_PATH}" in lines["RUN"][0]
    assert f"--uid {lines['USER'][0]} " in lines["RUN"][0]


def test_the_lock_file_that_it_installs_has_everything_that_servers_need(lines, repository) -> None:
    assert "-r /tmp/requirements.lock" in lines["RUN"][0]
    lock = (repository / "requirements.lock").read_text("utf-8")
    locked = dict(re.findall(r"^([a-z0-9-]+)==([^ \\]+)", lock, re.MULTILINE))
    project = tomllib.loads((repository / "pyproject.toml").read_text("utf-8"))["project"]
    needed = [Requirement(one) for one in (*project["dependencies"], *project["optional-dependencies"]["server"])]
    missing = [str(one) for one in needed if one.name not in locked or Version(locked[one.name]) not in one.specifier]
    assert missing == []


def test_it_runs_a_python_that_the_package_supports(lines, repository) -> None:
    version = re.search(r"python:([\d.]+)", lines["FROM"][0])
    project = tomllib.loads((repository / "pyproject.toml").read_text("utf-8"))["project"]
    assert version is not None
    assert Requirement(f"x{project['requires-python']}").specifier.contains(version[1])
