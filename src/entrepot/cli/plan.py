"""``entrepot plan``: storage, transfer, requests and cost of a fleet, before anything is bought (R29)."""

import tomllib
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer

from entrepot.cli.files import read_bounded
from entrepot.cli.options import AsJson
from entrepot.cli.output import money, print_json, print_rows, say, size
from entrepot.core.errors import BadInputError
from entrepot.core.names import name_key
from entrepot.core.sizes import parse_size
from entrepot.rules.plan import MONTH_DAYS, Fleet, PlannedContent
from entrepot.rules.prices import PriceSheet

_CONTENT = (
    "name:size[:releases a month[:percent changed[:delta percent[:objects[:large files]]]]], for example "
    "office:3GB:2:15:10"
)
_NUMBERS: Final = ("releases_a_month", "changed_percent", "delta_percent", "objects", "files")


def plan(
    clients: Annotated[int, typer.Option(min=1, help="Managed devices.")],
    contents: Annotated[list[str] | None, typer.Option("--content", help=_CONTENT)] = None,
    internet: Annotated[int, typer.Option(min=0, max=100, help="Percent of them on the internet.")] = 30,
    networks: Annotated[int, typer.Option(min=0, help="LANs that those sit in; 0: each alone.")] = 0,
    peers: Annotated[int, typer.Option(min=0, max=100, help="Percent of a download that a neighbour can give.")] = 90,
    hours: Annotated[int, typer.Option(min=1, help="Mean delay after which a client comes for a release.")] = 48,
    days: Annotated[int, typer.Option(min=1, max=366, help="Days to plan.")] = 30,
    versions_kept: Annotated[
        int, typer.Option(min=1, help="Versions that stay stored, and that deltas lead from.")
    ] = 2,
    instances: Annotated[int, typer.Option(min=1, help="Gateway instances of each cloud point.")] = 2,
    cloud_points: Annotated[int, typer.Option(min=1, help="Cloud points.")] = 1,
    new: Annotated[bool, typer.Option("--new", help="Nothing is installed yet.")] = False,
    prices: Annotated[str, typer.Option(help="A shipped price sheet, or a TOML file.")] = "azure-blob",
    seed: Annotated[int, typer.Option(help="The same seed gives the same plan.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Simulate a fleet, client by client, and tell what it would store, transfer and cost. Needs no site.

    \b
    Examples:
      entrepot plan --clients 20000 --content office:3GB:2:15 --content agent:40MB:4
      entrepot plan --clients 20000 --content office:3GB:2:15:10 --versions-kept 3
      entrepot plan --clients 100000 --internet 60 --networks 2000 --content os:6GB:1 --prices free-egress --json
    """
    from entrepot.rules.plan import plan as simulate

    fleet = Fleet(
        clients=clients,
        internet_percent=internet,
        networks=networks,
        peer_percent=peers,
        hours=hours,
        days=days,
        versions_kept=versions_kept,
        instances=instances,
        cloud_points=cloud_points,
        already_installed=not new,
        seed=seed,
    )
    wanted = tuple(_content(text) for text in contents or ("software:1GB:2",))
    found = simulate(fleet, wanted, _sheet(prices))
    if as_json:
        print_json(found)
        return
    print_rows(
        (
            *("Deltas", "Peers", ">From the cloud", ">From peers", ">Requests", ">Stored"),
            *(f">{found.currency}", *([f">{found.currency} in 30 days"] if days != MONTH_DAYS else [])),
        ),
        [
            (
                "yes" if one.deltas else "no",
                "yes" if one.peers else "no",
                size(one.sent),
                size(one.from_peers),
                f"{one.requests:,}",
                size(one.stored),
                money(one.total),
                *([money(one.a_month)] if days != MONTH_DAYS else []),
            )
            for one in found.tallies
        ],
        empty="",
    )
    if fetched := max(one.fetched for one in found.tallies):
        say(f"In these amounts: at most {size(fetched)} that the site itself fetches to collect what was transferred.")
    releases = "release" if found.releases == 1 else "releases"
    say(f"{found.downloads:,} downloads of {found.releases} {releases} through the cloud in {days} days.")


def _content(text: str) -> PlannedContent:
    parts = text.split(":")
    try:
        if not 2 <= len(parts) <= 2 + len(_NUMBERS):
            raise ValueError
        numbers = [int(part) for part in parts[2:]]
        named = dict(zip(_NUMBERS, numbers, strict=False))
        return PlannedContent(name=parts[0], size=parse_size(parts[1]), **named)
    except ValueError:
        raise BadInputError(f"{text!r} is no content.", next_step=f"Write {_CONTENT}.") from None


def _sheet(text: str) -> PriceSheet:
    from entrepot.rules.prices import check_sheet
    from entrepot.site.cost.shipped import shipped

    found = shipped().get(name_key(text))
    if found is not None:
        return found
    try:
        sheet = msgspec.convert({"name": "prices"} | tomllib.loads(read_bounded(Path(text)).decode()), PriceSheet)
    except (OSError, ValueError, msgspec.MsgspecError) as error:
        raise BadInputError(
            f"{text!r} is no price sheet: {error}", next_step=f"Shipped are: {', '.join(sorted(shipped()))}."
        ) from None
    check_sheet(sheet)
    return sheet
