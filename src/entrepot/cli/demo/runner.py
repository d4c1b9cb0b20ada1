"""Runs the demonstration: its folder, its processes, its story, its end."""

import contextlib
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import msgspec
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
from entrepot.durable.locks import HomeLock

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


def run(folder: Path | None, *, keep: bool, json_file: Path | None) -> None:
    """Tell the story.

    Args:
        folder: where everything lies; None for a temporary folder.
        keep: leave out the last step and wait for Ctrl-C.
        json_file: where to write the outcome.

    Raises:
        StepFailedError: a claim does not hold.
        BadInputError: the folder is not a demonstration's.
        ConflictError: another demonstration runs there.
    """
    place = folder.absolute() if folder is not None else Path(tempfile.mkdtemp(prefix="entrepot-demo-"))
    _end_cleanly()
    with _locked(place):
        _prepare(place)
        _tell_in(place, keep=keep, json_file=json_file, temporary=folder is None)


def _tell_in(place: Path, *, keep: bool, json_file: Path | None, temporary: bool) -> None:
    console = Console(highlight=False, emoji=False, width=None if sys.stdout.isatty() else 120)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ENTREPOT_")}
    environment |= {CONFIG_VARIABLE: str(place / "config"), "PYTHONUNBUFFERED": "1"}
    narrator = Narrator(console, steps=len(STORY) - keep, version=__version__)
    succeeded = failed = False
    try:
        with Servers(place / "logs", environment) as servers:
            _tell(narrator, Topology(place, servers, environment), place, keep=keep, console=console)
            succeeded = True
    except Exception as error:
        failed = True
        narrator.outcome.error = error.message if isinstance(error, EntrepotError) else repr(error)
        raise
    finally:
        narrator.outcome.succeeded = succeeded
        if json_file is not None:
            write_file(json_file.absolute(), msgspec.json.format(msgspec.json.encode(narrator.outcome), indent=2))
        if failed:
            console.print(f"\n[bold]The logs of every process are in {place / 'logs'}[/]", soft_wrap=True)
        elif temporary:
            shutil.rmtree(place, ignore_errors=True)


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
        ("Site", roles.site_url),
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


@contextlib.contextmanager
def _locked(place: Path) -> Iterator[None]:
    """Make sure that the folder is a demonstration's, and that no other one is using it.

    Raises:
        BadInputError: the folder holds something that is not a demonstration's.
        ConflictError: another demonstration runs there.
    """
    if place.exists() and any(place.iterdir()) and not (place / MARKER).is_file():
        raise BadInputError(
            f"{place} is not empty and not a demonstration's folder.", next_step="Choose another --folder."
        )
    make_folder(place, mode=0o700)
    with HomeLock(place, "a demonstration's folder"):
        (place / MARKER).write_text("This folder belongs to `entrepot demo`; it is emptied at its next start.\n")
        yield


def _prepare(place: Path) -> None:
    """Empty the folder, but for the marker and the lock."""
    for entry in place.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
    for name in ("logs", "sources"):
        make_folder(place / name, mode=0o700)


def _end_cleanly() -> None:
    """Let SIGTERM and SIGHUP end the demonstration as Ctrl-C does: children first."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):  # SIGINT too: shells start background jobs with it ignored
        signal.signal(number, interrupt)
    if sys.platform != "win32":
        signal.signal(signal.SIGHUP, interrupt)
