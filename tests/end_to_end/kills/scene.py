"""A small estate of real processes that may be killed: site, cloud host, point, two gateways, clients.

The roles are the demonstration's own. What is here besides: killing by process id, and nothing but that process;
starting again; asking until an answer comes; looking at what processes, ports and stores the estate has. Moments are
random; another seed (``KILLS_SEED``) gives others.
"""

import contextlib
import os
import random
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from entrepot.cli.demo.evidence import compare_trees
from entrepot.cli.demo.processes import Server, Servers, command_in_background
from entrepot.cli.demo.slowline import SlowLine
from entrepot.cli.demo.topology import CLOUD, LOOPBACK, SLOW_LOOPBACK, Topology, decode
from entrepot.cli.demo.world import Fetched
from entrepot.core.errors import EntrepotError, UnavailableError
from entrepot.objects.hashing import object_id_of
from entrepot.protocol.cloudpointapi import CloudPointInfo, CloudPointState, CollectSummary, Thresholds
from entrepot.protocol.contentapi import (
    ContentInfo,
    ContentRequest,
    DistributionInfo,
    DistributionRequest,
    DistributionState,
)
from entrepot.protocol.deviceapi import DeploymentInfo, DeploymentOptions, DeploymentRequest
from entrepot.protocol.siteapi import TaskInfo

T = TypeVar("T")

SEED = int(os.environ.get("KILLS_SEED", "20260323"))
POINT = "dp-berlin"
PATIENCE = 300.0
PAUSE = 0.02
OBJECTS = "objects"


def until(what: str, ask: Callable[[], T | None], *, patience: float = PATIENCE, pause: float = PAUSE) -> T:
    """Ask until there is an answer; a process that is being started again does not answer yet."""
    deadline = time.monotonic() + patience
    while True:
        answer = None
        with contextlib.suppress(UnavailableError):
            answer = ask()
        if answer is not None and answer is not False:
            return answer
        assert time.monotonic() < deadline, f"it did not come so far that {what}"
        time.sleep(pause)


