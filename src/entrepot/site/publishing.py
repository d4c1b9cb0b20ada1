"""The publish task: a new version of a content, from a folder on the site server to the library (architecture 4.1).

Objects first, then one database transaction that adopts the object set, adds the version, makes it current, wants it on
every point that has the content, and asks for deltas. Killed anywhere, the task is run again: what was stored is found
by its content and not stored twice; when the version is there already, nothing is left to do.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
from sqlalchemy import Connection

from entrepot.content.ledger import Library
from entrepot.content.patterns import Excludes
from entrepot.content.publish import Progress, Published, PublishOptions, publish
from entrepot.content.snapshot import sizes
from entrepot.content.surprises import leap
from entrepot.core.errors import CancelledError, ConflictError, NotFoundError
from entrepot.core.times import Clock
from entrepot.database import contents, distribution, hierarchy, tasks
from entrepot.database.contents import Content, Origin, Version
from entrepot.database.engine import Database
from entrepot.database.librarystats import distinct_size
from entrepot.database.objectsets import adopt_set, first_needed
from entrepot.database.tasks import Task
from entrepot.objects.shelf import Shelf
from entrepot.protocol import SignedType
from entrepot.site.acting import behalf
from entrepot.site.keys.sitekeys import SiteKeys, root_name
from entrepot.site.reporting import Reporter
from entrepot.site.staging import Staging, packed_remark
from entrepot.trust.signing import sign

PUBLISH: Final = "publish"
DELTA: Final = "delta"
RESEAL: Final = "reseal"
_ROOT_AND_SET: Final = 2
"""Objects that every version has of its own."""


class PublishJob(msgspec.Struct, frozen=True, kw_only=True):
    """Payload of a publish task."""

    content: str
    number: int
    source: str
    excludes: tuple[str, ...]
    unpack: bool = False
    note: str = ""


class DeltaJob(msgspec.Struct, frozen=True, kw_only=True):
    """Payload of a delta task."""

    content: str
    from_version: int
    to_version: int


class ResealJob(msgspec.Struct, frozen=True, kw_only=True):
    """Payload of a reseal task."""

    content: str
    number: int


def ask_to_publish(connection: Connection, content: Content, *, note: str, now: float) -> Task:
    """Add the task that publishes the next version, from where and as ``content`` says.

    Raises:
        ConflictError: the content is being published already, or deleted.
    """
    if content.deleting:
        raise ConflictError(f"The content {content.name!r} is being deleted.")
    job = PublishJob(
        content=content.id,
        number=contents.next_number(connection, content.id),
        source=content.source,
        excludes=content.excludes,
        unpack=content.unpack,
        note=note,
    )
    return tasks.create(
        connection,
        site=content.site,
        kind=PUBLISH,
        subject=content.id,
        title=f"Publish {content.name}, version {job.number}",
        now=now,
        payload=job,
        by=behalf(),
    )


class PublishHandler:
    """Does publish tasks.

    Args:
        staging: where archives are unpacked.
        deltas_kept: for how many earlier versions a delta to the new one is asked for.
        published: called after a version was added: wakes whoever has work now.
    """

    def __init__(
        self,
        database: Database,
        *,
        shelf: Shelf,
        library: Library,
        keys: SiteKeys,
        clock: Clock,
        staging: Staging,
        deltas_kept: int,
        published: Callable[[], None],
    ) -> None:
        self._database = database
        self._staging = staging
        self._shelf = shelf
        self._library = library
        self._keys = keys
        self._clock = clock
        self._deltas_kept = deltas_kept
        self._published = published

    async def run(self, task: Task, report: Reporter) -> None:
        """See :class:`entrepot.site.tasks.TaskHandler`."""
        job = task.payload_as(PublishJob)
        content = await self._database.read(contents.get_content, job.content)
        made = await self._database.read(_made_already, job)
        if made is None:
            await asyncio.to_thread(self._stage, job, content, report)
        else:
            report.message(_told_of(made))
        self._published()

    def _stage(self, job: PublishJob, content: Content, report: Reporter) -> None:
        named = Path(job.source)
        if job.unpack:
            report.step("Unpacking", unit="bytes")
        staged = self._staging.source(
            named, unpacked=job.unpack, progress=report.amount, cancelled=lambda: report.cancelled
        )
        with staged as source:
            total = weighed(source, job.excludes, report)
            report.step("Reading, sealing and storing", total=total, unit="bytes")
            self._publish(job, content, source, packed_remark(named, unpacked=job.unpack), report)

    def _publish(self, job: PublishJob, content: Content, source: Path, remark: str, report: Reporter) -> None:
        keys = self._keys.domain(content.id, isolated=content.isolated)
        signer = self._keys.manifest
        ledger = self._library.open_session(f"{content.name}, version {job.number}", owner=report.task)
        try:
            published = publish(
                source,
                content=content.id,
                number=job.number,
                shelf=self._shelf,
                ledger=ledger,
                keys=keys,
                sign=lambda payload: sign(payload, typ=SignedType.MANIFEST, key=signer),
                options=PublishOptions(excludes=job.excludes, for_windows=content.for_windows),
                progress=lambda progress: told(progress, report),
                cancelled=lambda: report.cancelled,
            )
            report.step("Making the version known", done=published.plain_size, total=published.plain_size, unit="bytes")
            with self._database.transaction() as connection:
                added = first_needed(connection, ledger.session)  # an attempt that was killed stored a part of it
                published = msgspec.structs.replace(published, new_objects=added.objects, new_bytes=added.size)
                remarks = (remark, *compared(last_version(connection, content.id), published), *published.warnings)
                published = msgspec.structs.replace(published, warnings=tuple(text for text in remarks if text))
                version = self._version(job, published, keys.generation.number, signer.kid)
                self._add(connection, job, content, published, version, ledger.session)
        except BaseException:
            self._library.close_session(ledger.session)
            raise
        report.message(_told_of(version))

    def _add(
        self,
        connection: Connection,
        job: PublishJob,
        content: Content,
        published: Published,
        version: Version,
        session: str,
    ) -> None:
        now = self._clock()
        kept = contents.get_content(connection, content.id)
        if kept.deleting:
            raise CancelledError("The content is being deleted.")
        adopt_set(connection, session, published.set_id, now)
        earlier = [each.number for each in contents.list_versions(connection, content.id)]
        used = {"source": job.source, "excludes": job.excludes, "unpack": job.unpack}
        contents.change(connection, msgspec.structs.replace(kept, **used))
        version = msgspec.structs.replace(version, distinct_size=distinct_size(connection, version.set_id))
        contents.add_version(connection, version)
        if version.generation < hierarchy.newest_generation(connection, content.site):
            ask_to_reseal(connection, content, version, now=now)  # the secret was compromised meanwhile
        distribution.want_everywhere(connection, content.id, job.number, now=now)
        for number in delta_bases(earlier, kept.current, kept.deltas_kept(self._deltas_kept)):
            ask_for_delta(connection, content, from_version=number, to_version=job.number, now=now)

    def _version(self, job: PublishJob, published: Published, generation: int, signed_by: str) -> Version:
        return Version(
            content=job.content,
            number=job.number,
            set_id=published.set_id,
            set_size=published.set_size,
            root=self._keys.seal_ref(root_name(job.content, job.number), published.root),
            files=published.files,
            folders=published.folders,
            links=published.links,
            plain_size=published.plain_size,
            chunks=published.chunks,
            stored_size=published.stored_size,
            new_objects=published.new_objects,
            new_bytes=published.new_bytes,
            objects=published.objects,
            warnings=published.warnings,
            created=int(self._clock()),
            generation=generation,
            signed_by=signed_by,
            note=job.note,
            origin=Origin(source=job.source, excludes=job.excludes, unpack=job.unpack),
        )


def reseal_subject(version: Version) -> str:
    """The subject of the task that seals a version anew."""
    return f"{version.content}/{version.number}"


def ask_to_reseal(connection: Connection, content: Content, version: Version, *, now: float) -> bool:
    """Add the task that seals a version anew, unless it is there already; whether it was added."""
    subject = reseal_subject(version)
    if tasks.active(connection, RESEAL, subject) is not None:
        return False
    tasks.create(
        connection,
        site=content.site,
        kind=RESEAL,
        subject=subject,
        title=f"Seal {content.name}, version {version.number}, anew",
        now=now,
        payload=ResealJob(content=content.id, number=version.number),
        by=behalf(),
    )
    return True


def delta_bases(earlier: Sequence[int], current: int, count: int) -> list[int]:
    """From which versions deltas to a new one are made, ``count`` at most: from the one that clients have (after a
    rollback not the newest), then from the newest.

    Args:
        earlier: numbers in ascending order.
    """
    others = [number for number in reversed(earlier) if number != current]
    return [*([current] if current in earlier else []), *others][:count]


def delta_bases_anew(
    numbers: Iterable[int], current: int, before: int, held: Mapping[int, int], count: int
) -> list[int]:
    """From which versions deltas to the current one are made anew, ``count`` at most: from those that most devices
    have, then from the one that was current before somebody went back to this one, then from the last before it.

    Args:
        numbers: of all versions.
        before: which was current before; 0: the pointer only ever went forward.
        held: how many devices have which version.
    """
    others = [number for number in numbers if number != current]
    return sorted(others, key=lambda each: (-held.get(each, 0), each != before, each > current, -each))[:count]


def ask_for_delta(connection: Connection, content: Content, *, from_version: int, to_version: int, now: float) -> None:
    """Add the task that makes a delta, unless it is there already."""
    subject = f"{content.id}/{from_version}-{to_version}"
    if tasks.active(connection, DELTA, subject) is not None:
        return
    tasks.create(
        connection,
        site=content.site,
        kind=DELTA,
        subject=subject,
        title=f"Delta of {content.name} from version {from_version} to {to_version}",
        now=now,
        payload=DeltaJob(content=content.id, from_version=from_version, to_version=to_version),
        by=behalf(),
    )


def weighed(source: Path, excludes: tuple[str, ...], report: Reporter) -> int:
    """How many bytes there are to publish; a first look, of which nothing depends but how long it will take.

    Raises:
        CancelledError: the work is to stop.
    """
    report.step("Looking through the source", unit="files")
    files = size = 0
    for each in sizes(source, Excludes(excludes)):
        files, size = files + 1, size + each
        if not files % 1000:
            report.check()
            report.amount(files)
    return size


def told(progress: Progress, report: Reporter) -> None:
    """Pass a publish's progress on: what was read counts, what is stored durably is told."""
    report.amount(progress.read)
    report.message(f"{progress.files} files, {progress.new_objects} new objects")


def last_version(connection: Connection, content: str) -> Version | None:
    """The newest version of a content, if there is one."""
    return next(reversed(contents.list_versions(connection, content)), None)


def compared(before: Version | None, published: Published) -> tuple[str, ...]:
    """Remarks about a version beside the one before it."""
    if before is None:
        return ()
    same = ("files", "folders", "links", "plain_size", "chunks", "stored_size", "objects")
    alike = all(getattr(before, name) == getattr(published, name) for name in same)
    if alike and published.new_objects <= _ROOT_AND_SET:
        return (f"Nothing in it differs from version {before.number}.",)
    return (leap(before.plain_size, published.plain_size),)


def _made_already(connection: Connection, job: PublishJob) -> Version | None:
    """The version, where an attempt was killed after it had made it."""
    try:
        return contents.get_version(connection, job.content, job.number)
    except NotFoundError:
        return None


def _told_of(version: Version) -> str:
    return f"Version {version.number}: {version.files} files; {version.new_objects} objects are new"
