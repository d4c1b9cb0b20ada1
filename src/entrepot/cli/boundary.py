"""``entrepot boundary``: boundary groups say which addresses are where, and which points serve them."""

from typing import Annotated

import typer

from entrepot.cli.options import AsJson, Yes
from entrepot.cli.output import print_json, print_rows
from entrepot.cli.removing import DryRun, remove_or_tell
from entrepot.cli.session import SiteSession, seg, site_session
from entrepot.core.errors import BadInputError, NotFoundError
from entrepot.protocol.pointapi import BoundaryGroupInfo, BoundaryGroupRequest, BoundaryPoint, Speed

app = typer.Typer(no_args_is_help=True, help="Boundary groups: which addresses belong to the intranet, and where.")

Group = Annotated[str, typer.Argument(help="Name or id of the boundary group.")]
Ranges = Annotated[
    list[str] | None,
    typer.Option("--range", help="10.0.0.0/8 or 10.0.0.1-10.0.0.9, IPv4 or IPv6; may be repeated."),
]
Points = Annotated[
    list[str] | None,
    typer.Option("--point", help="A point that serves the group, NAME or NAME:slow; may be repeated."),
]


@app.command("list")
def list_groups(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List the boundary groups.

    \b
    Example:
      entrepot boundary list
    """
    with site_session(ctx) as session:
        groups = session.get("/boundary-groups", list[BoundaryGroupInfo])
    if as_json:
        print_json(groups)
    else:
        _print(groups)


def _print(groups: list[BoundaryGroupInfo]) -> None:
    print_rows(
        ("Name", "Addresses", "Points", "Id"),
        [
            (g.name, ", ".join(g.ranges), ", ".join(f"{p.name} ({p.speed.value})" for p in g.points), g.id)
            for g in groups
        ],
        empty="No boundary group yet: every client counts as being on the internet. Next: entrepot boundary add NAME",
    )


@app.command()
def add(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the new group.")],
    ranges: Ranges = None,
    points: Points = None,
    as_json: AsJson = False,
) -> None:
    """Make a boundary group.

    \b
    Example:
      entrepot boundary add Berlin --range 10.1.0.0/16 --point dp-berlin --point dp-munich:slow
    """
    body = BoundaryGroupRequest(name=name, ranges=tuple(ranges or ()), points=_points(points))
    with site_session(ctx) as session:
        group = session.post("/boundary-groups", body, BoundaryGroupInfo)
    if as_json:
        print_json(group)
    else:
        _print([group])


@app.command("set")
def set_group(
    ctx: typer.Context, group: Group, ranges: Ranges = None, points: Points = None, as_json: AsJson = False
) -> None:
    """Replace a group's addresses or points; what is left out stays.

    \b
    Example:
      entrepot boundary set Berlin --point dp-berlin --point dp-potsdam
    """
    with site_session(ctx) as session:
        known = _find(session, group)
        body = BoundaryGroupRequest(
            name=known.name,
            ranges=known.ranges if ranges is None else tuple(ranges),
            points=known.points if points is None else _points(points),
        )
        changed = session.call("PUT", f"/boundary-groups/{seg(known.id)}", body, BoundaryGroupInfo)
    if as_json:
        print_json(changed)
    else:
        _print([changed])


@app.command()
def remove(
    ctx: typer.Context, group: Group, dry_run: DryRun = False, yes: Yes = False, as_json: AsJson = False
) -> None:
    """Remove a boundary group; its addresses no longer belong to it.

    \b
    Examples:
      entrepot boundary remove Berlin --dry-run
      entrepot boundary remove Berlin --yes
    """
    remove_or_tell(
        ctx,
        f"/boundary-groups/{seg(group)}",
        f"Remove the boundary group {group}?",
        done={"removed": group},
        told=f"{group} is removed.",
        dry_run=dry_run,
        yes=yes,
        as_json=as_json,
    )


def _find(session: SiteSession, group: str) -> BoundaryGroupInfo:
    for known in session.get("/boundary-groups", list[BoundaryGroupInfo]):
        if group in (known.id, known.name):
            return known
    raise NotFoundError(f"There is no boundary group {group!r}.", next_step="See: entrepot boundary list")


def _points(values: list[str] | None) -> tuple[BoundaryPoint, ...]:
    found = []
    for value in values or ():
        name, separator, speed = value.rpartition(":")
        if not separator:
            found.append(BoundaryPoint(name=value))
        elif speed in (Speed.FAST.value, Speed.SLOW.value):
            found.append(BoundaryPoint(name=name, speed=Speed(speed)))
        else:
            raise BadInputError(f"{value!r}: the speed is fast or slow.", next_step="Write for example dp-berlin:slow")
    return tuple(found)
