"""``entrepot cloud metrics`` and ``resources``: the cloud's figures beside the site's, and what it costs (R25, R27)."""

from typing import Annotated

import typer

from entrepot.cli.cloud import Name
from entrepot.cli.options import AsJson
from entrepot.cli.output import print_json, print_rows, say, size, when
from entrepot.cli.session import seg, site_session
from entrepot.protocol.cloudapi import CloudResources, PlannedResource, Reconciliation


def metrics(
    ctx: typer.Context,
    name: Name,
    days: Annotated[int, typer.Option(min=1, max=90, help="How far back.")] = 30,
    as_json: AsJson = False,
) -> None:
    """Show what the cloud itself counted beside the site's own figures of the same hours, and whether they agree.

    \b
    Example:
      entrepot cloud metrics cloud-eu --days 7
    """
    with site_session(ctx) as session:
        found = session.get(f"/cloud-points/{seg(name)}/reconciliation", Reconciliation, days=str(days))
    if as_json:
        print_json(found)
        return
    say(f"{name}: {when(found.since)} to {when(found.until)}")
    rows = [(one.figure, _size(one.by_cloud), _size(one.by_site), one.verdict, one.message) for one in found.figures]
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
        (one.kind, one.name, _quantity(one), _price(one, found.currency), "goes on" if one.stays else "ends")
        for one in found.resources
        if one.meter
    ]
    print_rows(("What", "Name", ">A month", ">Costs", "While stopped"), rows, empty="Nothing of it is charged.")
    free = [one.name for one in found.resources if not one.meter]
    if free:
        say(f"Free of charge: {', '.join(free)}")
    say(f"{name} costs {found.running:.2f} {found.currency} a month while it runs, beside what clients download;")
    say(f"{found.stopped:.2f} {found.currency} a month while it is stopped, until it is deleted.")
    if found.unpriced:
        say(f"Without a known price, in neither sum: {', '.join(found.unpriced)}")


def _quantity(resource: PlannedResource) -> str:
    return f"{resource.quantity:,.2f} {resource.unit}" if resource.quantity else "by use"


def _price(resource: PlannedResource, currency: str) -> str:
    return "not known" if resource.monthly is None else f"{resource.monthly:.2f} {currency}".rstrip()
