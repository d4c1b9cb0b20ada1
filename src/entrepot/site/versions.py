"""The use cases of single versions: make one current, see what uses one, delete one.

A version cannot be deleted while it is the current one: deployments give it to clients. It is deleted with ``force``
only while a point has it for clients whose tokens may still name it, or while a task works on it. Deleting takes
effect at once and for ever (its number is never given again); the task that follows waits until points have lost it.
"""

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec
from sqlalchemy import Connection

from entrepot.core.errors import ConflictError
from entrepot.core.times import Clock
from entrepot.database import contents, distribution, history, tasks, versions
from entrepot.database.contents import Content, Version
from entrepot.database.engine import Database
from entrepot.database.tasks import Task
from entrepot.protocol.contentapi import ContentInfo, CurrentRequest, DeltaInfo, DistributionState
from entrepot.protocol.libraryapi import ContentEvent, PointUse, VersionUses
from entrepot.site.acting import behalf
from entrepot.site.contents import kept_content
from entrepot.site.describing import described
from entrepot.site.publishing import ask_for_delta
from entrepot.site.reporting import Reporter
from entrepot.site.sending import RETIRED_SECONDS
from entrepot.site.taskinfo import task_info

DELETE_VERSION: Final = "version-delete"
_LOOK_SECONDS: Final = 0.5
_WILL_GO: Final = (
    DistributionState.PENDING,
    DistributionState.IN_PROGRESS,
    DistributionState.RETRYING,
    DistributionState.SUCCESS,
    DistributionState.REMOVING,
    DistributionState.REMOVAL_RETRYING,
)


class DeletedVersion(msgspec.Struct, frozen=True, kw_only=True):
    """Payload of a version-delete task."""

    content: str
    number: int
    freed_bytes: int


class Versions:
    """What administrators do with single versions.

    Args:
        site: site code.
        deltas_kept: from how many earlier versions deltas are made, where the content does not say; 0: none.
        work: called after work was added: wakes the task engine and the distribution engine.
    """

    def __init__(
        self, database: Database, *, site: str, clock: Clock, deltas_kept: int, work: Callable[[], None]
    ) -> None:
        self._database = database
        self._site = site
        self._clock = clock
        self._deltas_kept = deltas_kept
        self._work = work

    async def set_current(self, name_or_id: str, request: CurrentRequest, *, by: str) -> ContentInfo:
        """Make another version the current one, and want it on every point. Nothing happens when it is already.

        Clients that have the version before it get a delta as soon as there is one.

        Raises:
            NotFoundError: no such content or version.
            ConflictError: the content is being deleted.
        """
        info = await self._database.write(self._set_current, name_or_id, request, by)
        self._work()
        return info

    def _set_current(self, connection: Connection, name_or_id: str, request: CurrentRequest, by: str) -> ContentInfo:
        now = self._clock()
        content = kept_content(connection, name_or_id)
        versions.lock(connection, content.id)
        content = kept_content(connection, content.id)
        contents.get_version(connection, content.id, request.version)
        if content.current != request.version:
            contents.set_current(connection, content.id, request.version)
            history.note(
                connection,
                content,
                history.MADE_CURRENT,
                version=request.version,
                previous=content.current,
                now=now,
                by=by,
                text=request.note,
            )
            self._want_delta(connection, content, request.version, now)
            distribution.want_everywhere(connection, content.id, request.version, now=now)
        return described(connection, content.id)[0]

    def _want_delta(self, connection: Connection, content: Content, to_version: int, now: float) -> None:
        """Who follows the pointer back has no delta yet: those that publishing made lead forward."""
        known = contents.find_delta(connection, content.id, content.current, to_version)
        if content.deltas_kept(self._deltas_kept) and content.current and known is None:
            ask_for_delta(connection, content, from_version=content.current, to_version=to_version, now=now)

    async def uses(self, name_or_id: str, number: int) -> VersionUses:
        """What uses a version, and what deleting it would mean.

        Raises:
            NotFoundError: no such content or version.
        """
        return await self._database.read(self._uses, name_or_id, number)

    def _uses(self, connection: Connection, name_or_id: str, number: int) -> VersionUses:
        content = contents.get_content(connection, name_or_id)
        version = contents.get_version(connection, content.id, number)
        at_points = tuple(versions.point_uses(connection, version))
        working = versions.active_tasks(connection, version)
        freed_objects, freed_bytes = versions.freed_by(connection, versions.sets_of(connection, version))
        current = content.current == number
        return VersionUses(
            content=content.id,
            content_name=content.name,
            version=number,
            current=current,
            deployments=tuple(versions.deployed_to(connection, content.id)) if current else (),
            points=at_points,
            deltas=tuple(
                DeltaInfo(
                    from_version=each.from_version, to_version=each.to_version, set_id=each.set_id.hex(), size=each.size
                )
                for each in contents.list_deltas(connection, content.id)
                if number in (each.from_version, each.to_version)
            ),
            tasks=tuple(task_info(task) for task in working),
            devices=versions.devices_on(connection, version),
            freed_objects=freed_objects,
            freed_bytes=freed_bytes,
            refusal=_refusal(content, version),
            objections=tuple(_objections(version, at_points, working, self._clock())),
        )

    async def delete(self, name_or_id: str, number: int, *, by: str, force: bool) -> Task:
        """Delete a version, with the deltas that touch it.

        Raises:
            NotFoundError: no such content or version.
            ConflictError: it is the current one; or it is used and ``force`` was not given.
        """
        task = await self._database.write(self._delete, name_or_id, number, by, force)
        self._work()
        return task

    def _delete(self, connection: Connection, name_or_id: str, number: int, by: str, force: bool) -> Task:
        now = self._clock()
        versions.lock(connection, kept_content(connection, name_or_id).id)
        content = kept_content(connection, name_or_id)
        version = contents.get_version(connection, content.id, number)
        uses = self._uses(connection, content.id, number)
        if uses.refusal:
            raise ConflictError(uses.refusal, next_step=_INSTEAD)
        if uses.objections and not force:
            raise ConflictError(
                f"Version {number} of {content.name!r} is in use. {' '.join(uses.objections)}",
                next_step="Wait until that is over, or delete it by force.",
            )
        versions.cancel(connection, versions.active_tasks(connection, version), now=now, by=behalf())
        versions.remove(connection, content, version, now=now)
        history.note(connection, content, history.VERSION_DELETED, version=number, now=now, by=by)
        return tasks.create(
            connection,
            site=self._site,
            kind=DELETE_VERSION,
            subject=f"{content.id}/{number}",
            title=f"Delete {content.name}, version {number}",
            now=now,
            payload=DeletedVersion(content=content.id, number=number, freed_bytes=uses.freed_bytes),
            by=behalf(),
        )

    async def history(self, name_or_id: str, *, limit: int) -> list[ContentEvent]:
        """What happened to a content's versions, the newest first.

        Raises:
            NotFoundError: no such content.
        """
        return await self._database.read(_history, name_or_id, limit)


