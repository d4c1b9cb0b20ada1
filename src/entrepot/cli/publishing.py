"""``entrepot content``: publish, rehearse, change what applies to the next version, notes."""

from pathlib import Path
from typing import Annotated

import typer

from entrepot.cli.options import AsJson, Wait
from entrepot.cli.output import print_facts, print_json, say, size
from entrepot.cli.session import SiteSession, seg, site_session
from entrepot.cli.waiting import finish, succeeded, watched
from entrepot.core.errors import BadInputError, ConflictError, NotFoundError
from entrepot.protocol.contentapi import (
    ContentInfo,
    ContentPatch,
    ContentRequest,
    ContentType,
    DeltaOutlook,
    Rehearsal,
    RehearsalRequest,
    VersionPatch,
    VersionRequest,
)
from entrepot.protocol.siteapi import TaskInfo

app = typer.Typer(no_args_is_help=True, help="Publish software and distribute it to distribution points.")

Content = Annotated[str, typer.Argument(help="Name or id of the content.")]
Excludes = Annotated[
    list[str] | None, typer.Option("--exclude", help="Leave out paths that match this pattern; may be repeated.")
]
Unpack = Annotated[
    bool | None,
    typer.Option("--unpack/--no-unpack", help="Publish what the archive holds; default: as for the version before."),
]


@app.command()
def publish(
    ctx: typer.Context,
    source: Annotated[Path, typer.Argument(help="Folder or file, as the site server sees it.")],
    name: Annotated[str | None, typer.Option("--name", help="Name of the content; default: the source's name.")] = None,
    kind: Annotated[ContentType, typer.Option("--type", help="What it is (R42).")] = ContentType.PACKAGE,
    exclude: Excludes = None,
    for_windows: Annotated[bool, typer.Option(help="Refuse names that Windows cannot store.")] = False,
    isolated: Annotated[bool, typer.Option(help="Share no chunk with other content.")] = False,
    unpack: Unpack = None,
    deltas: Annotated[
        int | None,
        typer.Option(
            min=0, max=20, help="From so many earlier versions deltas are made, for this version and later ones."
        ),
    ] = None,
    note: Annotated[str, typer.Option("--note", help="Kept with the version.")] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be stored and what clients would fetch.")
    ] = False,
    clients: Annotated[
        int | None, typer.Option(min=1, max=10_000_000, help="With --dry-run: add up what so many clients would fetch.")
    ] = None,
    wait: Wait = True,
    as_json: AsJson = False,
) -> None:
    """Publish a folder or file: the first time as new content, then as its next version.

    The site reads the source, cuts it into chunks, seals each chunk and keeps it in its library. What the library
    already holds is not stored again. Distribution points are brought up to date by themselves. With --unpack, what a
    zip, tar or Debian package holds is published instead of the archive, whose next version would share little with it.

    \b
    Examples:
      entrepot content publish /srv/apps/7-zip/26.01 --name 7-Zip --type application
      entrepot content publish /srv/apps/7-zip/26.02 --name 7-Zip --note "fixes the ARM crash"   # the next version
      entrepot content publish /srv/apps/office --exclude '*.log' --exclude 'cache/**' --no-wait
      entrepot content publish /srv/apps/tool_1.2_amd64.deb --name Tool --unpack --deltas 5
      entrepot content publish /srv/apps/7-zip/26.03 --name 7-Zip --dry-run --clients 5000
    """
    source = source.absolute()
    name = source.name if name is None else name
    if clients is not None and not dry_run:
        raise BadInputError(
            "--clients asks what clients would fetch: it goes with --dry-run, which publishes nothing.",
            next_step="Add --dry-run to ask, or leave --clients out to publish.",
        )
    excludes = tuple(exclude) if exclude else None
    with site_session(ctx) as session:
        known = _find(session, name)
        if known is not None:
            _check_settled(known, for_windows=for_windows, isolated=isolated)
        if dry_run:
            asked = RehearsalRequest(
                name=name,
                source=str(source),
                excludes=excludes,
                for_windows=for_windows,
                isolated=isolated,
                unpack=unpack,
                delta_versions=deltas,
                clients=clients or 1,
            )
            _rehearse(session, asked, wait=wait, as_json=as_json)
            return
        if known is None:
            body = ContentRequest(
                name=name,
                source=str(source),
                type=kind,
                excludes=excludes or (),
                for_windows=for_windows,
                isolated=isolated,
                delta_versions=deltas,
                unpack=bool(unpack),
                note=note,
            )
            task = session.post("/contents", body, TaskInfo)
        else:
            changes = VersionRequest(
                source=str(source), excludes=excludes, unpack=unpack, delta_versions=deltas, note=note
            )
            task = session.post(f"/contents/{seg(known.id)}/versions", changes, TaskInfo)
        finish(session, task, wait=wait, as_json=as_json)
        if wait and not as_json:
            _tell(session.get(f"/contents/{seg(task.subject)}", ContentInfo))


