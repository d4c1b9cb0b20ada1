"""The same steps by hand: real commands against real servers, as the README tells an administrator to do it."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from entrepot.cli.demo.processes import Servers, StepFailedError, run_command
from entrepot.cli.demo.topology import free_port

pytestmark = [pytest.mark.end_to_end, pytest.mark.process]

FQDN = "cloud1.contoso.example"
PASSWORD = "a password of some length"


class Administrator:
    """Someone at a shell: runs commands, keeps passwords in private files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = os.environ | {"ENTREPOT_CONFIG_DIR": str(folder / "config"), "PYTHONUNBUFFERED": "1"}
        self.password = folder / "password"
        self.password.touch(mode=0o600)
        self.password.write_text(PASSWORD + "\n")

    def __call__(self, *arguments: str, stdin: str = "") -> str:
        log = self.folder / "commands.log"
        return run_command(arguments, environment=self.environment, log=log, stdin=stdin).stdout

    def json(self, *arguments: str, stdin: str = "") -> Any:
        return json.loads(self(*arguments, "--json", stdin=stdin))

    def home(self, name: str) -> str:
        return str(self.folder / name)


@pytest.fixture(scope="module")
def do(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Administrator]:
    """A hierarchy with a site, a cloud host, one point and one cloud point, all made by commands."""
    do = Administrator(tmp_path_factory.mktemp("by-hand"))
    with Servers(do.folder, do.environment) as servers:
        url = f"https://127.0.0.1:{free_port()}"
        site = do.json("site", "init", "--home", do.home("site"), "--name", "Contoso", "--url", url,
                       "--passphrase-file", str(do.password), "--password-file", str(do.password))  # fmt: skip
        host = do.json("host", "init", "--home", do.home("host"), "--listen", "127.0.0.1:0")
        do("certificate", "new-management", "contoso", "--out", do.home("certs"), "--password-file", str(do.password))
        subscription = do.json("host", "subscription", "add", "contoso", "--home", do.home("host"), "--certificate",
                               do.home("certs/contoso.cer"))  # fmt: skip
        for role in ("site", "host"):
            servers.launch(role, role, "serve", "--home", do.home(role)).await_ready()
        do("login", url, "--fingerprint", site["fingerprint"], "--password-file", str(do.password))
        do("certificate", "import", "contoso", do.home("certs/contoso.pfx"), "--password-file", str(do.password))
        do("certificate", "issue-service", FQDN, "--out", do.home("certs"), "--password-file", str(do.password))
        do("cloud", "create", "cloud-eu", "--host", host["url"], "--host-pin", host["pin"], "--subscription",
           subscription["id"], "--certificate", "contoso", "--service-pfx", do.home(f"certs/{FQDN}.pfx"),
           "--service-password-file", str(do.password), "--instances", "1", "--storage-quota", "1GB")  # fmt: skip
        code = do("point", "add", "dp-berlin")
        do("point", "init", "--home", do.home("point"), "--code-stdin", "--listen", "127.0.0.1:0", stdin=code)
        servers.launch("point", "point", "serve", "--home", do.home("point")).await_ready()
        do("boundary", "add", "Berlin", "--range", "10.1.0.0/16", "--point", "dp-berlin")
        yield do


def source(do: Administrator, name: str, text: str) -> str:
    folder = do.folder / "sources" / name
    folder.mkdir(parents=True)
    (folder / "setup.txt").write_text(text * 1000)
    return str(folder)


def client(do: Administrator, name: str, address: str) -> str:
    home = Path(do.home(name))
    home.mkdir(mode=0o700)
    (home / "client.toml").write_text(f'addresses = ["{address}"]\n[resolve]\n"{FQDN}" = "127.0.0.1"\n')
    code = do("device", "code", "--name", name)
    do("client", "enrol", "--home", str(home), "--code-stdin", "--name", name, stdin=code)
    return str(home)


def test_the_site_says_what_it_is_and_serves_its_api_description(do: Administrator) -> None:
    status = do.json("site", "status")
    assert (status["code"], status["counts"]["points"], status["counts"]["cloud_points"]) == ("PS1", 1, 1)