_INSTEAD: Final = "Make another version the current one first, or delete the whole content."


def _history(connection: Connection, name_or_id: str, limit: int) -> list[ContentEvent]:
    return history.listed(connection, contents.get_content(connection, name_or_id).id, limit=limit)


def _refusal(content: Content, version: Version) -> str:
    if content.current != version.number:
        return ""
    return f"Version {version.number} of {content.name!r} is the current one: it is what clients get."


def _objections(version: Version, at_points: tuple[PointUse, ...], working: list[Task], now: float) -> list[str]:
    """Why deleting it now would disturb somebody."""
    found = [f"A task works on it: {task.title} ({task.id})." for task in working]
    serving = sorted(
        {
            use.point_name
            for use in at_points
            if use.version == version.number
            and use.state == "held"
            and (not use.retired or use.retired >= now - RETIRED_SECONDS)
        }
    )
    if serving:
        hours = int(RETIRED_SECONDS // 3600)
        found.append(
            f"Clients may be fetching it from {', '.join(serving)}: "
            f"their tokens last up to {hours} hours after another version became current."
        )
    return found


class DeleteVersionHandler:
    """Does version-delete tasks. The version is gone already; what remains is to see that points lose its objects."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def run(self, task: Task, report: Reporter) -> None:
        """See :class:`entrepot.site.tasks.TaskHandler`."""
        job = task.payload_as(DeletedVersion)
        report.step("Waiting until points have lost it", unit="points")
        while True:
            report.check()
            found = await self._database.read(versions.remaining, job.content, job.number)
            waiting = [name for name, state in found if state in _WILL_GO]
            if not waiting:
                report.message(_left([name for name, _ in found]))
                return
            report.message(f"Not yet: {', '.join(waiting[:5])}{' …' if len(waiting) > 5 else ''}")
            await asyncio.sleep(_LOOK_SECONDS)


def _left(names: list[str]) -> str:
    text = "The library's sweep deletes the objects that nothing else needs."
    if not names:
        return text
    return f"{text} Points keep theirs until their distribution goes on: {', '.join(names)}."
