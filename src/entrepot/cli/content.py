"""``entrepot content``: publish, list, distribute, delete."""

from pathlib import Path
from typing import Annotated, Final

import typer

from entrepot.cli.options import AsJson, Wait, Yes
from entrepot.cli.output import confirm, print_facts, print_json, print_rows, say, size, when, yes_no
from entrepot.cli.session import SiteSession, seg, site_session
from entrepot.cli.waiting import finish
from entrepot.cli.watching import watch_distribution
from entrepot.core.errors import NotFoundError
from entrepot.core.times import DAY
from entrepot.protocol.contentapi import (
    ContentInfo,
    ContentPatch,
    ContentRequest,
    ContentType,
    CurrentRequest,
    DistributionInfo,
    DistributionRequest,
    Priority,
    Rehearsal,
    RehearsalRequest,
    VersionRequest,
)
from entrepot.protocol.deviceapi import DownloadInfo
from entrepot.protocol.siteapi import TaskInfo

app = typer.Typer(no_args_is_help=True, help="Publish software and distribute it to distribution points.")

_REHEARSAL_SECONDS: Final = DAY
"""How long a rehearsal may take: it reads and seals the whole source."""

Content = Annotated[str, typer.Argument(help="Name or id of the content.")]
Excludes = Annotated[
    list[str] | None, typer.Option("--exclude", help="Leave out paths that match this pattern; may be repeated.")
]


@app.command()
def publish(
    ctx: typer.Context,
    source: Annotated[Path, typer.Argument(help="Folder or file, as the site server sees it.")],
    name: Annotated[str, typer.Option("--name", help="Name of the content; default: the source's name.")] = "",
    kind: Annotated[ContentType, typer.Option("--type", help="What it is (R42).")] = ContentType.PACKAGE,
    exclude: Excludes = None,
    for_windows: Annotated[bool, typer.Option(help="Refuse names that Windows cannot store.")] = False,
    isolated: Annotated[bool, typer.Option(help="Share no chunk with other content.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be stored and what clients would fetch.")
    ] = False,
    clients: Annotated[
        int, typer.Option(min=1, max=10_000_000, help="With --dry-run: add up what so many clients would fetch.")
    ] = 1,
    wait: Wait = True,
    as_json: AsJson = False,
) -> None:
    """Publish a folder or file: the first time as new content, then as its next version.

    The site reads the source, cuts it into chunks, seals each chunk and keeps it in its library. What the library
    already holds is not stored again. Distribution points are brought up to date by themselves.

    \b
    Examples:
      entrepot content publish /srv/apps/7-zip/26.01 --name 7-Zip --type application
      entrepot content publish /srv/apps/7-zip/26.02 --name 7-Zip        (the next version)
      entrepot content publish /srv/apps/office --exclude '*.log' --exclude 'cache/**' --no-wait
      entrepot content publish /srv/apps/7-zip/26.03 --name 7-Zip --dry-run --clients 5000
    """
    source = source.absolute()
    name = name or source.name
    with site_session(ctx) as session:
        if dry_run:
            asked = RehearsalRequest(
                name=name,
                source=str(source),
                excludes=tuple(exclude) if exclude else None,
                for_windows=for_windows,
                isolated=isolated,
                clients=clients,
            )
            said = session.call("POST", "/rehearsals", asked, Rehearsal, patience=_REHEARSAL_SECONDS)
            _show_rehearsal(said, as_json=as_json)
            return
        known = _find(session, name)
        if known is None:
            body = ContentRequest(
                name=name,
                source=str(source),
                type=kind,
                excludes=tuple(exclude or ()),
                for_windows=for_windows,
                isolated=isolated,
            )
            task = session.post("/contents", body, TaskInfo)
        else:
            changes = VersionRequest(source=str(source), excludes=tuple(exclude) if exclude else None)
            task = session.post(f"/contents/{seg(known.id)}/versions", changes, TaskInfo)
        finish(session, task, wait=wait, as_json=as_json)
        if wait and not as_json:
            _warn(session.get(f"/contents/{seg(task.subject)}", ContentInfo))


