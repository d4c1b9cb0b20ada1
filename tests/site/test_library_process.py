"""A site server that is killed while it validates, repairs, sweeps, rolls back or deletes a version: it goes on, and
nothing is lost."""

import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from entrepot.core.errors import EntrepotError
from entrepot.core.secret import Secret
from entrepot.objects.hashing import object_id_of
from entrepot.protocol.contentapi import (
    ContentInfo,
    ContentRequest,
    CurrentRequest,
    DistributionInfo,
    DistributionRequest,
    DistributionState,
    VersionRequest,
)
from entrepot.protocol.libraryapi import (
    Fault,
    LibraryInfo,
    LibraryRequest,
    PointValidationRequest,
    SetValidation,
    SweepRequest,
)
from entrepot.protocol.pointapi import PointCode, PointRequest
from entrepot.protocol.siteapi import PREFIX, LoginRequest, Session, TaskInfo, TaskState
from entrepot.site.setup import NewSite, init_site
from entrepot.web.http import HttpClient
from entrepot.web.ports import lasting_port
from entrepot.web.tls import TlsTrust

PASSWORD = "correct horse battery"
COMMAND = [sys.executable, "-m", "entrepot"]
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


class Estate:
    """A site's home, its server process, and an administrator."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "site"
        self.url = f"https://127.0.0.1:{lasting_port('127.0.0.1')}"
        self._log = folder / "site.log"
        new = NewSite(
            code="PS1",
            name="Contoso",
            url=self.url,
            administrator="admin",
            password=Secret(PASSWORD),
            passphrase=Secret("a long passphrase"),
        )
        init_site(self.home, new, now=time.time())
        ca = (self.home / "tls.crt").read_text().split("-----END CERTIFICATE-----\n")[1]
        self.http = HttpClient(TlsTrust.hierarchy(ca + "-----END CERTIFICATE-----\n"))
        self._token = ""
        self._child: subprocess.Popen[str] | None = None

    def start(self) -> None:
        with self._log.open("a") as log:
            arguments = [sys.executable, "-c", SERVE, str(self.home)]
            self._child = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=log, text=True)
        assert self._child.stdout is not None
        line = self._child.stdout.readline()
        assert line, self._log.read_text()[-3000:]
        assert json.loads(line)["ready"]

    def kill(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            os.kill(child.pid, signal.SIGKILL)
            child.wait(timeout=60)
            assert child.stdout is not None
            child.stdout.close()

    async def call(self, method: str, path: str, kind: type[T], body: object = None) -> T:
        if not self._token:
            login = LoginRequest(name="admin", password=PASSWORD)
            session = await self.http.request_json("POST", f"{self.url}{PREFIX}/login", login, Session)
            self._token = session.token
        return await self.http.request_json(method, f"{self.url}{PREFIX}{path}", body, kind, bearer=self._token)

    async def until(self, path: str, kind: type[T], settled: Any) -> T:
        deadline = time.monotonic() + 120
        while True:
            found = await self.call("GET", path, kind)
            if settled(found):
                return found
            assert time.monotonic() < deadline, found
            await asyncio.sleep(0.05)

    async def ended(self, task: TaskInfo) -> TaskInfo:
        found = await self.until(f"/tasks/{task.id}", TaskInfo, lambda each: each.state.final)
        assert found.state is TaskState.COMPLETED, found.error
        return found


@pytest.fixture
async def estate(tmp_path: Path) -> AsyncIterator[Estate]:
    made = Estate(tmp_path)
    made.start()
    yield made
    made.kill()
    await made.http.close()


@pytest.fixture
async def source(estate: Estate, tmp_path: Path) -> Path:
    """A folder that is published as App, version 1."""
    folder = tmp_path / "source"
    folder.mkdir()
    for number in range(5):
        (folder / f"file{number}").write_bytes(os.urandom(12_000_000))
    request = ContentRequest(name="App", source=str(folder))
    await estate.ended(await estate.call("POST", "/contents", TaskInfo, request))
    return folder


async def test_a_killed_validation_goes_on_where_it_was(estate: Estate, source: Path) -> None:
    body = LibraryRequest(rate=30_000_000)
    task = await estate.call("POST", "/library/validate", TaskInfo, body)
    whole = await estate.until(f"/tasks/{task.id}", TaskInfo, lambda each: each.total > 0)
    await estate.until("/library", LibraryInfo, lambda info: info.validation.checked_objects > 0)
    estate.kill()
    estate.start()
    ended = await estate.ended(task)
    assert 0 < ended.total < whole.total, "it began anew"
    info = await estate.call("GET", "/library", LibraryInfo)
    assert info.validation.state == "good"
    assert await estate.call("GET", "/library/faults", list[Fault]) == []


def objects_of(store: Path) -> list[Path]:
    """The files of a store's objects."""
    return sorted(path for path in (store / "objects").rglob("*") if path.is_file())


