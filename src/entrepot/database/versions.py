"""What uses a version, and its deletion.

A version is deleted in one transaction: its row, the deltas that touch it, and a note for every point that has their
object sets; from then on nobody is sent to them. The distribution engine then takes the sets off the points, and the
library's sweep deletes the objects that nothing else needs: it counts the sets that points still have as needed.
"""

from typing import Final

from sqlalchemy import ColumnElement, Connection, and_, delete, exists, func, or_, select, update

from entrepot.core.errors import ConflictError
from entrepot.core.ids import ObjectId
from entrepot.database import deployments, distribution, formersets, pointsets, tasks
from entrepot.database.contents import Content, Version, in_use
from entrepot.database.deltasets import forget_needless
from entrepot.database.hierarchy import note_change
from entrepot.database.objectsets import drop_set
from entrepot.database.tables.content import content as contents
from entrepot.database.tables.content import content_delta as deltas
from entrepot.database.tables.content import content_version as versions
from entrepot.database.tables.devices import download
from entrepot.database.tables.library import object_ as objects
from entrepot.database.tables.library import object_set, set_object
from entrepot.database.tables.points import distribution as rows
from entrepot.database.tables.points import point as points
from entrepot.database.tables.points import point_set as sets
from entrepot.database.tasks import Task
from entrepot.protocol.contentapi import DistributionState
from entrepot.protocol.libraryapi import PointUse

_TASK_KINDS: Final = ("delta", "reseal")


def lock(connection: Connection, content: str) -> None:
    """Let nobody else change this content's versions until the transaction ends."""
    connection.execute(select(contents.c.id).where(contents.c.id == content).with_for_update())


def deployed_to(connection: Connection, content: str) -> list[str]:
    """Names of the collections to which a content is deployed."""
    return [row.collection_name for row in deployments.listed(connection) if row.content == content]


def sets_of(connection: Connection, version: Version) -> list[bytes]:
    """The object sets that exist for a version's sake: its own, the one before it was sealed anew, and those of the
    deltas from and to it."""
    touching = or_(deltas.c.from_version == version.number, deltas.c.to_version == version.number)
    found = set(connection.scalars(select(deltas.c.set_id).where(deltas.c.content == version.content, touching)))
    return sorted(bytes(set_id) for set_id in {*found, version.set_id, version.former_set_id} if set_id)


def point_uses(connection: Connection, version: Version) -> list[PointUse]:
    """Points that have, or get, a version or a delta that touches it."""
    query = (
        select(sets, points.c.name)
        .join(points, points.c.id == sets.c.point)
        .where(_sets_for(version))
        .order_by(points.c.name_key, sets.c.version, sets.c.from_version)
    )
    return [
        PointUse(
            point=row.point,
            point_name=row.name,
            version=row.version,
            from_version=row.from_version,
            state=row.state,
            retired=row.retired,
        )
        for row in connection.execute(query)
    ]


def active_tasks(connection: Connection, version: Version) -> list[Task]:
    """Tasks that work on a version: its deltas, and its sealing anew."""
    found = []
    for task in tasks.active_below(connection, _TASK_KINDS, version.content + "/"):
        numbers = task.subject.rpartition("/")[2].split("-")
        if str(version.number) in numbers:
            found.append(task)
    return found


def devices_on(connection: Connection, version: Version) -> int:
    """How many devices fetched a version after every other version of the content."""
    return devices_by_version(connection, version.content).get(version.number, 0)


def devices_by_version(connection: Connection, content: str) -> dict[int, int]:
    """How many devices have which version: that which they fetched last. Versions without any are left out."""
    later = download.alias("later")
    newer = exists().where(
        later.c.device == download.c.device,
        later.c.content == download.c.content,
        later.c.outcome == download.c.outcome,
        later.c.finished > download.c.finished,
    )
    query = (
        select(download.c.version, func.count(func.distinct(download.c.device)))
        .where(download.c.content == content, download.c.outcome == "success", ~newer)
        .group_by(download.c.version)
    )
    return {int(number): int(devices) for number, devices in connection.execute(query)}


def devices_with(connection: Connection, content: str) -> int:
    """How many devices fetched any version of a content."""
    query = select(func.count(func.distinct(download.c.device)))
    return int(
        connection.execute(query.where(download.c.content == content, download.c.outcome == "success")).scalar_one()
    )


