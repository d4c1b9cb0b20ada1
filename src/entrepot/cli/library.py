"""``entrepot library``: what the library holds, whether it is sound, and what goes."""

import sys
from typing import Annotated, Final

import typer

from entrepot.cli.options import AsJson, Wait, Yes
from entrepot.cli.output import confirm, print_facts, print_json, print_rows, say, size, when
from entrepot.cli.session import SiteSession, site_session
from entrepot.cli.waiting import finish, follow
from entrepot.core.errors import IntegrityError
from entrepot.core.sizes import parse_size
from entrepot.protocol.libraryapi import (
    ContentLibraryInfo,
    DeltasRequest,
    Fault,
    LibraryFigures,
    LibraryInfo,
    LibraryRequest,
    MissingDeltas,
    SweepPreview,
    SweepRequest,
    Validation,
)
from entrepot.protocol.siteapi import TaskInfo

app = typer.Typer(no_args_is_help=True, help="Look after the library: figures, validation, repair, sweep.")

Only = Annotated[str | None, typer.Option("--content", help="Only this content; default: everything.")]
Rate = Annotated[
    str | None, typer.Option("--rate", help="Read at most so much a second, such as 50MB; 0: as fast as it goes.")
]
LISTING_SECONDS: Final = 900.0  # a library of millions of objects, or files, on a slow disk
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be deleted.")]


@app.command()
def show(ctx: typer.Context, only: Only = None, as_json: AsJson = False) -> None:
    """Show what the library consists of, what is saved, and how sound it is.

    \b
    Examples:
      entrepot library show
      entrepot library show --content 7-Zip
    """
    with site_session(ctx) as session:
        contents = session.get("/library/contents", list[ContentLibraryInfo], content=only)
        whole = None if only else session.get("/library", LibraryInfo)
    if as_json:
        print_json(contents if whole is None else {"library": whole, "contents": contents})
        return
    if whole is not None:
        print_facts("Library", (*_facts(whole.figures, whole.validation), *_waiting(whole)))
    rows = [
        (
            each.content_name,
            str(each.figures.versions),
            size(each.figures.logical),
            size(_kept(each.figures)),
            size(each.figures.shared),
            _state(each.validation),
            when(each.validation.checked),
        )
        for each in contents
    ]
    columns = ("Content", ">Versions", ">Logical", ">Kept in all", ">Shared", "State", "Validated")
    print_rows(columns, rows, empty="Nothing is published yet. Next: entrepot content publish PATH")


def _facts(figures: LibraryFigures, validation: Validation) -> tuple[tuple[str, str], ...]:
    return (
        ("logical", f"{size(figures.logical)} in {figures.versions} versions"),
        ("unique", f"{size(figures.unique)}; dedupe saves {size(figures.saved_by_dedupe)}"),
        ("stored", f"{size(figures.stored)}; compression saves {size(figures.saved_by_compression)}"),
        ("overhead", f"{size(figures.overhead)} of manifests, deltas and sets"),
        (
            "former",
            f"{size(figures.former)} of former seals and versions, as long as points give them" * bool(figures.former),
        ),
        ("kept in all", f"{size(_kept(figures))} in {figures.objects} objects"),
        ("deltas", f"save clients {size(figures.saved_by_deltas)}" if figures.saved_by_deltas else ""),
        ("state", _state(validation)),
        ("validated", when(validation.checked)),
    )


def _kept(figures: LibraryFigures) -> int:
    """All bytes that something needs; what several contents share counts for each of them."""
    return figures.stored + figures.overhead + figures.former


def _waiting(whole: LibraryInfo) -> tuple[tuple[str, str], ...]:
    waiting = f"{whole.waiting_objects} objects, {size(whole.waiting_bytes)}" if whole.waiting_objects else ""
    held = (
        f"{whole.held_objects} objects, {size(whole.held_bytes)}, until it ends, or was done again after it broke off"
    )
    held *= bool(whole.held_objects)
    return (
        ("being published", held),
        ("to be swept", waiting),
        ("at work", ", ".join(task.title for task in whole.tasks)),
    )


def _state(validation: Validation) -> str:
    if validation.missing or validation.damaged:
        return f"{validation.missing} missing, {validation.damaged} damaged"
    if validation.state == "good":
        return "good"
    return f"validated: {validation.checked_objects} of {validation.objects} objects"


@app.command()
def validate(
    ctx: typer.Context, only: Only = None, rate: Rate = None, wait: Wait = True, as_json: AsJson = False
) -> None:
    """Read every object again and compare it with its id. What was killed goes on where it was.

    Ends with exit code 8 when something is missing or damaged.

    \b
    Examples:
      entrepot library validate
      entrepot library validate --content 7-Zip --rate 0
    """
    with site_session(ctx) as session:
        task = session.post("/library/validate", _request(only, rate), TaskInfo)
        if not wait:
            finish(session, task, wait=False, as_json=as_json)
            return
        task = follow(session, task)
        if as_json:
            print_json(task)
        _refuse_damage(session, only)
        if not as_json:
            say(f"[green]✓[/] {task.message}")


def _request(only: str | None, rate: str | None) -> LibraryRequest:
    return LibraryRequest(content=only, rate=None if rate is None else parse_size(rate))


def _refuse_damage(session: SiteSession, only: str | None) -> None:
    if only is None:
        found = session.get("/library", LibraryInfo).validation
    else:
        found = session.get("/library/contents", list[ContentLibraryInfo], content=only)[0].validation
    if found.missing or found.damaged:
        raise IntegrityError(
            f"{found.missing} objects are missing, {found.damaged} are damaged.",
            next_step="See: entrepot library faults; then: entrepot library repair",
        )


