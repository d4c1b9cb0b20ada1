"""``entrepot host``: the cloud host, our embedded cloud, on this machine.

Its groups change the host's own state on its own machine, while it runs or not: they are what a public cloud's portal
is, and need no network.
"""

import time
from pathlib import Path
from typing import Annotated

import typer

from entrepot.cli.host import certificate, identity, subscription
from entrepot.cli.host.home import HOME, act_as_owner, administration
from entrepot.cli.options import AsJson, Home
from entrepot.cli.output import print_facts, print_json, print_rows, say, when_noted

app = typer.Typer(no_args_is_help=True, help="The cloud host: runs cloud services on this machine.")
app.add_typer(subscription.app, name="subscription")
app.add_typer(certificate.app, name="certificate")
app.add_typer(identity.app, name="identity")


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
    service_ports: Annotated[
        str, typer.Option(help="Ports that services may have, such as 443,8443-8499; open these in the firewall.")
    ] = "443,1024-65535",
    as_json: AsJson = False,
) -> None:
    """Set up a cloud host, and print the pin by which sites recognise it.

    \b
    Example:
      entrepot host init --listen 0.0.0.0:8440 --url https://vm1.contoso.com:8440 --service-name vm1.contoso.com
      entrepot host serve
    """
    act_as_owner(home)
    from entrepot.cloud.host.setup import init_host

    made = init_host(
        home,
        listen,
        region=region,
        name=name,
        url=url,
        service_host=service_host,
        service_name=service_name,
        service_ports=service_ports,
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
    act_as_owner(home)
    from entrepot.cloud.host.settings import load_settings
    from entrepot.cloud.host.setup import host_identity

    found = host_identity(home, load_settings(home))
    coming = "" if found.rotation is None else found.rotation.pin
    if as_json:
        print_json({"url": found.url, "pin": found.pin.hex(), "home": str(home), "next_pin": coming})
    else:
        facts = (("address", found.url), ("pin (--host-pin)", found.pin.hex()), ("next pin", coming))
        print_facts(f"Cloud host in {home}", facts)


@app.command("check-config")
def check_config(home: Home = HOME, as_json: AsJson = False) -> None:
    """Check host.toml as `serve` does at its start, and show every setting that counts. Changes nothing.

    \b
    Example:
      entrepot host check-config --home /var/lib/entrepot/host
    """
    act_as_owner(home)
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
    act_as_owner(home)
    from entrepot.cloud.host.server import serve_host

    serve_host(home)


@app.command()
def audit(
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="The newest so many lines.")] = 100,
    home: Home = HOME,
    as_json: AsJson = False,
) -> None:
    """Show who changed what on this cloud host, and which orders were refused; the newest line is the last.

    \b
    Examples:
      entrepot host audit
      entrepot host audit --limit 1000 --json
    """
    lines = administration(home).audited(limit)
    if as_json:
        print_json(lines)
        return
    rows = []
    for line in lines:
        shown = [str(line.pop(name, "")) for name in ("time", "action", "actor", "subject", "outcome")]
        rows.append((when_noted(shown[0]), *shown[1:], ", ".join(f"{name} {value}" for name, value in line.items())))
    print_rows(("Time", "Action", "By", "Of", "Outcome", "Details"), rows, empty="Nothing was changed yet.")