def _show_rehearsal(said: Rehearsal, *, as_json: bool) -> None:
    if as_json:
        print_json(said)
        return
    many = f"{said.clients} clients" if said.clients > 1 else ""
    facts = [
        ("files", str(said.files)),
        ("size", size(said.plain_size)),
        ("objects", f"{said.objects}, {said.new_objects} of them new"),
        ("the library would grow by", size(said.new_bytes)),
        ("a client without anything fetches", size(said.first_fetch)),
        (f"{many} without anything fetch" if many else "", size(said.all_first_fetch)),
    ]
    if said.current:
        facts.append((f"a client with version {said.current} fetches", f"{size(said.update_fetch)}, less with a delta"))
        facts.append((f"{many} with version {said.current} fetch" if many else "", size(said.all_update_fetch)))
    print_facts(f"{said.name} version {said.number}, not published", [fact for fact in facts if fact[0]])
    for warning in said.warnings:
        say(f"[yellow]Warning:[/] {warning}")


def _find(session: SiteSession, name: str) -> ContentInfo | None:
    try:
        return session.get(f"/contents/{seg(name)}", ContentInfo)
    except NotFoundError:
        return None


def _warn(content: ContentInfo) -> None:
    newest = max(content.versions, key=lambda version: version.number, default=None)
    if newest is None:
        return
    say(
        f"{content.name} version {newest.number}: {newest.files} files, {size(newest.plain_size)}; "
        f"the library grew by {size(newest.new_bytes)}."
    )
    for warning in newest.warnings:
        say(f"[yellow]Warning:[/] {warning}")


