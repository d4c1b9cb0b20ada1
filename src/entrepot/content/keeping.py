"""Seals plaintexts and keeps them on the shelf, in order, with all cores, each only once.

A :class:`Keeper` takes plaintexts and gives their references back in the same order. In between it works in batches:
ask the ledger which are known → seal the others (pool) → announce → store (pool) → sync → flush → add. Four batches are
in memory at most: one that fills, two that are being sealed, one (sealed) that is being stored.

The ledger is asked per batch, never per chunk. The disk is flushed per *group* of batches (group commit) while the next
group fills, and only then are references given: a chunk that another session entered first is replaced by that one.
At the end whoever needs the last references to go on may have them sooner (:meth:`Keeper.give`).
"""

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Final, Generic, TypeVar

import msgspec

from entrepot.content.chunking import DomainKeys
from entrepot.content.compressing import effort_for
from entrepot.content.digests import digest_of
from entrepot.content.indexing import Tools, announcement, index_entry, known_and_there, reference
from entrepot.content.ledger import MAX_BATCH, KnownChunk, NewChunk
from entrepot.content.sealing import Generation, Purpose, Sealed, seal
from entrepot.core.errors import RefusedError
from entrepot.core.ids import ObjectId
from entrepot.core.sizes import MIB
from entrepot.objects.shelf import Shelf
from entrepot.protocol import SealedRef

BATCH_BYTES: Final = 12 * MIB
FIRST_BATCH_BYTES: Final = MIB
"""The first batch, so that sealing begins soon; each may be twice as large as the one before."""
BATCH_WEIGHT: Final = 4096
GROUP_BYTES: Final = 128 * MIB
GROUP_WEIGHT: Final = 16_384
PUT_TOGETHER: Final = 8
"""As many objects are stored by one task: each alone takes hardly longer than to hand it over."""
DELIVERED_EACH_TIME: Final = 2
"""So many references are given whenever a plaintext is taken: a whole group's at once would take so long that the pool
would have nothing left to do. More than one, so that they do not gather."""

Note = TypeVar("Note")


class Kept(msgspec.Struct):
    """Counts what was stored and had not been there before."""

    objects: int = 0
    size: int = 0


class _Work(Generic[Note]):
    """One plaintext on its way; or a note alone, which only keeps its place in the order."""

    __slots__ = ("digest", "index_hash", "note", "payload_hash", "plain", "ref", "sealing", "twin")

    def __init__(self, plain: bytes | memoryview | None, note: Note, digest: bytes) -> None:
        self.plain = plain
        self.note = note
        self.digest = digest
        self.sealing: Future[Sealed] | None = None
        self.index_hash = b""
        self.payload_hash = b""  # of what was sealed here
        self.ref: SealedRef | None = None
        self.twin: _Work[Note] | None = None  # an earlier one with the same plaintext, not in the index yet


