"""``entrepot alert mail|window``: how alerts are told, and when none is."""

from collections.abc import Callable
from typing import Annotated

import typer

from entrepot.cli.alert_subscriptions import Authority, Name, Types, print_delivered
from entrepot.cli.options import AsJson, PasswordFile, PasswordStdin, Yes
from entrepot.cli.output import print_done, print_facts, print_json, print_listed, say, when, yes_no
from entrepot.cli.removing import DryRun, remove_or_tell
from entrepot.cli.secrets import read_pem, read_secret
from entrepot.cli.session import seg, site_session
from entrepot.protocol.alertapi import (
    Delivered,
    MailServerInfo,
    MailServerRequest,
    MailTestRequest,
    MaintenanceWindowInfo,
    MaintenanceWindowRequest,
    Repeat,
    Security,
)

mail = typer.Typer(no_args_is_help=True, help="The mail server through which the site sends.")
windows = typer.Typer(no_args_is_help=True, help="Maintenance windows, in which no alert opens.")


@mail.command("set")
def set_mail(
    ctx: typer.Context,
    host: Annotated[str, typer.Argument(help="Name of the mail server.")],
    sender: Annotated[str, typer.Option(help="Address that mails come from.")],
    port: Annotated[int, typer.Option(min=1, max=65_535, help="Its port.")] = 587,
    security: Annotated[Security, typer.Option(help="starttls, tls or none.")] = Security.STARTTLS,
    account: Annotated[str, typer.Option(help="Account to authenticate with; its password is asked for.")] = "",
    password_file: PasswordFile = None,
    password_stdin: PasswordStdin = False,
    authority: Authority = None,
    as_json: AsJson = False,
) -> None:
    """Set the mail server. The password is sealed to the site server and never shown.

    \b
    Example:
      entrepot alert mail set smtp.contoso.com --sender entrepot@contoso.com --account entrepot
    """
    password = read_secret(f"Password of {account}", file=password_file, stdin=password_stdin) if account else None
    body = MailServerRequest(
        host=host,
        port=port,
        security=security,
        account=account,
        password=password.reveal_text() if password else "",
        sender=sender,
        authority=read_pem(authority) if authority else "",
    )
    with site_session(ctx) as session:
        info = session.call("PUT", "/mail-server", body, MailServerInfo)
    told = f"Mails go through {info.host}:{info.port}. Try it: entrepot alert mail test ADDRESS"
    print_done(info, told, as_json=as_json)


@mail.command("show")
def show_mail(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Show the mail server; not its password.

    \b
    Example:
      entrepot alert mail show
    """
    with site_session(ctx) as session:
        info = session.get("/mail-server", MailServerInfo)
    if as_json:
        print_json(info)
    elif not info.host:
        say("No mail server is set. Next: entrepot alert mail set --help")
    else:
        facts = (("security", info.security.value), ("account", info.account), ("sender", info.sender))
        print_facts(f"{info.host}:{info.port}", (*facts, ("changed", when(info.changed))))


@mail.command("test")
def test_mail(
    ctx: typer.Context,
    address: Annotated[str, typer.Argument(help="Where to send a test mail.")],
    as_json: AsJson = False,
) -> None:
    """Send a test mail now, and say what came of it.

    \b
    Example:
      entrepot alert mail test anna@contoso.com
    """
    with site_session(ctx) as session:
        print_delivered(session.post("/mail-server/test", MailTestRequest(address=address), Delivered), as_json)


@windows.command("add")
def add_window(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="A name for it.")],
    start: Annotated[str, typer.Option(help="Local time of its begin, 2026-03-23T22:00.")],
    minutes: Annotated[int, typer.Option(min=1, max=10_080, help="How long it lasts.")],
    zone: Annotated[str, typer.Option(help="Time zone, such as Europe/Berlin.")] = "UTC",
    repeat: Annotated[Repeat, typer.Option(help="never, daily or weekly.")] = Repeat.NEVER,
    cloud_point: Annotated[str, typer.Option(help="Only for this cloud point.")] = "",
    types: Types = None,
    as_json: AsJson = False,
) -> None:
    """Let no alert open for a while; what is still wrong afterwards opens then.

    \b
    Example:
      entrepot alert window add patching --start 2026-03-22T02:00 --minutes 120 --zone Europe/Berlin --repeat weekly
    """
    body = MaintenanceWindowRequest(
        name=name,
        start=start,
        minutes=minutes,
        zone=zone,
        repeat=repeat,
        cloud_point=cloud_point,
        types=tuple(types or ()),
    )
    with site_session(ctx) as session:
        info = session.post("/maintenance-windows", body, MaintenanceWindowInfo)
    print_done(info, f"In {info.name} no alert opens{': it is open now' if info.open else ''}.", as_json=as_json)


@windows.command("list")
def list_windows(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List the maintenance windows.

    \b
    Example:
      entrepot alert window list
    """
    with site_session(ctx) as session:
        found = session.get("/maintenance-windows", list[MaintenanceWindowInfo])
    columns: dict[str, Callable[[MaintenanceWindowInfo], str]] = {
        "Name": lambda one: one.name,
        "Start": lambda one: one.start,
        "Zone": lambda one: one.zone,
        ">Minutes": lambda one: str(one.minutes),
        "Repeat": lambda one: one.repeat.value,
        "Cloud point": lambda one: one.cloud_point or "all",
        "Alerts": lambda one: ", ".join(one.types) or "all",
        "Open now": lambda one: yes_no(one.open),
        "Id": lambda one: one.id,
    }
    print_listed(found, columns, as_json=as_json, empty="No maintenance window.")


@windows.command("delete")
def delete_window(
    ctx: typer.Context, name: Name, dry_run: DryRun = False, yes: Yes = False, as_json: AsJson = False
) -> None:
    """Forget a maintenance window.

    \b
    Examples:
      entrepot alert window delete patching --dry-run
      entrepot alert window delete patching --yes
    """
    remove_or_tell(
        ctx,
        f"/maintenance-windows/{seg(name)}",
        f"Forget the maintenance window {name}?",
        done={"deleted": name},
        told=f"{name} is forgotten.",
        dry_run=dry_run,
        yes=yes,
        as_json=as_json,
    )