@app.command()
def update(
    ctx: typer.Context,
    content: Content,
    deltas: Annotated[
        int,
        typer.Option(
            min=-1, max=20, help="From how many earlier versions deltas are made; -1: as the site's setting says."
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Change a content. It applies from the next version on.

    \b
    Example:
      entrepot content update 7-Zip --deltas 5
    """
    with site_session(ctx) as session:
        changed = session.call("PATCH", f"/contents/{seg(content)}", ContentPatch(delta_versions=deltas), ContentInfo)
    if as_json:
        print_json(changed)
        return
    kept = (
        "as many versions as the site's setting says" if changed.delta_versions is None else str(changed.delta_versions)
    )
    say(f"Deltas to the next version of {changed.name} are made from the last {kept}.")


@app.command("list")
def list_contents(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List the contents of the site.

    \b
    Example:
      entrepot content list --json
    """
    with site_session(ctx) as session:
        contents = session.get("/contents", list[ContentInfo])
    if as_json:
        print_json(contents)
        return
    rows = [
        (c.name, c.type.value, c.state, str(c.current or ""), size(_current_size(c)), str(len(c.distribution)), c.id)
        for c in contents
    ]
    empty = "No content yet. Publish some: entrepot content publish PATH --name NAME"
    print_rows(("Name", "Type", "State", ">Version", ">Size", ">Points", "Id"), rows, empty=empty)


def _current_size(content: ContentInfo) -> int:
    return next((v.plain_size for v in content.versions if v.number == content.current), 0)


@app.command()
def show(ctx: typer.Context, content: Content, as_json: AsJson = False) -> None:
    """Show a content: versions, deltas, and where it is.

    \b
    Example:
      entrepot content show 7-Zip
    """
    with site_session(ctx) as session:
        info = session.get(f"/contents/{seg(content)}", ContentInfo)
    if as_json:
        print_json(info)
        return
    print_facts(
        info.name,
        (
            ("id", info.id),
            ("type", info.type.value),
            ("state", info.state),
            ("source", info.source),
            ("excludes", ", ".join(info.excludes)),
            ("for Windows", yes_no(info.for_windows)),
            ("isolated", yes_no(info.isolated)),
            ("current version", str(info.current)),
        ),
    )
    versions = [
        (
            str(v.number),
            str(v.files),
            size(v.plain_size),
            size(v.stored_size),
            size(v.new_bytes),
            ", ".join(f"from {d.from_version}: {size(d.size)}" for d in v.deltas),
            when(v.created),
        )
        for v in info.versions
    ]
    print_rows(
        (">Version", ">Files", ">Size", ">Sealed", ">New in library", "Deltas", "Published"),
        versions,
        empty="No version yet.",
    )
    print_distribution(info.distribution)


def print_distribution(rows: tuple[DistributionInfo, ...] | list[DistributionInfo]) -> None:
    """Where content is, one line a point."""
    print_rows(
        ("Content", "Point", "State", ">Version", ">Sent", "Changed", "Message"),
        [
            (
                d.content_name,
                d.point_name,
                d.state.value.replace("_", " "),
                str(d.version),
                size(d.sent_bytes),
                when(d.changed),
                d.message,
            )
            for d in rows
        ],
        empty="It is on no distribution point. Next: entrepot content distribute NAME --to POINT",
    )


@app.command()
def distribute(
    ctx: typer.Context,
    content: Content,
    to: Annotated[list[str], typer.Option("--to", help="Distribution point, on premises or cloud; may be repeated.")],
    priority: Annotated[Priority, typer.Option(help="What goes first when several wait.")] = Priority.NORMAL,
    wait: Wait = True,
    as_json: AsJson = False,
) -> None:
    """Send a content to distribution points. Only what a point lacks is sent.

    \b
    Examples:
      entrepot content distribute 7-Zip --to dp-berlin --to cloud-eu
      entrepot content distribute 7-Zip --to dp-berlin --priority high --no-wait
    """
    body = DistributionRequest(points=tuple(to), priority=priority)
    with site_session(ctx) as session:
        rows = session.post(f"/contents/{seg(content)}/distribution", body, list[DistributionInfo])
        if wait:
            rows = watch_distribution(session, content, {row.point for row in rows})
    if as_json:
        print_json(rows)
    else:
        print_distribution(rows)


@app.command()
def status(ctx: typer.Context, content: Content, wait: Wait = False, as_json: AsJson = False) -> None:
    """Show on which points a content is, and how far transfers are.

    \b
    Example:
      entrepot content status 7-Zip --wait
    """
    with site_session(ctx) as session:
        rows = session.get(f"/contents/{seg(content)}/distribution", list[DistributionInfo])
        if wait and rows:
            rows = watch_distribution(session, content, {row.point for row in rows})
    if as_json:
        print_json(rows)
    else:
        print_distribution(rows)


@app.command()
def remove(
    ctx: typer.Context,
    content: Content,
    point: Annotated[str, typer.Option("--from", help="The distribution point.")],
    yes: Yes = False,
) -> None:
    """Take a content off one distribution point; the site keeps it.

    \b
    Example:
      entrepot content remove 7-Zip --from cloud-eu
    """
    confirm(f"Remove {content} from {point}?", yes=yes)
    with site_session(ctx) as session:
        session.call("DELETE", f"/contents/{seg(content)}/distribution/{seg(point)}", None, type(None))
    say(f"{content} is being removed from {point}. Watch: entrepot content status {content}")


@app.command()
def current(
    ctx: typer.Context,
    content: Content,
    version: Annotated[int, typer.Argument(help="An existing version.")],
    as_json: AsJson = False,
) -> None:
    """Make an existing version the one that clients get: roll back, or forward again.

    \b
    Example:
      entrepot content current 7-Zip 1
    """
    with site_session(ctx) as session:
        info = session.post(f"/contents/{seg(content)}/current", CurrentRequest(version=version), ContentInfo)
    if as_json:
        print_json(info)
    else:
        say(f"Clients now get version {info.current} of {info.name}.")


@app.command()
def downloads(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List the downloads that devices have reported, and from where their bytes came.

    \b
    Example:
      entrepot content downloads
    """
    with site_session(ctx) as session:
        rows = session.get("/downloads", list[DownloadInfo])
    if as_json:
        print_json(rows)
        return
    table = [
        (
            d.device_name,
            f"{d.content} {d.version}",
            d.network,
            d.outcome,
            size(d.plain_size),
            ", ".join(f"{s.kind} {s.form}: {size(s.bytes)}" for s in d.sources),
            when(d.finished),
        )
        for d in rows
    ]
    columns = ("Device", "Content", "Network", "Outcome", ">Size", "Bytes from", "Finished")
    print_rows(columns, table, empty="No device has reported a download yet.")


@app.command()
def delete(ctx: typer.Context, content: Content, yes: Yes = False, wait: Wait = True, as_json: AsJson = False) -> None:
    """Delete a content with all its versions, from every distribution point and from the library.

    \b
    Example:
      entrepot content delete 7-Zip --yes
    """
    confirm(f"Delete {content} with all its versions, everywhere?", yes=yes)
    with site_session(ctx) as session:
        task = session.call("DELETE", f"/contents/{seg(content)}", None, TaskInfo)
        finish(session, task, wait=wait, as_json=as_json, done=f"{content} is deleted.")
