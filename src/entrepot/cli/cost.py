"""``entrepot cost``: what cloud points cost, what they will, and what a deployment would."""

import tomllib
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from entrepot.cli import foresight
from entrepot.cli.files import read_bounded
from entrepot.cli.options import AsJson
from entrepot.cli.output import day, how_old, money, print_json, print_rows, say, size, when
from entrepot.cli.session import seg, site_session
from entrepot.core.errors import BadInputError
from entrepot.protocol.costapi import (
    CostBy,
    CostReport,
    EgressTier,
    PriceSheetInfo,
    PriceSheetRequest,
    PriceUseRequest,
    SavingsBy,
    SavingsReport,
)

app = typer.Typer(no_args_is_help=True, help="What cloud points cost: so far, at the month's end, before a deployment.")
sheets = typer.Typer(no_args_is_help=True, help="Price sheets: what a cloud charges.")
app.command()(foresight.forecast)
app.command()(foresight.quote)
app.add_typer(sheets, name="sheet")

Point = Annotated[str, typer.Option("--cloud-point", help="Only this cloud point.")]


@app.command()
def show(
    ctx: typer.Context,
    by: Annotated[CostBy, typer.Option(help="point, content, collection or device.")] = CostBy.POINT,
    cloud_point: Point = "",
    as_json: AsJson = False,
) -> None:
    """Show the cost so far this month and, by point, at its end.

    \b
    Examples:
      entrepot cost show
      entrepot cost show --by content --cloud-point cloud-eu
    """
    with site_session(ctx) as session:
        found = session.get("/cost", CostReport, by=by.value, cloud_point=cloud_point or None)
    if as_json:
        print_json(found)
        return
    headings = (">To clients", ">Requests", ">Storage", ">Egress", ">Site's own", ">Other")
    print_rows(
        ("Name", *headings, f">{found.currency}", ">At month's end"),
        [
            (
                one.name,
                size(one.bytes),
                str(one.requests),
                money(one.storage),
                money(one.egress),
                money(one.fetched),
                money(one.uploads + one.requests_cost + one.instances + one.overhead),
                money(one.total),
                "" if one.month_end is None else money(one.month_end),
            )
            for one in (*found.lines, *([found.rest] if found.rest else ()))
        ],
        empty="Nothing was charged this month.",
    )
    say(
        f"Since {day(found.since)}: {money(found.total, found.currency)}; "
        f"at the month's end about {money(found.month_end)}."
    )
    if found.lines:
        told = f", collected {when(found.figures_from)}" if found.figures_from else ""
        some = any(one.requests for one in found.lines)
        say(f"Figures: {how_old(found.figures_from, found.age_seconds, some=some)}{told}.")
    if fetched := sum(one.fetched_bytes for one in found.lines):
        say(f"The site's own downloads from the cloud are in it: {size(fetched)}, to validate, repair and collect.")
    if found.others:
        say(f"[yellow]Without a price sheet in {found.currency}:[/] {', '.join(found.others)}")
    for note in found.notes:
        say(note, style="dim")


@app.command()
def savings(
    ctx: typer.Context,
    by: Annotated[SavingsBy, typer.Option(help="content or point.")] = SavingsBy.CONTENT,
    days: Annotated[int, typer.Option(min=1, max=3650, help="Of so many days.")] = 30,
    as_json: AsJson = False,
) -> None:
    """Show what dedupe, compression, deltas, caches and peers kept from being transferred, as devices reported it.

    \b
    Examples:
      entrepot cost savings
      entrepot cost savings --by point --days 90
    """
    with site_session(ctx) as session:
        found = session.get("/savings", SavingsReport, by=by.value, days=days)
    if as_json:
        print_json(found)
        return
    print_rows(
        (
            "Name",
            ">Downloads",
            ">Transferred",
            ">Dedupe",
            ">Compression",
            ">Own cache",
            ">Installed",
            ">Peers",
            ">Deltas",
        ),
        [
            (
                one.name,
                str(one.downloads),
                *(
                    size(count)
                    for count in (
                        one.transferred,
                        one.dedupe,
                        one.compression,
                        one.own_cache,
                        one.installed,
                        one.peers,
                        one.deltas,
                    )
                ),
            )
            for one in found.lines
        ],
        empty="No device has reported a download in this time.",
    )


