"""The work of one fetch: part by part through the manifest, chunk by chunk to whoever has it cheapest.

For each chunk in turn: the own cache, the tree of an earlier version, a delta against one, the full object. Memory is
bounded by the number of parallel downloads: three manifest parts, and per download one sealed object with its plain
bytes.
"""

import asyncio
import contextlib
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final

import msgspec

from entrepot.client.cache import Cache
from entrepot.client.deltas import DeltaSource, Patches, read_cached
from entrepot.client.destination import SYNC_EACH, Destination
from entrepot.client.downloader import PUBLISHED_WRONGLY, Downloader, manifest_advice
from entrepot.client.records import Described
from entrepot.client.sources import FULL, INSTALLED, OWN_CACHE, Used
from entrepot.client.staging import Job, PartPlan, is_intact
from entrepot.client.trees import EarlierTree, Installed
from entrepot.content.manifest import EntryKind, Part, Root, decode_root
from entrepot.content.reading import PartSequence
from entrepot.core.errors import EntrepotError, FormatError, IntegrityError
from entrepot.core.paths import case_key
from entrepot.core.times import Clock
from entrepot.protocol import SealedRef, SignedType
from entrepot.protocol.location import LocationReply

MAX_EARLIER: Final = 4
"""Earlier trees that are asked for a chunk."""

PARTS_AT_A_TIME: Final = 3
"""Manifest parts whose chunks are fetched at the same time."""

