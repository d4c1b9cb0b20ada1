"""Steps 6 to 8 of the demonstration: stop, start, scale; collect and be warned; delete."""

import contextlib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from entrepot.cli.demo.evidence import OBJECTS
from entrepot.cli.demo.processes import command_in_background
from entrepot.cli.demo.slowline import SlowLine
from entrepot.cli.demo.steps import stores
from entrepot.cli.demo.topology import CLOUD, LOOPBACK, SLOW_LOOPBACK, decode
from entrepot.cli.demo.world import Fetched, World
from entrepot.core.sizes import MB, format_size
from entrepot.protocol.alertapi import AlertInfo, Severity
from entrepot.protocol.cloudpointapi import (
    CloudPointInfo,
    CloudPointPatch,
    CloudPointState,
    CollectSummary,
    ScaleRequest,
    UsageReport,
)
from entrepot.protocol.siteapi import TaskInfo
from entrepot.protocol.transactions import TX_PREFIX, decode_segment

SLOW_CLIENT = "laptop-slow"
SLOW_RATE = 20_000_000 // 8
"""Bytes a second of a 20 Mbit/s line; the stop comes after one second of it."""
AT_ONCE = 1.0
ROUND_TRIPS = 10
"""An order to stop is carried out by way of the site, its database, the host and a gateway: on a machine that is busy
with other things it comes later by some of the time that the site takes to answer anything at all."""
LOW_STORAGE = 10 * MB
LOW_TRANSFER = 10 * MB


def stop_and_scale(world: World) -> None:
    """Step 6: clients are cut off at once, content stays, the site goes on."""
    tell = world.tell
    with tell.step("Stop the service in the middle of a download, start it again, scale it"):
        address = urlsplit(world.cloud().url)
        port = address.port or 443
        world.clients |= world.roles.enrol_clients({SLOW_CLIENT: "203.0.113.8"}, service_address=SLOW_LOOPBACK)
        with SlowLine(SLOW_LOOPBACK, port, to=(LOOPBACK, port), rate=SLOW_RATE) as line, _download(world) as running:
            got = _cut_off(world, line)
            stored = _transfer_while_stopped(world)  # the client has time to try again, and to give up
            _hear(world, running, got)
            tell.command(f"entrepot cloud start {CLOUD}")
            _act(world, "start")
            world.until("the service runs again", lambda: _state(world, CloudPointState.READY))
            line.rate = 0
            resumed = world.fetch(SLOW_CLIENT, world.software.name)
        tell.claim(
            f"after the start {SLOW_CLIENT} took up its download and finished",
            0 < resumed.received("cloud") < world.full_download,
            f"the remaining {format_size(resumed.received('cloud'))} only",
        )
        world.from_cloud += resumed.received("cloud")
        world.compare(world.software.second, resumed)
        _scale(world)
        tell.figures(stored_while_stopped=stored, resumed_bytes=resumed.received("cloud"))


@contextlib.contextmanager
def _download(world: World) -> Iterator[subprocess.Popen[str]]:
    """The slow client's download, as a process."""
    home = str(world.clients[SLOW_CLIENT])
    running = command_in_background(
        ("client", "fetch", world.software.name, "--home", home, "--json"), environment=world.roles.environment
    )
    try:
        yield running
    finally:
        running.kill()
        running.wait()


def _cut_off(world: World, line: SlowLine) -> int:
    """Stop the service in the middle of the download; gives the bytes that had passed."""
    tell = world.tell
    before = objects_in(world)
    world.until(f"{SLOW_CLIENT} is in the middle of a download", lambda: line.passed > SLOW_RATE or None)
    tell.note(f"{SLOW_CLIENT} downloads over a 20 Mbit/s line; {format_size(line.passed)} have passed.")
    tell.command(f"entrepot cloud stop {CLOUD}")
    asked = time.time()
    task = world.roles.session.post(f"/cloud-points/{CLOUD}/stop", None, TaskInfo)
    world.roles.finish(task)
    seconds = max(0.0, _handed_over(world, line) - asked)
    allowed = AT_ONCE + ROUND_TRIPS * _round_trip(world)
    time.sleep(AT_ONCE)
    got = line.passed
    tell.claim(
        "stopping cut it off within a second" + ("" if seconds <= AT_ONCE else ", if this machine were not so busy"),
        seconds <= allowed,
        f"last byte {seconds:.2f} s after the order, {format_size(got)} of {format_size(world.full_download)} through",
    )
    stopped = _state(world, CloudPointState.STOPPED) is not None
    tell.claim("the content stays", stopped and objects_in(world) == before, f"{len(before)} objects")
    tell.figures(cut_off_seconds=round(seconds, 3), cut_off_allowed=round(allowed, 3), bytes_before_cut=got)
    world.summary["Stop"] = f"a running download was cut off after {seconds:.2f} s; content stayed"
    return got


