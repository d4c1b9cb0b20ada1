"""``entrepot host``: the cloud host, our embedded cloud, on this machine.

``subscription`` and ``certificate`` change the host's own state on its own machine, while it runs or not: they are
what a public cloud's portal is, and need no network.
"""

import time
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from entrepot.cli.hostaudit import HOME, audit
from entrepot.cli.options import AsJson, Home, Yes
from entrepot.cli.output import confirm, day, print_done, print_facts, print_json, print_rows, say, size, when
from entrepot.cli.removing import DryRun, tell
from entrepot.core.errors import BadInputError
from entrepot.core.sizes import parse_size

app = typer.Typer(no_args_is_help=True, help="The cloud host: runs cloud services on this machine.")
subscriptions = typer.Typer(no_args_is_help=True, help="Subscriptions: who may run services here, and how much.")
certificates = typer.Typer(no_args_is_help=True, help="Management certificates of a subscription.")
app.add_typer(subscriptions, name="subscription")
app.add_typer(certificates, name="certificate")

MAX_CER_FILE = 65_536
Which = Annotated[str, typer.Argument(help="Id or name of the subscription.")]


@app.command()
def init(
    home: Home = HOME,
    listen: Annotated[str, typer.Option(help="host:port of the management API; port 0 chooses a free one.")] = (
        "127.0.0.1:0"
    ),
    url: Annotated[str, typer.Option(help="How sites reach it; default: the address of --listen.")] = "",
    region: Annotated[str, typer.Option(help="Reported to sites.")] = "local",
    name: Annotated[str, typer.Option(help="Shown in certificates and logs.")] = "cloud host",
    service_host: Annotated[str, typer.Option(help="Address where services listen; default: as --listen.")] = "",
    service_name: Annotated[str, typer.Option(help="Host name that DNS records of services lead to.")] = "",
    as_json: AsJson = False,
) -> None:
    """Set up a cloud host, and print the pin by which sites recognise it.

    \b
    Example:
      entrepot host init --listen 0.0.0.0:8440 --url https://vm1.contoso.com:8440 --service-name vm1.contoso.com
      entrepot host serve
    """
    from entrepot.cloud.host.setup import init_host

    made = init_host(
        home,
        listen,
        region=region,
        name=name,
        url=url,
        service_host=service_host,
        service_name=service_name,
        now=time.time(),
    )
    if as_json:
        print_json({"url": made.url, "pin": made.pin.hex(), "home": str(home)})
        return
    print_facts(f"Cloud host in {home}", (("address", made.url), ("pin (--host-pin)", made.pin.hex())))
    say(f"Next: entrepot host subscription add NAME --certificate FILE.cer --home {home}")
    say(f"Then: entrepot host serve --home {home}")


@app.command()
def status(home: Home = HOME, as_json: AsJson = False) -> None:
    """Print the host's address and pin again.

    \b
    Example:
      entrepot host status
    """
    from entrepot.cloud.host.settings import load_settings
    from entrepot.cloud.host.setup import host_identity

    identity = host_identity(home, load_settings(home))
    if as_json:
        print_json({"url": identity.url, "pin": identity.pin.hex(), "home": str(home)})
    else:
        print_facts(f"Cloud host in {home}", (("address", identity.url), ("pin (--host-pin)", identity.pin.hex())))


@app.command("check-config")
def check_config(home: Home = HOME, as_json: AsJson = False) -> None:
    """Check host.toml as `serve` does at its start, and show every setting that counts. Changes nothing.

    \b
    Example:
      entrepot host check-config --home /var/lib/entrepot/host
    """
    from entrepot.cli.configuration import readable, show_settings
    from entrepot.cloud.host.settings import FILE, load_settings
    from entrepot.objects.settings import load_credentials

    settings = load_settings(home)
    store = settings.store
    readable(store.ca, "store.ca")
    if store.credentials:
        load_credentials(Path(store.credentials), store.kind)
    show_settings(home / FILE, settings, as_json=as_json)


@app.command()
def serve(home: Home = HOME) -> None:
    """Run the cloud host in the foreground until SIGTERM. Logs are JSON lines on standard error.

    \b
    Example:
      entrepot host serve --home /var/lib/entrepot/host
    """
    from entrepot.cloud.host.server import serve_host

    serve_host(home)


app.command()(audit)


@subscriptions.command("add")
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
    from entrepot.cloud.host.administration import HostAdministration

    cer = None if certificate is None else _read_cer(certificate)
    host = HostAdministration(home)
    quota = None if storage is None else parse_size(storage)
    row = host.add_subscription(name, storage_quota=quota, instance_quota=instances, certificate=cer)
    if as_json:
        print_json(row)
    else:
        say(f"Subscription {row.name}: {row.id}")


@subscriptions.command("list")
def list_subscriptions(home: Home = HOME, as_json: AsJson = False) -> None:
    """List the subscriptions: what their services store and how many instances they have, of what they may.

    What is stored in a bucket is told as it was counted last, at least once a day while the host runs.
    What is stored on the host's disk is counted now, file by file: of millions of files that takes a while.

    \b
    Example:
      entrepot host subscription list
    """
    from entrepot.cloud.host.administration import HostAdministration

    host = HostAdministration(home)
    rows, used, stored = host.subscriptions(), host.instances(), host.stored()
    if as_json:
        print_json(
            [
                msgspec.structs.asdict(row) | {"instances": used.get(row.id, 0), "stored_bytes": stored.get(row.id, 0)}
                for row in rows
            ]
        )
        return
    print_rows(
        ("Name", "State", ">Stored", ">Instances", "Created", "Id"),
        [
            (
                r.name,
                r.state,
                f"{_counted(stored.get(r.id, 0))} of {size(r.storage_quota)}",
                f"{used.get(r.id, 0)} of {r.instance_quota}",
                when(r.created),
                r.id,
            )
            for r in rows
        ],
        empty="No subscription yet. Next: entrepot host subscription add NAME --certificate FILE.cer",
    )


