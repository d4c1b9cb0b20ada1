"""``entrepot cost forecast`` and ``quote``: what is to come, and what a deployment adds to it."""

from typing import Annotated

import typer

from entrepot.cli.options import AsJson
from entrepot.cli.output import age, day, money, print_facts, print_json, print_line, say, size
from entrepot.cli.session import seg, site_session
from entrepot.core.sizes import parse_size
from entrepot.protocol.costapi import CrossingInfo, ForecastInfo, PointForecast, Quote, QuoteRequest
from entrepot.protocol.deviceapi import ALL_DEVICES

Collection = Annotated[str, typer.Option("--to", help="Collection that it would be deployed to.")]
Version = Annotated[int, typer.Option(min=0, help="Version; 0: the current one.")]
Share = Annotated[int | None, typer.Option(min=0, max=100, help="Percent of clients that come through the cloud.")]


def forecast(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Name or id of the cloud point.")],
    content: Annotated[str, typer.Option(help="As if this content were deployed now.")] = "",
    collection: Collection = ALL_DEVICES,
    version: Version = 0,
    cloud_share: Share = None,
    planned_storage: Annotated[str, typer.Option(help="Bytes stored on top, for example 200GB.")] = "0",
    planned_transfer: Annotated[str, typer.Option(help="Bytes sent on top, for example 2TB.")] = "0",
    as_json: AsJson = False,
) -> None:
    """Show when storage and transfers reach their thresholds at the present trend, and what a deployment changes.

    \b
    Examples:
      entrepot cost forecast cloud-eu
      entrepot cost forecast cloud-eu --content office-suite --to 'Field staff'
      entrepot cost forecast cloud-eu --planned-storage 40GB --planned-transfer 2TB
    """
    deployed: dict[str, str | int | None] = {
        "content": content,
        "collection": collection,
        "version": version,
        "cloud_share": cloud_share,
    }
    with site_session(ctx) as session:
        found = session.get(
            f"/cloud-points/{seg(name)}/forecast",
            PointForecast,
            planned_storage=parse_size(planned_storage),
            planned_transfer=parse_size(planned_transfer),
            **(deployed if content else {}),
        )
    if as_json:
        print_json(found)
    else:
        _print_point(found)


def _print_point(found: PointForecast) -> None:
    if found.planned_storage or found.planned_transfer:
        stored, sent = size(found.planned_storage), size(found.planned_transfer)
        say(f"Planned: {stored} stored at once, {sent} sent to clients, most of it in the first days.")
    for one in (found.storage, found.transfer):
        _print_forecast(one)
    say(f"Figures: {age(found.now - found.collected)} old." if found.collected else "Nothing was collected yet.")


def _print_forecast(found: ForecastInfo) -> None:
    title = "Storage" if found.metric == "storage" else "Transfers to clients, 30 days"
    facts = [("now", size(found.present))]
    if found.days:
        facts += [("per day", size(found.per_day)), ("in 30 days", size(found.in_thirty_days))]
        plain = {one.level: one for one in found.without_plan}
        for one in found.crossings:
            facts.append((f"{one.level} at {size(one.bytes)}", _moment(one)))
            if one.level in plain:
                facts.append(("  without the plan", _moment(plain[one.level])))
        facts.append(("rests on", f"{found.days} days"))
    else:
        facts.append(("forecast", "too few figures yet: three whole days are needed"))
    print_facts(title, tuple(facts))


def _moment(one: CrossingInfo) -> str:
    if not one.at:
        return "not within a year"
    return f"{day(one.at)} (earliest {day(one.earliest)}, latest {day(one.latest) or 'not within a year'})"


def quote(
    ctx: typer.Context,
    content: Annotated[str, typer.Argument(help="Name or id of the content.")],
    collection: Collection = ALL_DEVICES,
    version: Version = 0,
    cloud_share: Share = None,
    as_json: AsJson = False,
) -> None:
    """Say what a deployment would send through the cloud, and cost, before it is made.

    \b
    Example:
      entrepot cost quote office-suite --to 'Field staff'
    """
    body = QuoteRequest(content=content, collection=collection, version=version, cloud_share=cloud_share)
    with site_session(ctx) as session:
        found = session.post("/quotes", body, Quote)
    if as_json:
        print_json(found)
        return
    print_quote(found)
    for one in found.forecasts:
        say(f"{one.cloud_point} with this deployment:")
        _print_point(one)


def print_quote(found: Quote) -> None:
    """A quote for people: the sentence, the figures, and what was assumed."""
    print_line(found.summary)
    amounts = [
        ("amount", money(found.amount, found.currency)),
        ("without deltas and reuse", money(found.amount_full, found.currency)),
    ]
    print_facts(
        f"{found.content_name}, version {found.version}",
        (
            ("clients", f"{found.clients} of {found.devices}; {found.up_to_date} have it already"),
            ("by a delta", str(found.by_delta)),
            ("only what is new", str(found.by_difference)),
            ("everything", str(found.by_whole)),
            ("requests", f"{found.requests:,}"),
            ("stored on top", size(found.stored)),
            *(amounts if found.currency else ()),
            ("assumed", "\n".join(found.assumptions)),
        ),
    )