@sheets.command("list")
def list_sheets(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List the price sheets, and the examples that are shipped.

    \b
    Example:
      entrepot cost sheet list
    """
    with site_session(ctx) as session:
        found = session.get("/price-sheets", list[PriceSheetInfo])
    _print_sheets(found, as_json)


@sheets.command("show")
def show_sheet(
    ctx: typer.Context, name: Annotated[str, typer.Argument(help="Name of the sheet.")], as_json: AsJson = False
) -> None:
    """Show all versions of a price sheet.

    \b
    Example:
      entrepot cost sheet show azure-blob --json
    """
    with site_session(ctx) as session:
        found = session.get(f"/price-sheets/{seg(name)}", list[PriceSheetInfo])
    _print_sheets(found, as_json)


@sheets.command("put")
def put_sheet(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the sheet.")],
    file: Annotated[Path, typer.Argument(help="TOML or JSON file with the prices.")],
    as_json: AsJson = False,
) -> None:
    """Add a version of a price sheet from a file; earlier versions stay.

    \b
    Example:
      entrepot cost sheet put our-contract prices.toml
    """
    with site_session(ctx) as session:
        info = session.call("PUT", f"/price-sheets/{seg(name)}", read_sheet(file), PriceSheetInfo)
    if as_json:
        print_json(info)
    else:
        say(f"{info.name} has version {info.version} now. Use it: entrepot cost sheet use {info.name}")


@sheets.command("use")
def use_sheet(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the sheet.")],
    cloud_point: Annotated[str, typer.Option(help="For this cloud point; without: for all that have none.")] = "",
    as_json: AsJson = False,
) -> None:
    """Charge cloud points by a sheet.

    \b
    Examples:
      entrepot cost sheet use azure-blob
      entrepot cost sheet use our-contract --cloud-point cloud-eu
    """
    with site_session(ctx) as session:
        info = session.post(f"/price-sheets/{seg(name)}/use", PriceUseRequest(cloud_point=cloud_point), PriceSheetInfo)
    if as_json:
        print_json(info)
    else:
        say(f"{cloud_point or 'All cloud points without a sheet of their own'}: charged by {info.name}.")


def read_sheet(file: Path) -> PriceSheetRequest:
    """A price sheet from a TOML or JSON file; a ``name`` in it is ignored.

    Raises:
        BadInputError: it cannot be read.
    """
    try:
        data = read_bounded(file)
        values = msgspec.json.decode(data) if file.suffix == ".json" else tomllib.loads(data.decode())
        if isinstance(values, dict):
            values.pop("name", None)
        return msgspec.convert(values, PriceSheetRequest)
    except (ValueError, msgspec.MsgspecError) as error:
        raise BadInputError(
            f"{file} is no price sheet: {error}", next_step="See docs/cost.md for an example."
        ) from None


def _print_sheets(found: list[PriceSheetInfo], as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    print_rows(
        ("Name", ">Version", "Currency", ">GB-month", ">Egress, GB", ">Instance, h", "Used by", "Source"),
        [
            (
                one.name,
                str(one.version) if one.version else "example",
                one.currency,
                str(one.storage_gb_month),
                " / ".join(_tier(tier) for tier in one.egress),
                str(one.instance_hour),
                ", ".join("all others" if name == "*" else name for name in one.used_by),
                one.source,
            )
            for one in found
        ],
        empty="No price sheet.",
    )


def _tier(tier: EgressTier) -> str:
    """A price, and up to which gigabyte of the month it holds."""
    return f"{tier.per_gb}" if tier.up_to_gb is None else f"{tier.per_gb} to {tier.up_to_gb:,}"