def _check_settled(known: ContentInfo, *, for_windows: bool, isolated: bool) -> None:
    """Options that only count for new content must not seem to count for an existing one."""
    if isolated and not known.isolated:
        raise ConflictError(
            f"{known.name} shares chunks with other content already.", next_step="Publish it under another name."
        )
    if for_windows and not known.for_windows:
        raise ConflictError(
            f"Names in {known.name} need not suit Windows.",
            next_step=f"First: entrepot content update {known.name} --for-windows",
        )


def _rehearse(session: SiteSession, asked: RehearsalRequest, *, wait: bool, as_json: bool) -> None:
    task = session.post("/rehearsals", asked, TaskInfo)
    if not wait:
        if as_json:
            print_json(task)
        else:
            say(f"Started: {task.title} ({task.id}). Then: entrepot content rehearsal {task.id}")
        return
    try:
        succeeded(watched(session, task))
    except KeyboardInterrupt:  # nobody waits for the answer: unlike a publish, it is of no use later
        session.post(f"/tasks/{seg(task.id)}/cancel", None, TaskInfo)
        say(f"Cancelled: {task.title}.")
        raise
    _show_rehearsal(session.get(f"/rehearsals/{seg(task.id)}", Rehearsal), as_json=as_json)


@app.command()
def rehearsal(
    ctx: typer.Context,
    task: Annotated[str, typer.Argument(help="Id of the task that a --dry-run with --no-wait has named.")],
    as_json: AsJson = False,
) -> None:
    """Show what a rehearsal found out, once it has ended.

    \b
    Example:
      entrepot content rehearsal task-0123456789abcdef
    """
    with site_session(ctx) as session:
        _show_rehearsal(session.get(f"/rehearsals/{seg(task)}", Rehearsal), as_json=as_json)


def _show_rehearsal(said: Rehearsal, *, as_json: bool) -> None:
    if as_json:
        print_json(said)
        return
    facts = [
        ("files", str(said.files)),
        ("size", size(said.plain_size)),
        ("chunks", f"{said.chunks}, {said.new_chunks} of them new ({size(said.new_chunk_bytes)})"),
        ("objects, the set included", f"{said.objects + 1}, {said.new_objects} of them new"),
        ("the library would grow by", size(said.new_bytes)),
        (f"each of its points ({said.points}) gets" if said.points else "", size(said.update_fetch + said.delta_size)),
        *_quoted(said),
    ]
    print_facts(f"{said.name} version {said.number}, not published", [fact for fact in facts if fact[0]])
    for warning in said.warnings:
        say(f"[yellow]Warning:[/] {warning}")


