"""A site server as a process: started, killed in the middle of its work, started again."""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from entrepot.core.secret import Secret
from entrepot.protocol.contentapi import (
    ContentInfo,
    ContentRequest,
    DistributionInfo,
    DistributionRequest,
    DistributionState,
)
from entrepot.protocol.libraryapi import LibraryInfo, SweepRequest
from entrepot.protocol.pointapi import PointCode, PointInfo, PointRequest
from entrepot.protocol.siteapi import PREFIX, LoginRequest, Session, TaskInfo, TaskState
from entrepot.site.setup import NewSite, init_site
from entrepot.web.http import HttpClient
from entrepot.web.ports import lasting_port
from entrepot.web.tls import TlsTrust

PASSWORD = "correct horse battery"
T = TypeVar("T")

pytestmark = pytest.mark.process

SERVE = """
import sys
from pathlib import Path
from entrepot.core.loading import load_without_a_look
load_without_a_look()
from entrepot.site.serve import serve_site
from entrepot.web.server import run_process
run_process(serve_site(Path(sys.argv[1])))
"""


class Process:
    """A server process that prints a readiness line."""

    def __init__(self, arguments: list[str], log: Path) -> None:
        self._arguments = arguments
        self._log = log
        self._child: subprocess.Popen[str] | None = None

    def start(self) -> None:
        with self._log.open("a") as log:
            self._child = subprocess.Popen(self._arguments, stdout=subprocess.PIPE, stderr=log, text=True)
        assert self._child.stdout is not None
        line = self._child.stdout.readline()
        assert line, self._log.read_text()[-3000:]
        assert json.loads(line)["ready"]

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait; the exit code."""
        child = self._child
        if child is None:
            return 0
        self._child = None
        if child.poll() is None:
            os.kill(child.pid, number)
        code = child.wait(timeout=60)
        assert child.stdout is not None
        child.stdout.close()
        return code


class Administrator:
    """Talks to the server's API over TLS."""

    def __init__(self, url: str, ca: str) -> None:
        self.url = url
        self.http = HttpClient(TlsTrust.hierarchy(ca))
        self.token = ""

    async def call(self, method: str, path: str, kind: type[T], body: object = None) -> T:
        if not self.token:
            login = LoginRequest(name="admin", password=PASSWORD)
            session = await self.http.request_json("POST", f"{self.url}{PREFIX}/login", login, Session)
            self.token = session.token
        return await self.http.request_json(method, f"{self.url}{PREFIX}{path}", body, kind, bearer=self.token)

    async def until(self, path: str, kind: type[T], settled: Callable[[T], bool]) -> T:
        """Ask again and again until it is so."""
        deadline = time.monotonic() + 120
        while True:
            found = await self.call("GET", path, kind)
            if settled(found):
                return found
            assert time.monotonic() < deadline, found
            await asyncio.sleep(0.05)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    new = NewSite(
        code="PS1",
        name="Contoso",
        url=f"https://127.0.0.1:{lasting_port('127.0.0.1')}",
        administrator="admin",
        password=Secret(PASSWORD),
        passphrase=Secret("a long passphrase"),
    )
    init_site(tmp_path / "site", new, now=time.time())
    return tmp_path / "site"


@pytest.fixture
def server(home: Path, tmp_path: Path) -> Iterator[Process]:
    process = Process([sys.executable, "-c", SERVE, str(home)], tmp_path / "site.log")
    process.start()
    yield process
    process.end(signal.SIGKILL)


@pytest.fixture
async def administrator(home: Path, server: Process) -> AsyncIterator[Administrator]:
    settings = (home / "site.toml").read_text()
    url = next(line.split('"')[1] for line in settings.splitlines() if line.startswith("url"))
    ca = (home / "tls.crt").read_text().split("-----END CERTIFICATE-----\n")[1] + "-----END CERTIFICATE-----\n"
    made = Administrator(url, ca)
    yield made
    await made.http.close()


@pytest.fixture
def big_source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    for number in range(6):
        (folder / f"file{number}").write_bytes(os.urandom(12_000_000))
    return folder


async def test_it_ends_when_asked_and_leaves_the_port(
    home: Path, server: Process, administrator: Administrator
) -> None:
    await administrator.call("GET", "/contents", list[ContentInfo])
    assert server.end() == 0
    server.start()
    await administrator.call("GET", "/contents", list[ContentInfo])


async def test_a_home_is_served_by_one_process(home: Path, server: Process) -> None:
    second = subprocess.run(  # noqa: ASYNC221 - nothing else runs in this loop
        [sys.executable, "-c", SERVE, str(home)], capture_output=True, text=True, check=False
    )
    assert second.returncode != 0
    assert "Another process is using" in second.stderr


