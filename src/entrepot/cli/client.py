"""``entrepot client``: the agent on a managed device."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from platformdirs import user_data_path
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from entrepot.cli.options import AsJson, CodeStdin, Home, Yes
from entrepot.cli.output import (
    confirm,
    print_done,
    print_facts,
    print_json,
    print_line,
    print_rows,
    say,
    size,
    when,
    yes_no,
)
from entrepot.cli.removing import DryRun, tell
from entrepot.cli.secrets import read_code
from entrepot.cli.tidings import Tidings
from entrepot.core.errors import BadInputError, EntrepotError, NotFoundError
from entrepot.core.loading import all_is_loaded
from entrepot.core.terminal import harmless
from entrepot.protocol.removalapi import Removal, counted, refused_or_not

if TYPE_CHECKING:  # loaded when a command runs: --help answers without waiting for the network libraries
    from entrepot.client.enrol import Enrolled
    from entrepot.client.fetch import FetchResult, Located
    from entrepot.client.fetching import FetchProgress

app = typer.Typer(no_args_is_help=True, help="The agent on a managed device: enrol, locate, fetch.")

HOME = user_data_path("entrepot", appauthor=False) / "client"
Content = Annotated[str, typer.Argument(help="Name or id of the content.")]
Version = Annotated[int, typer.Option(help="Version; 0 means the current one.")]
_SHOWN_ADDRESSES = 4


@app.command()
def enrol(
    home: Home = HOME,
    code: Annotated[str | None, typer.Option(help="Enrolment code from the administrator.")] = None,
    code_stdin: CodeStdin = False,
    url: Annotated[str | None, typer.Option(help="Without a code: address of the site.")] = None,
    site: Annotated[str | None, typer.Option(help="Without a code: site code.")] = None,
    fingerprint: Annotated[str | None, typer.Option(help="Without a code: fingerprint of the hierarchy root.")] = None,
    name: Annotated[str, typer.Option(help="Name of this device; default: the computer's.")] = "",
    as_json: AsJson = False,
) -> None:
    """Enrol this device at its site: with a code, or to be approved by an administrator.

    The code carries the site's address, a one-time secret and the fingerprint that the device will trust from then
    on. The secret itself is never sent.

    \b
    Examples:
      entrepot client enrol --code entrepot1.…
      entrepot client enrol --url https://site.contoso.com:8443 --site PS1 --fingerprint 5F1C-…
    """
    from entrepot.client.enrol import Invitation, enrol, from_code, from_parts

    invitation: Invitation
    code = read_code(code, stdin=code_stdin)
    if code:
        invitation = from_code(code)
    elif url and site and fingerprint:
        invitation = from_parts(url, site, fingerprint)
    else:
        raise BadInputError("Give --code, or all of --url, --site and --fingerprint.")
    _show_enrolment(asyncio.run(enrol(home, invitation, name=name)), as_json)


def _show_enrolment(enrolled: "Enrolled", as_json: bool) -> None:
    if as_json:
        print_json(enrolled)
        return
    print_facts(
        f"Device {enrolled.name}",
        (
            ("id", enrolled.device),
            ("site", enrolled.site),
            ("state", enrolled.state),
            ("key fingerprint", enrolled.fingerprint),
        ),
    )
    if enrolled.state != "approved":
        say("Next: an administrator compares the fingerprint and runs: entrepot device approve " + enrolled.name)


@app.command("check-config")
def check_config(home: Home = HOME, as_json: AsJson = False) -> None:
    """Check client.toml as every other command does, and show every setting that counts. Changes nothing.

    \b
    Example:
      entrepot client check-config
    """
    from entrepot.cli.configuration import readable, show_settings
    from entrepot.client.home import Home as ClientHome
    from entrepot.client.settings import load_settings

    settings = load_settings(home)
    readable(settings.service_ca, "service_ca")
    show_settings(ClientHome(home).settings, settings, as_json=as_json)


@app.command()
def status(home: Home = HOME, as_json: AsJson = False) -> None:
    """Show who this device is, whether it is approved, and what it has.

    \b
    Example:
      entrepot client status
    """
    from entrepot.client.enrol import check_enrolment
    from entrepot.client.home import Home as ClientHome
    from entrepot.client.trees import Trees

    enrolled = asyncio.run(check_enrolment(home))
    trees = sorted(Trees(ClientHome(home)).all(), key=lambda tree: (tree.described.name, tree.described.version))
    rows = [
        {
            "content": tree.described.content,
            "name": tree.described.name,
            "version": tree.described.version,
            "files": tree.described.files,
            "plain_size": tree.described.plain_size,
            "installed": tree.described.installed,
            "folder": str(tree.folder),
        }
        for tree in trees
    ]
    if as_json:
        print_json({"device": enrolled, "installed": rows})
        return
    _show_enrolment(enrolled, as_json=False)
    print_rows(
        ("Content", ">Version", ">Files", ">Size", "Since", "Folder"),
        [
            (
                tree.described.name,
                str(tree.described.version),
                str(tree.described.files),
                size(tree.described.plain_size),
                when(tree.described.installed),
                str(tree.folder),
            )
            for tree in trees
        ],
        empty="Nothing is here yet. Next: entrepot client fetch CONTENT",
    )


@app.command()
def policy(home: Home = HOME, as_json: AsJson = False) -> None:
    """Ask the site what this device is to do: settings and deployments.

    \b
    Example:
      entrepot client policy
    """
    from entrepot.client.session import open_session, update_policy
    from entrepot.protocol.policy import Policy

    async def ask() -> Policy:
        async with open_session(home) as session:
            return await update_policy(session)

    answer = asyncio.run(ask())
    if as_json:
        print_json(answer)
        return
    settings = answer.settings
    print_facts(
        f"Policy of {answer.device}",
        (
            ("cloud points", yes_no(settings.allow_cloud)),
            ("asks again after", f"{settings.poll_minutes} min"),
            ("cache", size(settings.cache_bytes)),
        ),
    )
    print_rows(
        ("Content", "Type", ">Version", "Deployment"),
        [(a.name, a.type, str(a.version), a.deployment) for a in answer.assignments],
        empty="Nothing is deployed to this device.",
    )


@app.command()
def locate(content: Content, home: Home = HOME, version: Version = 0, as_json: AsJson = False) -> None:
    """Ask where a content is: which sources, in which order and why; which not, and why not.

    \b
    Example:
      entrepot client locate 7-Zip
    """
    from entrepot.client.fetch import locate

    found = asyncio.run(locate(home, content, version=version))
    if as_json:
        print_json(found)
    else:
        show_located(found)


def show_located(found: "Located") -> None:
    """Tell which sources there are, and which not, and why."""
    say(f"{found.name} version {found.version}; {_judged(found)}the site sees this device on the {found.network}.")
    print_rows(
        (">", "Tier", "Source", "Why", "Address"),
        [(str(i), g.tier, g.name, g.reason, g.url) for i, g in enumerate(found.given, 1)],
        empty="No source is offered to this device.",
    )
    for withheld in found.withheld:
        say(f"Not offered: {withheld.name}: {withheld.reason}", style="dim")


def _judged(found: "Located") -> str:
    """By which addresses the site told the network; a few are enough to see why."""
    named, more = found.addresses[:_SHOWN_ADDRESSES], len(found.addresses) - _SHOWN_ADDRESSES
    return f"by {', '.join(named)}{f' and {more} more' if more > 0 else ''} " if named else ""


@app.command()
def fetch(
    content: Content,
    home: Home = HOME,
    version: Version = 0,
    to: Annotated[
        Path | None, typer.Option(help="A folder to keep the same as this version; default: below --home.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Bring a content onto this device: from its own cache, earlier versions, deltas, points, cloud, in that order.

    Everything is verified against the hierarchy's signature. A download that was interrupted goes on.

    \b
    Examples:
      entrepot client fetch 7-Zip
      entrepot client fetch 7-Zip --version 1 --to /opt/7-zip
    """
    from entrepot.client.fetch import fetch

    all_is_loaded()
    bar = _FetchBar()
    with bar.progress:
        given: list[Located] = []
        try:
            result = asyncio.run(fetch(home, content, version=version, to=to, progress=bar.show, located=given.append))
        except EntrepotError:
            bar.progress.stop()
            if given and not as_json:
                show_located(given[0])
            raise
    if as_json:
        print_json(result)
    else:
        _show_result(result)


