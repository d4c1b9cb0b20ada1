"""``entrepot content …``: single versions, and distributions that are sent anew or cancelled; ``entrepot point
validate``."""

from typing import Annotated

import typer

from entrepot.cli.content import Content, print_distribution
from entrepot.cli.options import AsJson, Wait, Yes
from entrepot.cli.output import confirm, print_facts, print_json, print_rows, say, size, when
from entrepot.cli.session import SiteSession, seg, site_session
from entrepot.cli.uses import show_version_uses
from entrepot.cli.waiting import finish
from entrepot.cli.watching import watch_distribution
from entrepot.core.errors import ConflictError, IntegrityError
from entrepot.core.sizes import parse_size
from entrepot.protocol.contentapi import ContentInfo, CurrentRequest, DistributionInfo, DistributionRequest, Priority
from entrepot.protocol.libraryapi import (
    Comparison,
    ContentEvent,
    PointValidationRequest,
    SetValidation,
    VersionUses,
)
from entrepot.protocol.siteapi import TaskInfo

Number = Annotated[int, typer.Argument(help="Number of a version.", min=1)]
To = Annotated[list[str], typer.Option("--to", help="Distribution point, on premises or cloud; may be repeated.")]
Rate = Annotated[
    str | None, typer.Option("--rate", help="Read at most so much a second, such as 50MB; 0: as fast as it goes.")
]


def compare(
    ctx: typer.Context,
    content: Content,
    old: Number,
    new: Number,
    limit: Annotated[int, typer.Option(help="Show so many differences at most.", min=1, max=10_000)] = 100,
    after: Annotated[str, typer.Option(help="Go on after this path.")] = "",
    as_json: AsJson = False,
) -> None:
    """Compare two versions: what was added, changed, removed and moved, and what a client on the older one fetches.

    Files are told apart by their digests: where only one version is from before these were BLAKE3, all are changed.

    \b
    Example:
      entrepot content compare 7-Zip 1 2
    """
    with site_session(ctx) as session:
        path = f"/contents/{seg(content)}/comparison"
        found = session.get(path, Comparison, old=old, new=new, limit=limit, after=after or None)
    if as_json:
        print_json(found)
        return
    rows = [
        (
            each.change.value,
            each.path + (f"  (was {each.old_path})" if each.old_path else ""),
            size(each.old_size) if each.old_size else "",
            size(each.new_size) if each.new_size else "",
        )
        for each in found.differences
    ]
    print_rows(("Change", "Path", ">Before", ">After"), rows, empty="No path differs.")
    if found.more:
        say(f"There are more; the next page: --after {found.differences[-1].path!r}")
    print_facts(
        f"Version {old} to {new}",
        (
            ("added", str(found.added)),
            ("changed", str(found.changed)),
            ("removed", str(found.removed)),
            ("moved", str(found.moved)),
            ("same", str(found.same)),
            ("a client fetches", size(found.fetch_bytes)),
            ("with the delta", size(found.delta_bytes) if found.has_delta else ""),
        ),
    )
    if found.remark:
        say(f"[yellow]Remark:[/] {found.remark}")


def rollback(
    ctx: typer.Context,
    content: Content,
    to: Annotated[int | None, typer.Option("--to", help="The version; default: the one before.", min=1)] = None,
    note: Annotated[str, typer.Option("--note", help="Why; kept in the content's history.")] = "",
    as_json: AsJson = False,
) -> None:
    """Make an earlier version the one that clients get. Nothing is deleted; publishing goes on with new numbers.

    \b
    Examples:
      entrepot content rollback 7-Zip --note "26.02 crashes on ARM"
      entrepot content rollback 7-Zip --to 1
    """
    with site_session(ctx) as session:
        if to is None:
            info = session.get(f"/contents/{seg(content)}", ContentInfo)
            earlier = [version.number for version in info.versions if version.number < info.current]
            if not earlier:
                raise ConflictError(f"{info.name} has no version before {info.current}.")
            to = max(earlier)
        body = CurrentRequest(version=to, note=note)
        info = session.post(f"/contents/{seg(content)}/current", body, ContentInfo)
    if as_json:
        print_json(info)
    else:
        say(f"Clients now get version {info.current} of {info.name}.")


def history(ctx: typer.Context, content: Content, as_json: AsJson = False) -> None:
    """Show which versions were made current or deleted, by whom and when.

    \b
    Example:
      entrepot content history 7-Zip
    """
    with site_session(ctx) as session:
        events = session.get(f"/contents/{seg(content)}/history", list[ContentEvent])
    if as_json:
        print_json(events)
        return
    rows = [
        (when(e.at), e.event.replace("_", " "), str(e.version), str(e.previous or ""), e.by, e.note) for e in events
    ]
    empty = "No version was rolled back or deleted yet."
    print_rows(("When", "Event", ">Version", ">Before", "By", "Note"), rows, empty=empty)