def processes_below(folder: Path) -> dict[int, str]:
    """Running processes that name a path below the folder: process id and command line."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
                if str(folder) in line:
                    found[int(entry.name)] = line
    return found


def nobody_listens(host: str, port: int) -> bool:
    """Tell whether the port can be had, alone."""
    with socket.socket() as alone:
        alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            alone.bind((host, port))
            alone.listen()
        except OSError:
            return False
    return True


class Scene:
    """The estate, with one content on both points.

    Args:
        sources: where contents are made.
    """

    def __init__(self, roles: Topology, servers: Servers, sources: Path) -> None:
        self.roles = roles
        self.sources = sources
        self.random = random.Random(SEED)
        self.clients: dict[str, Path] = {}
        self._servers = servers
        self._codes = iter(range(1, 250))

    # ------------------------------------------------------------------------------------------------- processes

    def server(self, name: str) -> Server:
        """One of the servers: ``site``, ``cloud-host`` or the point."""
        return next(server for server in self._servers.all if server.name == name)

    def kill(self, *names: str) -> None:
        """SIGKILL to these processes, and to nothing else: whoever depends on them has to notice."""
        pids = {name: self.server(name).pid for name in names}
        for pid in pids.values():
            os.kill(pid, signal.SIGKILL)
        for name in names:
            until(f"{name} is dead", lambda name=name: self.server(name).pid == 0)

    def revive(self, *names: str) -> None:
        """Start killed servers again, as an administrator would, and wait until they accept connections."""
        for name in names:
            self.server(name).end()  # it is dead: this closes our end of its pipe
            self.server(name).launch()
        for name in names:
            self.server(name).await_ready()

    def harass(self, name: str, *, times: int, longest: float) -> None:
        """Kill a server at random moments and start it again; once before it has finished starting."""
        for _ in range(times):
            time.sleep(self.random.uniform(0, longest))
            self.kill(name)
            self.server(name).end()
            self.server(name).launch()
            time.sleep(self.random.uniform(0, 1.5))
            self.kill(name)
            self.revive(name)

    def gateways(self) -> dict[int, str]:
        """The gateway processes of the cloud host."""
        below = processes_below(self.roles.home("cloud-host"))
        return {pid: line for pid, line in below.items() if " entrepot.cloud.gateway " in line}

    # ------------------------------------------------------------------------------------------------- the site

    def get(self, path: str, kind: type[T]) -> T:
        """What the site answers, as soon as it does."""
        return until(f"the site answers {path}", lambda: self.roles.session.get(path, kind))

    def post(self, path: str, body: object, kind: type[T]) -> T:
        """Ask the site for something, once it is there."""
        self.get("/tasks", list[TaskInfo])  # what is left of connections to a killed process is noticed here
        return self.roles.session.post(path, body, kind)

    def delete(self, path: str, kind: type[T]) -> T:
        """As :meth:`post`."""
        self.get("/tasks", list[TaskInfo])
        return self.roles.session.call("DELETE", path, None, kind)

    def task(self, task: TaskInfo) -> TaskInfo:
        """A task as it is now."""
        return self.get(f"/tasks/{task.id}", TaskInfo)

    def completed(self, task: TaskInfo) -> TaskInfo:
        """Wait until a task has ended by itself; it must have ended well."""
        done = until(f"{task.title} ends", lambda: (now := self.task(task)).state.final and now)
        assert done.state.value == "completed", done.error
        return done

    def publish(self, name: str, source: Path) -> TaskInfo:
        """Begin to publish a content."""
        return self.post("/contents", ContentRequest(name=name, source=str(source)), TaskInfo)

    def deploy(self, name: str) -> None:
        """Let clients have it."""
        body = DeploymentRequest(content=name, options=DeploymentOptions(allow_remote=True))
        self.post("/deployments", body, DeploymentInfo)

    def distribute(self, name: str, *points: str) -> None:
        """Begin to bring a content to points."""
        self.post(f"/contents/{name}/distribution", DistributionRequest(points=points), list[DistributionInfo])

    def distributed(self, name: str, *points: str, version: int = 1) -> None:
        """Wait until points have a version by themselves."""

        def there() -> bool:
            rows = {row.point_name: row for row in self.get(f"/contents/{name}/distribution", list[DistributionInfo])}
            assert not [row.message for row in rows.values() if row.state is DistributionState.FAILED]
            wanted = [rows[point] for point in points if point in rows]
            done = [row.state is DistributionState.SUCCESS and row.held >= version for row in wanted]
            return len(done) == len(points) and all(done)

        until(f"{name} is on {', '.join(points)}", there)

    def content(self, name: str) -> ContentInfo:
        """A content."""
        return self.get(f"/contents/{name}", ContentInfo)

    def cloud(self) -> CloudPointInfo:
        """The cloud point."""
        return self.get(f"/cloud-points/{CLOUD}", CloudPointInfo)

    def cloud_is(self, state: CloudPointState, instances: int) -> CloudPointInfo:
        """Wait until the cloud point is as it should be, and so many gateways run: no fewer, no orphans."""

        def there() -> CloudPointInfo | None:
            if len(self.gateways()) != instances:
                return None
            self.collect()  # looks at the service, too, which the site otherwise does every two minutes
            info = self.cloud()
            running = [instance for instance in info.instances if instance.state == "running"]
            return info if info.state is state and len(running) == instances else None

        return until(f"the cloud point is {state.value} with {instances} instances", there)

    def collect(self) -> None:
        """Ask the site to bring in transactions; when somebody was killed meanwhile, it does not."""
        with contextlib.suppress(EntrepotError):
            self.roles.session.post(f"/cloud-points/{CLOUD}/collect", None, CollectSummary)

    def order_cloud_point(self) -> TaskInfo:
        """Begin to create the cloud point."""
        self.get("/tasks", list[TaskInfo])
        return self.roles.order_cloud_point(instances=2, thresholds=Thresholds())

    # ------------------------------------------------------------------------------------------------- clients

    def client(self, address: str) -> Path:
        """A new client; gives its home. ``10.1.…`` is beside the point, ``203.0.113.…`` on the internet."""
        name = f"pc-{next(self._codes)}"
        homes = self.roles.enrol_clients({name: address}, service_address=SLOW_LOOPBACK)
        return homes[name]

    @contextlib.contextmanager
    def line(self, rate: int) -> Iterator[SlowLine]:
        """The line between all clients and the cloud service: so many bytes a second; 0: no limit."""
        port = urlsplit(self.cloud().url).port or 443
        with SlowLine(SLOW_LOOPBACK, port, to=(LOOPBACK, port), rate=rate) as line:
            yield line

    def fetch(self, home: Path, content: str) -> Fetched:
        """Let a client fetch a content."""
        return decode(self.roles.command("client", "fetch", content, "--home", str(home), "--json"), Fetched)

    @contextlib.contextmanager
    def fetching(self, home: Path, content: str) -> Iterator["Running"]:
        """A client that is fetching; killed in the end if it still is."""
        words = ("client", "fetch", content, "--home", str(home), "--json")
        process = command_in_background(words, environment=self.roles.environment)
        try:
            yield Running(process)
        finally:
            process.kill()
            process.communicate()

    # ------------------------------------------------------------------------------------------------- stores

    def stores(self) -> list[Path]:
        """The object stores of the estate: the cloud's and the point's."""
        clouds = (self.roles.home("cloud-host") / "services").glob("*/store")
        return [*clouds, self.roles.home(POINT) / "store"]

    def damaged_objects(self) -> list[str]:
        """Objects of the library and of all stores that are not what their name says."""
        places = (*self.stores(), self.roles.home("site") / "library")
        objects = (path for place in places for path in (place / OBJECTS).rglob("*") if path.is_file())
        return [str(path) for path in objects if object_id_of(path.read_bytes()).hex() != path.name]

    def differences(self, source: Path, fetched: Fetched) -> tuple[str, ...]:
        """Where what a client has differs from its source."""
        return compare_trees(source, Path(fetched.folder)).differing


class Running:
    """A command that runs, from start to end."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def kill(self) -> None:
        """SIGKILL to it."""
        self.process.kill()
        self.process.communicate()

    @property
    def ended(self) -> bool:
        """Whether it has ended by itself."""
        return self.process.poll() is not None

    def result(self) -> Fetched | None:
        """What it brought; None when it failed."""
        output, _ = self.process.communicate(timeout=PATIENCE)
        return decode(output, Fetched) if self.process.returncode == 0 else None


