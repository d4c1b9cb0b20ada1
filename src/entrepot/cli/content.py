"""``entrepot content``: list, distribute, delete."""

import shlex
from typing import Annotated

import typer

from entrepot.cli.options import AsJson, Wait, Yes
from entrepot.cli.output import confirm, print_facts, print_json, print_rows, say, size, when, yes_no
from entrepot.cli.publishing import Content, app
from entrepot.cli.removing import DryRun, remove_or_tell
from entrepot.cli.session import seg, site_session
from entrepot.cli.uses import show_content_uses
from entrepot.cli.waiting import finish
from entrepot.cli.watching import watch_distribution
from entrepot.core.errors import ConflictError
from entrepot.protocol.contentapi import (
    ContentInfo,
    CurrentRequest,
    DistributionInfo,
    DistributionRequest,
    DistributionState,
    Priority,
    VersionInfo,
)
from entrepot.protocol.deviceapi import DownloadInfo
from entrepot.protocol.libraryapi import ContentUses
from entrepot.protocol.siteapi import TaskInfo

__all__ = ["Content", "app"]


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
    rows = []
    for c in contents:
        current = _current(c)
        held, note = (size(current.plain_size), current.note) if current else ("", "")
        places = str(len(c.distribution))
        rows.append((c.name, c.type.value, c.state, str(c.current or ""), held, places, _warned(c), note, c.id))
    empty = "No content yet. Publish some: entrepot content publish PATH --name NAME"
    print_rows(("Name", "Type", "State", ">Version", ">Size", ">Points", ">Warnings", "Note", "Id"), rows, empty=empty)


def _warned(content: ContentInfo) -> str:
    """How many warnings the current version has, and how many others have."""
    current = _current(content)
    mine = len(current.warnings) if current else 0
    others = sum(len(version.warnings) for version in content.versions) - mine
    return f"{mine} (others: {others})" if others else str(mine or "")


def _surprises(content: ContentInfo) -> dict[str, list[int]]:
    """Texts of warnings, those of the newest version first, each with the versions that it is about."""
    found: dict[str, list[int]] = {}
    for version in reversed(content.versions):
        for text in version.warnings:
            found.setdefault(text, []).insert(0, version.number)
    return found


def _current(content: ContentInfo) -> VersionInfo | None:
    return next((version for version in content.versions if version.number == content.current), None)


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
            ("source", f"what {info.source} holds" if info.unpack else info.source),
            ("excludes", ", ".join(info.excludes)),
            ("for Windows", yes_no(info.for_windows)),
            ("isolated", yes_no(info.isolated)),
            ("deltas from", "" if info.delta_versions is None else f"the last {info.delta_versions} versions"),
            ("current version", str(info.current)),
        ),
    )
    _print_versions(info)
    if info.versions:
        print_distribution(info.distribution, info.name)


def _print_versions(info: ContentInfo) -> None:
    columns = (">Version", ">Files", ">Size", ">Sealed", ">New in library", "Deltas", "Published", ">Warnings")
    rows = [
        (
            str(v.number),
            str(v.files),
            size(v.plain_size),
            size(v.stored_size),
            size(v.new_bytes),
            ", ".join(f"from {d.from_version}: {size(d.size)}" for d in v.deltas),
            when(v.created),
            str(len(v.warnings) or ""),
            _whence(info, v),
            v.note,
        )
        for v in info.versions
    ]
    print_rows((*columns, "From", "Note"), rows, empty="No version yet. What became of it: entrepot task list")
    for text, numbers in _surprises(info).items():
        of = f"version{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}"
        say(f"[yellow]Warning:[/] {of}: {text}")


def _whence(content: ContentInfo, version: VersionInfo) -> str:
    """From where and how a version came, as far as it is not as the content says."""
    origin = version.origin
    if origin is None or (origin.source, origin.unpack, origin.excludes) == (
        content.source,
        content.unpack,
        content.excludes,
    ):
        return ""
    place = f"what {origin.source} holds" if origin.unpack else origin.source
    return f"{place}, without {', '.join(origin.excludes)}" if origin.excludes else place


def print_distribution(rows: tuple[DistributionInfo, ...] | list[DistributionInfo], content: str) -> None:
    """Where a content is, one line a point."""
    print_rows(
        ("Content", "Point", "State", ">Version", ">Sent", "Changed", "Message"),
        [
            (
                d.content_name,
                d.point_name,
                _progress(d),
                str(d.version),
                size(d.sent_bytes),
                when(d.changed),
                d.message,
            )
            for d in rows
        ],
        empty=f"It is on no distribution point. Next: entrepot content distribute {shlex.quote(content)} --to POINT",
    )


def _progress(row: DistributionInfo) -> str:
    """How far a distribution is."""
    state = row.state.value.replace("_", " ")
    if row.state is not DistributionState.IN_PROGRESS or not row.total:
        return state
    return f"{state}, {size(row.done)} of {size(row.total)}"


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
        print_distribution(rows, content)


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
        print_distribution(rows, content)


@app.command()
def remove(
    ctx: typer.Context,
    content: Content,
    point: Annotated[str, typer.Option("--from", help="The distribution point.")],
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Take a content off one distribution point; the site keeps it.

    \b
    Examples:
      entrepot content remove 7-Zip --from cloud-eu --dry-run
      entrepot content remove 7-Zip --from cloud-eu --yes
    """
    remove_or_tell(
        ctx,
        f"/contents/{seg(content)}/distribution/{seg(point)}",
        f"Remove {content} from {point}?",
        done={"content": content, "removed_from": point},
        told=f"{content} is being removed from {point}. Watch: entrepot content status {content}",
        dry_run=dry_run,
        yes=yes,
        as_json=as_json,
    )


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
            f"{d.content_name or d.content} {d.version}",
            d.network,
            d.outcome,
            size(d.plain_size),
            ", ".join(f"{s.kind} {s.form}: {size(s.bytes)}" for s in d.sources),
            when(d.finished),
            d.error,
        )
        for d in rows
    ]
    columns = ("Device", "Content", "Network", "Outcome", ">Size", "Bytes from", "Finished", "Error")
    print_rows(columns, table, empty="No device has reported a download yet.")


@app.command()
def delete(
    ctx: typer.Context,
    content: Content,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what uses it and what would go.")] = False,
    yes: Yes = False,
    wait: Wait = True,
    as_json: AsJson = False,
) -> None:
    """Delete a content with all its versions, from every distribution point and from the library.

    \b
    Examples:
      entrepot content delete 7-Zip --dry-run
      entrepot content delete 7-Zip --yes
    """
    with site_session(ctx) as session:
        found = session.get(f"/contents/{seg(content)}/uses", ContentUses)
        if dry_run and as_json:
            print_json(found)
            return
        if not as_json:
            show_content_uses(found)
        if dry_run:
            return
        if found.refusals:
            raise ConflictError(
                " ".join(found.refusals),
                next_step="First: entrepot deploy remove, or entrepot task cancel.",
            )
        confirm(f"Delete {content} with all its versions, everywhere?", yes=yes)
        task = session.call("DELETE", f"/contents/{seg(content)}", None, TaskInfo)
        finish(session, task, wait=wait, as_json=as_json, done=f"{content} is deleted.")
