"""Clouds for sites that are killed: the double of Azure, a real cloud host, and the lives of a site's process."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from entrepot.cloud.host.administration import HostAdministration
from entrepot.cloud.host.setup import init_host
from entrepot.trust.authority import create_authority
from entrepot.trust.certificates import new_management

from ..cloud.arm_double import APPLICATION, SUBSCRIPTION, TENANT, ArmDouble
from ..cloud.conftest import HostProcess
from ..lightpfx import light_management, light_pfx

PASSWORD = "correct horse"
LIVES = Path(__file__).with_name("lives.py")


class Lives:
    """A site, whose process is born for each job; one after the other."""

    def __init__(self, folder: Path) -> None:
        self._log = folder / "errors.log"
        with self._log.open("w") as errors:
            self._process = subprocess.Popen(
                [sys.executable, str(LIVES)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
            )

    def begin(self, folder: Path, place: dict[str, str]) -> "Lives":
        """A new site in this folder: what lives from now on."""
        folder.mkdir()
        assert self._ask({"type": "Birth", "folder": str(folder), "place": place}) == "ready\n", self._errors()
        return self

    def live(self, action: str = "", **job: Any) -> dict[str, Any]:
        """One life; what it says of itself."""
        line = self._ask({"type": "Job", "action": action, **job})
        assert line, self._errors()
        found: dict[str, Any] = json.loads(line)
        assert "broken" not in found, found["broken"]
        return found

    def _ask(self, asked: dict[str, Any]) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        while (line := self._process.stdout.readline()) and line[0] != "{" and line != "ready\n":
            pass  # what the site logs
        return line

    def _errors(self) -> str:
        return self._log.read_text()[-3000:]

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()


@pytest.fixture(scope="session")
def lives(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lives]:
    """The process that all sites are born of."""
    made = Lives(tmp_path_factory.mktemp("lives"))
    yield made
    made.close()


@pytest.fixture
def arm(tmp_path: Path) -> Iterator[ArmDouble]:
    """Azure's double; the management certificate lies beside it."""
    pair = light_management("Contoso", 30, now=time.time())
    (tmp_path / "management.pfx").write_bytes(light_pfx(pair, PASSWORD))
    double = ArmDouble(tmp_path, create_authority("Contoso", now=time.time()), pair.certificate)
    double.dns_proven = True
    yield double
    double.close()
    assert double.problems == []


@pytest.fixture
def azure_site(tmp_path: Path, lives: Lives, arm: ArmDouble) -> Lives:
    """A site whose cloud is Azure's double."""
    place = {
        "kind": "azure",
        "url": arm.url,
        "subscription": SUBSCRIPTION,
        "tenant": TENANT,
        "application": APPLICATION,
        "ca": arm.ca,
        "pfx": str(tmp_path / "management.pfx"),
        "blobs": str(tmp_path / "blobs"),
    }
    return lives.begin(tmp_path / "site", place)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[HostProcess]:
    """A running cloud host."""
    home = tmp_path / "host"
    process = HostProcess(home, init_host(home, "127.0.0.1:0", now=time.time()), tmp_path / "host.log")
    process.start()
    yield process
    process.end()
    assert process.gateways() == []


@pytest.fixture
def host_site(tmp_path: Path, lives: Lives, host: HostProcess) -> Lives:
    """A site whose cloud is a real cloud host, with real gateways."""
    pair = new_management("Contoso", 30, "ec", now=time.time())
    (tmp_path / "management.pfx").write_bytes(light_pfx(pair, PASSWORD))
    administration = HostAdministration(host.home)
    subscription = administration.add_subscription("contoso")
    administration.upload_certificate("contoso", pair.cer)
    place = {
        "kind": "host",
        "url": host.identity.url,
        "pin": host.identity.pin.hex(),
        "subscription": subscription.id,
        "pfx": str(tmp_path / "management.pfx"),
    }
    return lives.begin(tmp_path / "site", place)