def _round_trip(world: World) -> float:
    """Seconds that the site takes to answer now, at worst."""
    longest = 0.0
    for _ in range(5):
        began = time.monotonic()
        world.cloud()
        longest = max(longest, time.monotonic() - began)
    return longest


def _handed_over(world: World, line: SlowLine) -> float:
    """When the last byte was handed over (``time.time``): so say the records of the gateways, which are in the store
    when they have ended. When it came through the line tells more about who else wants the processors; that is all
    there is if the site has just collected the records."""
    paths = [path for store in stores(world) for path in (store / TX_PREFIX).rglob("*") if path.is_file()]
    records = [record for path in paths for some in decode_segment(path.read_bytes())[1] for record in some]
    ended = max(((each.time + each.duration) / 1000 for each in records if each.sent), default=0.0)
    return ended or time.time() - (time.monotonic() - line.last_byte)


def _hear(world: World, running: subprocess.Popen[str], got: int) -> None:
    """Wait until the client gives up, and hear why."""
    world.tell.doing(f"{SLOW_CLIENT} gives up")
    output, messages = running.communicate(timeout=180)
    complete = running.returncode == 0 and decode(output, Fetched).received() >= world.full_download
    world.tell.claim("the client was in the middle of its download", not complete and got < world.full_download)
    world.tell.claim("the client says what happened", running.returncode != 0, _first_line(messages))


def objects_in(world: World) -> dict[str, int]:
    """Name and size of every object in the cloud's stores."""
    found = (path for store in stores(world) for path in (store / OBJECTS).rglob("*") if path.is_file())
    return {path.name: path.stat().st_size for path in found}


def _first_line(text: str) -> str:
    return next((line.removeprefix("Error:").strip() for line in text.splitlines() if line.strip()), "")


def _transfer_while_stopped(world: World) -> int:
    """The site sends other content to the stopped service (R27)."""
    software = world.software
    world.publish(software.suite_name, software.suite)
    row = world.distribute(software.suite_name, CLOUD)[CLOUD]
    state = world.cloud().state
    world.tell.claim(
        "the site goes on transferring to the stopped service",
        state is CloudPointState.STOPPED and row.sent_bytes > 0,
        f"{software.suite_name}: {format_size(row.sent_bytes)} sent while it was {state.value}",
    )
    return row.sent_bytes


def _act(world: World, verb: str) -> None:
    world.roles.finish(world.roles.session.post(f"/cloud-points/{CLOUD}/{verb}", None, TaskInfo))


def _state(world: World, state: CloudPointState) -> CloudPointInfo | None:
    info = world.cloud()
    return info if info.state is state else None


def _scale(world: World) -> None:
    world.tell.command(f"entrepot cloud scale {CLOUD} 3")
    task = world.roles.session.post(f"/cloud-points/{CLOUD}/scale", ScaleRequest(instances=3), TaskInfo)
    world.roles.finish(task)
    running = world.until("three instances run", lambda: _running(world, 3))
    world.tell.claim("the service runs with three instances", running == 3)
    world.tell.figures(instances=running)


def _running(world: World, wanted: int) -> int | None:
    running = sum(1 for instance in world.cloud().instances if instance.state == "running")
    return running if running == wanted else None