def delete_version(
    ctx: typer.Context,
    content: Content,
    version: Number,
    force: Annotated[
        bool, typer.Option("--force", help="Also while clients may be fetching it, or a task works on it.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what uses it and what would go.")] = False,
    yes: Yes = False,
    wait: Wait = True,
    as_json: AsJson = False,
) -> None:
    """Delete one version for ever, from every distribution point and from the library. The current one is kept.

    \b
    Examples:
      entrepot content delete-version 7-Zip 1 --dry-run
      entrepot content delete-version 7-Zip 1 --yes
    """
    with site_session(ctx) as session:
        path = f"/contents/{seg(content)}/versions/{version}"
        uses = session.get(f"{path}/uses", VersionUses)
        if dry_run and as_json:
            print_json(uses)
            return
        if not as_json:
            show_version_uses(uses)
        if dry_run:
            return
        if uses.refusal:
            raise ConflictError(uses.refusal, next_step="First: entrepot content rollback, or content delete.")
        confirm(f"Delete version {version} of {uses.content_name} for ever?", yes=yes)
        task = session.call("DELETE", f"{path}?force={'true' if force else 'false'}", None, TaskInfo)
        finish(session, task, wait=wait, as_json=as_json)


def redistribute(
    ctx: typer.Context,
    content: Content,
    to: To,
    priority: Annotated[Priority, typer.Option(help="What goes first when several wait.")] = Priority.NORMAL,
    wait: Wait = True,
    as_json: AsJson = False,
) -> None:
    """Send everything of a content again, even what a point says it has; what is damaged there is replaced.

    \b
    Example:
      entrepot content redistribute 7-Zip --to dp-berlin
    """
    body = DistributionRequest(points=tuple(to), priority=priority)
    with site_session(ctx) as session:
        rows = session.post(f"/contents/{seg(content)}/redistribute", body, list[DistributionInfo])
        if wait:
            rows = watch_distribution(session, content, {row.point for row in rows})
    if as_json:
        print_json(rows)
    else:
        print_distribution(rows, content)


def cancel_distribution(
    ctx: typer.Context,
    content: Content,
    point: Annotated[str, typer.Option("--to", help="The distribution point.")],
    as_json: AsJson = False,
) -> None:
    """Stop sending a content to a distribution point. What has arrived stays; distribute it again to go on.

    \b
    Example:
      entrepot content cancel-distribution 7-Zip --to dp-berlin
    """
    with site_session(ctx) as session:
        session.call("POST", f"/contents/{seg(content)}/distribution/{seg(point)}/cancel", None, type(None))
        rows = session.get(f"/contents/{seg(content)}/distribution", list[DistributionInfo])
    rows = [row for row in rows if point in (row.point, row.point_name)]
    if as_json:
        print_json(rows)
    else:
        print_distribution(rows, content)


def validate_point(
    ctx: typer.Context,
    point: Annotated[str, typer.Argument(help="Name or id of the distribution point.")],
    content: Annotated[str | None, typer.Option("--content", help="Only this content; default: everything.")] = None,
    repair: Annotated[bool, typer.Option("--repair", help="Send again what is missing or damaged.")] = False,
    rate: Rate = None,
    wait: Wait = True,
    as_json: AsJson = False,
) -> None:
    """Have a distribution point, on premises or in the cloud, read its objects again and compare them with their ids.

    \b
    Examples:
      entrepot point validate dp-berlin
      entrepot point validate dp-berlin --content 7-Zip --repair
    """
    body = PointValidationRequest(content=content, repair=repair, rate=None if rate is None else parse_size(rate))
    with site_session(ctx) as session:
        task = session.post(f"/points/{seg(point)}/validate", body, TaskInfo)
        finish(session, task, wait=wait, as_json=as_json)
        if wait:
            _judge(session, point, content, as_json=as_json)


def _judge(session: SiteSession, point: str, content: str | None, *, as_json: bool) -> None:
    found = session.get(f"/points/{seg(point)}/validation", list[SetValidation], content=content)
    if not as_json:
        rows = [
            (
                each.content_name,
                f"{each.from_version} to {each.version}" if each.from_version else str(each.version),
                str(each.missing),
                str(each.damaged),
                when(each.checked),
            )
            for each in found
        ]
        columns = ("Content", "Version", ">Missing", ">Damaged", "Validated")
        print_rows(columns, rows, empty="The point has nothing whole yet.")
    if any(each.missing or each.damaged for each in found):
        raise IntegrityError(
            f"Objects on {point} are missing or damaged.", next_step=f"Next: entrepot point validate {point} --repair"
        )
