"""``entrepot alert subscription``: who is told of alerts."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from entrepot.cli.options import AsJson, Yes
from entrepot.cli.output import print_done, print_listed, when
from entrepot.cli.removing import DryRun, remove_or_tell
from entrepot.cli.secrets import read_pem, read_secret
from entrepot.cli.session import seg, site_session
from entrepot.core.errors import BadInputError
from entrepot.protocol.alertapi import (
    AlertSubscriptionChange,
    AlertSubscriptionInfo,
    AlertSubscriptionRequest,
    Channel,
    Delivered,
    Language,
    Severity,
)

subscriptions = typer.Typer(no_args_is_help=True, help="Who is told of alerts, by mail or by webhook.")

Name = Annotated[str, typer.Argument(help="Name or id.")]
Types = Annotated[list[str] | None, typer.Option("--type", help="Only this type of alert; may be repeated.")]
Severities = Annotated[list[Severity] | None, typer.Option("--severity", help="Only this severity; may be repeated.")]
Authority = Annotated[Path | None, typer.Option(help="PEM file: trusted besides the public authorities.")]


@subscriptions.command("add")
def add_subscription(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="A name for it.")],
    to: Annotated[str, typer.Option("--to", help="Mail addresses separated by semicolons, or an https:// address.")],
    language: Annotated[Language, typer.Option(help="Language of the messages.")] = Language.ENGLISH,
    types: Types = None,
    severity: Severities = None,
    digest: Annotated[int, typer.Option(min=0, max=1440, help="Gather for so many minutes; 0: at once.")] = 0,
    secret_file: Annotated[Path | None, typer.Option(help="File with the secret that signs webhooks.")] = None,
    private_networks: Annotated[
        bool, typer.Option("--private-networks", help="The webhook may lead to private addresses.")
    ] = False,
    authority: Authority = None,
    as_json: AsJson = False,
) -> None:
    """Tell somebody of alerts that open, open again or close.

    \b
    Examples:
      entrepot alert subscription add operators --to 'ops@contoso.com; anna@contoso.com' --language de
      entrepot alert subscription add pager --to https://hooks.contoso.com/entrepot --severity critical \\
        --secret-file hook.secret
    """
    webhook = to.strip().lower().startswith("https://")
    asked = (
        read_secret("Secret that signs the webhook", file=secret_file, options="--secret-file FILE")
        if webhook
        else None
    )
    secret = asked.reveal_text() if asked else ""
    body = AlertSubscriptionRequest(
        name=name,
        channel=Channel.WEBHOOK if webhook else Channel.MAIL,
        target=to,
        language=language,
        types=tuple(types or ()),
        severities=tuple(severity or ()),
        digest_minutes=digest,
        secret=secret,
        private_networks=private_networks,
        authority=read_pem(authority) if authority else "",
    )
    with site_session(ctx) as session:
        info = session.post("/alert-subscriptions", body, AlertSubscriptionInfo)
    told = f"{info.name} is told from now on. Try it: entrepot alert subscription test {info.name}"
    if info.error:
        told = f"{info.name} is kept, and not told yet. {info.error}"
    print_done(info, told, as_json=as_json)


@subscriptions.command("change")
def change_subscription(
    ctx: typer.Context,
    name: Name,
    rename: Annotated[str | None, typer.Option(help="Another name for it.")] = None,
    to: Annotated[
        str | None, typer.Option("--to", help="Mail addresses separated by semicolons, or the https:// address.")
    ] = None,
    language: Annotated[Language | None, typer.Option(help="Language of the messages.")] = None,
    types: Types = None,
    severity: Severities = None,
    every: Annotated[bool, typer.Option("--all", help="All types and severities, but for what is named here.")] = False,
    digest: Annotated[int | None, typer.Option(min=0, max=1440, help="Gather for so many minutes; 0: at once.")] = None,
    secret_file: Annotated[Path | None, typer.Option(help="File with a new secret that signs webhooks.")] = None,
    private_networks: Annotated[
        bool | None,
        typer.Option("--private-networks/--no-private-networks", help="The webhook may lead to private addresses."),
    ] = None,
    authority: Authority = None,
    no_authority: Annotated[bool, typer.Option("--no-authority", help="Trust the public authorities alone.")] = False,
    as_json: AsJson = False,
) -> None:
    """Change a subscription. What is not named stays as it is, also a webhook's secret.

    What waits is delivered to where it leads then; what could not be delivered before is tried again at once.

    \b
    Examples:
      entrepot alert subscription change operators --to 'ops@contoso.com; ben@contoso.com'
      entrepot alert subscription change pager --all --severity critical --secret-file hook.secret
    """
    if authority and no_authority:
        raise BadInputError("--authority and --no-authority contradict each other.")
    secret = read_secret("", file=secret_file, options="--secret-file FILE").reveal_text() if secret_file else None
    body = AlertSubscriptionChange(
        name=rename,
        target=to,
        language=language,
        types=tuple(types or ()) if types or every else None,
        severities=tuple(severity or ()) if severity or every else None,
        digest_minutes=digest,
        secret=secret,
        private_networks=private_networks,
        authority=read_pem(authority) if authority else "" if no_authority else None,
    )
    if body == AlertSubscriptionChange():
        raise BadInputError("Nothing was named to change.", next_step="Run: entrepot alert subscription change --help")
    with site_session(ctx) as session:
        info = session.call("PATCH", f"/alert-subscriptions/{seg(name)}", body, AlertSubscriptionInfo)
    told = f"{info.name} is changed. Try it: entrepot alert subscription test {info.name}"
    print_done(info, told, as_json=as_json)


@subscriptions.command("list")
def list_subscriptions(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List who is told, and whether messages reach them.

    \b
    Example:
      entrepot alert subscription list
    """
    with site_session(ctx) as session:
        found = session.get("/alert-subscriptions", list[AlertSubscriptionInfo])
    columns: dict[str, Callable[[AlertSubscriptionInfo], str]] = {
        "Name": lambda one: one.name,
        "To": lambda one: one.target,
        "Language": lambda one: one.language.value,
        "Alerts": lambda one: ", ".join((*one.types, *(severity.value for severity in one.severities))) or "all",
        ">Digest": lambda one: f"{one.digest_minutes} min" if one.digest_minutes else "",
        "Delivered": lambda one: when(one.delivered),
        ">Waiting": lambda one: str(one.waiting),
        ">Given up": lambda one: str(one.failed),
        "Problem": lambda one: one.error,
        "Id": lambda one: one.id,
    }
    nobody = "Nobody is told of alerts. Next: entrepot alert subscription add --help"
    print_listed(found, columns, as_json=as_json, empty=nobody)


@subscriptions.command("test")
def test_subscription(ctx: typer.Context, name: Name, as_json: AsJson = False) -> None:
    """Deliver a test message now, and say what came of it.

    \b
    Example:
      entrepot alert subscription test operators
    """
    with site_session(ctx) as session:
        print_delivered(session.post(f"/alert-subscriptions/{seg(name)}/test", None, Delivered), as_json)


@subscriptions.command("delete")
def delete_subscription(
    ctx: typer.Context, name: Name, dry_run: DryRun = False, yes: Yes = False, as_json: AsJson = False
) -> None:
    """Tell somebody no longer; what waits for them is dropped.

    \b
    Examples:
      entrepot alert subscription delete operators --dry-run
      entrepot alert subscription delete operators --yes
    """
    remove_or_tell(
        ctx,
        f"/alert-subscriptions/{seg(name)}",
        f"Tell {name} no longer?",
        done={"deleted": name},
        told=f"{name} is told no longer.",
        dry_run=dry_run,
        yes=yes,
        as_json=as_json,
    )


def print_delivered(delivered: Delivered, as_json: bool) -> None:
    """That a test message was taken."""
    told = f"The test message for {delivered.target} was taken. {delivered.detail}".strip()
    print_done(delivered, told, as_json=as_json)