class Keeper(Generic[Note]):
    """Keeps plaintexts of one purpose. Used by one thread; the work runs in the tools' pool.

    Args:
        deliver: gets each reference with the note that came with its plaintext, in order, once it is durably stored
            and entered, the last ones sooner by :meth:`give`; no reference for a note that came alone.
        kept: counts what is new.
    """

    def __init__(
        self,
        purpose: Purpose,
        *,
        tools: Tools,
        deliver: Callable[[SealedRef | None, Note], None],
        kept: Kept,
    ) -> None:
        self._purpose = purpose
        self._shelf, self._ledger, self._keys = tools.shelf, tools.ledger, tools.keys
        self._pool, self._disk = tools.pool, tools.disk
        self._deliver = deliver
        self._kept = kept
        self._filling: list[_Work[Note]] = []
        self._filling_bytes = self._filling_weight = 0
        self._batch_bytes = FIRST_BATCH_BYTES
        self._sealing: list[_Work[Note]] = []
        self._storing: list[_Work[Note]] = []
        self._puts: list[Future[Kept]] = []
        self._group: list[_Work[Note]] = []
        self._group_bytes = self._group_weight = 0
        self._flushing: list[_Work[Note]] = []
        self._flush: Future[None] | None = None
        self._entered: deque[_Work[Note]] = deque()
        self._fresh: dict[bytes, _Work[Note]] = {}
        self._given = False
        self._lost: set[bytes] = set()  # in the index, but not on the shelf, or cut short

    def put(self, plain: bytes | memoryview | None, note: Note, *, digest: bytes = b"", weight: int = 1) -> None:
        """Take the next plaintext, or a note alone.

        Args:
            digest: of the plaintext, where it is known already: where there are many, they are hashed in the pool.
            weight: roughly how many things the note holds in memory.

        Raises:
            EntrepotError: by the ledger or the shelf, for this or an earlier plaintext.
        """
        work = _Work(plain, note, digest)
        if plain is not None:
            work.digest = digest or digest_of(plain)
            work.index_hash = self._keys.index_hash(self._purpose, work.digest)
            self._filling_bytes += len(plain)
        self._filling.append(work)
        self._filling_weight += weight
        if self._filling_bytes >= self._batch_bytes or self._filling_weight >= BATCH_WEIGHT:
            self._batch_bytes = min(BATCH_BYTES, 2 * self._batch_bytes)
            self._turn()
        self._deliver_entered(DELIVERED_EACH_TIME)

    def give(self) -> None:
        """Deliver every reference when all that was taken is stored, though the last are not durable and entered yet:
        what names them is made meanwhile. Nothing is taken any more, and :meth:`finish` has to follow.

        A large group begins to become durable now, a small one with what names it. Objects that were lost have to leave
        the session before their successors are named: then all of it is waited for.
        """
        self._store_all()
        if self._lost:
            self.finish()
        elif self._group_bytes >= BATCH_BYTES:
            self._commit()
        else:
            self._enter_flushed()
        self._given = True
        self._entered += (*self._flushing, *self._group)
        self._deliver_entered(len(self._entered))

    def finish(self) -> None:
        """Keep all that was taken; returns when every reference was delivered."""
        self._store_all()
        self._commit()
        self._deliver_entered(len(self._entered))  # while the disk is busy
        self._enter_flushed()
        self._deliver_entered(len(self._entered))

    def _store_all(self) -> None:
        self._turn()
        self._turn()
        self._await_storing()

    def _turn(self) -> None:
        """Move every batch one step on. The next is given to the pool before the one before is waited for."""
        before, self._sealing = self._sealing, self._seal()
        self._store(before)
        if self._flush is not None and self._flush.done():
            self._enter_flushed()  # now, while the pool has work
        if self._group_bytes >= GROUP_BYTES or self._group_weight >= GROUP_WEIGHT:
            self._commit()

    def _seal(self) -> list[_Work[Note]]:
        """Ask which of the filling batch are known, and begin to seal the others."""
        batch, self._filling = self._filling, []
        asked = {work.index_hash for work in batch if work.index_hash and work.index_hash not in self._fresh}
        known = self._known(sorted(asked))
        for work in batch:
            if work.plain is None:
                continue
            found = known.get(work.index_hash)
            work.twin = self._fresh.get(work.index_hash)
            if found is not None:
                work.ref = self._reference(found, len(work.plain), work.digest)
            elif work.twin is None:
                self._fresh[work.index_hash] = work
                work.sealing = self._pool.submit(_seal, work.plain, work.digest, self._purpose, self._keys)
            work.plain = None  # the pool holds what it still needs
        self._group_bytes += self._filling_bytes
        self._group_weight += self._filling_weight
        self._filling_bytes = self._filling_weight = 0
        return batch

    def _store(self, batch: list[_Work[Note]]) -> None:
        """Wait until a batch is sealed, announce it, and begin to store it."""
        fresh = [(work, work.sealing.result()) for work in batch if work.sealing is not None]
        for work, sealed in fresh:
            work.ref, work.payload_hash, work.sealing = sealed.ref, sealed.payload_hash, None
        self._await_storing()
        announced = [sealed.ref for _, sealed in fresh]
        for at in range(0, len(announced), MAX_BATCH):
            few = announced[at : at + MAX_BATCH]
            self._ledger.announce([announcement(ref, self._purpose) for ref in few], durable=False)
        for at in range(0, len(fresh), PUT_TOGETHER):
            some = [sealed for _, sealed in fresh[at : at + PUT_TOGETHER]]
            self._puts.append(self._pool.submit(_put, self._shelf, some))
        self._storing = batch

    def _await_storing(self) -> None:
        """Wait until the batch that is being stored is: from then on it belongs to the group."""
        for future in self._puts:
            stored = future.result()
            self._kept.objects += stored.objects
            self._kept.size += stored.size
        self._puts.clear()
        self._group += self._storing
        self._storing = []

    def _commit(self) -> None:
        """Begin to make the group durable, and end that for the group before.

        What is being sealed and stored comes later: to wait for it would leave the pool without work.
        """
        self._enter_flushed()
        self._flushing, self._group = self._group, []
        self._group_bytes = self._group_weight = 0
        if any(work.payload_hash for work in self._flushing):
            self._ledger.sync()
            self._flush = self._disk.submit(self._shelf.flush)

    def _enter_flushed(self) -> None:
        """Wait until the flushing group is durable, and enter it into the index."""
        group, self._flushing = self._flushing, []
        if self._flush is not None:
            self._flush.result()
            self._flush = None
        fresh = [work for work in group if work.payload_hash]
        for at in range(0, len(fresh), MAX_BATCH):
            self._add(fresh[at : at + MAX_BATCH])
        if not self._given:
            self._entered += group

    def _deliver_entered(self, most: int) -> None:
        for _ in range(min(most, len(self._entered))):
            work = self._entered.popleft()
            self._deliver(work.twin.ref if work.twin is not None else work.ref, work.note)

    def _add(self, fresh: Sequence[_Work[Note]]) -> None:
        generation = self._keys.generation
        entries = [_entered(work, generation) for work in fresh]
        winners = self._ledger.add(entries, lost=self._lost, named=self._given)
        for work in fresh:
            winner = winners.get(work.index_hash)
            if winner is not None and work.ref is not None:
                work.ref = self._reference(winner, work.ref.plain_size, work.ref.digest)
            del self._fresh[work.index_hash]
            self._lost.discard(work.index_hash)

    def _known(self, index_hashes: list[bytes]) -> dict[bytes, KnownChunk]:
        """What the ledger knows and the shelf really has; what was lost or cut is sealed and stored anew."""
        sound, lost = known_and_there(self._ledger, self._shelf, index_hashes)
        self._lost |= lost
        return sound

    def _reference(self, known: KnownChunk, plain_size: int, digest: bytes) -> SealedRef:
        generation = self._keys.generation_of(known.generation)
        if generation is None:
            raise RefusedError(
                f"The library holds a chunk of this content under generation {known.generation} of the content secret,"
                " which is not at hand.",
                next_step="Restore that generation's secret.",
            )
        return reference(known, generation, self._purpose, plain_size=plain_size, digest=digest)


def _seal(plain: bytes | memoryview, digest: bytes, purpose: Purpose, keys: DomainKeys) -> Sealed:
    return seal(plain, purpose=purpose, generation=keys.generation, level=effort_for(plain), digest=digest)


def _put(shelf: Shelf, some: Sequence[Sealed]) -> Kept:
    """Store some objects; what of them is new."""
    kept = Kept()
    for sealed in some:
        if shelf.put_sealed(ObjectId(sealed.ref.object_id), sealed.data, durable=False):
            kept.objects += 1
            kept.size += len(sealed.data)
    return kept


def _entered(work: _Work[Note], generation: Generation) -> NewChunk:
    assert work.ref is not None
    return index_entry(work.index_hash, work.ref, work.payload_hash, generation)
