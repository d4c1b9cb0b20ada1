"""What the steps of the demonstration share: the roles, the story so far, and small questions to the site."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import msgspec

from entrepot.cli.demo.evidence import Difference, compare_trees
from entrepot.cli.demo.narration import Narrator
from entrepot.cli.demo.processes import StepFailedError
from entrepot.cli.demo.software import EXCLUDES, Software
from entrepot.cli.demo.topology import CLOUD, Topology, decode
from entrepot.client.sources import Failure, Given, Used
from entrepot.core.sizes import format_size
from entrepot.protocol.alertapi import AlertInfo, AlertState
from entrepot.protocol.cloudpointapi import CloudPointInfo
from entrepot.protocol.contentapi import (
    ContentInfo,
    ContentRequest,
    DistributionInfo,
    DistributionRequest,
    DistributionState,
    VersionInfo,
    VersionRequest,
)
from entrepot.protocol.location import Withheld
from entrepot.protocol.siteapi import TaskInfo

T = TypeVar("T")

PAUSE = 0.1
PATIENCE = 180.0


class Located(msgspec.Struct, frozen=True, kw_only=True):
    """What ``client locate --json`` prints, as far as it is needed here."""

    network: str
    given: tuple[Given, ...]
    withheld: tuple[Withheld, ...]
    deltas: tuple[int, ...] = ()


class Fetched(msgspec.Struct, frozen=True, kw_only=True):
    """What ``client fetch --json`` prints, as far as it is needed here."""

    folder: str
    version: int
    located: Located
    used: tuple[Used, ...]
    failures: tuple[Failure, ...] = ()

    @property
    def network(self) -> str:
        """Where the site saw the client."""
        return self.located.network

    def received(self, kind: str | None = None) -> int:
        """Bytes from points (``point``, ``cloud`` or, without a kind, both)."""
        kinds = (kind,) if kind else ("point", "cloud")
        return sum(one.bytes for one in self.used if one.kind in kinds)


class World:
    """The roles and what happened to them so far."""

    def __init__(self, topology: Topology, software: Software, narrator: Narrator) -> None:
        self.roles = topology
        self.software = software
        self.tell = narrator
        self.clients: dict[str, Path] = {}
        self.full_download = 0
        """What a client receives that has nothing yet, bytes."""
        self.from_cloud = 0
        """What clients say that they received from the cloud, bytes."""
        self.summary: dict[str, str] = {}

    # ------------------------------------------------------------------------------------------------- the site

    def publish(self, name: str, source: Path) -> VersionInfo:
        """Publish a folder as new content, and wait."""
        body = ContentRequest(name=name, source=str(source.absolute()), excludes=EXCLUDES)
        self.roles.finish(self.roles.session.post("/contents", body, TaskInfo))
        return self.newest(name)

    def publish_next(self, name: str, source: Path) -> VersionInfo:
        """Publish a folder as the content's next version, and wait."""
        body = VersionRequest(source=str(source.absolute()))
        self.roles.finish(self.roles.session.post(f"/contents/{name}/versions", body, TaskInfo))
        return self.newest(name)

    def newest(self, name: str) -> VersionInfo:
        """The newest version of a content."""
        return max(self.content(name).versions, key=lambda version: version.number)

    def content(self, name: str) -> ContentInfo:
        """A content as the site knows it."""
        return self.roles.session.get(f"/contents/{name.replace(' ', '%20')}", ContentInfo)

    def distribute(self, name: str, *points: str) -> dict[str, DistributionInfo]:
        """Distribute a content, and wait until every point has it."""
        path = f"/contents/{name.replace(' ', '%20')}/distribution"
        self.roles.session.post(path, DistributionRequest(points=points), list[DistributionInfo])
        return self.distributed(name, *points)

    def distributed(self, name: str, *points: str, version: int = 0) -> dict[str, DistributionInfo]:
        """Wait until points have a version (0: the one they want); gives their rows by point name."""

        def rows() -> dict[str, DistributionInfo] | None:
            path = f"/contents/{name.replace(' ', '%20')}/distribution"
            found = self.roles.session.get(path, list[DistributionInfo])
            mine = {row.point_name: row for row in found if row.point_name in points}
            for row in mine.values():
                if row.state is DistributionState.FAILED:
                    raise StepFailedError(f"{name} did not reach {row.point_name}: {row.message}")
            there = [
                row.state is DistributionState.SUCCESS and row.held >= (version or row.version) for row in mine.values()
            ]
            return mine if len(mine) == len(points) and all(there) else None

        return self.until(f"{name} is on {', '.join(points)}", rows)

    def cloud(self) -> CloudPointInfo:
        """The cloud point as the site knows it."""
        return self.roles.session.get(f"/cloud-points/{CLOUD}", CloudPointInfo)

    def active_alerts(self) -> list[AlertInfo]:
        """Alerts that are active now."""
        alerts = self.roles.session.get("/alerts", list[AlertInfo])
        return [alert for alert in alerts if alert.state is AlertState.ACTIVE]

    def until(self, what: str, ask: Callable[[], T | None], *, patience: float = PATIENCE) -> T:
        """Ask again and again until there is an answer.

        Raises:
            StepFailedError: there was none for too long.
        """
        deadline = time.monotonic() + patience
        self.tell.doing(what)
        while True:
            answer = ask()
            if answer is not None:
                return answer
            if time.monotonic() > deadline:
                raise StepFailedError(f"After {patience:.0f} s it is still not so that {what}.")
            time.sleep(PAUSE)

    # ------------------------------------------------------------------------------------------------- clients

    def fetch(self, client: str, content: str) -> Fetched:
        """Let a client fetch a content, and show from where it came."""
        home = self.clients[client]
        self.tell.doing(f"{client} fetches {content}")
        return decode(self.roles.command("client", "fetch", content, "--home", str(home), "--json"), Fetched)

    def fetch_together(self, content: str, *clients: str) -> dict[str, Fetched]:
        """Several clients fetch a content at the same time."""
        with ThreadPoolExecutor() as devices:
            tasks = {client: devices.submit(self.fetch, client, content) for client in clients}
            return {client: task.result() for client, task in tasks.items()}

    def compare(self, source: Path, fetched: Fetched) -> Difference:
        """Compare what a client has with the source, byte by byte, and claim that they are equal."""
        difference = compare_trees(source, Path(fetched.folder), excludes=EXCLUDES)
        detail = f"{difference.files} files, {format_size(difference.bytes)}"
        if difference.differing:
            detail = "different: " + ", ".join(difference.differing[:5])
        self.tell.claim("every file equals its source, byte for byte", not difference.differing, detail)
        return difference


def offered(fetched: Fetched) -> str:
    """Which sources a client was given, in their order."""
    return " → ".join(f"{given.name} ({given.tier})" for given in fetched.located.given) or "none"


def used(fetched: Fetched) -> str:
    """Which sources a client used, and for how much."""
    parts = [
        f"{one.name or one.kind}{' (delta)' if one.form == 'delta' else ''} {format_size(one.bytes)}"
        for one in fetched.used
        if one.bytes
    ]
    return ", ".join(parts) or "nothing"
