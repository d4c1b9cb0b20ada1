"""``entrepot cost budget``: bounds of what a cloud point sends, opt-in and never exceeded (R23)."""

from typing import Annotated

import typer

from entrepot.cli.options import AsJson, Yes
from entrepot.cli.output import confirm, print_json, print_rows, say, size
from entrepot.cli.session import seg, site_session
from entrepot.core.sizes import parse_size
from entrepot.protocol.costapi import BudgetInfo, BudgetRequest

app = typer.Typer(no_args_is_help=True, help="Transfer budgets: opt-in bounds that are never exceeded.")


@app.command("set")
def set_budget(
    ctx: typer.Context,
    cloud_point: Annotated[str, typer.Argument(help="Name or id of the cloud point.")],
    amount: Annotated[str, typer.Argument(help="Bytes to clients in 30 days, for example 500GB.")],
    critical_percent: Annotated[
        int, typer.Option(min=1, max=100, help="From this share on only critical contents.")
    ] = 100,
    critical: Annotated[list[str] | None, typer.Option(help="A critical content; may be repeated.")] = None,
    as_json: AsJson = False,
) -> None:
    """Bound what a cloud point sends to clients in 30 days. Off by default: without a budget nothing is interrupted.

    \b
    Example:
      entrepot cost budget set cloud-eu 2TB --critical-percent 80 --critical security-agent
    """
    body = BudgetRequest(bytes=parse_size(amount), critical_percent=critical_percent, critical=tuple(critical or ()))
    with site_session(ctx) as session:
        info = session.call("PUT", f"/budgets/{seg(cloud_point)}", body, BudgetInfo)
    _print_budgets([info], as_json)


@app.command("list")
def list_budgets(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List the budgets, and how they stand.

    \b
    Example:
      entrepot cost budget list
    """
    with site_session(ctx) as session:
        found = session.get("/budgets", list[BudgetInfo])
    _print_budgets(found, as_json)


@app.command("delete")
def delete_budget(
    ctx: typer.Context,
    cloud_point: Annotated[str, typer.Argument(help="Name or id of the cloud point.")],
    yes: Yes = False,
) -> None:
    """Lift a budget.

    \b
    Example:
      entrepot cost budget delete cloud-eu --yes
    """
    confirm(f"Lift the budget of {cloud_point}?", yes=yes)
    with site_session(ctx) as session:
        session.call("DELETE", f"/budgets/{seg(cloud_point)}", None, type(None))
    say(f"{cloud_point} has no budget.")


def _print_budgets(found: list[BudgetInfo], as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    print_rows(
        ("Cloud point", ">Budget, 30 d", ">Used", ">Granted", ">Left", ">Critical only from", "By"),
        [
            (
                one.cloud_point,
                size(one.bytes),
                size(one.used),
                size(one.granted),
                size(one.left),
                f"{one.critical_percent} %",
                one.by,
            )
            for one in found
        ],
        empty="No budget: nothing bounds transfers.",
    )
