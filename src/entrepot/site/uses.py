"""What uses a content, and what deleting it would mean. That of single versions: ``versions``."""

from sqlalchemy import Connection

from entrepot.core.sizes import format_size
from entrepot.database import budgets, contents, deployments, distribution, tasks, versions
from entrepot.database.budgets import Scope
from entrepot.database.contents import Content
from entrepot.database.tasks import Task
from entrepot.protocol.libraryapi import ContentUses
from entrepot.site.publishing import PUBLISH
from entrepot.site.taskinfo import task_info


def content_uses(connection: Connection, name_or_id: str) -> ContentUses:
    """What uses a content.

    Raises:
        NotFoundError: no such content.
    """
    content = contents.get_content(connection, name_or_id)
    published = contents.list_versions(connection, content.id)
    sets = sorted({set_id for version in published for set_id in versions.sets_of(connection, version)})
    freed_objects, freed_bytes = versions.freed_by(connection, sets)
    working = tasks.active_of(connection, content.id)
    deployed = tuple(row for row in deployments.listed(connection) if row.content == content.id)
    return ContentUses(
        content=content.id,
        content_name=content.name,
        versions=tuple(version.number for version in published),
        deployments=deployed,
        points=tuple(row.point_name for row in distribution.described(connection, content=content.id)),
        deltas=len(contents.list_deltas(connection, content.id)),
        tasks=tuple(task_info(task) for task in working),
        devices=versions.devices_with(connection, content.id),
        budgets=tuple(_budgets(connection, content)),
        freed_objects=freed_objects,
        freed_bytes=freed_bytes,
        refusals=tuple(_refusals(content, [(row.collection_name, row.id) for row in deployed], working)),
    )


def _budgets(connection: Connection, content: Content) -> list[str]:
    """In words: deleting the content lifts its own, and leaves the others with one critical content less."""
    found = budgets.budgets(connection)
    own = [each for each in found if each.scope is Scope.CONTENT and each.subject == content.id]
    named = [each for each in found if content.id in each.critical]
    return [
        *(f"{format_size(each.bytes)} of its own" for each in own),
        *(f"critical in that of the {each.scope.value.replace('-', ' ')} {each.subject}" for each in named),
    ]


def _refusals(content: Content, deployed: list[tuple[str, str]], working: list[Task]) -> list[str]:
    """Why it cannot be deleted now."""
    found = []
    if content.deleting:
        found.append(f"{content.name!r} is being deleted already.")
    found += [f"{content.name!r} is deployed to {collection} ({deployment})." for collection, deployment in deployed]
    if any(task.kind == PUBLISH for task in working):
        found.append(f"{content.name!r} is being published.")
    return found
