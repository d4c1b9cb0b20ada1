"""The work of one fetch: part by part through the manifest, chunk by chunk to where it belongs (``supply`` gets them).

Memory is bounded by the number of parallel downloads: three manifest parts, and per download one sealed object with its
plain bytes.
"""

import asyncio
import contextlib
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Sequence
from pathlib import Path
from typing import Final

import msgspec

from entrepot.client.deltas import Patches
from entrepot.client.destination import SYNC_EACH, room_for
from entrepot.client.downloader import manifest_advice
from entrepot.client.records import Described
from entrepot.client.staging import Job, PartPlan, is_intact
from entrepot.client.supply import Supply
from entrepot.client.trees import Installed
from entrepot.content.manifest import EntryKind, Part, Root
from entrepot.content.reading import PartSequence
from entrepot.core.errors import FormatError, IntegrityError
from entrepot.core.paths import case_key
from entrepot.core.times import Clock
from entrepot.protocol import SealedRef

PARTS_AT_A_TIME: Final = 3
"""Manifest parts whose chunks are fetched at the same time."""


class FetchProgress(msgspec.Struct, frozen=True, kw_only=True):
    """``done`` of ``total`` plain bytes are in place; ``source`` gave the last of them; ``phase`` is checking,
    downloading, finishing or done.
    """

    phase: str
    done: int
    total: int
    source: str


class _PartWork(msgspec.Struct, frozen=True):
    part: Part
    plan: PartPlan
    jobs: asyncio.Task[None]


