"""Packs and parts of a delta in the making: patches in, sealed objects out, in order."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Final

import msgspec

from entrepot.content.delta.format import MAX_PACK, PART_TARGET, VERSION, DeltaPart, Patch, PlainRange
from entrepot.content.sealing import Generation, Purpose, Sealed, seal
from entrepot.core.encoding import pack
from entrepot.core.sizes import MIB
from entrepot.protocol import SealedRef

PACK_TARGET: Final = 4 * MIB
"""A pack closes when its patches, compressed one by one, reach this (or its plain bytes :data:`MAX_PACK`).

Large packs pay: programs that were built together share code, and their patches share it once more.
"""
PACK_LEVEL: Final = 19


class Made(msgspec.Struct, frozen=True):
    """One patch. ``ref`` is what it makes, ``cost`` roughly what it adds to a sealed pack."""

    ref: SealedRef
    ranges: tuple[PlainRange, ...]
    data: bytes
    cost: int


class Packer:
    """Collects patches into packs and parts; seals them on a pool and stores them in order.

    Memory: three packs.

    Args:
        pool: seals; one pack of up to 8 MiB takes seconds.
        store: keeps a sealed object.
    """

    def __init__(self, generation: Generation, store: Callable[[Sealed], None], pool: Executor) -> None:
        self._generation = generation
        self.store: Final = store
        self._pool = pool
        self._pack = bytearray()
        self._pack_cost = 0
        self._pack_count = 0
        self._sealing: deque[Future[Sealed]] = deque()
        self._patches: list[Patch] = []
        self._part_bytes = 0
        self.packs: Final[list[SealedRef]] = []
        self.parts: Final[list[SealedRef]] = []
        self.manifest: Final[list[Patch]] = []
        self.count = 0
        self.replaced = 0

    def add_part(self, made: Made) -> None:
        """Take the patch of a manifest part. All of them come before the first chunk's, for clients use them first."""
        self.manifest.append(self._packed(made))

    def add_chunk(self, made: Made) -> None:
        """Take the next chunk's patch, in manifest order."""
        entry = self._packed(made)
        self._patches.append(entry)
        self._part_bytes += len(pack(entry))
        self.count += 1
        if self._part_bytes >= PART_TARGET:
            self._close_part()

    def _packed(self, made: Made) -> Patch:
        size = len(self._pack) + len(made.data)
        if self._pack and (self._pack_cost + made.cost > PACK_TARGET or size > MAX_PACK):
            self._close_pack()
        entry = Patch(made.ref.object_id, self._pack_count, len(self._pack), len(made.data), made.ranges)
        self._pack += made.data
        self._pack_cost += made.cost
        self.replaced += made.ref.sealed_size
        return entry

    def _close_pack(self) -> None:
        self._sealing.append(self._pool.submit(self._seal, bytes(self._pack), Purpose.DELTA_PACK))
        self._pack_count += 1
        self._pack = bytearray()
        self._pack_cost = 0
        while len(self._sealing) > 1:
            self._keep_next()

    def _keep_next(self) -> None:
        sealed = self._sealing.popleft().result()
        self.store(sealed)
        self.packs.append(sealed.ref)

    def _close_part(self) -> None:
        part = DeltaPart(version=VERSION, patches=tuple(self._patches))
        sealed = self._seal(pack(part), Purpose.DELTA_PART)
        self.store(sealed)
        self.parts.append(sealed.ref)
        self._patches, self._part_bytes = [], 0

    def _seal(self, plain: bytes, purpose: Purpose) -> Sealed:
        return seal(plain, purpose=purpose, generation=self._generation, level=PACK_LEVEL)

    def seal_root(self, document: bytes) -> Sealed:
        """Seal the signed root; the caller stores it."""
        return self._seal(document, Purpose.DELTA_ROOT)

    def close(self) -> None:
        """Seal and store what is open."""
        if self._pack:
            self._close_pack()
        while self._sealing:
            self._keep_next()
        if self._patches:
            self._close_part()
