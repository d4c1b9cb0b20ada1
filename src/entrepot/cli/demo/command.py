"""``entrepot demo``: its options; all else is loaded when it runs."""

from pathlib import Path
from typing import Annotated

import typer


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
    from entrepot.cli.demo.runner import run

    run(folder, keep=keep, json_file=json_file)