def test_content_goes_from_a_folder_to_a_device_and_rolls_back(do: Administrator) -> None:
    do("content", "publish", source(do, "one", "first release "), "--name", "Tools", "--type", "application")
    rows = do.json("content", "distribute", "Tools", "--to", "dp-berlin", "--to", "cloud-eu")
    assert {row["point_name"]: row["state"] for row in rows} == {"dp-berlin": "success", "cloud-eu": "success"}
    do("deploy", "add", "Tools")
    home = client(do, "pc-1", "10.1.0.5")
    first = do.json("client", "fetch", "Tools", "--home", home)
    assert Path(first["folder"], "setup.txt").read_text().startswith("first release")
    assert [used["name"] for used in first["used"]] == ["dp-berlin"]
    do("content", "publish", source(do, "two", "second release "), "--name", "Tools")
    do("content", "status", "Tools", "--wait")
    assert do.json("client", "fetch", "Tools", "--home", home)["version"] == 2
    do("content", "current", "Tools", "1")
    assert do.json("client", "fetch", "Tools", "--home", home)["version"] == 1
    target = do.folder / "installed"
    do("client", "fetch", "Tools", "--home", home, "--version", "2", "--to", str(target))
    assert (target / "setup.txt").read_text().startswith("second release")
    assert [row["version"] for row in do.json("client", "status", "--home", home)["installed"]] == [1, 2]
    do("content", "remove", "Tools", "--from", "cloud-eu", "--yes")
    assert do.json("client", "policy", "--home", home)["assignments"][0]["name"] == "Tools"


def test_a_device_is_blocked_and_gets_nothing_more(do: Administrator) -> None:
    home = client(do, "pc-2", "10.1.0.6")
    do("device", "block", "pc-2", "--yes")
    with pytest.raises(StepFailedError, match=r"ended with [67]"):
        do("client", "policy", "--home", home)


def test_settings_reach_the_devices_of_a_collection(do: Administrator) -> None:
    client(do, "pc-3", "10.1.0.7")
    assert do.json("device", "settings", "pc-3")["settings"]["allow_cloud"] is False
    do("collection", "add", "Laptops")
    do("collection", "join", "Laptops", "pc-3")
    do("settings", "set", "Cloud for laptops", "--for", "Laptops", "--allow-cloud", "--cache", "5GB")
    got = do.json("device", "settings", "pc-3")
    assert (got["settings"]["allow_cloud"], got["settings"]["cache_bytes"]) == (True, 5 * 10**9)
    do("settings", "remove", "Cloud for laptops", "--yes")
    do("collection", "leave", "Laptops", "pc-3")
    do("collection", "remove", "Laptops", "--yes")
    assert do.json("device", "settings", "pc-3")["settings"]["allow_cloud"] is False


def test_the_cloud_point_stops_starts_scales_and_is_watched(do: Administrator) -> None:
    assert do.json("cloud", "stop", "cloud-eu", "--yes")["state"] == "completed"
    assert do.json("cloud", "show", "cloud-eu")["state"] == "stopped"
    assert do.json("cloud", "start", "cloud-eu")["state"] == "completed"
    assert do.json("cloud", "scale", "cloud-eu", "2")["state"] == "completed"
    shown = do.json("cloud", "show", "cloud-eu")
    assert (shown["state"], shown["instances_wanted"], shown["fqdn"]) == ("ready", 2, FQDN)
    do("cloud", "thresholds", "cloud-eu", "--storage-warning-free", "25")
    assert do.json("cloud", "show", "cloud-eu")["thresholds"]["storage_warning_free_percent"] == 25
    assert do.json("cloud", "collect", "cloud-eu")["gaps"] == []
    assert isinstance(do.json("cloud", "usage", "cloud-eu", "--by", "device"), list)
    assert do.json("alert", "list") == []
    assert {alert["state"] for alert in do.json("alert", "list", "--all")} <= {"never_triggered", "canceled"}


def test_errors_of_the_site_are_told_with_the_next_step(do: Administrator) -> None:
    with pytest.raises(StepFailedError, match="ended with 3") as missing:
        do("content", "show", "no-such-thing")
    assert "Error:" in missing.value.message
    with pytest.raises(StepFailedError, match="ended with 4"):
        do("host", "init", "--home", do.home("host"))


def test_deleting_the_cloud_point_leaves_nothing_on_the_host(do: Administrator) -> None:
    do("cloud", "delete", "cloud-eu", "--yes")
    assert do.json("cloud", "list") == []
    assert [path for path in (do.folder / "host" / "services").rglob("*") if path.is_file()] == []


def test_after_logging_out_nobody_gets_in(do: Administrator) -> None:
    do("logout")
    with pytest.raises(StepFailedError, match="ended with 6"):
        do("site", "status")