Verify = Callable[[bytes, SignedType], bytes]


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
        reply: where the content is.
        destination: where it goes.
        downloader: gets sealed objects from the sources.
        cache: the own cache.
        verify: payload of a signed root of the given type.
        parallel: chunks in the works at a time.
        clock: seconds since 1970.
        progress: called on the event loop.
        for_windows: refuse names that Windows cannot store.
    """

    def __init__(
        self,
        reply: LocationReply,
        destination: Destination,
        downloader: Downloader,
        cache: Cache,
        *,
        verify: Verify,
        parallel: int,
        clock: Clock,
        progress: Callable[[FetchProgress], None],
        for_windows: bool = sys.platform == "win32",
    ) -> None:
        self.delta: DeltaSource | None = None
        self.files = 0
        self.total = 0
        self.present = 0
        self._reply = reply
        self._destination = destination
        self._downloader = downloader
        self._cache = cache
        self._verify = verify
        self._parallel = parallel
        self._busy: dict[bytes, asyncio.Lock] = {}
        self._slots = asyncio.Semaphore(parallel)
        self._clock = clock
        self._progress = progress
        self._for_windows = for_windows
        self._done = 0
        self._claimed = [0, 0]  # files and bytes that the parts so far speak of
        self._earlier: list[EarlierTree] = []
        self._local: dict[tuple[str, str], list[int]] = {}

    def used(self) -> tuple[Used, ...]:
        """Bytes and requests by source and form, so far."""
        local = [
            Used(kind=kind, form=FULL, name=name, point="", bytes=size, requests=count)
            for (kind, name), (size, count) in self._local.items()
        ]
        return (*local, *self._downloader.sources.used())

    async def perform(self) -> Path:
        """Do it all; returns the folder.

        Raises:
            EntrepotError: as :func:`entrepot.client.fetch.fetch`.
        """
        payload, root = await self._manifest_root()
        self.total = root.plain_size
        self._tell("checking", "")
        whole = await asyncio.to_thread(self._find_whole)
        if whole is not None:
            return self._nothing_to_do(root, whole)
        await asyncio.to_thread(self._destination.begin, payload)
        try:
            await asyncio.to_thread(self._open_earlier)
            await self._all_parts(root)
        finally:
            if self.delta:
                await self.delta.close()
            for tree in self._earlier:
                tree.close()
        self._tell("finishing", "")
        folder = await asyncio.to_thread(self._destination.finish, self._described(root))
        self._tell("done", "")
        return folder

    async def _manifest_root(self) -> tuple[bytes, Root]:
        """Payload of the signed root, believed and checked against what was asked for."""
        document = await self._object(self._reply.root, "manifest root")
        payload = await asyncio.to_thread(self._verify, document, SignedType.MANIFEST)
        with manifest_advice():
            root = decode_root(payload)
        if (root.content, root.number) != (self._reply.content, self._reply.version):
            raise FormatError(
                f"The manifest is that of {root.content} version {root.number}, not of {self._reply.content} "
                f"version {self._reply.version}.",
                next_step=PUBLISHED_WRONGLY,
            )
        return payload, root

    async def _object(self, ref: SealedRef, what: str) -> bytes:
        """Plain bytes of an object that is kept in the cache."""
        plain = await asyncio.to_thread(read_cached, self._cache, ref, what)
        if plain is not None:
            self._count(OWN_CACHE, "own cache", ref.sealed_size)
            return plain
        opened = await self._downloader.get(ref, what)
        await asyncio.to_thread(self._cache.keep, ref.object_id, opened.sealed)
        return opened.plain

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

    def _open_earlier(self) -> None:
        """Open trees to take bytes from, and the cheapest delta among them that a source holds."""
        for tree in self._destination.installed(self._reply.content)[:MAX_EARLIER]:
            with contextlib.suppress(EntrepotError):  # a damaged index costs a download, nothing more
                self._earlier.append(EarlierTree(tree.folder, tree.record, tree.described))
        held = {tree.described.version: tree for tree in self._earlier}
        offered = {version for state in self._reply.tiers for source in state.sources for version in source.deltas}
        usable = [offer for offer in self._reply.deltas if offer.from_version in held and offer.from_version in offered]
        if usable:
            offer = min(usable, key=lambda offer: (offer.fetched or offer.size, -offer.from_version))
            self.delta = DeltaSource(
                offer,
                self._reply,
                held[offer.from_version],
                self._downloader,
                self._cache,
                lambda document: self._verify(document, SignedType.DELTA),
            )

    async def _all_parts(self, root: Root) -> None:
        """Parts in order; the chunks of a few at a time, or a part of small files would keep one connection busy."""
        sequence = PartSequence(root, for_windows=self._for_windows)
        under_way: deque[_PartWork] = deque()
        number = 0
        try:
            while (ref := sequence.wanted) is not None:
                plain = await self._part_bytes(number, ref)
                with manifest_advice():
                    part = await asyncio.to_thread(sequence.take_plain, plain)
                    self._check(part, root)
                under_way.append(await self._begin_part(part))
                number += 1
                if len(under_way) >= PARTS_AT_A_TIME:
                    await self._complete_part(under_way.popleft())
            while under_way:
                await self._complete_part(under_way.popleft())
        finally:
            for work in under_way:
                work.jobs.cancel()
            await asyncio.gather(*(work.jobs for work in under_way), return_exceptions=True)

    async def _begin_part(self, part: Part) -> _PartWork:
        plan: PartPlan = await asyncio.to_thread(self._destination.staging.survey, part)
        self.present += plan.present
        self._done += plan.present
        patches: Patches = {}
        if self.delta:
            async with self._slots:
                patches = await self.delta.enter(part)
        return _PartWork(part, plan, asyncio.create_task(self._all_jobs(plan.jobs, patches)))

    async def _complete_part(self, work: _PartWork) -> None:
        await work.jobs
        staging = self._destination.staging
        self.files += await asyncio.to_thread(staging.complete, work.part, work.plan, sync=SYNC_EACH)

    async def _part_bytes(self, number: int, ref: SealedRef) -> bytes:
        """A part, verified and kept: from the record in the making, the cache, the delta or a source."""
        record = self._destination.record
        plain = await asyncio.to_thread(record.part, number, ref)
        if plain is not None:
            return plain
        sealed = await asyncio.to_thread(self._cache.read, ref.object_id, ref.sealed_size)
        if sealed is not None:
            await asyncio.to_thread(record.keep_part, number, sealed)
            plain = await asyncio.to_thread(record.part, number, ref)
            if plain is not None:
                self._count(OWN_CACHE, "own cache", ref.sealed_size)
                return plain
        if self.delta:
            async with self._slots:
                plain = await self.delta.part(ref)
            if plain is not None:
                await asyncio.to_thread(record.keep_part, number, plain, plain=True)
                return plain
        async with self._slots:
            opened = await self._downloader.get(ref, "manifest part")
        await asyncio.to_thread(self._cache.keep, ref.object_id, opened.sealed)
        await asyncio.to_thread(record.keep_part, number, opened.sealed)
        return opened.plain

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

    async def _all_jobs(self, jobs: tuple[Job, ...], patches: Patches) -> None:
        waiting = iter(jobs)

        async def worker() -> None:
            for job in waiting:  # all workers take from the same iterator
                async with self._slots:
                    await self._one_job(job, patches)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(self._parallel, len(jobs))):
                    group.create_task(worker())
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def _one_job(self, job: Job, patches: Patches) -> None:
        async with self._alone(job.ref.object_id):
            plain, source = await self._obtain(job.ref, patches)
        await asyncio.to_thread(self._destination.staging.write, job, plain)
        self._done += job.size
        self._tell("downloading", source)

    @contextlib.asynccontextmanager
    async def _alone(self, object_id: bytes) -> AsyncIterator[None]:
        """One at a time for the same object: the second finds it in the cache, unless that keeps nothing."""
        lock = self._busy.setdefault(object_id, asyncio.Lock())
        async with lock:
            yield
        if not lock.locked():
            self._busy.pop(object_id, None)

    async def _obtain(self, ref: SealedRef, patches: Patches) -> tuple[bytes, str]:
        """The plain bytes of a chunk, verified, and who gave them."""
        found = await asyncio.to_thread(self._here, ref)
        if found is not None:
            plain, kind, name, size = found
            self._count(kind, name, size)
            return plain, name
        if self.delta:
            rebuilt = await self.delta.rebuild(ref, patches)
            if rebuilt is not None:
                return rebuilt, f"delta from version {self.delta.from_version}"
        opened = await self._downloader.get(ref, "chunk")
        await asyncio.to_thread(self._cache.keep, ref.object_id, opened.sealed)
        return opened.plain, opened.source

    def _here(self, ref: SealedRef) -> tuple[bytes, str, str, int] | None:
        """A chunk from this disk: bytes, kind, name, and what it would have cost to download."""
        plain = read_cached(self._cache, ref, "chunk")
        if plain is not None:
            return plain, OWN_CACHE, "own cache", ref.sealed_size
        for tree in self._earlier:
            plain = tree.recut(ref)
            if plain is not None:
                return plain, INSTALLED, f"version {tree.described.version}", ref.sealed_size
        return None

    def _count(self, kind: str, name: str, size: int) -> None:
        counted = self._local.setdefault((kind, name), [0, 0])
        counted[0] += size
        counted[1] += 1

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