def freed_by(connection: Connection, set_ids: list[bytes]) -> tuple[int, int]:
    """Objects and bytes of the library that nothing but these object sets needs."""
    numbers = select(object_set.c.id).join(objects, objects.c.id == object_set.c.object)
    mine = numbers.where(objects.c.object_id.in_(set_ids))
    other = set_object.alias("other")
    elsewhere = exists().where(other.c.object == objects.c.id, other.c.object_set.not_in(mine))
    inside = exists().where(set_object.c.object == objects.c.id, set_object.c.object_set.in_(mine))
    query = select(func.count(), func.coalesce(func.sum(objects.c.size), 0)).where(
        or_(and_(inside, ~elsewhere), objects.c.object_id.in_(set_ids))
    )
    number, size = connection.execute(query).one()
    return int(number), int(size)


def remove(connection: Connection, content: Content, version: Version, *, now: float) -> list[str]:
    """Delete a version with its deltas, and have points lose their sets; the points that have some.

    Raises:
        ConflictError: it is the current one.
    """
    if content.current == version.number:
        raise ConflictError(f"Version {version.number} is the current one.")
    gone = sets_of(connection, version)
    formersets.keep(connection, content.id, gone)
    touching = or_(deltas.c.from_version == version.number, deltas.c.to_version == version.number)
    connection.execute(delete(deltas).where(deltas.c.content == content.id, touching))
    forget_needless(connection, version)
    mine = and_(versions.c.content == content.id, versions.c.number == version.number)
    connection.execute(delete(versions).where(mine))
    gone = [set_id for set_id in gone if not in_use(connection, set_id)]
    holding = _begin_removals(connection, content, gone, now=now)
    _want_current_instead(connection, content, version.number)
    for set_id in gone:
        if not pointsets.somewhere(connection, set_id):
            drop_set(connection, ObjectId(set_id))
    note_change(connection)
    return holding


def _begin_removals(connection: Connection, content: Content, gone: list[bytes], *, now: float) -> list[str]:
    """Note on every point that these sets are to go, and have the engine look there."""
    touched = and_(sets.c.content == content.id, sets.c.set_id.in_(gone))
    found = list(connection.scalars(select(sets.c.point).where(touched).distinct().order_by(sets.c.point)))
    connection.execute(update(sets).where(touched).values(state=pointsets.REMOVING, changed=int(now)))
    for point in found:
        distribution.want_again(connection, content.id, point, now=now)
    return found


def _want_current_instead(connection: Connection, content: Content, number: int) -> None:
    """Rows that still name the version (cancelled, failed or being removed) name the current one from now on."""
    mine = and_(rows.c.content == content.id, rows.c.version == number)
    connection.execute(update(rows).where(mine).values(version=content.current, revision=rows.c.revision + 1))
    held = and_(rows.c.content == content.id, rows.c.held == number)
    connection.execute(update(rows).where(held).values(held=0))


def remaining(connection: Connection, content: str, number: int) -> list[tuple[str, DistributionState]]:
    """Points that have not yet lost the sets of a deleted version, with what their distribution is doing."""
    query = (
        select(points.c.name, rows.c.state)
        .join(sets, sets.c.point == points.c.id)
        .join(rows, and_(rows.c.point == sets.c.point, rows.c.content == sets.c.content))
        .where(sets.c.content == content, sets.c.state == pointsets.REMOVING)
        .where(or_(sets.c.version == number, sets.c.from_version == number))
        .distinct()
        .order_by(points.c.name)
    )
    return [(name, DistributionState(state)) for name, state in connection.execute(query)]


def earlier(connection: Connection, content: str, number: int) -> int:
    """The version before another; 0 when there is none."""
    query = select(func.max(versions.c.number)).where(versions.c.content == content, versions.c.number < number)
    return int(connection.execute(query).scalar() or 0)


def _sets_for(version: Version) -> ColumnElement[bool]:
    mine = or_(sets.c.version == version.number, sets.c.from_version == version.number)
    return and_(sets.c.content == version.content, mine)


def cancel(connection: Connection, found: list[Task], *, now: float, by: str) -> None:
    """Ask tasks to stop, in the caller's transaction; ``by``: name of the administrator who wants it."""
    for task in found:
        tasks.request_cancel(connection, task.id, now=now, by=by)