def stored(estate: Estate) -> list[Path]:
    """The files of the library's objects."""
    return objects_of(estate.home / "library")


async def test_killed_deletions_and_sweeps_lose_nothing_and_leave_nothing(estate: Estate, source: Path) -> None:
    (source / "file0").write_bytes(os.urandom(12_000_000))
    await estate.ended(await estate.call("POST", "/contents/App/versions", TaskInfo, VersionRequest()))
    await estate.until("/tasks", list[TaskInfo], lambda found: all(task.state.final for task in found))
    deletion = await estate.call("DELETE", "/contents/App/versions/1", TaskInfo)
    estate.kill()
    estate.start()
    await estate.ended(deletion)
    before = len(stored(estate))
    sweeping = await estate.call("POST", "/library/sweep", TaskInfo, SweepRequest(now=True, strays=True))
    estate.kill()
    estate.start()
    told = (await estate.ended(sweeping)).message
    assert told == f"{before - len(stored(estate))} objects deleted, 0 stray files deleted.", "of both attempts"
    swept = await estate.ended(
        await estate.call("POST", "/library/sweep", TaskInfo, SweepRequest(now=True, strays=True))
    )
    assert swept.message == "0 objects deleted, 0 stray files deleted."
    content = await estate.call("GET", "/contents/App", ContentInfo)
    assert [version.number for version in content.versions] == [2]
    files = stored(estate)
    info = await estate.call("GET", "/library", LibraryInfo)
    assert len(files) == info.figures.objects
    assert sum(path.stat().st_size for path in files) < 61_000_000, "the objects of version 1 are still there"
    checked = await estate.ended(await estate.call("POST", "/library/validate", TaskInfo, LibraryRequest(rate=0)))
    assert checked.message.startswith("All sound")


def serving(home: Path, log: Path) -> subprocess.Popen[str]:
    """The process of a distribution point, which serves."""
    with log.open("w") as errors:
        process = subprocess.Popen(
            [*COMMAND, "point", "serve", "--home", str(home)], stdout=subprocess.PIPE, stderr=errors, text=True
        )
    assert process.stdout is not None
    assert process.stdout.readline(), log.read_text()[-3000:]
    return process


@pytest.fixture
async def point(estate: Estate, source: Path, tmp_path: Path) -> AsyncIterator[Path]:
    """The store of a distribution point, a process of its own, that has App."""
    added = await estate.call("POST", "/points", PointCode, PointRequest(name="Berlin", fallback=True))
    home = tmp_path / "point"
    init = ["point", "init", "--home", str(home), "--code", added.code, "--listen", "127.0.0.1:0"]
    await asyncio.to_thread(subprocess.run, [*COMMAND, *init], check=True, capture_output=True, timeout=120)
    process = serving(home, tmp_path / "point.log")
    try:
        body = DistributionRequest(points=("Berlin",))
        await estate.call("POST", "/contents/App/distribution", list[DistributionInfo], body)
        there = await estate.until(
            "/contents/App/distribution", list[DistributionInfo], lambda rows: rows[0].state.settled
        )
        assert there[0].state is DistributionState.SUCCESS, there
        yield home / "store"
    finally:
        process.kill()
        process.communicate(timeout=60)


