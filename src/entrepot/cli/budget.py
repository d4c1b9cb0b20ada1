"""``entrepot budget``: bounds of what cloud points send, opt-in and never exceeded (R23)."""

from enum import StrEnum
from typing import Annotated

import typer

from entrepot.cli.options import AsJson, Yes
from entrepot.cli.output import how_old, print_json, print_rows, say, size, when
from entrepot.cli.removing import DryRun, remove_or_tell
from entrepot.cli.session import seg, site_session
from entrepot.core.errors import BadInputError
from entrepot.core.sizes import parse_size
from entrepot.protocol.costapi import BudgetChange, BudgetInfo, BudgetPatch

app = typer.Typer(no_args_is_help=True, help="Transfer budgets: opt-in bounds that are never exceeded.")


class ScopeName(StrEnum):
    """What a budget is for."""

    POINT = "cloud-point"
    CONTENT = "content"
    COLLECTION = "collection"


Subject = Annotated[str, typer.Argument(help="Name or id of the cloud point, content or collection.")]
Of = Annotated[ScopeName, typer.Option("--of", help="What the name is of.")]


@app.command("set")
def set_budget(
    ctx: typer.Context,
    name: Subject,
    amount: Annotated[
        str | None, typer.Argument(help="Bytes to clients in the period, for example 500GB; a new budget needs it.")
    ] = None,
    of: Of = ScopeName.POINT,
    throttle_percent: Annotated[
        int | None, typer.Option(min=0, max=100, help="Throttle from this share on; 0: never.")
    ] = None,
    rate: Annotated[str | None, typer.Option(help="Bytes a second of a throttled device, 64KB or more.")] = None,
    peers_percent: Annotated[
        int | None, typer.Option(min=0, max=100, help="From this share on only peers; 0: never.")
    ] = None,
    critical_percent: Annotated[
        int | None, typer.Option(min=0, max=100, help="From this share on only critical contents; 0: never.")
    ] = None,
    grant_percent: Annotated[
        int | None, typer.Option(min=1, max=100, help="From this share on nothing new; at first 100.")
    ] = None,
    stop_percent: Annotated[
        int | None, typer.Option(min=0, max=100, help="Stop the cloud point when this share is used; 0: never.")
    ] = None,
    critical: Annotated[
        list[str] | None, typer.Option(help="A critical content; may be repeated. Those named before go.")
    ] = None,
    no_critical: Annotated[bool, typer.Option("--no-critical", help="No content is critical any more.")] = False,
    month: Annotated[
        str | None, typer.Option(help="Calendar months in this time zone; at first the last 30 days.", metavar="ZONE")
    ] = None,
    no_month: Annotated[bool, typer.Option("--no-month", help="The last 30 days again.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would do now; set nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Bound what is sent to clients, or change such a bound: what is left out stays. Without a budget nothing is
    interrupted.

    \b
    Examples:
      entrepot budget set cloud-eu 2TB --critical-percent 80 --critical security-agent
      entrepot budget set cloud-eu 3TB                          # all else stays
      entrepot budget set cloud-eu --critical-percent 0 --no-critical
      entrepot budget set 'Field staff' 300GB --of collection --month Europe/Berlin --dry-run
    """
    if (critical and no_critical) or (month and no_month):
        raise BadInputError("What is given is also taken off.", next_step="Give one of the two options.")
    body = BudgetPatch(
        bytes=None if amount is None else parse_size(amount),
        scope=of.value,
        throttle_percent=throttle_percent,
        rate=None if rate is None else parse_size(rate),
        peers_percent=peers_percent,
        critical_percent=critical_percent,
        grant_percent=grant_percent,
        stop_percent=stop_percent,
        critical=() if no_critical else tuple(critical) if critical else None,
        zone="" if no_month else month,
        dry_run=dry_run,
    )
    with site_session(ctx) as session:
        info = session.call("PATCH", f"/budgets/{seg(name)}", body, BudgetInfo)
    _print_budgets([info], as_json)
    if dry_run:
        say(f"Nothing was set. Now it would be: {info.grade}.")


@app.command("list")
def list_budgets(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List the budgets, and how they stand.

    \b
    Example:
      entrepot budget list
    """
    with site_session(ctx) as session:
        found = session.get("/budgets", list[BudgetInfo])
    _print_budgets(found, as_json)


@app.command("history")
def history(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Who changed which budget, newest first, and what budgets did by themselves.

    \b
    Example:
      entrepot budget history
    """
    with site_session(ctx) as session:
        found = session.get("/budget-changes", list[BudgetChange])
    if as_json:
        print_json(found)
        return
    rows = [(when(one.at), one.scope, one.name, one.by, one.what) for one in found]
    print_rows(("When", "Of", "Name", "By", "What"), rows, empty="No budget was ever set.")


@app.command("delete")
def delete_budget(
    ctx: typer.Context,
    name: Subject,
    of: Of = ScopeName.POINT,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Lift a budget. A service that it stopped stays stopped until you start it.

    \b
    Examples:
      entrepot budget delete cloud-eu --dry-run
      entrepot budget delete cloud-eu --yes
    """
    remove_or_tell(
        ctx,
        f"/budgets/{seg(name)}",
        f"Lift the budget of the {of.value} {name}?",
        done={"of": of.value, "deleted": name},
        told=f"{name} has no budget.",
        dry_run=dry_run,
        yes=yes,
        as_json=as_json,
        query=f"?of={of.value}",
    )


def _print_budgets(found: list[BudgetInfo], as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    print_rows(
        ("Of", "Name", ">Budget", "Period", ">Used", ">Granted", ">Left", "Figures", "Now", "Grades", "By"),
        [
            (
                one.scope,
                one.name,
                size(one.bytes),
                f"month, {one.zone}" if one.zone else "30 days",
                size(one.used),
                size(one.granted),
                size(one.left),
                how_old(one.collected, one.age_seconds, some=one.used > 0),
                one.grade,
                one.grades,
                one.by,
            )
            for one in found
        ],
        empty="No budget: nothing bounds transfers.",
    )
    for one in found:
        if one.warning:
            say(f"[yellow]{one.name}:[/] {one.warning}")
        if one.refused:
            say(f"[yellow]{one.name}:[/] refused a download at {when(one.refused)}: it needed more than was left.")
        if one.unaccounted:
            say(
                f"[yellow]{one.name}:[/] {size(one.unaccounted)} of what is granted was not accounted for: gateway "
                "instances took it and were lost with their records. It counts until the period is over."
            )
