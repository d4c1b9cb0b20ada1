"""The delta task: runs after a version was published, for each of the versions before it (architecture 2.6).

A delta can only save: when making one fails, clients fetch full objects, and the content is none the worse.
"""

import asyncio
import contextlib
import shutil
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from sqlalchemy import Connection

from entrepot.content.collecting import KeptSet, SealedKeeper
from entrepot.content.delta.making import Made, make_delta
from entrepot.content.delta.making import Version as Side
from entrepot.content.ledger import Ledger, Library
from entrepot.content.reading import open_root
from entrepot.content.sealing import Purpose, open_sealed
from entrepot.core.errors import CancelledError, EntrepotError, NotFoundError, StorageError, UnavailableError
from entrepot.core.ids import ObjectId
from entrepot.core.times import MINUTE, Clock
from entrepot.database import contents, deltasets, distribution, versions
from entrepot.database.contents import Content, Delta, Version
from entrepot.database.engine import Database
from entrepot.database.objectsets import adopt_set
from entrepot.database.tasks import Task
from entrepot.objects.shelf import Shelf
from entrepot.protocol import SealedRef
from entrepot.site.keys.sitekeys import SiteKeys, root_name
from entrepot.site.publishing import DeltaJob
from entrepot.site.reporting import Reporter

RENEW_SECONDS: Final = 5 * MINUTE


class DeltaHandler:
    """Does delta tasks.

    Args:
        scratch: folder for temporary data; what a killed run left there is removed by :meth:`sweep`.
        made: called after a delta was added: wakes the distribution engine.
    """

    def __init__(
        self,
        database: Database,
        *,
        shelf: Shelf,
        library: Library,
        keys: SiteKeys,
        clock: Clock,
        scratch: Path,
        made: Callable[[], None],
    ) -> None:
        self._database = database
        self._shelf = shelf
        self._library = library
        self._keys = keys
        self._clock = clock
        self._scratch = scratch
        self._made = made

    def sweep(self) -> None:
        """Remove temporary data of runs that were killed; call it before any run."""
        shutil.rmtree(self._scratch, ignore_errors=True)
        self._scratch.mkdir(parents=True, exist_ok=True)

    async def run(self, task: Task, report: Reporter) -> None:
        """See :class:`entrepot.site.tasks.TaskHandler`."""
        job = task.payload_as(DeltaJob)
        content = await self._database.read(contents.get_content, job.content)
        if content.deleting:
            return
        if await self._database.read(contents.find_delta, content.id, job.from_version, job.to_version) is None:
            report.step("Comparing the versions", unit="bytes")
            try:
                await asyncio.to_thread(self._make, job, content, report)
            except StorageError as error:
                raise StorageError(
                    error.message, next_step="Make room, or mend what is in the way; then: entrepot library repair"
                ) from error
        self._made()

    async def abandoned(self, task: Task, report: Reporter, error: EntrepotError) -> EntrepotError:
        """See :class:`entrepot.site.reporting.TidyHandler`: nobody ordered a delta, so what has it made is said."""
        del task, report
        if isinstance(error, CancelledError):
            return error
        return EntrepotError(error.message, next_step="To have it made all the same: entrepot library repair")

    def _make(self, job: DeltaJob, content: Content, report: Reporter) -> None:
        with self._database.reading() as connection:
            old = contents.get_version(connection, content.id, job.from_version)
            new = contents.get_version(connection, content.id, job.to_version)
        scratch = Path(tempfile.mkdtemp(dir=self._scratch))
        ledger = self._library.open_session(f"delta of {content.name}", owner=report.task)
        keeper = SealedKeeper(self._shelf, ledger, purpose=Purpose.DELTA_PACK)
        try:
            made = make_delta(
                self._side(old),
                self._side(new),
                scratch=scratch,
                generation=self._keys.domain(content.id, isolated=content.isolated).generation,
                sign=self._keys.sign_delta,
                store=keeper.store,
                cancelled=_Watch(report, ledger, self._clock),
                progress=report.amount,
            )
            if made is None:
                self._library.close_session(ledger.session)
                self._note_needless(job, (old.sealing, new.sealing))
                report.message("No delta: it would not save anything.")
                return
            kept = keeper.finish()
            with self._database.transaction() as connection:
                versions.lock(connection, content.id)  # neither version is deleted meanwhile
                if (old.sealing, new.sealing) != _sealings(connection, job):
                    raise UnavailableError("A version was sealed anew while its delta was made.")
                self._add(connection, job, made, kept, ledger)
            report.message(f"The delta has {made.size} bytes and saves {made.saved}.")
        except BaseException:
            self._library.close_session(ledger.session)
            raise
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _note_needless(self, job: DeltaJob, sealings: tuple[int, int]) -> None:
        with self._database.transaction() as connection, contextlib.suppress(NotFoundError):  # deleted meanwhile
            versions.lock(connection, job.content)
            if sealings == _sealings(connection, job):  # else it is asked for anew
                deltasets.note_needless(
                    connection, job.content, from_version=job.from_version, to_version=job.to_version
                )

    def _side(self, version: Version) -> Side:
        ref = self._keys.open_ref(root_name(version.content, version.number), version.root)

        def read(wanted: SealedRef) -> bytes:
            return open_sealed(self._shelf.read_whole(ObjectId(wanted.object_id)), wanted)

        root = open_root(self._shelf.read_whole(ObjectId(ref.object_id)), ref, self._keys.verify_manifest)
        return Side(root, ref, read)

    def _add(self, connection: Connection, job: DeltaJob, made: Made, kept: KeptSet, ledger: Ledger) -> None:
        now = self._clock()
        adopt_set(connection, ledger.session, kept.set_id, now)
        delta = Delta(
            content=job.content,
            from_version=job.from_version,
            to_version=job.to_version,
            set_id=kept.set_id,
            root=self._keys.seal_ref(root_name(job.content, job.to_version, job.from_version), made.root),
            size=made.size,
            created=int(now),
            saved=made.saved,
            fetched=made.fetched,
        )
        contents.add_delta(connection, delta)
        if contents.get_content(connection, job.content).current == job.to_version:
            distribution.want_everywhere(connection, job.content, job.to_version, now=now)


class _Watch:
    """Tells whether the work is to stop, and renews the session's lease: hours may pass between two packs."""

    def __init__(self, report: Reporter, ledger: Ledger, clock: Clock) -> None:
        self._report = report
        self._ledger = ledger
        self._clock = clock
        self._lock = threading.Lock()
        self._renewed = clock()

    def __call__(self) -> bool:
        with self._lock:  # asked from several threads
            if self._clock() - self._renewed >= RENEW_SECONDS:
                with contextlib.suppress(EntrepotError):  # if it has lapsed, the next object that is kept says so
                    self._ledger.renew()
                self._renewed = self._clock()
        return self._report.cancelled


def _sealings(connection: Connection, job: DeltaJob) -> tuple[int, int]:
    old = contents.get_version(connection, job.content, job.from_version)
    return old.sealing, contents.get_version(connection, job.content, job.to_version).sealing