def account(world: World) -> None:
    """Step 7: transactions become log lines and hourly figures; thresholds become alerts."""
    tell, session = world.tell, world.roles.session
    with tell.step("Collect the transactions; low thresholds raise alerts"):
        tell.command(f"entrepot cloud thresholds {CLOUD} --storage-quota 10MB --transfer-quota 10MB …")
        low = CloudPointPatch(
            storage_quota=LOW_STORAGE,
            storage_warning_free_percent=10,
            transfer_quota=LOW_TRANSFER,
            transfer_warning_percent=50,
            transfer_critical_percent=90,
        )
        session.call("PATCH", f"/cloud-points/{CLOUD}", low, CloudPointInfo)
        tell.command(f"entrepot cloud collect {CLOUD}")
        log = world.roles.home("site") / "logs" / f"CloudDP-{CLOUD}.log"
        world.until("all transactions are collected", lambda: _collected(world))
        lines = [line for line in log.read_text(encoding="utf-8").splitlines() if "<![LOG[" in line]
        tell.claim(f"{log.name} holds them in the format that CMTrace reads", len(lines) > 0, f"{len(lines)} lines")
        for line in lines[-2:]:
            tell.note(line)
        buckets = session.get(f"/cloud-points/{CLOUD}/usage", UsageReport).buckets
        sent, requests = sum(bucket.sent for bucket in buckets), sum(bucket.requests for bucket in buckets)
        tell.claim(
            "hourly figures account for every byte that clients received from the cloud",
            sent >= world.from_cloud,
            f"{format_size(sent)} in {requests} requests, {len(buckets)} hour{'s' if len(buckets) != 1 else ''}",
        )
        alerts = world.until("the alerts are raised", lambda: _alerts(world))
        tell.rows(
            ("Severity", "Alert", "Message"), [(alert.severity.value, alert.title, alert.message) for alert in alerts]
        )
        kinds = {(alert.type, alert.severity) for alert in alerts}
        for kind, severity in (
            ("storage", Severity.WARNING),
            ("transfer", Severity.WARNING),
            ("transfer", Severity.CRITICAL),
        ):
            there = any(kind in found and severity is how for found, how in kinds)
            tell.claim(f"there is a {kind} {severity.value} alert", there)
        tell.figures(log_lines=len(lines), requests=requests, sent=sent, alerts=len(alerts))
        world.summary["Accounting"] = f"{requests} requests, {format_size(sent)}; {len(alerts)} alerts"


def _collected(world: World) -> bool | None:
    """Collect; true once the figures hold everything that clients reported."""
    session = world.roles.session
    session.post(f"/cloud-points/{CLOUD}/collect", None, CollectSummary)
    buckets = session.get(f"/cloud-points/{CLOUD}/usage", UsageReport).buckets
    return True if sum(bucket.sent for bucket in buckets) >= world.from_cloud else None


def _alerts(world: World) -> list[AlertInfo] | None:
    alerts = world.active_alerts()
    kinds = {("storage" in a.type, a.severity) for a in alerts if "storage" in a.type or "transfer" in a.type}
    wanted = {(True, Severity.WARNING), (False, Severity.WARNING), (False, Severity.CRITICAL)}
    return alerts if wanted <= kinds else None


def delete(world: World) -> None:
    """Step 8: nothing is left behind."""
    tell = world.tell
    with tell.step("Delete the cloud point; nothing is left in its store"):
        services = world.roles.home("cloud-host") / "services"
        before = _files(services)
        size = sum(path.stat().st_size for path in before)
        tell.claim(
            "before, the cloud host holds its content",
            len(before) > 0,
            f"{len(before)} files, {format_size(size)}, in {len(stores(world))} store",
        )
        tell.command(f"entrepot cloud delete {CLOUD} --yes")
        task = world.roles.session.call("DELETE", f"/cloud-points/{CLOUD}", None, TaskInfo)
        world.roles.finish(task)
        left = world.roles.session.get("/cloud-points", list[CloudPointInfo])
        tell.claim("the site has no cloud point any more", not left)
        remains = _files(services)
        tell.claim(
            "the cloud host's disk holds nothing of it",
            not remains,
            ", ".join(str(path.relative_to(services)) for path in remains[:3]) or f"0 files below {services.name}/",
        )
        tell.figures(files_before=len(before), files_after=len(remains))
        world.summary["Delete"] = f"{len(before)} files before, {len(remains)} after"


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]
