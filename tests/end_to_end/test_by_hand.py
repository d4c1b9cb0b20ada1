"""The same steps by hand: real commands against real servers, as the README tells an administrator to do it."""

import json
import os
import random
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from entrepot.cli.demo.processes import Servers, StepFailedError, run_command
from entrepot.web.ports import lasting_port

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
        url = f"https://127.0.0.1:{lasting_port('127.0.0.1')}"
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


def archive(do: Administrator, name: str, seed: int, change: bytes) -> str:
    """A zip of one large file, which differs from release to release in a few bytes only."""
    data = random.Random(seed).randbytes(2_000_000)
    (do.folder / "archives").mkdir(exist_ok=True)
    path = do.folder / "archives" / name
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("app/program.bin", data[:1_000_000] + change + data[1_000_000:])
        packed.writestr("app/same.bin", random.Random(seed + 1).randbytes(1_000_000))
    return str(path)


def installed(do: Administrator, home: str) -> tuple[int, bytes, int]:
    """What a device has after fetching: version, the program's changed bytes, and bytes that travelled."""
    fetched = do.json("client", "fetch", "Packed", "--home", home)
    program = Path(fetched["folder"], "app", "program.bin").read_bytes()
    travelled = sum(used["bytes"] for used in fetched["used"] if used["name"] == "dp-berlin")
    return fetched["version"], program[1_000_000:1_000_005], travelled


def test_an_archive_is_rehearsed_published_rolled_back_and_deleted(do: Administrator) -> None:
    first, second = archive(do, "packed-1.zip", 7, b"AAAAA"), archive(do, "packed-2.zip", 7, b"BBBBB")
    do("content", "publish", first, "--name", "Packed", "--unpack", "--note", "as delivered")
    do("content", "distribute", "Packed", "--to", "dp-berlin")
    deployment = do.json("deploy", "add", "Packed")["id"]
    home = client(do, "pc-packed", "10.1.0.9")
    version, text, _ = installed(do, home)
    assert (version, text) == (1, b"AAAAA")
    said = do.json("content", "publish", second, "--name", "Packed", "--dry-run", "--clients", "100")
    assert (said["number"], said["current"], said["delta"]) == (2, 1, "made")
    assert said["all_delta_fetch"] == 100 * said["delta_fetch"]
    assert said["delta_fetch"] < said["update_fetch"] < said["first_fetch"]
    assert len(do.json("content", "show", "Packed")["versions"]) == 1
    do("content", "publish", second, "--name", "Packed", "--deltas", "1")
    delta_made(do, 1, 2)
    do("content", "status", "Packed", "--wait")
    version, text, fetched = installed(do, home)
    assert (version, text) == (2, b"BBBBB")
    assert abs(fetched - said["delta_fetch"]) < 2000
    do("content", "rollback", "Packed", "--note", "2 crashes")
    delta_made(do, 2, 1)
    do("content", "status", "Packed", "--wait")
    assert installed(do, home)[:2] == (1, b"AAAAA")
    newcomer = client(do, "pc-newcomer", "10.1.0.10")
    assert installed(do, newcomer)[:2] == (1, b"AAAAA")
    assert do.json("content", "history", "Packed")[0]["note"] == "2 crashes"
    uses = do.json("content", "delete-version", "Packed", "2", "--dry-run")
    assert {(each["from_version"], each["to_version"]) for each in uses["deltas"]} == {(1, 2), (2, 1)}
    do("content", "delete-version", "Packed", "2", "--force", "--yes")
    shown = do.json("content", "show", "Packed")
    assert [(each["number"], each["note"], each["deltas"]) for each in shown["versions"]] == [(1, "as delivered", [])]
    uses = do.json("content", "delete", "Packed", "--dry-run")
    assert ([each["id"] for each in uses["deployments"]], uses["points"]) == ([deployment], ["dp-berlin"])
    assert uses["devices"] == 2
    with pytest.raises(StepFailedError, match="is deployed to All devices"):
        do("content", "delete", "Packed", "--yes")
    do("deploy", "remove", deployment, "--yes")
    do("content", "delete", "Packed", "--yes")
    assert "Packed" not in [each["name"] for each in do.json("content", "list")]


def delta_made(do: Administrator, old: int, new: int) -> None:
    """Wait for the task that makes a delta."""
    [task] = [
        each for each in do.json("task", "list") if each["title"] == f"Delta of Packed from version {old} to {new}"
    ]
    assert do.json("task", "show", task["id"], "--wait")["state"] == "completed"


def test_a_hostile_archive_is_refused_by_name(do: Administrator) -> None:
    path = do.folder / "hostile.zip"
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("../../escaped", "x")
    with pytest.raises(StepFailedError, match=r"ended with 5[\s\S]*'hostile\.zip' holds the unsafe path"):
        do("content", "publish", str(path), "--name", "Hostile", "--unpack")
    assert not list(do.folder.rglob("*escaped*"))


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
    assert isinstance(do.json("cloud", "usage", "cloud-eu", "--by", "device")["buckets"], list)
    assert do.json("alert", "list") == []
    assert {alert["state"] for alert in do.json("alert", "list", "--all")} <= {"never_triggered", "canceled"}


def test_a_load_drill_measures_both_instances_and_is_known_by_its_name(do: Administrator) -> None:
    do("content", "publish", source(do, "for drills", "load "), "--name", "For drills")
    do("content", "distribute", "For drills", "--to", "cloud-eu")
    wanted = ("--content", "For drills", "--bytes", "2MB", "--devices", "16", "--connect", "127.0.0.1", "--yes")
    report = do.json("cloud", "drill", "cloud-eu", "--ramp", "0", *wanted)
    assert (report["errors"], report["damaged"]) == ({}, 0)
    assert report["received"] == 2_000_000  # to the byte: the last request asks for a part of an object
    assert 0 < report["verified"] <= report["received"]
    assert sum(one["sent"] for one in report["instances"]) == report["received"]
    assert report["clients_per_day"] > 0
    [kept] = do.json("cloud", "drills", "cloud-eu")
    assert kept["report"] == report
    do("cloud", "collect", "cloud-eu")
    by_device = {
        one["subject"]: one["sent"] for one in do.json("cloud", "usage", "cloud-eu", "--by", "device")["buckets"]
    }
    assert by_device[kept["drill"]] == report["received"]


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
