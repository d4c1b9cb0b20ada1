"""Chunks and manifest parts of the new version from patches against an earlier one on this disk (architecture 2.6).

Nothing of a delta is believed: root signed, parts and packs verified, headers bounded, every result hashed. Whatever
fails, the chunk or part is fetched as a full object, so a delta can only save.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Final

from entrepot.client.cache import Cache
from entrepot.client.downloader import Downloader
from entrepot.client.sources import DELTA
from entrepot.client.trees import EarlierTree
from entrepot.content.delta.format import DeltaRoot, Patch, PlainRange, decode_delta_root
from entrepot.content.delta.reading import DeltaCursor, rebuild_chunk
from entrepot.content.manifest import Part
from entrepot.content.sealing import open_sealed
from entrepot.core.errors import EntrepotError, FormatError, IntegrityError
from entrepot.protocol import SealedRef
from entrepot.protocol.location import DeltaOffer, LocationReply

MAX_FAILED: Final = 3
"""After so many packs that no source delivers, the rest of the version comes as full objects."""
MAX_COST: Final = 2
"""So many times what it was offered for a delta may cost: a device that keeps nothing fetches a pack again at times."""
_PACKS: Final = 3
"""Opened packs kept, at most 8 MiB each; patches come in the order of packs."""


Ranges = tuple[PlainRange, ...]
Patches = Mapping[bytes, Patch]
"""Patches of one manifest part, by the object id of the chunk that each makes."""


class DeltaSource:
    """Rebuilds chunks of one new version from one earlier one. Used by one event loop.

    Args:
        offer: which delta.
        reply: the location reply that offers it.
        tree: the earlier version.
        downloader: gets sealed objects.
        cache: keeps them.
        verify: payload of the signed delta root.
    """

    def __init__(
        self,
        offer: DeltaOffer,
        reply: LocationReply,
        tree: EarlierTree,
        downloader: Downloader,
        cache: Cache,
        verify: Callable[[bytes], bytes],
    ) -> None:
        self.from_version: Final = offer.from_version
        self.rebuilt = 0
        self.problem = ""
        self._offer = offer
        self._reply = reply
        self._tree = tree
        self._downloader = downloader
        self._cache = cache
        self._verify = verify
        self._root: DeltaRoot | None = None
        self._cursor: DeltaCursor | None = None
        self._packs: OrderedDict[int, asyncio.Future[bytes]] = OrderedDict()
        self._failed_packs: set[int] = set()
        self._fetched = 0

    async def part(self, ref: SealedRef) -> bytes | None:
        """The plain bytes of a part of the new manifest, verified; None when a full object is needed."""
        if self.problem:
            return None
        try:
            root = await self._opened_root()
        except EntrepotError as error:
            self.problem = error.message
            return None
        patch = next((patch for patch in root.manifest if patch.chunk == ref.object_id), None)
        return None if patch is None else await self._apply(ref, patch, self._tree.manifest)

    async def enter(self, part: Part) -> Patches:
        """Advance to a part of the manifest and find its patches; parts come in order, each once."""
        found: dict[bytes, Patch] = {}
        if not self.problem:
            try:
                await self._advance([ref.object_id for ref in part.chunks], found)
            except EntrepotError as error:
                self.problem = error.message
        return found

    async def _advance(self, chunks: list[bytes], found: dict[bytes, Patch]) -> None:
        if self._cursor is None:
            self._cursor = DeltaCursor(await self._opened_root())
        while True:
            while (wanted := self._cursor.wanted) is not None:
                self._cursor.feed(await self._fetch(wanted, "delta part"))
            taken = self._cursor.take(chunks)
            if taken.keys() & found.keys():
                raise FormatError("The delta makes a chunk twice.")
            found |= taken
            if self._cursor.wanted is None:
                return

    async def _opened_root(self) -> DeltaRoot:
        if self._root is None:
            self._root = await self._open_root()
        return self._root

    async def _open_root(self) -> DeltaRoot:
        document = await self._fetch(self._offer.root, "delta root")
        root = decode_delta_root(await asyncio.to_thread(self._verify, document))
        named = (root.content, root.old_number, root.new_number, root.old_root, root.new_root)
        wanted = (
            self._reply.content,
            self._tree.described.version,
            self._reply.version,
            self._tree.described.root.object_id,
            self._reply.root.object_id,
        )
        if named != wanted:
            raise FormatError("The delta leads between other versions than it was offered for.")
        return root

    async def _fetch(self, ref: SealedRef, what: str) -> bytes:
        """An opened object of the delta, from the cache or a source."""
        plain = await asyncio.to_thread(read_cached, self._cache, ref, what)
        if plain is None:
            self._fetched += ref.sealed_size
            if self._fetched > MAX_COST * self._offer.size:
                self.problem = "The delta costs more than it was offered for."
                raise FormatError(self.problem)
            opened = await self._downloader.get(ref, what, form=DELTA, delta_from=self.from_version)
            await asyncio.to_thread(self._cache.keep, ref.object_id, opened.sealed)
            plain = opened.plain
        return plain

    async def rebuild(self, ref: SealedRef, patches: Patches) -> bytes | None:
        """The plain bytes of a chunk, verified; None when a full object is needed.

        Args:
            patches: of the part that the chunk belongs to.
        """
        patch = patches.get(ref.object_id)
        if patch is None or self.problem:
            return None
        plain = await self._apply(ref, patch, self._old_bytes)
        self.rebuilt += plain is not None
        return plain

    async def _apply(self, ref: SealedRef, patch: Patch, read: Callable[[Ranges], bytes | None]) -> bytes | None:
        """What a patch makes, verified; None when it cannot be had."""
        if patch.pack in self._failed_packs:
            return None  # asked for in vain: each of its chunks would ask again
        try:
            old = await asyncio.to_thread(read, patch.ranges)
            if old is None:
                return None
            pack = await self._pack(patch.pack)
            return await asyncio.to_thread(rebuild_chunk, patch, pack, old, ref)
        except IntegrityError:
            return None  # this patch does not fit what is on the disk; the next one may
        except EntrepotError as error:
            self._failed_packs.add(patch.pack)
            self._packs.pop(patch.pack, None)
            if len(self._failed_packs) >= MAX_FAILED:
                self.problem = error.message
            return None

    def _old_bytes(self, ranges: Ranges) -> bytes | None:
        pieces = []
        for piece in ranges:
            data = self._tree.plaintext(piece.position, piece.length)
            if data is None:
                return None
            pieces.append(data)
        return b"".join(pieces)

    async def _pack(self, number: int) -> bytes:
        """An opened pack; those who ask at the same time wait for one download."""
        assert self._root is not None  # there are patches, so there is a root
        known = self._packs.get(number)
        if known is None:
            known = asyncio.ensure_future(self._fetch(self._root.packs[number], "delta pack"))
            self._packs[number] = known
            for old in [key for key, future in self._packs.items() if future.done()][:-_PACKS]:
                del self._packs[old]
        return await asyncio.shield(known)

    async def close(self) -> None:
        """Give up downloads of packs that nobody waits for any more."""
        waiting = [future for future in self._packs.values() if not future.done()]
        for future in waiting:
            future.cancel()
        await asyncio.gather(*self._packs.values(), return_exceptions=True)
        self._packs.clear()


def read_cached(cache: Cache, ref: SealedRef, what: str) -> bytes | None:
    """An object from the own cache, opened; None when it is not there or not what it should be."""
    sealed = cache.read(ref.object_id, ref.sealed_size)
    if sealed is None:
        return None
    try:
        return open_sealed(sealed, ref, what)
    except IntegrityError:
        cache.discard(ref.object_id)
        return None
