"""``entrepot point``: distribution points on premises, seen from the site; and the point on this machine."""

from typing import Annotated

import typer

from entrepot.cli.options import AsJson, Yes
from entrepot.cli.output import day, print_facts, print_json, print_line, print_rows, say, when, yes_no
from entrepot.cli.removing import DryRun, remove_or_tell
from entrepot.cli.session import seg, site_session
from entrepot.protocol.pointapi import PointCode, PointInfo, PointPatch, PointRequest

app = typer.Typer(no_args_is_help=True, help="Distribution points on premises: announce, list, remove, run.")

Point = Annotated[str, typer.Argument(help="Name or id of the point.")]
OptionalFlag = Annotated[bool | None, typer.Option()]


@app.command()
def add(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the new point.")],
    fallback: Annotated[bool, typer.Option(help="Allow it as fallback source location for content.")] = False,
    internet_facing: Annotated[bool, typer.Option(help="Internet clients may use it.")] = False,
    hours: Annotated[int, typer.Option(help="How long the enrolment code is valid.")] = 24,
    as_json: AsJson = False,
) -> None:
    """Announce a distribution point and print the enrolment code for its machine. The code is shown once.

    \b
    Example:
      entrepot point add dp-berlin
      entrepot point init --home /var/lib/entrepot-point --code entrepot1.…     # on its machine
    """
    body = PointRequest(name=name, fallback=fallback, internet_facing=internet_facing, hours=hours)
    with site_session(ctx) as session:
        reply = session.post("/points", body, PointCode)
    if as_json:
        print_json(reply)
        return
    say(f"Point {name} is announced. On its machine, within {hours} hours, run `entrepot point init` with:")
    print_line(reply.code)


@app.command("list")
def list_points(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List the distribution points, on premises and in the cloud.

    \b
    Example:
      entrepot point list
    """
    with site_session(ctx) as session:
        points = session.get("/points", list[PointInfo])
    if as_json:
        print_json(points)
        return
    print_rows(
        ("Name", "Kind", "State", "Address", "Fallback", "Internet", ">Contents", "Message"),
        [
            (
                p.name,
                p.kind,
                p.state,
                p.url,
                yes_no(p.fallback),
                yes_no(p.internet_facing),
                str(p.contents),
                p.message,
            )
            for p in points
        ],
        empty="No distribution point yet. Next: entrepot point add NAME",
    )


@app.command()
def show(ctx: typer.Context, point: Point, as_json: AsJson = False) -> None:
    """Show one distribution point.

    \b
    Example:
      entrepot point show dp-berlin
    """
    with site_session(ctx) as session:
        info = session.get(f"/points/{seg(point)}", PointInfo)
    if as_json:
        print_json(info)
    else:
        _print(info)


def _print(info: PointInfo) -> None:
    print_facts(
        info.name,
        (
            ("id", info.id),
            ("kind", info.kind),
            ("state", info.state),
            ("address", info.url),
            ("fallback allowed", yes_no(info.fallback)),
            ("internet-facing", yes_no(info.internet_facing)),
            ("key fingerprint", info.fingerprint),
            ("certificate expires", day(info.certificate_expires)),
            ("control document", f"{info.control_counter}, pushed {when(info.control_pushed) or 'never'}"),
            ("contents", str(info.contents)),
            ("message", info.message),
        ),
    )


@app.command("set")
def set_point(
    ctx: typer.Context,
    point: Point,
    fallback: Annotated[bool | None, typer.Option("--fallback/--no-fallback", help="Allow it as fallback.")] = None,
    internet_facing: Annotated[
        bool | None, typer.Option("--internet-facing/--no-internet-facing", help="Internet clients may use it.")
    ] = None,
    url: Annotated[str | None, typer.Option(help="Where clients and the site reach it now.")] = None,
    as_json: AsJson = False,
) -> None:
    """Change a distribution point; what is left out stays.

    \b
    Example:
      entrepot point set dp-berlin --fallback
    """
    body = PointPatch(fallback=fallback, internet_facing=internet_facing, url=url)
    with site_session(ctx) as session:
        info = session.call("PATCH", f"/points/{seg(point)}", body, PointInfo)
    if as_json:
        print_json(info)
    else:
        _print(info)


@app.command()
def approve(ctx: typer.Context, point: Point, as_json: AsJson = False) -> None:
    """Approve a point that enrolled without a code, after comparing its fingerprint.

    \b
    Example:
      entrepot point approve dp-berlin
    """
    with site_session(ctx) as session:
        info = session.post(f"/points/{seg(point)}/approve", None, PointInfo)
    if as_json:
        print_json(info)
    else:
        _print(info)


@app.command()
def remove(
    ctx: typer.Context, point: Point, dry_run: DryRun = False, yes: Yes = False, as_json: AsJson = False
) -> None:
    """Remove a distribution point from the site; its tokens are revoked.

    \b
    Examples:
      entrepot point remove dp-berlin --dry-run
      entrepot point remove dp-berlin --yes
    """
    remove_or_tell(
        ctx,
        f"/points/{seg(point)}",
        f"Remove the distribution point {point}?",
        done={"removed": point},
        told=f"{point} is removed.",
        dry_run=dry_run,
        yes=yes,
        as_json=as_json,
    )
