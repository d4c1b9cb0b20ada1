"""``entrepot settings``: client settings, default and custom (R5, R43)."""

from typing import Annotated

import typer

from entrepot.cli.options import AsJson, Yes
from entrepot.cli.output import print_json, print_rows, size, yes_no
from entrepot.cli.removing import DryRun, remove_or_tell
from entrepot.cli.session import seg, site_session
from entrepot.core.errors import BadInputError
from entrepot.core.sizes import parse_size
from entrepot.protocol.deviceapi import ClientSettingsInfo, ClientSettingsRequest, SettingsValues

app = typer.Typer(no_args_is_help=True, help="Client settings: may devices use cloud points, cache size, polling.")

DEFAULT = "default"


@app.command("list")
def list_settings(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List the sets of client settings, strongest first.

    \b
    Example:
      entrepot settings list
    """
    with site_session(ctx) as session:
        sets = session.get("/client-settings", list[ClientSettingsInfo])
    if as_json:
        print_json(sets)
    else:
        _print(sets)


def _print(sets: list[ClientSettingsInfo]) -> None:
    print_rows(
        ("Name", ">Priority", "Collection", "Cloud points", ">Poll", ">Cache"),
        [
            (
                s.name,
                str(s.priority),
                s.collection_name or "every device",
                "" if s.settings.allow_cloud is None else yes_no(s.settings.allow_cloud),
                "" if s.settings.poll_minutes is None else f"{s.settings.poll_minutes} min",
                "" if s.settings.cache_bytes is None else size(s.settings.cache_bytes),
            )
            for s in sorted(sets, key=lambda s: s.priority)
        ],
        empty="No client settings.",
    )


@app.command("set")
def set_settings(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the set; `default` reaches every device.")] = DEFAULT,
    allow_cloud: Annotated[
        bool | None,
        typer.Option("--allow-cloud/--no-cloud", help="Allow access to cloud distribution points (off by default)."),
    ] = None,
    poll_minutes: Annotated[int | None, typer.Option(help="How often devices ask for policy.")] = None,
    cache: Annotated[str | None, typer.Option(help="Size of a device's cache, such as 20GB.")] = None,
    collection: Annotated[str | None, typer.Option("--for", help="Collection that a custom set reaches.")] = None,
    priority: Annotated[int, typer.Option(help="The lower number wins over other sets.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Make or replace a set of client settings.

    \b
    Examples:
      entrepot settings set default --allow-cloud
      entrepot settings set 'No cloud for kiosks' --for Kiosks --no-cloud --priority 5
    """
    if name != DEFAULT and collection is None:
        raise BadInputError("A custom set needs a collection.", next_step="Give --for COLLECTION.")
    values = SettingsValues(
        allow_cloud=allow_cloud, poll_minutes=poll_minutes, cache_bytes=None if cache is None else parse_size(cache)
    )
    body = ClientSettingsRequest(name=name, priority=priority, collection=collection, settings=values)
    with site_session(ctx) as session:
        made = session.post("/client-settings", body, ClientSettingsInfo)
    if as_json:
        print_json(made)
    else:
        _print([made])


@app.command()
def remove(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of a custom set.")],
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Remove a custom set of client settings.

    \b
    Examples:
      entrepot settings remove 'No cloud for kiosks' --dry-run
      entrepot settings remove 'No cloud for kiosks' --yes
    """
    remove_or_tell(
        ctx,
        f"/client-settings/{seg(name)}",
        f"Remove the client settings {name}?",
        done={"removed": name},
        told=f"{name} is removed.",
        dry_run=dry_run,
        yes=yes,
        as_json=as_json,
    )
