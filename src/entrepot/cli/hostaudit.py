"""``entrepot host audit``: who changed what on a cloud host."""

from pathlib import Path
from typing import Annotated

import typer

from entrepot.cli.options import AsJson, Home
from entrepot.cli.output import print_json, print_rows

HOME = Path("/var/lib/entrepot/host")


def audit(
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="The newest so many lines.")] = 100,
    home: Home = HOME,
    as_json: AsJson = False,
) -> None:
    """Show who changed what on this cloud host, and which orders were refused; the newest line is the last.

    \b
    Examples:
      entrepot host audit
      entrepot host audit --limit 1000 --json
    """
    from entrepot.cloud.host.administration import HostAdministration

    lines = HostAdministration(home).audited(limit)
    if as_json:
        print_json(lines)
        return
    rows = []
    for line in lines:
        shown = [str(line.pop(name, "")) for name in ("time", "action", "actor", "subject", "outcome")]
        rows.append((*shown, ", ".join(f"{name} {value}" for name, value in line.items())))
    print_rows(("Time", "Action", "By", "Of", "Outcome", "Details"), rows, empty="Nothing was changed yet.")
