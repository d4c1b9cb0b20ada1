"""``entrepot demo``."""

import os
import shutil
import signal
import sys
import tempfile
import threading
from pathlib import Path
from types import FrameType
from typing import Annotated

import msgspec
import typer
from platformdirs import user_cache_path
from rich.console import Console

from entrepot import __version__
from entrepot.cli.credentials import CONFIG_VARIABLE
from entrepot.cli.demo import cloud_steps, steps
from entrepot.cli.demo.narration import Narrator
from entrepot.cli.demo.processes import Servers
from entrepot.cli.demo.software import find_software
from entrepot.cli.demo.topology import Topology
from entrepot.cli.demo.world import World
from entrepot.core.errors import BadInputError, EntrepotError
from entrepot.durable.files import make_folder, write_file

STORY = (
    steps.start,
    steps.publish,
    steps.fetch,
    steps.look_inside,
    steps.publish_next,
    cloud_steps.stop_and_scale,
    cloud_steps.account,
    cloud_steps.delete,
)
MARKER = "entrepot-demo"
"""A file in the demonstration's folder: what has it may be deleted."""


def demo(
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave out step 8 and keep everything running until Ctrl-C.")
    ] = False,
    folder: Annotated[
        Path | None, typer.Option(help="Where everything lies; default: a temporary folder. Emptied first.")
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write what was claimed and measured to this file.")
    ] = None,
) -> None:
    """Show the whole product on this machine, with real processes: about a minute, no root, nothing left behind.

    Starts a cloud host, a primary site, two points and a cloud point on loopback addresses, publishes real software,
    lets three clients fetch it, and checks every claim that it makes.

    \b
    Examples:
      entrepot demo
      entrepot demo --keep --folder .demo
    """
    place = _prepare(folder)
    console = Console(highlight=False)
    _end_cleanly()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ENTREPOT_")}
    environment |= {CONFIG_VARIABLE: str(place / "config"), "PYTHONUNBUFFERED": "1"}
    narrator = Narrator(console, steps=len(STORY) - keep, version=__version__)
    succeeded = False
    try:
        with Servers(place / "logs", environment) as servers:
            _tell(narrator, Topology(place, servers, environment), place, keep=keep, console=console)
            succeeded = True
    except EntrepotError as error:
        narrator.outcome.error = error.message
        raise
    finally:
        narrator.outcome.succeeded = succeeded
        if json_file is not None:
            write_file(json_file.absolute(), msgspec.json.format(msgspec.json.encode(narrator.outcome), indent=2))
        if succeeded and folder is None:
            shutil.rmtree(place, ignore_errors=True)
        elif not succeeded:
            console.print(f"\n[bold]The logs of every process are in {place / 'logs'}[/]", soft_wrap=True)


def _tell(narrator: Narrator, roles: Topology, place: Path, *, keep: bool, console: Console) -> None:
    with narrator:
        narrator.doing("finding software")
        software = find_software(place / "sources", user_cache_path("entrepot", appauthor=False) / "demo")
        narrator.outcome.software = software.origin
        world = World(roles, software, narrator)
        try:
            for step in STORY[: len(STORY) - keep]:
                step(world)
        finally:
            roles.close()
    narrator.summary({**world.summary, "Everything": f"{narrator.outcome.seconds:.0f} s, every claim checked"})
    if keep:
        _keep(console, roles)


def _keep(console: Console, roles: Topology) -> None:
    console.print("\n[bold]Everything keeps running until Ctrl-C.[/]")
    lines = (
        ("Site (API)", f"{roles.site_url}/api/v1"),
        ("API documentation", f"{roles.site_url}/api/docs"),
        ("Administrator", "admin"),
        ("Password", roles.password.reveal_text()),
        ("Root fingerprint", roles.fingerprint),
        ("Folder", str(roles.folder)),
        ("Try", f"{CONFIG_VARIABLE}={roles.environment[CONFIG_VARIABLE]} {sys.argv[0]} cloud list"),
    )
    for name, value in lines:
        console.print(f"  {name:<18} {value}", soft_wrap=True, markup=False)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        console.print("\nStopping everything.")


def _prepare(folder: Path | None) -> Path:
    """An empty folder of ours.

    Raises:
        BadInputError: the folder holds something that is not a demonstration's.
    """
    if folder is None:
        place = Path(tempfile.mkdtemp(prefix="entrepot-demo-"))
    else:
        place = folder.absolute()
        if place.exists() and any(place.iterdir()):
            if not (place / MARKER).is_file():
                raise BadInputError(
                    f"{place} is not empty and not a demonstration's folder.", next_step="Choose another --folder."
                )
            shutil.rmtree(place)
    make_folder(place, mode=0o700)
    (place / MARKER).write_text("This folder belongs to `entrepot demo`; it is emptied at its next start.\n")
    for name in ("logs", "sources"):
        make_folder(place / name, mode=0o700)
    return place


def _end_cleanly() -> None:
    """Let SIGTERM and SIGHUP end the demonstration as Ctrl-C does: children first."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    if sys.platform != "win32":
        signal.signal(signal.SIGHUP, interrupt)