class _FetchBar:
    """Progress on standard error: a bar, or a line now and then where that is no terminal."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TimeRemainingColumn())
        self.progress = Progress(*columns, console=console, disable=not console.is_terminal, transient=True)
        self._tidings = Tidings(console)
        self._bar: TaskID | None = None

    def show(self, state: "FetchProgress") -> None:
        """Draw one state, or tell it."""
        text = harmless(f"{state.phase} {state.source}".strip())
        self._tidings.tell(f"{text}: {size(state.done)}{f' of {size(state.total)}' if state.total else ''}")
        if self._bar is None:
            self._bar = self.progress.add_task(text, total=state.total or None)
        self.progress.update(self._bar, description=text, completed=state.done, total=state.total or None)


def _show_result(result: "FetchResult") -> None:
    show_located(result.located)
    for failure in result.failures:
        say(f"[yellow]{failure.name}[/] did not deliver ({failure.count} times): {failure.reason}")
    say(
        f"[green]✓[/] {result.name} version {result.version}: {result.files} files, {size(result.plain_size)}, "
        f"{size(result.downloaded)} downloaded in {result.duration:.1f} s"
    )
    print_rows(
        ("Came from", "As", ">Bytes", ">Requests"),
        [(used.name or used.kind, used.form, size(used.bytes), str(used.requests)) for used in result.used],
        empty="Everything was there already.",
    )
    print_line(str(result.folder))


@app.command("clear-cache")
def clear_cache(home: Home = HOME, dry_run: DryRun = False, yes: Yes = False, as_json: AsJson = False) -> None:
    """Empty the cache of sealed objects; installed contents stay.

    \b
    Examples:
      entrepot client clear-cache --dry-run
      entrepot client clear-cache --yes
    """
    from entrepot.client.cache import Cache
    from entrepot.client.home import Home as ClientHome
    from entrepot.durable.locks import HomeLock

    if not home.is_dir():
        raise NotFoundError(f"There is no folder {home}.", next_step="Give the client's folder as --home.")
    cache, lock = Cache(ClientHome(home).cache, 0), HomeLock(home, "a client's home")
    if dry_run:
        objects, held = cache.inventory()
        effects = (counted("sealed objects that are fetched again when they are needed", objects, held),)
        removal = Removal(what="cache", id=str(home), name="This device's cache", effects=effects)
        tell(refused_or_not(removal, lock.check_free), as_json=as_json)
        return
    confirm("Empty this device's cache?", yes=yes)
    with lock:
        freed = cache.clear()
    print_done({"freed": freed}, f"{size(freed)} freed.", as_json=as_json)