async def test_a_publish_that_was_killed_is_finished_after_the_restart(
    server: Process, administrator: Administrator, big_source: Path
) -> None:
    request = ContentRequest(name="Big", source=str(big_source))
    task = await administrator.call("POST", "/contents", TaskInfo, request)
    await administrator.until(
        f"/tasks/{task.id}", TaskInfo, lambda seen: seen.state is TaskState.IN_PROGRESS or seen.state.final
    )
    server.end(signal.SIGKILL)
    server.start()
    ended = await administrator.until(f"/tasks/{task.id}", TaskInfo, lambda seen: seen.state.final)
    assert (ended.state, ended.error) == (TaskState.COMPLETED, "")
    info = await administrator.call("GET", "/contents/Big", ContentInfo)
    assert (info.versions[0].files, info.versions[0].plain_size) == (6, 72_000_000)
    sweep = await administrator.call("POST", "/library/sweep", TaskInfo, SweepRequest())
    await administrator.until(f"/tasks/{sweep.id}", TaskInfo, lambda seen: seen.state.final)
    await administrator.until("/library", LibraryInfo, lambda seen: not seen.open_sessions)  # a delta may be under way


@pytest.mark.long
async def test_an_archive_whose_publish_was_killed_is_unpacked_again_and_published_whole(
    server: Process, administrator: Administrator, home: Path, tmp_path: Path
) -> None:
    archive = tmp_path / "big.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for number in range(4):
            packed.writestr(f"part {number}", random.Random(number).randbytes(30_000_000))
    request = ContentRequest(name="Packed", source=str(archive), unpack=True)
    task = await administrator.call("POST", "/contents", TaskInfo, request)
    unpacked = home / "scratch" / "unpacked"
    await administrator.until(
        f"/tasks/{task.id}",
        TaskInfo,
        lambda seen: seen.state.final or (unpacked.exists() and any(unpacked.rglob("part *"))),
    )
    server.end(signal.SIGKILL)
    left = list(unpacked.iterdir())
    assert left  # it was killed in the middle
    server.start()
    ended = await administrator.until(f"/tasks/{task.id}", TaskInfo, lambda seen: seen.state.final)
    assert (ended.state, ended.error) == (TaskState.COMPLETED, "")
    info = await administrator.call("GET", "/contents/Packed", ContentInfo)
    assert (info.versions[0].files, info.versions[0].plain_size) == (4, 120_000_000)
    assert list(unpacked.iterdir()) == []


@pytest.fixture
async def point(administrator: Administrator, tmp_path: Path) -> AsyncIterator[Path]:
    """A real point that has enrolled and serves; its home."""
    added = await administrator.call("POST", "/points", PointCode, PointRequest(name="Berlin"))
    home = tmp_path / "point"
    command = [sys.executable, "-m", "entrepot", "point"]
    init = [*command, "init", "--home", str(home), "--code", added.code, "--listen", "127.0.0.1:0"]
    await asyncio.to_thread(subprocess.run, init, check=True, stdout=subprocess.DEVNULL)
    process = Process([*command, "serve", "--home", str(home)], tmp_path / "point.log")
    process.start()
    yield home
    process.end(signal.SIGKILL)


async def test_a_transfer_that_was_killed_is_finished_after_the_restart(
    server: Process, administrator: Administrator, big_source: Path, point: Path
) -> None:
    task = await administrator.call("POST", "/contents", TaskInfo, ContentRequest(name="Big", source=str(big_source)))
    await administrator.until(f"/tasks/{task.id}", TaskInfo, lambda seen: seen.state.final)
    body = DistributionRequest(points=("Berlin",))
    await administrator.call("POST", "/contents/Big/distribution", list[DistributionInfo], body)
    await administrator.until(
        "/contents/Big/distribution",
        list[DistributionInfo],
        lambda rows: rows[0].state is not DistributionState.PENDING,
    )
    server.end(signal.SIGKILL)
    server.start()
    (row,) = await administrator.until(
        "/contents/Big/distribution", list[DistributionInfo], lambda rows: rows[0].state.settled
    )
    assert (row.state, row.held) == (DistributionState.SUCCESS, 1)


async def test_a_point_gets_its_control_document_at_once(administrator: Administrator, point: Path) -> None:
    info = await administrator.until("/points/Berlin", PointInfo, lambda seen: seen.control_pushed > 0)
    assert (info.state, info.message) == ("active", "")
