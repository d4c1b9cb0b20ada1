"""Seals a published version anew under another generation of the content secret, from its own objects.

What is inside stays: same files, same cuts, same compressed payloads. Every chunk is opened and checked, its payload is
encrypted under the new generation's key, and the result is opened again before it counts; the manifest's parts and root
follow, with the new references. The source is not needed.

Crash-safe by repetition: what an interrupted run entered into the index is found there by the next one, as publishing
does. Memory: one batch of objects, and the references of one manifest part.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

import msgspec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from entrepot.content.chunking import DomainKeys
from entrepot.content.collecting import keep_set
from entrepot.content.digests import digest_of
from entrepot.content.indexing import Tools, announcement, index_entry, known_and_there, reference, tools
from entrepot.content.ledger import MAX_BATCH, KnownChunk, Ledger, NewChunk
from entrepot.content.manifest import MAX_PART, VERSION, Part, Root, encode_part
from entrepot.content.reading import PartSequence, open_root
from entrepot.content.sealing import Generation, Purpose, Sealed, derive_key, open_sealed, seal
from entrepot.core.encoding import pack
from entrepot.core.errors import CancelledError, FormatError, IntegrityError
from entrepot.core.ids import ObjectId
from entrepot.core.sizes import MIB
from entrepot.objects.hashing import object_id_of
from entrepot.objects.shelf import Shelf
from entrepot.protocol import SealedRef

BATCH_BYTES: Final = 16 * MIB
GROUP_BYTES: Final = 128 * MIB
_NONCE: Final = bytes(12)


class Resealed(msgspec.Struct, frozen=True, kw_only=True):
    """The result, as :class:`entrepot.content.publish.Published` names things. Sizes in bytes."""

    root: SealedRef
    set_id: ObjectId
    set_size: int
    objects: int
    chunks: int
    stored_size: int
    new_objects: int
    new_bytes: int


def reseal(data: bytes, ref: SealedRef, *, purpose: Purpose, generation: Generation) -> Sealed:
    """The same payload under the key that another generation gives it.

    Args:
        data: the sealed bytes that ``ref`` names.

    Raises:
        IntegrityError: they are damaged, or the result does not open.
    """
    open_sealed(data, ref)
    payload = AESGCM(ref.key).decrypt(_NONCE, data, None)
    payload_hash = digest_of(payload)
    key = derive_key(generation, purpose, payload_hash)
    fresh = AESGCM(key).encrypt(_NONCE, payload, None)
    new = SealedRef(
        object_id=object_id_of(fresh),
        sealed_size=len(fresh),
        plain_size=ref.plain_size,
        key=key,
        digest=ref.digest,
    )
    open_sealed(fresh, new)
    return Sealed(data=fresh, ref=new, payload_hash=payload_hash)


def reseal_version(
    ref: SealedRef,
    *,
    shelf: Shelf,
    ledger: Ledger,
    keys: DomainKeys,
    verify: Callable[[bytes], bytes],
    sign: Callable[[bytes], str],
    progress: Callable[[int, int], None] = lambda _done, _total: None,
    cancelled: Callable[[], bool] = lambda: False,
    workers: int = 2,
) -> Resealed:
    """Seal one version anew.

    Args:
        ref: its manifest root.
        ledger: an open session, which this call alone uses; the caller adopts the set, as after a publish.
        keys: of the content's dedupe domain, in the new generation.
        verify: payload of the signed root.
        sign: makes the new signed root of its payload.
        progress: called with the sealed bytes done, and all there are (an estimate where chunks repeat).

    Raises:
        CancelledError: ``cancelled`` said so.
        IntegrityError: an object of the version is damaged; nothing is changed.
        EntrepotError: by the ledger or the store.
    """
    with tools(shelf, ledger, keys, workers=workers, name="reseal") as given:
        return _Run(given, progress, cancelled).run(ref, verify, sign)


class _Run:
    """One version."""

    def __init__(self, given: Tools, progress: Callable[[int, int], None], cancelled: Callable[[], bool]) -> None:
        self._shelf, self._ledger, self._keys, self._pool = given.shelf, given.ledger, given.keys, given.pool
        self._progress = progress
        self._cancelled = cancelled
        self._done = self._total = self._new_objects = self._new_bytes = 0
        self._pending: list[NewChunk] = []
        self._pending_bytes = 0
        self._lost: set[bytes] = set()  # in the index, but not on the shelf, or cut short

    def run(self, ref: SealedRef, verify: Callable[[bytes], bytes], sign: Callable[[bytes], str]) -> Resealed:
        """Do it."""
        old = open_root(self._read(ref), ref, verify)
        self._total = old.stored_size
        sequence = PartSequence(old)
        parts: list[SealedRef] = []
        while (wanted := sequence.wanted) is not None:
            parts.append(self._part(sequence.take(self._read(wanted))))
        totals = self._ledger.totals(Purpose.CHUNK)
        root = msgspec.structs.replace(
            old, version=VERSION, chunks=totals.objects, stored_size=totals.size, parts=tuple(parts)
        )
        sealed_root = self._keep(sign(pack(root)).encode(), Purpose.MANIFEST_ROOT)
        self._check(root, sealed_root, verify)
        kept = keep_set(self._shelf, self._ledger)
        return Resealed(
            root=sealed_root,
            set_id=kept.set_id,
            set_size=kept.size,
            objects=kept.objects,
            chunks=root.chunks,
            stored_size=root.stored_size,
            new_objects=self._new_objects + kept.new,
            new_bytes=self._new_bytes + kept.size * kept.new,
        )

    def _read(self, ref: SealedRef) -> bytes:
        return self._shelf.read_whole(ObjectId(ref.object_id))

    def _part(self, part: Part) -> SealedRef:
        """A part with the same entries and its chunks sealed anew, kept."""
        new = self._chunks(part.chunks)
        data = encode_part(msgspec.structs.replace(part, version=VERSION, chunks=new))
        if len(data) > MAX_PART:  # writers leave more room than any difference in sizes can take
            raise FormatError("A manifest part would grow beyond 1 MiB.")
        return self._keep(data, Purpose.MANIFEST_PART)

    def _chunks(self, refs: Sequence[SealedRef]) -> tuple[SealedRef, ...]:
        """The references of the same plaintexts, sealed anew and kept."""
        found: dict[bytes, SealedRef] = {}
        for batch in _batches(refs):
            if self._cancelled():
                raise CancelledError("Sealing anew was cancelled.")
            hashed = {self._keys.index_hash(Purpose.CHUNK, ref.digest): ref for ref in batch}
            wanted = {index_hash: ref for index_hash, ref in hashed.items() if index_hash not in found}
            found |= self._known(Purpose.CHUNK, wanted)
            missing = {index_hash: ref for index_hash, ref in wanted.items() if index_hash not in found}
            sealed = dict(zip(missing, self._pool.map(self._reseal_chunk, missing.values()), strict=True))
            self._store(Purpose.CHUNK, sealed)
            found |= {index_hash: each.ref for index_hash, each in sealed.items()}
            if self._pending_bytes >= GROUP_BYTES:
                self._commit(Purpose.CHUNK, found)
            self._done += sum(ref.sealed_size for ref in batch)
            self._progress(self._done, max(self._total, self._done))
        self._commit(Purpose.CHUNK, found)
        return tuple(found[self._keys.index_hash(Purpose.CHUNK, ref.digest)] for ref in refs)

    def _reseal_chunk(self, ref: SealedRef) -> Sealed:
        return reseal(self._read(ref), ref, purpose=Purpose.CHUNK, generation=self._keys.generation)

    def _keep(self, plain: bytes, purpose: Purpose) -> SealedRef:
        """Seal one plaintext of the manifest and keep it durably."""
        sealed = seal(plain, purpose=purpose, generation=self._keys.generation)
        index_hash = self._keys.index_hash(purpose, sealed.ref.digest)
        found = self._known(purpose, {index_hash: sealed.ref})
        if not found:
            self._store(purpose, {index_hash: sealed})
            found = {index_hash: sealed.ref}
            self._commit(purpose, found)
        return found[index_hash]

    def _known(self, purpose: Purpose, wanted: Mapping[bytes, SealedRef]) -> dict[bytes, SealedRef]:
        """What is sealed in this generation already, by an earlier run or another version, and really there."""
        known, lost = known_and_there(self._ledger, self._shelf, sorted(wanted))
        self._lost |= lost
        return {index_hash: self._reference(purpose, each, wanted[index_hash]) for index_hash, each in known.items()}

    def _reference(self, purpose: Purpose, known: KnownChunk, like: SealedRef) -> SealedRef:
        generation = self._keys.generation
        if known.generation != generation.number:
            raise IntegrityError(f"The index of generation {generation.number} names an object of {known.generation}.")
        return reference(known, generation, purpose, plain_size=like.plain_size, digest=like.digest)

    def _store(self, purpose: Purpose, sealed: Mapping[bytes, Sealed]) -> None:
        """Announce and store objects; they are durable and entered after :meth:`_commit`."""
        if not sealed:
            return
        announced = [announcement(each.ref, purpose) for each in sealed.values()]
        for at in range(0, len(announced), MAX_BATCH):
            self._ledger.announce(announced[at : at + MAX_BATCH])
        for index_hash, each in sealed.items():
            object_id = ObjectId(each.ref.object_id)
            if self._shelf.put_sealed(object_id, each.data, durable=False):
                self._new_objects += 1
                self._new_bytes += len(each.data)
            self._pending_bytes += len(each.data)
            self._pending.append(index_entry(index_hash, each.ref, each.payload_hash, self._keys.generation))

    def _commit(self, purpose: Purpose, found: dict[bytes, SealedRef]) -> None:
        """Make what was stored durable and enter it; what another session entered first is used instead."""
        pending, self._pending, self._pending_bytes = self._pending, [], 0
        if not pending:
            return
        self._shelf.flush()
        for at in range(0, len(pending), MAX_BATCH):
            winners = self._ledger.add(pending[at : at + MAX_BATCH], lost=self._lost)
            for index_hash, winner in winners.items():
                found[index_hash] = self._reference(purpose, winner, found[index_hash])

    def _check(self, root: Root, ref: SealedRef, verify: Callable[[bytes], bytes]) -> None:
        """Read the new manifest back as a client would, and see that every chunk it names is there."""
        stored = open_root(self._read(ref), ref, verify)
        if stored != root:
            raise IntegrityError("The manifest that was sealed anew does not read as it was written.")
        sequence = PartSequence(stored)
        while (wanted := sequence.wanted) is not None:
            if self._cancelled():
                raise CancelledError("Sealing anew was cancelled.")
            part = sequence.take(self._read(wanted))
            sizes = self._shelf.sizes([ObjectId(chunk.object_id) for chunk in part.chunks])
            if any(size != chunk.sealed_size for size, chunk in zip(sizes, part.chunks, strict=True)):
                raise IntegrityError("A chunk that was sealed anew is missing or cut short.")


def _batches(refs: Sequence[SealedRef]) -> Iterator[list[SealedRef]]:
    """Runs of references of about :data:`BATCH_BYTES` plain bytes."""
    batch: list[SealedRef] = []
    size = 0
    for ref in refs:
        batch.append(ref)
        size += ref.plain_size
        if size >= BATCH_BYTES or len(batch) >= MAX_BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
