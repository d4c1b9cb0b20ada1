"""The reseal task: a version under the newest generation of the content secret, after the one before was compromised.

A version keeps its number; what changes is its *sealing*: other objects, another object set, a manifest root that is
signed anew. Until points have it, clients are given the former sealing, which stays on points as long as tokens that
name it may live; then it goes, and the library's sweep deletes the old objects. Deltas are made anew once both of
their versions are sealed anew.

Killed anywhere, the task is run again: what was sealed already is found by its content.
"""

import asyncio
import os
from collections.abc import Callable
from typing import Final

from sqlalchemy import Connection

from entrepot.content.ledger import Library
from entrepot.content.resealing import Resealed, reseal_version
from entrepot.core.errors import NotFoundError, StorageError, UnavailableError
from entrepot.core.times import Clock
from entrepot.database import contents, distribution, history, sealings, versions
from entrepot.database.contents import Content, Version
from entrepot.database.engine import Database
from entrepot.database.objectsets import adopt_set
from entrepot.database.tasks import Task
from entrepot.objects.shelf import Shelf
from entrepot.protocol import SignedType
from entrepot.protocol.trust import Role
from entrepot.site.keys.loading import refresh
from entrepot.site.keys.sitekeys import SiteKeys, root_name
from entrepot.site.publishing import ResealJob, ask_for_delta, delta_bases_anew
from entrepot.site.reporting import Reporter
from entrepot.trust.signing import sign

WORKERS: Final = os.cpu_count() or 1


class ResealHandler:
    """Does reseal tasks.

    Args:
        deltas_kept: for how many earlier versions there are deltas to the current one.
        resealed: called when points have something to get.
    """

    def __init__(
        self,
        database: Database,
        *,
        shelf: Shelf,
        library: Library,
        keys: SiteKeys,
        clock: Clock,
        deltas_kept: int,
        resealed: Callable[[], None],
    ) -> None:
        self._database = database
        self._shelf = shelf
        self._library = library
        self._keys = keys
        self._clock = clock
        self._deltas_kept = deltas_kept
        self._resealed = resealed

    async def run(self, task: Task, report: Reporter) -> None:
        """See :class:`entrepot.site.tasks.TaskHandler`."""
        job = task.payload_as(ResealJob)
        # Between the rotation's transaction and its taking effect in memory the task may be begun already.
        await self._database.read(refresh, self._keys, now=self._clock())
        try:
            content, version = await self._database.read(_find, job)
        except NotFoundError:
            report.message("The version was deleted meanwhile.")
            return
        sound = version.signed_by not in self._keys.withdrawn(Role.MANIFEST)
        if content.deleting or (version.generation >= self._keys.generation and sound):
            self._resealed()
            return
        report.step("Sealing anew", total=version.stored_size, unit="bytes")
        try:
            await asyncio.to_thread(self._reseal, content, version, report)
        except StorageError as error:
            raise StorageError(
                error.message,
                next_step="Make room (entrepot library sweep --now), or mend what is in the way; then: entrepot key "
                "reseal",
            ) from error
        self._resealed()

    def _reseal(self, content: Content, before: Version, report: Reporter) -> None:
        keys = self._keys.domain(content.id, isolated=content.isolated)
        signer = self._keys.manifest
        ledger = self._library.open_session(f"{content.name}, version {before.number}, sealed anew", owner=report.task)
        try:
            made = reseal_version(
                self._keys.open_ref(root_name(before.content, before.number), before.root),
                shelf=self._shelf,
                ledger=ledger,
                keys=keys,
                verify=self._keys.verify_manifest,
                sign=lambda payload: sign(payload, typ=SignedType.MANIFEST, key=signer),
                progress=report.amount,
                cancelled=lambda: report.cancelled,
                workers=WORKERS,
            )
            report.step("Making the new sealing known", done=before.stored_size, total=before.stored_size, unit="bytes")
            with self._database.transaction() as connection:
                self._replace(connection, before, made, keys.generation.number, signer.kid, ledger.session)
        except BaseException:
            self._library.close_session(ledger.session)
            raise
        report.message(f"{made.objects} objects, {made.new_objects} of them made now")

    def _replace(
        self, connection: Connection, before: Version, made: Resealed, generation: int, signed_by: str, session: str
    ) -> None:
        """One transaction: the set is adopted, the version changes, points are to get it, deltas are asked for."""
        now = self._clock()
        content = contents.get_content(connection, before.content)
        adopt_set(connection, session, made.set_id, now)
        replaced = sealings.replace_sealing(
            connection,
            before,
            set_id=made.set_id,
            set_size=made.set_size,
            root=self._keys.seal_ref(root_name(before.content, before.number), made.root),
            chunks=made.chunks,
            stored_size=made.stored_size,
            objects=made.objects,
            generation=generation,
            signed_by=signed_by,
        )
        if not replaced:
            raise UnavailableError("The version was sealed anew by another process meanwhile.")
        if content.current == before.number and not content.deleting:
            distribution.want_everywhere(connection, content.id, before.number, now=now)
        self._ask_for_deltas(connection, content, generation, now)

    def _ask_for_deltas(self, connection: Connection, content: Content, generation: int, now: float) -> None:
        """Ask for the deltas to the current version from what clients have, where both are of this generation."""
        known = {version.number: version for version in contents.list_versions(connection, content.id)}
        current = known.get(content.current)
        kept = content.deltas_kept(self._deltas_kept)
        if current is None or current.generation < generation or not kept:
            return
        before = history.current_before(connection, content.id, current.number)
        held = versions.devices_by_version(connection, content.id)
        for number in delta_bases_anew(known, current.number, before, held, kept):
            made = contents.find_delta(connection, content.id, number, current.number)
            if made is None and known[number].generation >= generation:
                ask_for_delta(connection, content, from_version=number, to_version=current.number, now=now)


def _find(connection: Connection, job: ResealJob) -> tuple[Content, Version]:
    return contents.get_content(connection, job.content), contents.get_version(connection, job.content, job.number)
