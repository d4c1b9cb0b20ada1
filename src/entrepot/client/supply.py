"""Where the bytes of one fetch come from: whatever costs least, each verified.

For each chunk in turn: what was written already, the own cache, the tree of an earlier version, a delta against one,
the full object.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Final

from entrepot.client.cache import Cache
from entrepot.client.deltas import DeltaSource, Patches, read_cached
from entrepot.client.destination import Destination
from entrepot.client.downloader import PUBLISHED_WRONGLY, Downloader, manifest_advice
from entrepot.client.sources import FULL, INSTALLED, OWN_CACHE, Used
from entrepot.client.trees import EarlierTree
from entrepot.client.written import Written
from entrepot.content.manifest import Part, Root, decode_root
from entrepot.core.errors import EntrepotError, FormatError, StorageError
from entrepot.protocol import SealedRef, SignedType
from entrepot.protocol.location import LocationReply

MAX_EARLIER: Final = 4
"""Earlier trees that are asked for a chunk."""

Verify = Callable[[bytes, SignedType], bytes]


class Supply:
    """See the module's text. Used by one event loop.

    Args:
        reply: where the content is.
        destination: holds the record in the making, and earlier versions.
        downloader: gets sealed objects from the sources.
        cache: the own cache.
        verify: payload of a signed root of the given type.
        parallel: chunks and parts in the works at a time.

    Attributes:
        slots: taken by whoever asks for a chunk; for parts and deltas it takes them itself.
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
    ) -> None:
        self.delta: DeltaSource | None = None
        self.reply: Final = reply
        self.destination: Final = destination
        self.parallel: Final = parallel
        self.slots: Final = asyncio.Semaphore(parallel)
        self._downloader = downloader
        self._cache = cache
        self._verify = verify
        self._busy: dict[bytes, asyncio.Lock] = {}
        self._earlier: list[EarlierTree] = []
        self._written: Written | None = None
        self._local: dict[tuple[str, str], list[int]] = {}

    def used(self) -> tuple[Used, ...]:
        """Bytes and requests by source and form, so far."""
        local = [
            Used(kind=kind, form=FULL, name=name, point="", bytes=size, requests=count)
            for (kind, name), (size, count) in self._local.items()
        ]
        return (*local, *self._downloader.sources.used())

    def shares_disk(self) -> bool:
        """Whether files and cache take of the same room."""
        return self._cache.shares_disk(self.destination.staging.folder)

    def leave(self, room: int) -> None:
        """Let the cache leave so many bytes of its disk to the files; see :meth:`Cache.leave`."""
        with contextlib.suppress(StorageError):  # what is only kept for later stops nothing
            self._cache.leave(room)

    async def root(self) -> tuple[bytes, Root]:
        """Payload of the signed root, believed and checked against what was asked for.

        Raises:
            EntrepotError: as :func:`entrepot.client.fetch.fetch`.
        """
        document = await self._object(self.reply.root, "manifest root")
        payload = await asyncio.to_thread(self._verify, document, SignedType.MANIFEST)
        with manifest_advice():
            root = decode_root(payload)
        if (root.content, root.number) != (self.reply.content, self.reply.version):
            raise FormatError(
                f"The manifest is that of {root.content} version {root.number}, not of {self.reply.content} "
                f"version {self.reply.version}.",
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

    def open_earlier(self) -> None:
        """Open trees to take bytes from, and the cheapest delta among them that a source holds.

        Raises:
            StorageError: the disk refuses.
        """
        self._written = Written(self.destination.staging.folder, self.destination.record)
        for tree in self.destination.installed(self.reply.content)[:MAX_EARLIER]:
            with contextlib.suppress(EntrepotError):  # a damaged index costs a download, nothing more
                self._earlier.append(EarlierTree(tree.folder, tree.record, tree.described))
        held = {tree.described.version: tree for tree in self._earlier}
        offered = {version for state in self.reply.tiers for source in state.sources for version in source.deltas}
        usable = [offer for offer in self.reply.deltas if offer.from_version in held and offer.from_version in offered]
        if usable:
            offer = min(usable, key=lambda offer: (offer.fetched or offer.size, -offer.from_version))
            self.delta = DeltaSource(
                offer,
                self.reply,
                held[offer.from_version],
                self._downloader,
                self._cache,
                lambda document: self._verify(document, SignedType.DELTA),
            )

    async def close(self) -> None:
        """Give back what :meth:`open_earlier` opened."""
        if self.delta:
            await self.delta.close()
        for tree in self._earlier:
            tree.close()

    async def part(self, number: int, ref: SealedRef) -> bytes:
        """A part, verified and kept: from the record in the making, the cache, the delta or a source.

        Raises:
            EntrepotError: as :func:`entrepot.client.fetch.fetch`.
        """
        record = self.destination.record
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
            async with self.slots:
                plain = await self.delta.part(ref)
            if plain is not None:
                await asyncio.to_thread(record.keep_part, number, plain, plain=True)
                return plain
        async with self.slots:
            opened = await self._downloader.get(ref, "manifest part")
        await asyncio.to_thread(self._cache.keep, ref.object_id, opened.sealed)
        await asyncio.to_thread(record.keep_part, number, opened.sealed)
        return opened.plain

    def wrote(self, chunk: SealedRef, number: int, part: SealedRef) -> None:
        """A chunk is where the files of a part need it: for another part it need not be fetched again."""
        if self._written:
            self._written.note(chunk, number, part)

    async def patches(self, part: Part) -> Patches:
        """What the delta has for the chunks of a part; parts come in order, each once."""
        if not self.delta:
            return {}
        async with self.slots:
            return await self.delta.enter(part)

    async def chunk(self, ref: SealedRef, patches: Patches) -> tuple[bytes, str]:
        """The plain bytes of a chunk, verified, and who gave them.

        Raises:
            EntrepotError: as :func:`entrepot.client.fetch.fetch`.
        """
        async with self._alone(ref.object_id):
            return await self._obtain(ref, patches)

    @contextlib.asynccontextmanager
    async def _alone(self, object_id: bytes) -> AsyncIterator[None]:
        """One at a time for the same object: the second finds it in the cache, unless that keeps nothing."""
        lock = self._busy.setdefault(object_id, asyncio.Lock())
        async with lock:
            yield
        if not lock.locked():
            self._busy.pop(object_id, None)

    async def _obtain(self, ref: SealedRef, patches: Patches) -> tuple[bytes, str]:
        again = await asyncio.to_thread(self._written.recut, ref) if self._written else None
        if again is not None:  # costs nothing and saves nothing: the version's size counts it once
            return again, f"version {self.reply.version}"
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
