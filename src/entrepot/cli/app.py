"""The command tree."""

from typing import Annotated

import typer

from entrepot import __version__
from entrepot.cli import (
    alert,
    alert_delivery,
    boundary,
    budget,
    certificate,
    client,
    cloudcare,
    collection,
    content,
    cost,
    deploy,
    device,
    gateway,
    host,
    key,
    library,
    login,
    plan,
    point,
    point_local,
    settings,
    site,
    task,
    versions,
)
from entrepot.cli.demo import command as demo_command

app = typer.Typer(
    name="entrepot",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Distributes software content to managed devices, on premises and through the cloud.",
    epilog="First steps: `entrepot demo` shows everything on this machine; README.md explains it.",
)

ADMINISTRATION = "Administration, through the site's API from any machine"
ROLES = "Roles on this machine"

app.command(rich_help_panel=ADMINISTRATION)(login.login)
app.command(rich_help_panel=ADMINISTRATION)(login.logout)
for _name, _group in (
    ("content", content.app),
    ("library", library.app),
    ("cloud", cloudcare.app),
    ("point", point.app),
    ("boundary", boundary.app),
    ("device", device.app),
    ("collection", collection.app),
    ("deploy", deploy.app),
    ("settings", settings.app),
    ("certificate", certificate.app),
    ("key", key.app),
    ("alert", alert.app),
    ("cost", cost.app),
    ("budget", budget.app),
    ("task", task.app),
):
    app.add_typer(_group, name=_name, rich_help_panel=ADMINISTRATION)
for _name, _group in (
    ("site", site.app),
    ("host", host.app),
    ("gateway", gateway.app),
    ("client", client.app),
):
    app.add_typer(_group, name=_name, rich_help_panel=ROLES)
alert.app.add_typer(alert_delivery.subscriptions, name="subscription")
alert.app.add_typer(alert_delivery.mail, name="mail")
alert.app.add_typer(alert_delivery.windows, name="window")
app.command(rich_help_panel=ADMINISTRATION)(plan.plan)
point.app.command("init")(point_local.init)
point.app.command("serve")(point_local.serve)
point.app.command("validate")(versions.validate_point)
for _command in (
    versions.compare,
    versions.rollback,
    versions.history,
    versions.delete_version,
    versions.redistribute,
    versions.cancel_distribution,
):
    content.app.command()(_command)
app.command(rich_help_panel=ROLES)(demo_command.demo)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"entrepot {__version__}")
        raise typer.Exit


@app.callback()
def root(
    site: Annotated[
        str | None,
        typer.Option(envvar="ENTREPOT_SITE", help="Address of the site to talk to; default: of the last login."),
    ] = None,
    show_version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Distributes software content to managed devices, on premises and through the cloud."""
