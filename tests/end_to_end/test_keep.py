"""`make demo KEEP=1`: everything keeps running, what is printed lets a newcomer in, and Ctrl-C ends it all."""

import contextlib
import json
import os
import re
import signal
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import msgspec
import pytest

pytestmark = [pytest.mark.end_to_end, pytest.mark.process]

PATIENCE = 1200
LAST = "Try"


class Kept(msgspec.Struct, frozen=True):
    """A demonstration that keeps running: its process, its folder, and the lines that it printed at the end."""

    process: subprocess.Popen[str]
    folder: Path
    said: dict[str, str]

    def ask(self, path: str, body: dict[str, Any] | None = None, token: str = "") -> tuple[int, bytes]:
        """What the site answers. Its certificate is the hierarchy's own, which a browser would warn of, too."""
        url = self.said["Site (API)"].removesuffix("/api/v1") + path
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        data = None if body is None else json.dumps(body).encode()
        context = ssl._create_unverified_context()
        with urlopen(Request(url, data, headers), context=context, timeout=30) as answer:
            return answer.status, answer.read()


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    folder = tmp_path_factory.mktemp("kept")
    process = subprocess.Popen(
        [sys.executable, "-m", "entrepot", "demo", "--keep", "--folder", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"COLUMNS": "160", "PYTHONUNBUFFERED": "1"},
    )
    watch = threading.Timer(PATIENCE, process.kill)
    watch.start()
    said: dict[str, str] = {}
    printed = []
    try:
        assert process.stdout is not None
        for line in process.stdout:
            printed.append(line)
            found = re.fullmatch(r"  (\S.*?)\s{2,}(\S.*)\n", line)
            if found:
                said[found[1]] = found[2]
            if LAST in said:
                break
        assert LAST in said, "".join(printed[-40:])
        yield Kept(process, folder, said)
    finally:
        watch.cancel()
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGINT)
        process.wait(300)
        assert process.stdout is not None
        process.stdout.close()


def test_the_address_shows_a_page_that_leads_to_the_documentation(kept: Kept) -> None:
    status, page = kept.ask("/")
    assert (status, b'href="/api/docs"' in page) == (200, True)
    assert kept.ask("/api/docs")[0] == 200
    assert kept.said["API documentation"].endswith("/api/docs")


def test_the_printed_password_opens_the_api_and_the_cloud_point_runs(kept: Kept) -> None:
    login = {"name": kept.said["Administrator"], "password": kept.said["Password"]}
    token = json.loads(kept.ask("/api/v1/login", login)[1])["token"]
    [cloud] = json.loads(kept.ask("/api/v1/cloud-points", token=token)[1])
    assert cloud["state"] == "ready"
    assert [instance["state"] for instance in cloud["instances"]] == ["running"] * 3


def test_the_command_that_is_offered_works_as_printed(kept: Kept) -> None:
    words = kept.said[LAST].split()
    variable, value = words[0].split("=", 1)
    command = [sys.executable, "-m", "entrepot", *words[2:]]
    done = subprocess.run(command, env=os.environ | {variable: value}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "cloud-eu" in done.stdout


def test_ctrl_c_ends_everything(kept: Kept) -> None:
    kept.process.send_signal(signal.SIGINT)
    assert kept.process.wait(300) == 0
    left = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                left += [entry.name] if str(kept.folder).encode() in (entry / "cmdline").read_bytes() else []
    assert left == []