def broken_objects(store: Path) -> list[str]:
    """Objects that are not what their names say."""
    return [path.name for path in objects_of(store) if object_id_of(path.read_bytes()).hex() != path.name]


def empty(folder: Path) -> None:
    """Remove all its files."""
    for path in folder.iterdir():
        path.unlink()


def spoil(store: Path) -> int:
    """Damage every second object of a store, and remove the others; how many there were."""
    paths = objects_of(store)
    for path in paths[::2]:
        data = path.read_bytes()
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    for path in paths[1::2]:
        path.unlink()
    return len(paths)


async def killed_in(estate: Estate, task: TaskInfo, busy: Callable[[TaskInfo], bool]) -> TaskInfo:
    """Kill the site in the middle of a task (or just after its end, where that came first); what it says in the end."""
    await estate.until(f"/tasks/{task.id}", TaskInfo, lambda each: each.state.final or busy(each))
    estate.kill()
    estate.start()
    return await estate.ended(task)


@pytest.mark.long
async def test_killed_repairs_of_a_point_and_from_it_are_finished(estate: Estate, source: Path, point: Path) -> None:
    count = spoil(point)
    order = PointValidationRequest(repair=True, rate=0)
    task = await estate.call("POST", "/points/Berlin/validate", TaskInfo, order)
    await killed_in(estate, task, lambda each: "Sending again" in each.step and each.done > 0)
    [found] = await estate.call("GET", "/points/Berlin/validation", list[SetValidation])
    assert (found.missing, found.damaged) == (0, 0)
    assert broken_objects(point) == []
    assert len(objects_of(point)) == count

    empty(source)
    assert spoil(estate.home / "library") == count
    await estate.ended(await estate.call("POST", "/library/validate", TaskInfo, LibraryRequest(rate=0)))
    assert len(await estate.call("GET", "/library/faults", list[Fault])) == count
    task = await estate.call("POST", "/library/repair", TaskInfo, LibraryRequest(rate=30_000_000))
    await killed_in(estate, task, lambda each: each.done > 0)
    assert await estate.call("GET", "/library/faults", list[Fault]) == []
    assert broken_objects(estate.home / "library") == []
    assert len(objects_of(estate.home / "library")) == count
    info = await estate.call("GET", "/library", LibraryInfo)
    assert (info.validation.state, info.open_sessions, info.waiting_objects) == ("good", 0, 0)


@pytest.mark.long
async def test_a_rollback_that_is_killed_at_any_moment_happened_or_did_not(estate: Estate, source: Path) -> None:
    (source / "file0").write_bytes(os.urandom(1_000_000))
    await estate.ended(await estate.call("POST", "/contents/App/versions", TaskInfo, VersionRequest()))
    draw = random.Random(7)
    for wanted in (1, 2):
        order = CurrentRequest(version=wanted)
        asked = asyncio.create_task(estate.call("POST", "/contents/App/current", ContentInfo, order))
        await asyncio.sleep(draw.uniform(0.0, 0.05))
        estate.kill()
        with contextlib.suppress(EntrepotError):
            await asked
        estate.start()
        content = await estate.call("GET", "/contents/App", ContentInfo)
        assert content.current in (1, 2)
        assert {version.number for version in content.versions} == {1, 2}
        assert (await estate.call("POST", "/contents/App/current", ContentInfo, order)).current == wanted
    found = await estate.until("/tasks", list[TaskInfo], lambda found: all(task.state.final for task in found))
    assert [task.error for task in found if task.state is not TaskState.COMPLETED] == []
