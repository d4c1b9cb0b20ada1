"""``entrepot cloud drill``: how much a cloud point can serve, tried with synthetic devices from this machine."""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from entrepot.cli.cloud.points import Name
from entrepot.cli.options import AsJson, Yes
from entrepot.cli.output import confirm, print_facts, print_json, print_rows, say, size, when
from entrepot.cli.session import SiteSession, seg, site_session
from entrepot.cli.tidings import Tidings
from entrepot.core.errors import BadInputError, EntrepotError, UnavailableError
from entrepot.core.sizes import parse_size
from entrepot.core.terminal import harmless
from entrepot.protocol.cloudapi import CloudHealth
from entrepot.protocol.cloudhost import Instance
from entrepot.protocol.cloudpointapi import CloudPointInfo
from entrepot.protocol.drillapi import (
    LEAST_RATE,
    MAX_DEVICES,
    MAX_RAMP,
    MAX_SECONDS,
    DrillInstance,
    DrillPermit,
    DrillPlan,
    DrillRecord,
    DrillReport,
    DrillRequest,
    DrillTimes,
)
from entrepot.rules.drill import failed

if TYPE_CHECKING:
    from entrepot.client.drill.devices import Drill
    from entrepot.web.http import HttpClient

SETTLING_SECONDS: Final = 1.5
"""After so long an instance has told its host what it sent: it does every second."""
_REFRESH: Final = 0.25

Content = Annotated[str, typer.Option(help="Which content to download; the largest on the cloud point, if not given.")]
Bound = Annotated[str, typer.Option("--bytes", help="All devices together ask for no more than this, such as 5GB.")]
Rate = Annotated[str, typer.Option(help="Bytes a second that each device reads, such as 2MB; 0: as fast as it can.")]
Connect = Annotated[str, typer.Option(help="HOST or HOST:PORT to reach the service at, while DNS has no alias yet.")]
ServiceCa = Annotated[
    Path | None, typer.Option(help="PEM file of issuers of the service certificate, beside this system's.")
]


