"""``entrepot site``: a primary site server on this machine."""

import time
from pathlib import Path
from typing import Annotated

import typer

from entrepot.cli.options import AsJson, Home
from entrepot.cli.output import print_facts, print_json, print_line, say, when
from entrepot.cli.secrets import read_secret
from entrepot.cli.session import site_session
from entrepot.protocol.siteapi import SiteInfo

app = typer.Typer(no_args_is_help=True, help="A primary site server: set it up and run it.")

HOME = Path("/var/lib/entrepot/site")


@app.command()
def init(
    name: Annotated[str, typer.Option("--name", help="What people call the site.")],
    url: Annotated[str, typer.Option("--url", help="How everyone reaches it: https://host:port")],
    code: Annotated[str, typer.Option("--site", help="Site code: three capital letters or digits.")] = "PS1",
    home: Home = HOME,
    listen: Annotated[str, typer.Option(help="Address to listen on; default: that of --url.")] = "",
    hierarchy: Annotated[str, typer.Option(help="Name of the hierarchy; default: the site's name.")] = "",
    database: Annotated[
        str, typer.Option(help="postgresql://…; default: an embedded database. Passwords belong into ~/.pgpass.")
    ] = "",
    administrator: Annotated[str, typer.Option(help="Name of the first administrator.")] = "admin",
    passphrase_file: Annotated[
        Path | None, typer.Option(help="File with the passphrase that protects the root key; default: ask.")
    ] = None,
    password_file: Annotated[
        Path | None, typer.Option(help="File with the administrator's password; default: ask.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Set up a hierarchy with its first primary site.

    Makes the hierarchy's root key (protected by a passphrase: move the file offline afterwards), the role keys, the
    internal CA, the site's TLS certificate, the database and the first administrator. Whoever loses the root key or its
    passphrase can never again introduce new keys to the hierarchy.

    \b
    Example:
      entrepot site init --site PS1 --name Contoso --url https://site.contoso.com:8443
      entrepot site serve
    """
    from entrepot.site.setup import NewSite, init_site

    passphrase = read_secret(
        "Passphrase of the new root key", file=passphrase_file, confirm=True, options="--passphrase-file FILE"
    )
    password = read_secret(
        f"Password of the administrator {administrator}",
        file=password_file,
        confirm=True,
        options="--password-file FILE",
    )
    made = init_site(
        home,
        NewSite(
            code=code,
            name=name,
            url=url,
            administrator=administrator,
            password=password,
            passphrase=passphrase,
            listen=listen,
            hierarchy=hierarchy,
            database=database,
        ),
        now=time.time(),
    )
    if as_json:
        print_json(
            {"site": made.site, "url": made.url, "fingerprint": made.fingerprint, "root_key": str(made.root_key)}
        )
        return
    print_facts(
        f"Site {made.site} is set up in {made.home}",
        (("address", made.url), ("root fingerprint", made.fingerprint), ("root key", str(made.root_key))),
    )
    say(f"Next: move {made.root_key} to a safe place offline, then run: entrepot site serve --home {made.home}")
    say(f"Then: entrepot login {made.url} --fingerprint {made.fingerprint}")


@app.command()
def serve(home: Home = HOME) -> None:
    """Run the site server in the foreground until SIGTERM. Logs are JSON lines on standard error.

    \b
    Example:
      entrepot site serve --home /var/lib/entrepot/site
    """
    from entrepot.cli.wiring import cloud_providers
    from entrepot.content.spare import SPARE
    from entrepot.site.serve import serve_site
    from entrepot.site.settings import Home as SiteHome
    from entrepot.site.settings import load_settings
    from entrepot.web.server import run_process

    settings = load_settings(SiteHome(home))
    SPARE.keep()
    run_process(serve_site(home, factory=cloud_providers(settings.proxy, settings.cloud_ca)), one_heap=True)


@app.command("check-config")
def check_config(home: Home = HOME, as_json: AsJson = False) -> None:
    """Check site.toml as `serve` does at its start, and show every setting that counts. Changes nothing.

    \b
    Example:
      entrepot site check-config --home /var/lib/entrepot/site
    """
    from entrepot.cli.configuration import readable, show_settings
    from entrepot.site.settings import Home as SiteHome
    from entrepot.site.settings import load_settings

    place = SiteHome(home)
    settings = load_settings(place)
    readable(settings.cloud_ca, "cloud_ca")
    show_settings(place.settings_file, settings, as_json=as_json)


@app.command()
def fingerprint(home: Home = HOME, as_json: AsJson = False) -> None:
    """Print the root's fingerprint again, on the site server itself: for a first login, or a device without a code.

    Needs no login; the site may be serving or not.

    \b
    Example:
      entrepot site fingerprint
    """
    from entrepot.site.setup import site_made

    made = site_made(home)
    if as_json:
        print_json({"site": made.site, "url": made.url, "fingerprint": made.fingerprint})
    else:
        print_line(made.fingerprint)


@app.command()
def status(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Show the site that you are logged in to: address, root fingerprint, what it manages.

    \b
    Example:
      entrepot site status
    """
    with site_session(ctx) as session:
        info = session.get("/site", SiteInfo)
    if as_json:
        print_json(info)
        return
    counts = info.counts
    print_facts(
        f"Site {info.code}: {info.name}",
        (
            ("address", info.url),
            ("API documentation", f"{info.url}/api/docs"),
            ("version", info.version),
            ("hierarchy", info.hierarchy),
            ("root fingerprint", info.root_fingerprint),
            ("contents", str(counts.contents)),
            ("points", f"{counts.points} on premises, {counts.cloud_points} in the cloud"),
            ("devices", f"{counts.devices} ({counts.pending_devices} to approve)"),
            ("active tasks", str(counts.active_tasks)),
            ("open alerts", str(counts.open_alerts)),
            ("asked at", when(time.time())),
        ),
    )