@app.command()
def faults(ctx: typer.Context, only: Only = None, as_json: AsJson = False) -> None:
    """List objects that are missing or damaged, with what needs them (1,000 at most).

    \b
    Example:
      entrepot library faults
    """
    with site_session(ctx) as session:
        found = session.get("/library/faults", list[Fault], content=only, limit=1000)
    if as_json:
        print_json(found)
        return
    rows = [
        (
            each.object_id[:16],
            each.kind,
            size(each.size),
            each.verdict,
            ", ".join(each.needed_by) or "nothing: a sweep deletes it",
            when(each.checked),
        )
        for each in found
    ]
    columns = ("Object", "Kind", ">Size", "Verdict", "Needed by", "Looked at")
    print_rows(columns, rows, empty="Nothing is known to be wrong. To look: entrepot library validate")


@app.command()
def repair(
    ctx: typer.Context, only: Only = None, rate: Rate = None, wait: Wait = True, as_json: AsJson = False
) -> None:
    """Bring back what validation found missing or damaged.

    Chunks are made again from the source folder, if it still has the same bytes; the rest is fetched from distribution
    points, those on premises first. What is left may come out when the source is read again as a whole; deltas
    that are damaged, or missing, are made anew. Whatever comes is verified. What points and clouds send keeps
    to the rate of validations.

    \b
    Examples:
      entrepot library repair
      entrepot library repair --content 7-Zip --rate 1MB
    """
    with site_session(ctx) as session:
        task = session.post("/library/repair", _request(only, rate), TaskInfo)
        finish(session, task, wait=wait, as_json=as_json)


@app.command()
def deltas(
    ctx: typer.Context,
    only: Only = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list them.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make the deltas that are missing: from the last versions of each content to its current one.

    Missing is what was neither made nor found to save nothing, for instance because there was no room, its task was
    cancelled, or more are wanted since. Until then clients fetch whole objects.

    \b
    Examples:
      entrepot library deltas --dry-run
      entrepot library deltas --content 7-Zip
    """
    with site_session(ctx) as session:
        if dry_run:
            found = session.get("/library/deltas", MissingDeltas, content=only)
        else:
            found = session.post("/library/deltas", DeltasRequest(content=only), MissingDeltas)
    if as_json:
        print_json(found)
        return
    rows = [(each.content_name, str(each.from_version), str(each.to_version), each.content) for each in found.deltas]
    print_rows(("Content", ">From", ">To", "Id"), rows, empty="No delta is missing.")
    if len(rows) < found.missing:
        say(f"{found.missing} are missing; only the first {len(rows)} are listed.")
    if dry_run:
        say("Nothing was changed.")
    elif found.missing:
        say(f"{found.tasks} tasks were started. Watch: entrepot task list --kind delta")


@app.command()
def sweep(
    ctx: typer.Context,
    dry_run: DryRun = False,
    now: Annotated[
        bool, typer.Option("--now", help="Delete at once; otherwise an hour after something was found unneeded.")
    ] = False,
    strays: Annotated[
        bool, typer.Option("--strays", help="Also delete files that the database does not know (after a restore).")
    ] = False,
    yes: Yes = False,
    wait: Wait = True,
    as_json: AsJson = False,
) -> None:
    """Delete from the library what no version, delta or distribution point needs. The site also does so by itself.

    \b
    Examples:
      entrepot library sweep --dry-run
      entrepot library sweep --now --yes
      entrepot library sweep --strays --dry-run
    """
    with site_session(ctx) as session:
        if dry_run:
            _show_preview(_preview(session, strays=strays), as_json=as_json)
            return
        asks = sys.stdin.isatty() and not yes
        confirm(_question(_preview(session) if asks else None, now=now, strays=strays), yes=yes)
        task = session.post("/library/sweep", SweepRequest(now=now, strays=strays), TaskInfo)
        finish(session, task, wait=wait, as_json=as_json)


def _preview(session: SiteSession, *, strays: bool = False) -> SweepPreview:
    path = "/library/sweep?strays=true" if strays else "/library/sweep"
    return session.call("GET", path, None, SweepPreview, patience=LISTING_SECONDS)


def _question(found: SweepPreview | None, *, now: bool, strays: bool) -> str:
    """With figures, where there is somebody to read them."""
    what = "what nothing needs" if found is None else _unneeded(found, now=now)
    return f"Delete {what}{', and files that the database does not know,' if strays else ''} from the library?"


def _unneeded(found: SweepPreview, *, now: bool) -> str:
    due, later = found.due_objects, f"{found.later_objects} more ({size(found.later_bytes)})"
    if now:
        return f"{due + found.later_objects} objects ({size(found.due_bytes + found.later_bytes)}) that nothing needs"
    what = f"{due} objects ({size(found.due_bytes)}) that nothing needs"
    return f"{what}, in an hour {later}" if found.later_objects else what


def _show_preview(found: SweepPreview, *, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    print_facts(
        "A sweep would delete",
        (
            ("at once", f"{found.due_objects} objects, {size(found.due_bytes)}"),
            ("after an hour, or with --now", f"{found.later_objects} objects, {size(found.later_bytes)}"),
            ("sets nobody needs", str(found.unused_sets)),
            ("lapsed sessions", str(found.lapsed_sessions)),
            ("files that nobody knows", _strays(found)),
        ),
    )
    say("Nothing was deleted.")


def _strays(found: SweepPreview) -> str:
    if found.stray_objects is None:
        return "only with --strays: then they are counted, too"
    return f"{found.stray_objects} objects, {size(found.stray_bytes or 0)}"
