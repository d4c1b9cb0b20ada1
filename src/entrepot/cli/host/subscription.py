"""``entrepot host subscription``: who may run services on a cloud host, and how much."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from entrepot.cli.host.certificate import read_cer
from entrepot.cli.host.home import HOME, Which, administration
from entrepot.cli.options import AsJson, Home, Yes
from entrepot.cli.output import confirm, print_done, print_json, print_rows, say, size, when
from entrepot.cli.removing import DryRun, tell
from entrepot.core.errors import BadInputError
from entrepot.core.sizes import parse_size

if TYPE_CHECKING:
    from entrepot.cloud.host.administration import Stored

app = typer.Typer(no_args_is_help=True, help="Subscriptions: who may run services here, and how much.")


@app.command("add")
def add_subscription(
    name: Annotated[str, typer.Argument(help="Name of the tenant.")],
    certificate: Annotated[Path | None, typer.Option(help="Its management certificate, .cer.")] = None,
    storage: Annotated[str | None, typer.Option(help="Storage quota, such as 2TB.")] = None,
    instances: Annotated[int | None, typer.Option(help="Quota of gateway instances.")] = None,
    home: Home = HOME,
    as_json: AsJson = False,
) -> None:
    """Make a subscription, and let its management certificate in.

    \b
    Example:
      entrepot host subscription add contoso --certificate contoso-cloud.cer --storage 500GB
    """
    cer = None if certificate is None else read_cer(certificate)
    host = administration(home)
    quota = None if storage is None else parse_size(storage)
    row = host.add_subscription(name, storage_quota=quota, instance_quota=instances, certificate=cer)
    if as_json:
        print_json(row)
    else:
        say(f"Subscription {row.name}: {row.id}")


@app.command("list")
def list_subscriptions(
    count: Annotated[
        bool, typer.Option("--count", help="Count what is stored on the host's disk now, file by file.")
    ] = False,
    home: Home = HOME,
    as_json: AsJson = False,
) -> None:
    """List the subscriptions: what their services store and how many instances they have, of what they may.

    What is stored is told as the running host noted it last, a minute ago at most; what is in a bucket is listed once a
    day. --count counts what is on the host's disk now: of millions of files that takes a while.

    \b
    Examples:
      entrepot host subscription list
      entrepot host subscription list --count
    """
    host = administration(home)
    rows, used = host.subscriptions(), host.instances()
    stored = host.stored(counting=(lambda name: say(f"Counting what {name} stores …")) if count else None)
    figures = {row.id: (used.get(row.id, 0), *_noted(stored.get(row.id))) for row in rows}
    if as_json:
        names = ("instances", "stored_bytes", "charged_bytes", "stored_at")
        print_json([msgspec.structs.asdict(row) | dict(zip(names, figures[row.id], strict=True)) for row in rows])
        return
    shown = []
    for row in rows:
        instances, size_now, charged, at = figures[row.id]
        told = "not counted yet" if size_now is None else size(size_now)
        counted = "?" if charged is None else size(charged)
        quotas = (f"{counted} of {size(row.storage_quota)}", when(at), f"{instances} of {row.instance_quota}")
        shown.append((row.name, row.state, told, *quotas, when(row.created), row.id))
    print_rows(
        ("Name", "State", ">Stored", ">Of its quota", "As of", ">Instances", "Created", "Id"),
        shown,
        empty="No subscription yet. Next: entrepot host subscription add NAME --certificate FILE.cer",
    )


def _noted(stored: "Stored | None") -> tuple[int | None, int | None, int]:
    """Bytes stored and charged, and since when that is known. Of one without services: nothing, and always."""
    if stored is None:
        return 0, 0, 0
    return stored.size, None if stored.size is None else stored.charged, stored.at


@app.command("set")
def set_subscription(
    subscription: Which,
    storage: Annotated[str | None, typer.Option(help="New storage quota, such as 4TB.")] = None,
    instances: Annotated[int | None, typer.Option(min=1, help="New quota of gateway instances.")] = None,
    home: Home = HOME,
    as_json: AsJson = False,
) -> None:
    """Change a subscription's quotas; what is left out stays. They count at once, while the host runs, too.

    A storage quota below what is stored lets nothing more in; a quota of instances below what its services have is
    refused.

    \b
    Example:
      entrepot host subscription set contoso --storage 4TB --instances 32
    """
    if storage is None and instances is None:
        raise BadInputError("Nothing was given to change.", next_step="Give --storage or --instances.")
    quota = None if storage is None else parse_size(storage)
    row = administration(home).set_quotas(subscription, storage_quota=quota, instance_quota=instances)
    if as_json:
        print_json(row)
    else:
        say(f"{row.name} may store {size(row.storage_quota)} and run {row.instance_quota} instances.")


@app.command("disable")
def disable_subscription(
    subscription: Which, home: Home = HOME, dry_run: DryRun = False, yes: Yes = False, as_json: AsJson = False
) -> None:
    """Serve a subscription's services no more and refuse its certificates; content stays.

    \b
    Examples:
      entrepot host subscription disable contoso --dry-run
      entrepot host subscription disable contoso --yes
    """
    host = administration(home)
    if dry_run:
        with host.foresight() as foresight:
            tell(foresight.disabling(subscription), as_json=as_json)
        return
    confirm(f"Disable {subscription}? Its clients are cut off.", yes=yes)
    row = host.disable_subscription(subscription)
    print_done(row, f"{row.name} is disabled.", as_json=as_json)


@app.command("enable")
def enable_subscription(subscription: Which, home: Home = HOME, as_json: AsJson = False) -> None:
    """Take `disable` back.

    \b
    Example:
      entrepot host subscription enable contoso
    """
    row = administration(home).enable_subscription(subscription)
    print_done(row, f"{row.name} is active.", as_json=as_json)


@app.command("remove")
def remove_subscription(
    subscription: Which, home: Home = HOME, dry_run: DryRun = False, yes: Yes = False, as_json: AsJson = False
) -> None:
    """Remove a subscription that has no services.

    \b
    Examples:
      entrepot host subscription remove contoso --dry-run
      entrepot host subscription remove contoso --yes
    """
    host = administration(home)
    if dry_run:
        with host.foresight() as foresight:
            tell(foresight.removal(subscription), as_json=as_json)
        return
    confirm(f"Remove {subscription} with its certificates?", yes=yes)
    row = host.remove_subscription(subscription)
    print_done({"removed": row.name, "id": row.id}, f"{row.name} is removed.", as_json=as_json)
