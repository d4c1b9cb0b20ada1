"""``entrepot collection``: groups of devices."""

from typing import Annotated

import typer

from entrepot.cli.options import AsJson, Yes
from entrepot.cli.output import print_done, print_facts, print_json, print_rows, say, yes_no
from entrepot.cli.removing import DryRun, remove_or_tell
from entrepot.cli.session import seg, site_session
from entrepot.protocol.deviceapi import CollectionInfo, CollectionRequest

app = typer.Typer(no_args_is_help=True, help="Collections: groups of devices that deployments and settings reach.")

Collection = Annotated[str, typer.Argument(help="Name or id of the collection.")]
Device = Annotated[str, typer.Argument(help="Name or id of the device.")]


@app.command("list")
def list_collections(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List the collections.

    \b
    Example:
      entrepot collection list
    """
    with site_session(ctx) as session:
        collections = session.get("/collections", list[CollectionInfo])
    if as_json:
        print_json(collections)
        return
    print_rows(
        ("Name", ">Devices", "Built in", "Id"),
        [(c.name, str(len(c.members)), yes_no(c.built_in), c.id) for c in collections],
        empty="No collection.",
    )


@app.command()
def show(ctx: typer.Context, collection: Collection, as_json: AsJson = False) -> None:
    """Show a collection and its members.

    \b
    Example:
      entrepot collection show Laptops
    """
    with site_session(ctx) as session:
        info = session.get(f"/collections/{seg(collection)}", CollectionInfo)
    if as_json:
        print_json(info)
        return
    print_facts(info.name, (("id", info.id), ("built in", yes_no(info.built_in)), ("devices", "\n".join(info.members))))


@app.command()
def add(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the new collection.")],
    as_json: AsJson = False,
) -> None:
    """Make an empty collection.

    \b
    Example:
      entrepot collection add Laptops
    """
    with site_session(ctx) as session:
        made = session.post("/collections", CollectionRequest(name=name), CollectionInfo)
    if as_json:
        print_json(made)
    else:
        say(f"Collection {made.name} is made ({made.id}).")


@app.command()
def join(ctx: typer.Context, collection: Collection, device: Device, as_json: AsJson = False) -> None:
    """Add a device to a collection.

    \b
    Example:
      entrepot collection join Laptops PC-0815
    """
    with site_session(ctx) as session:
        session.call("PUT", f"/collections/{seg(collection)}/members/{seg(device)}", None, type(None))
    _print_member(collection, device, True, f"{device} is in {collection}.", as_json)


@app.command()
def leave(ctx: typer.Context, collection: Collection, device: Device, as_json: AsJson = False) -> None:
    """Take a device out of a collection.

    \b
    Example:
      entrepot collection leave Laptops PC-0815
    """
    with site_session(ctx) as session:
        session.call("DELETE", f"/collections/{seg(collection)}/members/{seg(device)}", None, type(None))
    _print_member(collection, device, False, f"{device} is no longer in {collection}.", as_json)


def _print_member(collection: str, device: str, member: bool, told: str, as_json: bool) -> None:
    print_done({"collection": collection, "device": device, "member": member}, told, as_json=as_json)


@app.command()
def remove(
    ctx: typer.Context, collection: Collection, dry_run: DryRun = False, yes: Yes = False, as_json: AsJson = False
) -> None:
    """Remove a collection; its devices stay.

    \b
    Examples:
      entrepot collection remove Laptops --dry-run
      entrepot collection remove Laptops --yes
    """
    remove_or_tell(
        ctx,
        f"/collections/{seg(collection)}",
        f"Remove the collection {collection}?",
        done={"removed": collection},
        told=f"{collection} is removed.",
        dry_run=dry_run,
        yes=yes,
        as_json=as_json,
    )
