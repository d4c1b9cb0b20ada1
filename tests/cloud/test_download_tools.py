"""curl and aria2c, as anybody has them, download from a real gateway with a real token, and resume."""

import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from .alone import Alone
from .conftest import FQDN

pytestmark = pytest.mark.process


class Tools:
    """The tools, with what they need to know of the gateway."""

    def __init__(self, folder: Path, gateway: Alone, site: Any) -> None:
        self.folder = folder
        self.ca = folder / "ca.pem"
        self.ca.write_text(site.authority.pem())
        self.headers = folder / "headers"
        self.headers.write_text(f"Authorization: Bearer {site.token()}\n")
        self.url = f"https://{FQDN}:{gateway.port}/objects/{site.big.hex()}"
        self.port = gateway.port
        self.whole = site.objects[site.big]

    def run(self, program: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
        assert shutil.which(program), f"{program} is not installed; run: make tools"
        return subprocess.run(
            [program, *arguments], cwd=self.folder, capture_output=True, text=True, timeout=120, check=False
        )

    def curl(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        known = ["--cacert", str(self.ca), "--resolve", f"{FQDN}:{self.port}:127.0.0.1", "--header", "@headers"]
        return self.run("curl", "--silent", "--show-error", *known, *arguments, self.url)

    def aria2(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return self.run("aria2c", *self._aria2(*arguments))

    def aria2_until_something_came(self, *arguments: str) -> None:
        """Break aria2 off as soon as it tells that something came."""
        command = ["aria2c", *self._aria2("--summary-interval=1", *arguments)]
        with subprocess.Popen(command, cwd=self.folder, stdout=subprocess.PIPE, text=True) as program:
            assert program.stdout is not None
            assert any(re.search(r"\([1-9]\d?%\)", line) for line in program.stdout), "it came to its end before"
            program.terminate()
            program.communicate()

    def _aria2(self, *arguments: str) -> list[str]:
        """aria2 has no table of hosts: it asks by address, and so does not check the name."""
        url = self.url.replace(FQDN, "127.0.0.1")
        header = self.headers.read_text().strip()
        known = ["--check-certificate=false", f"--header={header}", "--no-conf", "--file-allocation=none"]
        return [*known, "--out=object", "--log=log", "--log-level=info", *arguments, url]

    def ranges(self) -> list[tuple[int, int]]:
        """First and last byte of each answer 206 that aria2 noted."""
        answers = re.findall(r"Response received:\nHTTP/1\.1 206 .*?\n\n", (self.folder / "log").read_text(), re.DOTALL)
        found = [re.search(r"content-range: bytes (\d+)-(\d+)/", answer) for answer in answers]
        return sorted((int(one[1]), int(one[2])) for one in found if one)

    def got(self) -> bytes:
        return (self.folder / "object").read_bytes()


@pytest.fixture
def tools(tmp_path: Path, gateway: Alone, site: Any) -> Tools:
    return Tools(tmp_path, gateway, site)


def test_curl_downloads_an_object(tools: Tools) -> None:
    ran = tools.curl("--output", "object", "--write-out", "%{json}")
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert (told["response_code"], told["http_version"], told["ssl_verify_result"]) == (200, "1.1", 0)
    assert tools.got() == tools.whole


def test_curl_resumes_what_was_broken_off(tools: Tools) -> None:
    broken = tools.curl("--output", "object", "--limit-rate", "1M", "--max-time", "3")
    assert broken.returncode == 28, "out of time, in the middle"
    assert 0 < len(tools.got()) < len(tools.whole)
    begun = len(tools.got())
    ran = tools.curl("--output", "object", "--continue-at", "-", "--write-out", "%{json}")
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert (told["response_code"], told["size_download"]) == (206, len(tools.whole) - begun)
    assert tools.got() == tools.whole


def test_curl_reads_ranges_heads_and_what_is_refused(tools: Tools) -> None:
    assert tools.curl("--output", "object", "--range", "100-199").returncode == 0
    assert tools.got() == tools.whole[100:200]
    assert tools.curl("--output", "object", "--range", "-5").returncode == 0
    assert tools.got() == tools.whole[-5:]
    head = tools.curl("--head").stdout
    assert re.search(rf"(?im)^content-length: {len(tools.whole)}\s*$", head)
    assert re.search(r"(?im)^accept-ranges: bytes\s*$", head)
    tools.headers.write_text("Authorization: Bearer guess\n")
    refused = tools.curl("--write-out", "\n%{response_code} %{content_type} %header{www-authenticate}")
    body, _, line = refused.stdout.rpartition("\n")
    assert line == '401 application/problem+json Bearer realm="entrepot"'
    assert json.loads(body)["status"] == 401


def test_aria2_downloads_in_several_connections(tools: Tools) -> None:
    slow = "--max-download-limit=16M"  # or the first connection might have it all before there is a second
    ran = tools.aria2("--split=4", "--max-connection-per-server=4", "--min-split-size=1M", slow)
    assert ran.returncode == 0, ran.stdout[-2000:]
    assert hashlib.sha256(tools.got()).digest() == hashlib.sha256(tools.whole).digest()
    ranges = tools.ranges()
    assert len(ranges) >= 2
    assert all(start > 0 for start, _ in ranges)
    assert len({start for start, _ in ranges}) == len(ranges), "each its own part"


def test_aria2_resumes_what_was_broken_off(tools: Tools) -> None:
    tools.aria2_until_something_came("--split=1", "--max-download-limit=2M")
    came = len(tools.got())
    assert 0 < came < len(tools.whole)
    (tools.folder / "log").unlink()
    ran = tools.aria2("--continue=true", "--split=1")
    assert ran.returncode == 0, ran.stdout[-2000:]
    assert tools.got() == tools.whole
    [(start, last)] = tools.ranges()
    assert 0 < start <= came, "it did not begin anew"
    assert last == len(tools.whole) - 1