class Fetching:
    """See the module's text.

    Args:
        supply: gets chunks and parts; knows where the content is, and where it goes.
        clock: seconds since 1970.
        progress: called on the event loop.
        for_windows: refuse names that Windows cannot store.
    """

    def __init__(
        self,
        supply: Supply,
        *,
        clock: Clock,
        progress: Callable[[FetchProgress], None],
        for_windows: bool = sys.platform == "win32",
    ) -> None:
        self.files = 0
        self.total = 0
        self.present = 0
        self.supply: Final = supply
        self._reply = supply.reply
        self._destination = supply.destination
        self._clock = clock
        self._progress = progress
        self._for_windows = for_windows
        self._done = 0
        self._room = 0
        self._taken = 0  # of the room, by an interrupted run
        self._claimed = [0, 0]  # files and bytes that the parts so far speak of

    async def perform(self) -> Path:
        """Do it all; returns the folder.

        Raises:
            EntrepotError: as :func:`entrepot.client.fetch.fetch`.
        """
        payload, root = await self.supply.root()
        self.total = root.plain_size
        self._tell("checking", "")
        whole = await asyncio.to_thread(self._find_whole)
        if whole is not None:
            return self._nothing_to_do(root, whole)
        if await asyncio.to_thread(self.supply.shares_disk):
            self._room = room_for(root)
            self._taken = await asyncio.to_thread(self._destination.taken)
        await asyncio.to_thread(self.supply.leave, self._still_needed())
        await asyncio.to_thread(self._destination.begin, payload)
        try:
            await asyncio.to_thread(self.supply.open_earlier)
            await self._all_parts(root)
        finally:
            await self.supply.close()
        self._tell("finishing", "")
        folder = await asyncio.to_thread(self._destination.finish, self._described(root))
        self._tell("done", "")
        return folder

    def _find_whole(self) -> Installed | None:
        """The very version, if it stands already and nobody has changed it; else what is left of it serves later."""
        for tree in self._destination.installed(self._reply.content):
            same = tree.described.root.object_id == self._reply.root.object_id
            if same and self._destination.is_final(tree):
                with contextlib.suppress(IntegrityError):
                    if is_intact(tree.folder, tree.record.parts()):
                        return tree
        return None

    def _nothing_to_do(self, root: Root, tree: Installed) -> Path:
        self.files, self.present, self._done = root.files, root.plain_size, root.plain_size
        self._tell("done", "")
        return tree.folder

    async def _all_parts(self, root: Root) -> None:
        """Parts in order; the chunks of a few at a time, or a part of small files would keep one connection busy."""
        sequence = PartSequence(root, for_windows=self._for_windows)
        under_way: deque[_PartWork] = deque()
        number = 0
        try:
            while (ref := sequence.wanted) is not None:
                plain = await self.supply.part(number, ref)
                with manifest_advice():
                    part = await asyncio.to_thread(sequence.take_plain, plain)
                    self._check(part, root)
                under_way.append(await self._begin_part(part, number, ref, tuple(under_way)))
                number += 1
                if len(under_way) >= PARTS_AT_A_TIME:
                    await self._complete_part(under_way.popleft())
            while under_way:
                await self._complete_part(under_way.popleft())
        finally:
            for work in under_way:
                work.jobs.cancel()
            await asyncio.gather(*(work.jobs for work in under_way), return_exceptions=True)

    async def _begin_part(self, part: Part, number: int, ref: SealedRef, before: tuple[_PartWork, ...]) -> _PartWork:
        plan: PartPlan = await asyncio.to_thread(self._destination.staging.survey, part)
        self.present += plan.present
        self._done += plan.present
        patches = await self.supply.patches(part)
        missing = {job.ref.object_id for job in plan.jobs}
        for chunk in part.chunks:
            if chunk.object_id not in missing:  # an interrupted run wrote it
                self.supply.wrote(chunk, number, ref)

        async def one(job: Job) -> None:
            await self._one_job(job, patches)
            self.supply.wrote(job.ref, number, ref)

        awaited = {job.ref.object_id for work in before for job in work.plan.jobs}
        all_jobs = self._all_jobs(plan.jobs, one, awaited, [work.jobs for work in before])
        return _PartWork(part, plan, asyncio.create_task(all_jobs))

    async def _complete_part(self, work: _PartWork) -> None:
        await work.jobs
        staging = self._destination.staging
        self.files += await asyncio.to_thread(staging.complete, work.part, work.plan, sync=SYNC_EACH)

    def _check(self, part: Part, root: Root) -> None:
        """Before anything of a part is written: totals that the root promised, names that the target reserves."""
        reserved = case_key(self._destination.reserved)
        for entry in part.entries:
            if reserved and case_key(entry.path.partition("/")[0]) == reserved:
                raise FormatError(
                    f"The manifest names {entry.path!r}, which is reserved in this folder.",
                    next_step="Fetch it --to another folder.",
                )
            if entry.kind == EntryKind.FILE and not entry.offset:
                self._claimed[0] += 1
                self._claimed[1] += entry.size
        if self._claimed[0] > root.files or self._claimed[1] > root.plain_size:
            raise FormatError("The manifest's parts hold more than its root promises.")

    async def _all_jobs(
        self,
        jobs: Sequence[Job],
        do: Callable[[Job], Awaitable[None]],
        awaited: Collection[bytes],
        before: Sequence[asyncio.Task[None]],
    ) -> None:
        """The jobs of a part; last those for chunks that parts before it, under way still, are to write: their delta
        may have them, and their files will."""
        await self._at_once([job for job in jobs if job.ref.object_id not in awaited], do)
        again = [job for job in jobs if job.ref.object_id in awaited]
        if again:
            await asyncio.wait(before)
            await self._at_once(again, do)

    async def _at_once(self, jobs: Sequence[Job], do: Callable[[Job], Awaitable[None]]) -> None:
        waiting = iter(jobs)

        async def worker() -> None:
            for job in waiting:  # all workers take from the same iterator
                async with self.supply.slots:
                    await do(job)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(self.supply.parallel, len(jobs))):
                    group.create_task(worker())
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def _one_job(self, job: Job, patches: Patches) -> None:
        plain, source = await self.supply.chunk(job.ref, patches)
        await asyncio.to_thread(self._destination.staging.write, job, plain)
        self._done += job.size
        self.supply.leave(self._still_needed())
        self._tell("downloading", source)

    def _still_needed(self) -> int:
        """Bytes of the disk. What an interrupted run left counts at once; that it is right shows part by part."""
        written = self._done - self.present
        return max(0, self._room - max(self._done, self._taken + written))

    def _tell(self, phase: str, source: str) -> None:
        self._progress(FetchProgress(phase=phase, done=min(self._done, self.total), total=self.total, source=source))

    def _described(self, root: Root) -> Described:
        return Described(
            content=root.content,
            version=root.number,
            name=self._reply.name,
            root=self._reply.root,
            files=root.files,
            plain_size=root.plain_size,
            installed=int(self._clock()),
        )