def _counted(stored: int | None) -> str:
    return "not counted yet" if stored is None else size(stored)


@subscriptions.command("set")
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
    from entrepot.cloud.host.administration import HostAdministration

    if storage is None and instances is None:
        raise BadInputError("Nothing was given to change.", next_step="Give --storage or --instances.")
    quota = None if storage is None else parse_size(storage)
    row = HostAdministration(home).set_quotas(subscription, storage_quota=quota, instance_quota=instances)
    if as_json:
        print_json(row)
    else:
        say(f"{row.name} may store {size(row.storage_quota)} and run {row.instance_quota} instances.")


@subscriptions.command("disable")
def disable_subscription(
    subscription: Which, home: Home = HOME, dry_run: DryRun = False, yes: Yes = False, as_json: AsJson = False
) -> None:
    """Serve a subscription's services no more and refuse its certificates; content stays.

    \b
    Examples:
      entrepot host subscription disable contoso --dry-run
      entrepot host subscription disable contoso --yes
    """
    from entrepot.cloud.host.administration import HostAdministration

    host = HostAdministration(home)
    if dry_run:
        with host.foresight() as foresight:
            tell(foresight.disabling(subscription), as_json=as_json)
        return
    confirm(f"Disable {subscription}? Its clients are cut off.", yes=yes)
    row = host.disable_subscription(subscription)
    print_done(row, f"{row.name} is disabled.", as_json=as_json)


@subscriptions.command("enable")
def enable_subscription(subscription: Which, home: Home = HOME, as_json: AsJson = False) -> None:
    """Take `disable` back.

    \b
    Example:
      entrepot host subscription enable contoso
    """
    from entrepot.cloud.host.administration import HostAdministration

    row = HostAdministration(home).enable_subscription(subscription)
    print_done(row, f"{row.name} is active.", as_json=as_json)


@subscriptions.command("remove")
def remove_subscription(
    subscription: Which, home: Home = HOME, dry_run: DryRun = False, yes: Yes = False, as_json: AsJson = False
) -> None:
    """Remove a subscription that has no services.

    \b
    Examples:
      entrepot host subscription remove contoso --dry-run
      entrepot host subscription remove contoso --yes
    """
    from entrepot.cloud.host.administration import HostAdministration

    host = HostAdministration(home)
    if dry_run:
        with host.foresight() as foresight:
            tell(foresight.removal(subscription), as_json=as_json)
        return
    confirm(f"Remove {subscription} with its certificates?", yes=yes)
    row = host.remove_subscription(subscription)
    print_done({"removed": row.name, "id": row.id}, f"{row.name} is removed.", as_json=as_json)


@certificates.command("upload")
def upload_certificate(
    subscription: Which,
    certificate: Annotated[Path, typer.Argument(help="The .cer file, DER or PEM.")],
    home: Home = HOME,
    as_json: AsJson = False,
) -> None:
    """Let a further management certificate in, for instance to renew one.

    \b
    Example:
      entrepot host certificate upload contoso contoso-cloud-2027.cer
    """
    from entrepot.cloud.host.administration import HostAdministration

    row = HostAdministration(home).upload_certificate(subscription, _read_cer(certificate))
    if as_json:
        print_json(row)
    else:
        say(f"{row.name} ({row.thumbprint}) is let in until {day(row.not_after)}.")


@certificates.command("list")
def list_certificates(subscription: Which, home: Home = HOME, as_json: AsJson = False) -> None:
    """List a subscription's certificates, revoked ones too.

    \b
    Example:
      entrepot host certificate list contoso
    """
    from entrepot.cloud.host.administration import HostAdministration

    rows = HostAdministration(home).certificates(subscription)
    if as_json:
        print_json(rows)
        return
    print_rows(
        ("Name", "Expires", "Revoked", "Thumbprint"),
        [(r.name, day(r.not_after), when(r.revoked or 0), r.thumbprint) for r in rows],
        empty="No certificate. Next: entrepot host certificate upload SUBSCRIPTION FILE.cer",
    )


@certificates.command("revoke")
def revoke_certificate(
    subscription: Which,
    thumbprint: Annotated[str, typer.Argument(help="At least its first 8 digits.")],
    home: Home = HOME,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Refuse a certificate from now on, and what it opened.

    \b
    Examples:
      entrepot host certificate revoke contoso 3f2a91c0 --dry-run
      entrepot host certificate revoke contoso 3f2a91c0 --yes
    """
    from entrepot.cloud.host.administration import HostAdministration

    host = HostAdministration(home)
    if dry_run:
        with host.foresight() as foresight:
            tell(foresight.revocation(subscription, thumbprint), as_json=as_json)
        return
    confirm(f"Revoke the certificate {thumbprint}?", yes=yes)
    row = host.revoke_certificate(subscription, thumbprint)
    print_done(row, f"{row.name} ({row.thumbprint}) is revoked.", as_json=as_json)


def _read_cer(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(MAX_CER_FILE + 1)
    if len(data) > MAX_CER_FILE:
        raise BadInputError(f"{path} is too large to be a certificate.")
    return data
