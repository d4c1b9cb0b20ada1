"""``entrepot deploy``: content to a collection, with download options (R44)."""

from typing import Annotated

import typer

from entrepot.cli.foresight import print_quote
from entrepot.cli.options import AsJson, Yes
from entrepot.cli.output import print_json, print_rows, say, when, yes_no
from entrepot.cli.removing import DryRun, remove_or_tell
from entrepot.cli.session import SiteSession, seg, site_session
from entrepot.core.errors import EntrepotError
from entrepot.protocol.costapi import Quote, QuoteRequest
from entrepot.protocol.deviceapi import ALL_DEVICES, DeploymentInfo, DeploymentOptions, DeploymentRequest, RunMode

app = typer.Typer(no_args_is_help=True, help="Deployments: which content which devices get, and from where.")


@app.command("list")
def list_deployments(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List the deployments.

    \b
    Example:
      entrepot deploy list
    """
    with site_session(ctx) as session:
        deployments = session.get("/deployments", list[DeploymentInfo])
    if as_json:
        print_json(deployments)
    else:
        _print(deployments)


def _print(deployments: list[DeploymentInfo]) -> None:
    print_rows(
        ("Content", "Collection", "Remote points", "Fallback", "Run", "Created", "Id"),
        [
            (
                d.content_name,
                d.collection_name,
                yes_no(d.options.allow_remote),
                yes_no(d.options.allow_fallback),
                d.options.run.value,
                when(d.created),
                d.id,
            )
            for d in deployments
        ],
        empty="Nothing is deployed. Next: entrepot deploy add CONTENT",
    )


@app.command()
def add(
    ctx: typer.Context,
    content: Annotated[str, typer.Argument(help="Name or id of the content.")],
    collection: Annotated[str, typer.Option("--to", help="Name or id of the collection.")] = ALL_DEVICES,
    allow_remote: Annotated[
        bool,
        typer.Option(
            "--allow-remote/--no-remote",
            help="Download from slow or remote points, cloud points among them, when no preferred point has it.",
        ),
    ] = False,
    allow_fallback: Annotated[
        bool, typer.Option("--allow-fallback/--no-fallback", help="Download from fallback points.")
    ] = True,
    run: Annotated[RunMode, typer.Option(help="How the content is used.")] = RunMode.DOWNLOAD,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what it would send through the cloud, and cost; deploy nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Deploy a content to a collection.

    Cloud points count as remote: without --allow-remote, no device is sent to one (R32). With it, what the cloud will
    send and cost is said (see: entrepot cost quote).

    \b
    Examples:
      entrepot deploy add 7-Zip --to Laptops --allow-remote --dry-run
      entrepot deploy add 7-Zip --to Laptops --allow-remote
    """
    if dry_run:
        _preview(ctx, content, collection, allow_remote=allow_remote, as_json=as_json)
        return
    options = DeploymentOptions(allow_remote=allow_remote, allow_fallback=allow_fallback, run=run)
    body = DeploymentRequest(content=content, collection=collection, options=options)
    with site_session(ctx) as session:
        quoted = _quoted(session, content, collection) if allow_remote else ""
        made = session.post("/deployments", body, DeploymentInfo)
    if quoted:
        say(quoted)
    if as_json:
        print_json(made)
        return
    _print([made])
    for warning in made.warnings:
        say(f"[yellow]Warning:[/] {warning}")


def _quoted(session: SiteSession, content: str, collection: str) -> str:
    """What the cloud would send, and cost, in a sentence; a deployment is not held up by what cannot be told."""
    try:
        return session.post("/quotes", QuoteRequest(content=content, collection=collection), Quote).summary
    except EntrepotError as error:
        return f"What this costs is not known: {error.message}"


def _preview(ctx: typer.Context, content: str, collection: str, *, allow_remote: bool, as_json: bool) -> None:
    quote = None
    if allow_remote:
        with site_session(ctx) as session:
            quote = session.post("/quotes", QuoteRequest(content=content, collection=collection), Quote)
    if as_json:
        print_json(quote)
        return
    if quote is not None:
        print_quote(quote)
    else:
        say("Nothing comes through the cloud without --allow-remote.")
    say("Nothing was deployed.")


@app.command()
def remove(
    ctx: typer.Context,
    deployment: Annotated[str, typer.Argument(help="Id of the deployment.")],
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Remove a deployment; devices keep what they have.

    \b
    Examples:
      entrepot deploy remove dep-0123456789abcdef --dry-run
      entrepot deploy remove dep-0123456789abcdef --yes
    """
    remove_or_tell(
        ctx,
        f"/deployments/{seg(deployment)}",
        f"Remove the deployment {deployment}?",
        done={"removed": deployment},
        told=f"{deployment} is removed.",
        dry_run=dry_run,
        yes=yes,
        as_json=as_json,
    )