class JournalWatch(threading.Thread):
    """Keeps journals and shipped segments of the gateways by a second name, whatever becomes of the first.

    A journal may live for milliseconds only, when its segment is shipped at once; so both are looked for, often.
    """

    def __init__(self, services: Path, keep: Path) -> None:
        super().__init__(name="journal watch", daemon=True)
        self._services = services
        self._keep = keep
        self._seen: set[str] = set()
        self._end = threading.Event()

    def run(self) -> None:
        while not self._end.wait(0.005):
            self._look("*/state/*/*.journal")
            self._look("*/store/tx/*/*/*")

    def _look(self, pattern: str) -> None:
        with contextlib.suppress(FileNotFoundError):  # a folder went while it was looked through: soon again
            for path in self._services.glob(pattern):
                name = f"{path.parent.name}-{path.stem}"
                if name not in self._seen:
                    with contextlib.suppress(FileNotFoundError):
                        os.link(path, self._keep / name)
                        self._seen.add(name)

    def end(self) -> None:
        """Look no more."""
        self._end.set()
        self.join()


def make_tree(folder: Path, seed: int, *, files: int, size: int) -> Path:
    """A source: files that cannot be compressed, each a chunk of its own, small ones, odd names, a link, nothing."""
    draw = random.Random(seed)
    for number in range(files):
        path = folder / f"part-{number % 7}" / f"file {number}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(draw.randbytes(size + draw.randrange(size // 4)))
    for number in range(150):
        path = folder / "small" / f"{number:03d}\u00e9 text.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(draw.choices("entrepot \n", k=draw.randrange(4000))))
    (folder / "empty").mkdir()
    (folder / "nothing").touch()
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o755)
    (folder / "link").symlink_to("run.sh")
    return folder
