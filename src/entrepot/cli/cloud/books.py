"""``entrepot cloud usage``, ``metrics`` and ``resources``: what was used, the cloud's own figures beside it, and what
it costs (R25, R26, R27)."""

import time
from collections.abc import Sequence
from typing import Annotated

import typer

from entrepot.cli.cloud.output import price, print_unpriced, print_usage
from entrepot.cli.cloud.points import Name
from entrepot.cli.options import AsJson
from entrepot.cli.output import age, money, print_json, print_rows, say, size, when
from entrepot.cli.session import seg, site_session
from entrepot.core.times import DAY, hour_of
from entrepot.protocol.cloudapi import CloudResources, PlannedResource, Reconciled, Reconciliation
from entrepot.protocol.cloudpointapi import CloudPointInfo, UsageReport


def usage(
    ctx: typer.Context,
    name: Name,
    by: Annotated[str | None, typer.Option(help="device or content: one line for each in each hour.")] = None,
    days: Annotated[int, typer.Option(min=1, max=3650, help="Of so many days.")] = 30,
    as_json: AsJson = False,
) -> None:
    """Show what clients downloaded and what the site sent, by the hour, and how old the figures are.

    \b
    Examples:
      entrepot cloud usage cloud-eu
      entrepot cloud usage cloud-eu --by device --days 2 --json
    """
    since = hour_of(time.time()) - days * DAY
    with site_session(ctx) as session:
        report = session.get(f"/cloud-points/{seg(name)}/usage", UsageReport, by=by, since=since)
    if as_json:
        print_json(report)
    else:
        print_usage(report, by=by or "")


def metrics(
    ctx: typer.Context,
    name: Name,
    days: Annotated[int, typer.Option(min=1, max=90, help="How far back.")] = 30,
    last: Annotated[
        bool, typer.Option("--last", help="Show what the last daily comparison found; the cloud is not asked.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show what the cloud itself counted beside the site's own figures of the same hours, and whether they agree.

    \b
    Examples:
      entrepot cloud metrics cloud-eu --days 7
      entrepot cloud metrics cloud-eu --last
    """
    if last:
        _show_last(ctx, name, as_json)
        return
    with site_session(ctx) as session:
        found = session.get(f"/cloud-points/{seg(name)}/reconciliation", Reconciliation, days=str(days))
    if as_json:
        print_json(found)
        return
    say(f"{name}: {when(found.since)} to {when(found.until)}")
    _print_figures(found.figures)


def _show_last(ctx: typer.Context, name: str, as_json: bool) -> None:
    with site_session(ctx) as session:
        found = session.get(f"/cloud-points/{seg(name)}", CloudPointInfo).compared
    if as_json:
        print_json(found)
        return
    if found.at:
        say(f"{name}: {when(found.since)} to {when(found.until)}, compared {age(found.age_seconds)} ago")
        _print_figures(found.figures)
    else:
        say(f"{name} was not compared yet: that is done once a day, of whole days. Now: entrepot cloud metrics {name}")
    if found.error:
        say(f"[yellow]The last attempt, {when(found.tried)}, brought nothing:[/] {found.error}")


def _print_figures(figures: Sequence[Reconciled]) -> None:
    rows = [(one.figure, _size(one.by_cloud), _size(one.by_site), one.verdict, one.message) for one in figures]
    print_rows(("What", ">By the cloud", ">By the site", "Verdict", "Details"), rows, empty="")


def _size(count: int | None) -> str:
    return "not told" if count is None else size(count)


def resources(ctx: typer.Context, name: Name, as_json: AsJson = False) -> None:
    """List what a cloud point is made of, what each part costs a month, and what goes on costing while it is stopped.

    \b
    Example:
      entrepot cloud resources cloud-eu
    """
    with site_session(ctx) as session:
        found = session.get(f"/cloud-points/{seg(name)}/resources", CloudResources)
    if as_json:
        print_json(found)
    else:
        _print_resources(name, found)


def _print_resources(name: str, found: CloudResources) -> None:
    """What there is, what it costs, and what of it goes on costing after a stop."""
    rows = [
        (one.kind, one.name, _quantity(one), price(one), "goes on" if one.stays else "ends")
        for one in found.resources
        if one.meter
    ]
    print_rows(("What", "Name", ">A month", ">Costs", "While stopped"), rows, empty="Nothing of it is charged.")
    free = [one.name for one in found.resources if not one.meter]
    if free:
        say(f"Free of charge: {', '.join(free)}")
    if found.running is None or found.stopped is None:
        say(f"What {name} costs a month is not known.")
    else:
        running, stopped = money(found.running, found.currency), money(found.stopped, found.currency)
        say(f"{name} costs {running} a month while it runs, beside what clients download;")
        say(f"{stopped} a month while it is stopped, until it is deleted.")
    print_unpriced(found.unpriced)


def _quantity(resource: PlannedResource) -> str:
    return f"{resource.quantity:,.2f} {resource.unit}" if resource.quantity else "by use"
