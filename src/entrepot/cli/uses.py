"""``entrepot content uses``: who has a content or a version, and what deleting it would mean."""

from typing import Annotated

import typer

from entrepot.cli.options import AsJson
from entrepot.cli.output import print_facts, print_json, size
from entrepot.cli.publishing import Content
from entrepot.cli.session import seg, site_session
from entrepot.protocol.libraryapi import ContentUses, VersionUses


def uses(
    ctx: typer.Context,
    content: Content,
    version: Annotated[
        int | None, typer.Argument(help="Number of a version; default: the whole content.", min=1)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what uses a content, or one version of it: deployments, points, deltas, tasks, budgets, devices.

    \b
    Examples:
      entrepot content uses 7-Zip
      entrepot content uses 7-Zip 1
    """
    found: ContentUses | VersionUses
    path = f"/contents/{seg(content)}"
    with site_session(ctx) as session:
        if version is None:
            found = session.get(f"{path}/uses", ContentUses)
        else:
            found = session.get(f"{path}/versions/{version}/uses", VersionUses)
    if as_json:
        print_json(found)
    elif isinstance(found, ContentUses):
        show_content_uses(found)
    else:
        show_version_uses(found)


def show_content_uses(uses: ContentUses) -> None:
    """A content's uses, for people."""
    print_facts(
        uses.content_name,
        (
            ("versions", ", ".join(map(str, uses.versions))),
            ("deployed to", ", ".join(f"{each.collection_name} ({each.id})" for each in uses.deployments)),
            ("on points", ", ".join(uses.points)),
            ("deltas", str(uses.deltas or "")),
            ("tasks", ", ".join(task.title for task in uses.tasks)),
            ("budgets", ", ".join(uses.budgets)),
            ("devices that have it", str(uses.devices or "")),
            ("frees", f"{uses.freed_objects} objects, {size(uses.freed_bytes)}"),
            ("refused", "\n".join(uses.refusals)),
        ),
    )


def show_version_uses(uses: VersionUses) -> None:
    """A version's uses, for people."""
    points = sorted({use.point_name for use in uses.points})
    print_facts(
        f"{uses.content_name}, version {uses.version}",
        (
            ("deployed to", ", ".join(uses.deployments)),
            ("on points", ", ".join(points)),
            ("deltas that go with it", ", ".join(f"{d.from_version} to {d.to_version}" for d in uses.deltas)),
            ("tasks", ", ".join(task.title for task in uses.tasks)),
            ("devices that have it", str(uses.devices or "")),
            ("frees", f"{uses.freed_objects} objects, {size(uses.freed_bytes)}"),
            ("refused", uses.refusal),
            ("only with --force", "\n".join(uses.objections)),
        ),
    )
