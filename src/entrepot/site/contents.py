"""The use cases of contents: publish, distribute, delete. Those of single versions: ``versions``."""

import asyncio
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Final

from sqlalchemy import Connection

from entrepot.core.errors import BadInputError, ConflictError, NotFoundError, RefusedError, UnavailableError
from entrepot.core.ids import ObjectId
from entrepot.core.times import Clock
from entrepot.database import budgets, contents, deployments, distribution, points, tasks, versions
from entrepot.database.budgets import Scope
from entrepot.database.contents import Content
from entrepot.database.engine import Database
from entrepot.database.library import drop_set
from entrepot.database.tasks import Task
from entrepot.protocol.contentapi import (
    ContentInfo,
    ContentPatch,
    ContentRequest,
    DeltaInfo,
    DistributionInfo,
    DistributionRequest,
    DistributionState,
    VersionInfo,
    VersionRequest,
)
from entrepot.rules.restrictions import PointKind, check_distribution
from entrepot.site.keys import new_id
from entrepot.site.publishing import PUBLISH, ask_to_publish
from entrepot.site.tasks import Reporter

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
            BadInputError: no proper name or source.
        """
        source = await asyncio.to_thread(checked_source, request.source, self._home)
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
        )
        content = contents.add_content(connection, new)
        return ask_to_publish(connection, content, source=source, excludes=request.excludes, now=now)

    async def change(self, name_or_id: str, request: ContentPatch) -> ContentInfo:
        """Change what applies from the next version on.

        Raises:
            NotFoundError: no such content.
            ConflictError: it is being deleted.
        """
        await self._database.write(self._change, name_or_id, request)
        return (await self.describe(name_or_id))[0]

    def _change(self, connection: Connection, name_or_id: str, request: ContentPatch) -> None:
        content = kept_content(connection, name_or_id)
        if request.delta_versions is not None:
            count = None if request.delta_versions < 0 else request.delta_versions
            contents.change_delta_versions(connection, content.id, count)

    async def publish_next(self, name_or_id: str, request: VersionRequest) -> Task:
        """Publish the next version, from where the last one came unless another source is given.

        Raises:
            NotFoundError: no such content.
            ConflictError: it is being published already.
            BadInputError: no proper source.
        """
        content = await self._database.read(contents.get_content, name_or_id)
        source = await asyncio.to_thread(checked_source, request.source or content.source, self._home)
        excludes = content.excludes if request.excludes is None else request.excludes
        task = await self._database.write(self._publish_next, content.id, source, excludes)
        self._work()
        return task

    def _publish_next(self, connection: Connection, content: str, source: str, excludes: tuple[str, ...]) -> Task:
        kept = kept_content(connection, content, lock=True)
        return ask_to_publish(connection, kept, source=source, excludes=excludes, now=self._clock())

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
        used = [row.id for row in deployments.listed(connection) if row.content == content.id]
        if used:
            raise ConflictError(
                f"{content.name!r} is deployed: {', '.join(used)}.", next_step="Remove these deployments first."
            )
        if tasks.active(connection, PUBLISH, content.id) is not None:
            raise ConflictError(f"{content.name!r} is being published.", next_step="Cancel that task first.")
        task = tasks.create(
            connection,
            site=self._site,
            kind=DELETE,
            subject=content.id,
            title=f"Delete {content.name}",
            now=now,
        )
        for row in distribution.described(connection, content=content.id):
            distribution.unwant(connection, content.id, row.point, now=now)
        contents.mark_deleting(connection, content.id)
        return task

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


def checked_source(text: str, home: Path) -> str:
    """A source that may be published.

    Raises:
        BadInputError: no absolute path, or it cannot be read.
        RefusedError: it has to do with the server's own folder.
    """
    path = Path(text)
    if not path.is_absolute() or "\x00" in text or ".." in PurePosixPath(text).parts:
        raise BadInputError("The source is an absolute path on the site server.")
    try:
        path.lstat()
    except OSError:
        raise BadInputError(
            f"The site server cannot read {text!r}.", next_step="Give a path on the site server."
        ) from None
    real, own = path.resolve(), home.resolve()
    if real.is_relative_to(own) or own.is_relative_to(real):
        raise RefusedError("The site server's own folder, with its keys, cannot be published.")
    return text


def described(connection: Connection, name_or_id: str = "") -> list[ContentInfo]:
    """Contents for people: all, or one.

    Raises:
        NotFoundError: no such content.
    """
    chosen = [contents.get_content(connection, name_or_id)] if name_or_id else contents.list_contents(connection)
    only = chosen[0].id if name_or_id else ""
    rows: dict[str, list[DistributionInfo]] = {}
    for row in distribution.described(connection, content=only):
        rows.setdefault(row.content, []).append(row)
    made: dict[tuple[str, int], list[DeltaInfo]] = {}
    for delta in contents.list_deltas(connection, only):
        made.setdefault((delta.content, delta.to_version), []).append(
            DeltaInfo(
                from_version=delta.from_version,
                to_version=delta.to_version,
                set_id=delta.set_id.hex(),
                size=delta.size,
                fetched=delta.fetched,
            )
        )
    published: dict[str, list[VersionInfo]] = {}
    for version in contents.list_versions(connection, only):
        names = [name for name in VersionInfo.__struct_fields__ if name not in ("set_id", "deltas")]
        info = VersionInfo(
            set_id=version.set_id.hex(),
            deltas=tuple(made.get((version.content, version.number), ())),
            **{name: getattr(version, name) for name in names},
        )
        published.setdefault(version.content, []).append(info)
    return [
        ContentInfo(
            id=content.id,
            name=content.name,
            type=content.type,
            source=content.source,
            excludes=content.excludes,
            for_windows=content.for_windows,
            isolated=content.isolated,
            state=_state(connection, content),
            current=content.current,
            created=content.created,
            delta_versions=content.delta_versions,
            versions=tuple(published.get(content.id, ())),
            distribution=tuple(rows.get(content.id, ())),
        )
        for content in chosen
    ]


def _state(connection: Connection, content: Content) -> str:
    if content.deleting:
        return "deleting"
    if tasks.active(connection, PUBLISH, content.id) is not None:
        return "publishing"
    return "ready" if content.current else "failed"
