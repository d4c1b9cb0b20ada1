"""The use cases of contents: publish, distribute, delete. Those of single versions: ``versions``."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec
from sqlalchemy import Connection

from entrepot.content.patterns import Excludes
from entrepot.core.errors import ConflictError, NotFoundError, UnavailableError
from entrepot.core.ids import ObjectId
from entrepot.core.times import Clock
from entrepot.database import budgets, contents, distribution, points, tasks, versions
from entrepot.database.budgets import Scope
from entrepot.database.contents import Content
from entrepot.database.engine import Database
from entrepot.database.objectsets import drop_set
from entrepot.database.tasks import Task
from entrepot.protocol.contentapi import (
    ContentInfo,
    ContentPatch,
    ContentRequest,
    DistributionInfo,
    DistributionRequest,
    DistributionState,
    VersionPatch,
    VersionRequest,
)
from entrepot.protocol.libraryapi import ContentUses
from entrepot.rules.restrictions import PointKind, check_distribution
from entrepot.site.acting import behalf
from entrepot.site.describing import described
from entrepot.site.keys.sitekeys import new_id
from entrepot.site.publishing import PUBLISH, ask_to_publish
from entrepot.site.reporting import Reporter
from entrepot.site.staging import checked_source
from entrepot.site.uses import content_uses

DELETE: Final = "content-delete"
_LOOK_SECONDS: Final = 0.5


class Contents:
    """What administrators do with contents.

    Args:
        site: site code.
        home: the site server's own folder: it is never published.
        work: called after work was added: wakes the task engine and the distribution engine.
    """

    def __init__(self, database: Database, *, site: str, home: Path, clock: Clock, work: Callable[[], None]) -> None:
        self._database = database
        self._home = home
        self._site = site
        self._clock = clock
        self._work = work

    async def create(self, request: ContentRequest) -> Task:
        """Add a content and publish its version 1.

        Raises:
            ConflictError: the name is taken.
            BadInputError: no proper name, source or exclude pattern.
            RefusedError: the source is not to be published, or no archive.
        """
        Excludes(request.excludes)
        source = await asyncio.to_thread(checked_source, request.source, self._home, unpack=request.unpack)
        task = await self._database.write(self._create, request, source)
        self._work()
        return task

    def _create(self, connection: Connection, request: ContentRequest, source: str) -> Task:
        now = self._clock()
        new = Content(
            id=new_id("pkg"),
            name=request.name,
            type=request.type,
            source=source,
            excludes=request.excludes,
            for_windows=request.for_windows,
            isolated=request.isolated,
            current=0,
            pointer_counter=0,
            deleting=False,
            site=self._site,
            created=int(now),
            delta_versions=request.delta_versions,
            unpack=request.unpack,
        )
        content = contents.add_content(connection, new)
        return ask_to_publish(connection, content, note=request.note, now=now)

    async def change(self, name_or_id: str, request: ContentPatch) -> ContentInfo:
        """Change what applies from the next version on.

        Raises:
            NotFoundError: no such content.
            ConflictError: it is being deleted, or a version that would bring its own settings is being published.
            BadInputError: no proper source or exclude pattern.
            RefusedError: the source is not to be published, or no archive.
        """
        Excludes(request.excludes or ())
        before = await self._database.read(kept_content, name_or_id)
        if request.source is not None or request.unpack:
            unpack = before.unpack if request.unpack is None else request.unpack
            await asyncio.to_thread(checked_source, request.source or before.source, self._home, unpack=unpack)
        await self._database.write(self._change, before.id, request)
        return (await self.describe(before.id))[0]

    def _change(self, connection: Connection, content_id: str, request: ContentPatch) -> None:
        content = kept_content(connection, content_id, lock=True)
        replaced = (request.source, request.excludes, request.unpack)
        if any(each is not None for each in replaced) and tasks.active(connection, PUBLISH, content.id) is not None:
            raise ConflictError(
                f"{content.name!r} is being published.", next_step="Wait until that has ended, or cancel it."
            )
        contents.change(connection, _patched(content, request))

    async def annotate(self, name_or_id: str, number: int, request: VersionPatch) -> ContentInfo:
        """Put a note on a version.

        Raises:
            NotFoundError: no such content or version.
            ConflictError: the content is being deleted.
        """
        await self._database.write(self._annotate, name_or_id, number, request.note)
        return (await self.describe(name_or_id))[0]

    def _annotate(self, connection: Connection, name_or_id: str, number: int, note: str) -> None:
        contents.change_note(connection, kept_content(connection, name_or_id, lock=True).id, number, note)

    async def publish_next(self, name_or_id: str, request: VersionRequest) -> Task:
        """Publish the next version, from where the last one came unless another source is given.

        Raises:
            NotFoundError: no such content.
            ConflictError: it is being published already.
            BadInputError: no proper source or exclude pattern.
            RefusedError: the source is not to be published, or no archive.
        """
        Excludes(request.excludes or ())
        before = await self._database.read(contents.get_content, name_or_id)
        unpack = before.unpack if request.unpack is None else request.unpack
        await asyncio.to_thread(checked_source, request.source or before.source, self._home, unpack=unpack)
        task = await self._database.write(self._publish_next, before.id, request)
        self._work()
        return task

    def _publish_next(self, connection: Connection, content_id: str, request: VersionRequest) -> Task:
        """The task remembers source, excludes and whether to unpack; the content does once the version is there."""
        content = kept_content(connection, content_id, lock=True)
        if request.delta_versions is not None:
            content = msgspec.structs.replace(content, delta_versions=request.delta_versions)
            contents.change(connection, content)
        wanted = _patched(
            content, ContentPatch(source=request.source, excludes=request.excludes, unpack=request.unpack)
        )
        return ask_to_publish(connection, wanted, note=request.note, now=self._clock())

    async def distribute(
        self, name_or_id: str, request: DistributionRequest, *, full: bool = False
    ) -> list[DistributionInfo]:
        """Want the current version on points.

        Args:
            full: send everything again, even what a point says it has.

        Raises:
            NotFoundError: no such content or point.
            ConflictError: nothing is published yet, or a point is being removed.
            RefusedError: a cloud point does not take this type of content (R14).
        """
        rows = await self._database.write(self._distribute, name_or_id, request, full)
        self._work()
        return rows

    def _distribute(
        self, connection: Connection, name_or_id: str, request: DistributionRequest, full: bool
    ) -> list[DistributionInfo]:
        content = kept_content(connection, name_or_id, lock=True)
        targets = [points.get_point(connection, name) for name in request.points]
        for point in targets:
            check_distribution(PointKind(point.kind), content.type.value)
            if point.state == points.REMOVED:
                raise ConflictError(f"The distribution point {point.name} is being removed.")
        if not content.current:
            raise ConflictError(
                f"Nothing of {content.name!r} is published yet.", next_step="Wait for its first version."
            )
        for point in targets:
            distribution.want(
                connection,
                content=content.id,
                point=point.id,
                version=content.current,
                now=self._clock(),
                priority=request.priority,
                full=full,
            )
        wanted = {point.id for point in targets}
        return [row for row in distribution.described(connection, content=content.id) if row.point in wanted]

    async def withdraw(self, name_or_id: str, point: str) -> None:
        """Take a content away from a point.

        Raises:
            NotFoundError: no such content or point, or it is not distributed there.
        """
        await self._database.write(self._withdraw, name_or_id, point)
        self._work()

    def _withdraw(self, connection: Connection, name_or_id: str, point: str) -> None:
        content, target = contents.get_content(connection, name_or_id), points.get_point(connection, point)
        distribution.unwant(connection, content.id, target.id, now=self._clock())

    async def cancel(self, name_or_id: str, point: str) -> None:
        """Stop a distribution that is not finished.

        Raises:
            NotFoundError: no such content or point, or it is not distributed there.
        """
        await self._database.write(self._cancel, name_or_id, point)

    def _cancel(self, connection: Connection, name_or_id: str, point: str) -> None:
        content, target = contents.get_content(connection, name_or_id), points.get_point(connection, point)
        distribution.cancel(connection, content.id, target.id, now=self._clock())

    async def delete(self, name_or_id: str) -> Task:
        """Take a content away from every point, then forget it.

        Raises:
            NotFoundError: no such content.
            ConflictError: deployments use it, or it is being published.
        """
        task = await self._database.write(self._delete, name_or_id)
        self._work()
        return task

    def _delete(self, connection: Connection, name_or_id: str) -> Task:
        now = self._clock()
        content = contents.get_content(connection, name_or_id)
        versions.lock(connection, content.id)  # nobody deploys or distributes it meanwhile
        refusals = content_uses(connection, content.id).refusals
        if refusals:
            raise ConflictError(" ".join(refusals), next_step="Remove its deployments, or cancel its task, first.")
        task = tasks.create(
            connection,
            site=self._site,
            kind=DELETE,
            subject=content.id,
            title=f"Delete {content.name}",
            now=now,
            by=behalf(),
        )
        for row in distribution.described(connection, content=content.id):
            distribution.unwant(connection, content.id, row.point, now=now)
        contents.mark_deleting(connection, content.id)
        return task

    async def uses(self, name_or_id: str) -> ContentUses:
        """What uses a content, and what deleting it would mean.

        Raises:
            NotFoundError: no such content.
        """
        return await self._database.read(content_uses, name_or_id)

    async def describe(self, name_or_id: str = "") -> list[ContentInfo]:
        """Contents with versions and distribution: all, or one.

        Raises:
            NotFoundError: no such content.
        """
        return await self._database.read(described, name_or_id)


class DeleteHandler:
    """Does content-delete tasks: waits until no point has the content, then forgets it. The library's sweep deletes the
    objects that nothing else needs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def run(self, task: Task, report: Reporter) -> None:
        """See :class:`entrepot.site.tasks.TaskHandler`."""
        report.step("Waiting until no point has it", unit="points")
        while True:
            report.check()
            try:
                await self._database.read(contents.get_content, task.subject)
            except NotFoundError:
                return
            rows = await self._database.read(_rows, task.subject)
            if not rows:
                await self._database.write(_forget, task.subject)
                return
            stuck = [row for row in rows if row.state is DistributionState.REMOVAL_FAILED]
            if stuck:
                raise UnavailableError(f"{stuck[0].point_name} keeps the content: {stuck[0].message}")
            report.message(f"{len(rows)} points still have it")
            await asyncio.sleep(_LOOK_SECONDS)


def _rows(connection: Connection, content: str) -> list[DistributionInfo]:
    return distribution.described(connection, content=content)


def _forget(connection: Connection, content: str) -> None:
    budgets.delete_budget(connection, Scope.CONTENT, content)
    for set_id in contents.remove_content(connection, content):
        drop_set(connection, ObjectId(set_id))


def kept_content(connection: Connection, name_or_id: str, *, lock: bool = False) -> Content:
    """A content that is not being deleted.

    Args:
        lock: nor will be until the transaction ends.

    Raises:
        NotFoundError: no such content.
        ConflictError: it is being deleted.
    """
    content = contents.get_content(connection, name_or_id)
    if lock:
        versions.lock(connection, content.id)
        content = contents.get_content(connection, content.id)
    if content.deleting:
        raise ConflictError(f"The content {content.name!r} is being deleted.")
    return content


def _patched(content: Content, request: ContentPatch) -> Content:
    """The content with what a request changes."""
    given = msgspec.structs.asdict(request)
    if request.delta_versions is not None and request.delta_versions < 0:
        content, given["delta_versions"] = msgspec.structs.replace(content, delta_versions=None), None
    return msgspec.structs.replace(content, **{name: value for name, value in given.items() if value is not None})