def drill(
    ctx: typer.Context,
    name: Name,
    content: Content = "",
    devices: Annotated[int, typer.Option(min=1, max=MAX_DEVICES, help="Synthetic devices at the same time.")] = 20,
    seconds: Annotated[int, typer.Option(min=5, max=MAX_SECONDS, help="How long at most, with the ramp.")] = 30,
    ramp: Annotated[int, typer.Option(min=0, max=MAX_RAMP, help="Seconds over which the devices begin.")] = 5,
    most: Bound = "2GB",
    rate: Rate = "0",
    connect: Connect = "",
    proxy: Annotated[str, typer.Option(help="HTTP proxy to reach the service through.")] = "",
    service_ca: ServiceCa = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would transfer and cost, and end.")] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Try how much a cloud point can serve: synthetic devices download from it, as clients do, and nothing is kept.

    They run on this machine, with tokens that the site makes for a few minutes, for one content. What they transfer
    is real: it counts towards figures, thresholds, budgets and cost; forecasts leave it out. Ctrl-C ends it early.
    Exit code 10: a request failed otherwise than at a limit (429, 503), or an object was not what its name says.

    \b
    Examples:
      entrepot cloud drill cloud-eu --dry-run
      entrepot cloud drill cloud-eu --devices 200 --bytes 10GB --seconds 60 --yes
      entrepot cloud drill cloud-eu --devices 500 --rate 500KB --json --yes
    """
    paced = parse_size(rate)
    if 0 < paced < LEAST_RATE:
        raise BadInputError(
            f"A device that reads less than {size(LEAST_RATE)}/s is cut off by the gateway.",
            next_step=f"Give --rate {size(LEAST_RATE).replace(' ', '')} or more.",
        )
    wanted = DrillRequest(
        content=content, devices=devices, seconds=seconds, ramp=ramp, most_bytes=parse_size(most), rate=paced
    )
    with site_session(ctx) as session:
        plan = session.post(f"/cloud-points/{seg(name)}/drills/plan", wanted, DrillPlan)
        if dry_run:
            _print_plan(plan, as_json=as_json)
            return
        if not as_json:
            _print_plan(plan, as_json=False)
        elif not yes:
            say(f"It transfers {size(plan.bytes)} at most, which costs {_amount(plan)}.")
        confirm(f"Load {plan.cloud_point} now?", yes=yes)
        report = _carry_out(session, plan, wanted, _Way(connect=connect, proxy=proxy, service_ca=service_ca))
    if as_json:
        print_json(report)
    else:
        print_report(report)
    if report.damaged or failed(report.errors):
        raise typer.Exit(UnavailableError.family.exit_code)


def drills(ctx: typer.Context, name: Name, as_json: AsJson = False) -> None:
    """List the load drills of a cloud point: who began them, what they transferred, what they found.

    \b
    Example:
      entrepot cloud drills cloud-eu
    """
    with site_session(ctx) as session:
        found = session.get(f"/cloud-points/{seg(name)}/drills", list[DrillRecord])
    if as_json:
        print_json(found)
        return
    print_rows(
        ("Begun", "By", "Content", ">Devices", ">At most", ">Received", ">A second", ">Failed", "Drill"),
        [_row(one) for one in found],
        empty="No load drill yet. Next: entrepot cloud drill NAME --dry-run",
    )


def _row(one: DrillRecord) -> tuple[str, ...]:
    told = one.report
    came = (
        (size(told.received), f"{size(int(told.bytes_per_second))}/s", f"{failed(told.errors):,}")
        if told
        else ("no report", "", "")
    )
    content = f"{one.content_name} {one.version}"
    return (when(one.begun), one.by, content, f"{one.devices:,}", size(one.bytes), *came, one.drill)


class _Way:
    """How this machine gets to the service."""

    def __init__(self, *, connect: str, proxy: str, service_ca: Path | None) -> None:
        self.connect, self.proxy = connect, proxy
        self._extra = "" if service_ca is None else _read_ca(service_ca)

    def open(self, plan: DrillPlan, hierarchy_ca: str) -> "HttpClient":
        """As a client trusts cloud services: the system's roots, those that were given, and the hierarchy's own."""
        from entrepot.client.drill.devices import open_http
        from entrepot.web.tls import TlsTrust

        return open_http(TlsTrust.system(self._extra + hierarchy_ca), plan, self.connect, self.proxy)


def _read_ca(path: Path) -> str:
    try:
        return path.read_text("ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInputError(
            f"{path} cannot be read: {error}.", next_step="Give a file of certificates in PEM."
        ) from None


def _carry_out(session: SiteSession, plan: DrillPlan, wanted: DrillRequest, way: _Way) -> DrillReport:
    """Look whether the service is there, ask for leave, run, and report to the site."""
    from entrepot.client.drill.devices import Drill, check_reachable
    from entrepot.client.drill.measuring import report_of

    ca = session.tls.ca_pem

    async def look() -> None:
        async with way.open(plan, ca) as http:
            await check_reachable(http, plan)

    asyncio.run(look())
    before = _instances(session, plan)
    permit = session.post(f"/cloud-points/{seg(plan.cloud_point)}/drills", wanted, DrillPermit)
    made: list[Drill] = []

    async def load() -> None:
        async with way.open(permit.plan, ca) as http:
            made.append(Drill(permit, http))
            watch = asyncio.create_task(_show(made[0], permit.plan))
            try:
                await made[0].run()
            finally:
                watch.cancel()

    interrupted, began, used = False, time.monotonic(), time.process_time()
    try:
        asyncio.run(load())
    except KeyboardInterrupt:
        if not made:
            raise
        interrupted = True
    cpu, lasted = time.process_time() - used, time.monotonic() - began
    seen = _did(session, plan, before, lasted)
    report = report_of(made[0].measured, permit, seen, cpu=cpu, interrupted=interrupted)
    try:
        session.call("PUT", f"/drills/{permit.drill}/report", report, type(None))
    except (EntrepotError, KeyboardInterrupt) as error:  # what was measured is worth more than that the site has it
        say(f"[yellow]Warning:[/] the site does not keep this report: {str(error) or 'Ctrl-C'}")
    return report


def _did(
    session: SiteSession, plan: DrillPlan, before: Sequence[Instance], seconds: float
) -> tuple[DrillInstance, ...]:
    """What each instance did meanwhile; nothing, with a warning, where that cannot be asked for any more."""
    try:
        time.sleep(SETTLING_SECONDS)
        return compared(before, _instances(session, plan), seconds)
    except (EntrepotError, KeyboardInterrupt) as error:  # what was measured here is worth more
        say(f"[yellow]Warning:[/] what the instances did is not known: {str(error) or 'Ctrl-C'}")
        return ()


def _instances(session: SiteSession, plan: DrillPlan) -> tuple[Instance, ...]:
    """The instances as the cloud tells of them now."""
    name = seg(plan.cloud_point)
    session.get(f"/cloud-points/{name}/health", CloudHealth, now="true")
    return session.get(f"/cloud-points/{name}", CloudPointInfo).instances


def compared(before: Sequence[Instance], after: Sequence[Instance], seconds: float) -> tuple[DrillInstance, ...]:
    """What each instance did meanwhile; one that started meanwhile did all it tells of."""
    known = {one.id: one for one in before}
    found = []
    for one in after:
        if one.sent < 0:
            continue
        first = known.get(one.id)
        sent, cpu = (one.sent - first.sent, one.cpu - first.cpu) if first else (one.sent, one.cpu)
        percent = round(100 * cpu / seconds, 1) if one.cpu >= 0 and seconds > 0 else -1.0
        found.append(DrillInstance(id=one.id, sent=max(0, sent), cpu_percent=max(-1.0, percent)))
    return tuple(found)


async def _show(drill: "Drill", plan: DrillPlan) -> None:
    """A bar on standard error, where that is a terminal; else a line now and then."""
    console = Console(stderr=True)
    tidings = Tidings(console)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TextColumn("{task.fields[text]}"))
    progress = Progress(*columns, TimeElapsedColumn(), console=console, disable=not console.is_terminal, transient=True)
    loop = asyncio.get_running_loop()
    with progress, contextlib.suppress(asyncio.CancelledError):
        bar = progress.add_task(harmless(f"Loading {plan.cloud_point}"), total=plan.bytes, text="")
        then, received = loop.time(), 0
        while True:
            await asyncio.sleep(_REFRESH)
            measured, now = drill.measured, loop.time()
            speed = (measured.received - received) / (now - then)
            then, received = now, measured.received
            text = (
                f"{size(received)} of {size(plan.bytes)}, {size(int(speed))}/s, {measured.active} devices, "
                f"{measured.whole:,} objects, {measured.errors.total():,} errors"
            )
            progress.update(bar, completed=received, text=text)
            tidings.tell(f"Loading {plan.cloud_point}: {text}")


def _print_plan(plan: DrillPlan, *, as_json: bool) -> None:
    if as_json:
        print_json(plan)
        return
    pace = f", each at most {size(plan.rate)}/s" if plan.rate else ""
    facts = (
        ("content", f"{plan.content_name}, version {plan.version}: {plan.objects:,} objects, {size(plan.stored)}"),
        ("address", plan.url),
        ("devices", f"{plan.devices:,}{pace}, beginning within {plan.ramp} s, for {plan.seconds} s at most"),
        ("transfers at most", size(plan.bytes)),
        ("costs at most", _amount(plan)),
    )
    print_facts(f"Load drill of {plan.cloud_point}", facts)
    for note in plan.notes:
        say(f"[yellow]Note:[/] {note}")


def _amount(plan: DrillPlan) -> str:
    return "an unknown amount: no price sheet was chosen" if plan.amount is None else f"{plan.amount} {plan.currency}"


def print_report(report: DrillReport) -> None:
    """What came of a drill, for people."""
    facts = [
        ("lasted", f"{report.seconds:.1f} s{', ended early' if report.interrupted else ''}"),
        ("received", f"{size(report.received)} in {report.requests:,} requests, {report.whole:,} answered whole"),
        ("throughput", f"{size(int(report.bytes_per_second))}/s over {report.steady_seconds:.1f} s"),
        ("verified", f"{size(report.verified)}; {report.damaged:,} objects were not what their name says"),
        ("first byte", _times(report.first_byte)),
        ("whole object", _times(report.whole_object)),
        ("answers", ", ".join(f"{status}: {count:,}" for status, count in report.statuses.items()) or "none"),
        ("errors", ", ".join(f"{kind}: {count:,}" for kind, count in report.errors.items()) or "none"),
        ("over a limit (429)", f"{report.limited:,}" if report.limited else ""),
        ("no room, or stopped (503)", f"{report.unavailable:,}" if report.unavailable else ""),
        ("devices refused", f"{report.refused:,}" if report.refused else ""),
        ("broken off at the end", f"{report.unfinished:,}" if report.unfinished else ""),
        ("instances", "\n".join(_instance(one) for one in report.instances) or "the cloud does not tell"),
        (
            "this machine",
            f"{report.own_cpu_percent:.0f} % of a core for the drill; late by: {_times(report.own_delay)}",
        ),
    ]
    print_facts("Load drill", facts)
    for example in report.examples:
        say(f"[yellow]For example:[/] {example}")
    for conclusion in report.conclusions:
        say(conclusion)


def _times(times: DrillTimes) -> str:
    return (
        f"half within {times.half:,.1f} ms, 90 % {times.nine_tenths:,.1f}, "
        f"99 % {times.most_but_one_percent:,.1f}, at most {times.most:,.1f}"
    )


def _instance(one: DrillInstance) -> str:
    cpu = f", {one.cpu_percent:.0f} % of a core" if one.cpu_percent >= 0 else ""
    return f"{one.id}: {size(one.sent)}{cpu}"