def _quoted(said: Rehearsal) -> list[tuple[str, str]]:
    """Who would fetch how much, with and without deltas."""
    many = f"{said.clients} clients" if said.clients > 1 else ""
    facts = [
        ("a client without anything fetches", size(said.first_fetch)),
        (f"{many} without anything fetch" if many else "", size(said.all_first_fetch)),
    ]
    if not said.current:
        return facts
    had = f"with version {said.current}"
    facts.append((f"a client {had} fetches", f"{size(said.update_fetch)} without a delta"))
    facts.append((f"{many} {had} fetch" if many else "", f"{size(said.all_update_fetch)} without a delta"))
    if said.delta is DeltaOutlook.UNKNOWN:
        facts.append(("delta", "not tried: the site's disk has too little room"))
    elif said.delta is DeltaOutlook.NONE:
        facts.append(("delta", "none would be made" if not said.deltas else "it would save nothing"))
    else:
        facts.append(("with a delta it fetches", size(said.delta_fetch)))
        facts.append(("with a delta they fetch" if many else "", size(said.all_delta_fetch)))
        more = f", and {said.deltas - 1} more from earlier versions" if said.deltas > 1 else ""
        facts.append(("the delta takes in the library", size(said.delta_size) + more))
    return facts


def _find(session: SiteSession, name: str) -> ContentInfo | None:
    try:
        return session.get(f"/contents/{seg(name)}", ContentInfo)
    except NotFoundError:
        return None


def _tell(content: ContentInfo) -> None:
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
        int | None,
        typer.Option(
            min=-1, max=20, help="From how many earlier versions deltas are made; -1: as the site's setting says."
        ),
    ] = None,
    source: Annotated[
        Path | None, typer.Option("--source", help="Where the next version comes from, as the site server sees it.")
    ] = None,
    exclude: Excludes = None,
    no_excludes: Annotated[bool, typer.Option("--no-excludes", help="Leave nothing out any more.")] = False,
    for_windows: Annotated[
        bool | None, typer.Option("--for-windows/--not-for-windows", help="Whether names must suit Windows.")
    ] = None,
    unpack: Annotated[
        bool | None, typer.Option("--unpack/--no-unpack", help="Publish what the archive at the source holds.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Change a content; what is left out stays. It applies from the next version on.

    \b
    Examples:
      entrepot content update 7-Zip --deltas 5
      entrepot content update Office --exclude '*.log' --exclude 'cache/**' --for-windows
    """
    if exclude and no_excludes:
        raise BadInputError("--exclude and --no-excludes contradict each other.")
    patch = ContentPatch(
        source=None if source is None else str(source.absolute()),
        excludes=tuple(exclude) if exclude else () if no_excludes else None,
        for_windows=for_windows,
        unpack=unpack,
        delta_versions=deltas,
    )
    if patch == ContentPatch():
        raise BadInputError("Nothing is to be changed.", next_step="Say what: entrepot content update --help")
    with site_session(ctx) as session:
        changed = session.call("PATCH", f"/contents/{seg(content)}", patch, ContentInfo)
    if as_json:
        print_json(changed)
        return
    count = changed.delta_versions
    say(f"{changed.name} is changed. Its next version comes from {changed.source}.")
    say(f"Deltas are made from {'as many versions as the site says' if count is None else f'the last {count}'}.")


@app.command()
def note(
    ctx: typer.Context,
    content: Content,
    version: Annotated[int, typer.Argument(help="Number of a version.", min=1)],
    text: Annotated[str, typer.Argument(help="The note; an empty one takes the present one away.")],
    as_json: AsJson = False,
) -> None:
    """Put a note on a version, in place of the one before. What a version holds never changes.

    \b
    Example:
      entrepot content note 7-Zip 2 "tested on ARM"
    """
    path = f"/contents/{seg(content)}/versions/{version}"
    with site_session(ctx) as session:
        changed = session.call("PATCH", path, VersionPatch(note=text), ContentInfo)
    if as_json:
        print_json(changed)
    else:
        say(f"Version {version} of {changed.name}: {text or 'no note any more.'}")
