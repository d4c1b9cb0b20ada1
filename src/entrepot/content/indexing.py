"""What everything that seals into the library shares: its tools, what the index knows and the shelf really has, and how
an object is named in it."""

import contextlib
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor

import msgspec

from entrepot.content.chunking import DomainKeys
from entrepot.content.ledger import MAX_BATCH, Announcement, KnownChunk, Ledger, NewChunk
from entrepot.content.sealing import Generation, Purpose, derive_key
from entrepot.core.errors import EntrepotError
from entrepot.core.ids import ObjectId
from entrepot.objects.shelf import Shelf
from entrepot.protocol import SealedRef


class Tools(msgspec.Struct, frozen=True, kw_only=True):
    """What a run works with: it alone uses the ledger's session, the pool, and the one thread that waits for the
    ``disk``, so that nobody in the pool has to."""

    shelf: Shelf
    ledger: Ledger
    keys: DomainKeys
    pool: Executor
    disk: Executor


@contextlib.contextmanager
def tools(shelf: Shelf, ledger: Ledger, keys: DomainKeys, *, workers: int, name: str) -> Iterator[Tools]:
    """Tools with a pool of their own, for as long as the block lasts.

    What waits for a flush when it fails must not appear later, when the ledger may have forgotten it: it appears now.
    """
    pool = ThreadPoolExecutor(workers, thread_name_prefix=name)
    disk = ThreadPoolExecutor(1, thread_name_prefix=f"{name}-disk")
    try:
        yield Tools(shelf=shelf, ledger=ledger, keys=keys, pool=pool, disk=disk)
    except BaseException:
        _end(pool, disk)
        with contextlib.suppress(EntrepotError):
            shelf.flush()
        raise
    finally:
        _end(pool, disk)


def _end(*executors: Executor) -> None:
    for each in executors:
        each.shutdown(wait=True, cancel_futures=True)


def known_and_there(
    ledger: Ledger, shelf: Shelf, index_hashes: Sequence[bytes]
) -> tuple[dict[bytes, KnownChunk], set[bytes]]:
    """What the ledger knows and the shelf really has; and what of it was lost or cut short, to be stored anew."""
    known: dict[bytes, KnownChunk] = {}
    for at in range(0, len(index_hashes), MAX_BATCH):
        known |= ledger.known(index_hashes[at : at + MAX_BATCH])
    sizes = shelf.sizes([each.object_id for each in known.values()])
    sound = {key: each for (key, each), size in zip(known.items(), sizes, strict=True) if size == each.sealed_size}
    return sound, known.keys() - sound.keys()


def reference(
    known: KnownChunk, generation: Generation, purpose: Purpose, *, plain_size: int, digest: bytes
) -> SealedRef:
    """The reference that opens what the index knows, with the key that its generation gives it."""
    return SealedRef(
        object_id=known.object_id,
        sealed_size=known.sealed_size,
        plain_size=plain_size,
        key=derive_key(generation, purpose, known.payload_hash),
        digest=digest,
    )


def announcement(ref: SealedRef, purpose: Purpose) -> Announcement:
    """What the ledger is told before an object is stored."""
    return Announcement(
        object_id=ObjectId(ref.object_id), sealed_size=ref.sealed_size, purpose=purpose, plain_size=ref.plain_size
    )


def index_entry(index_hash: bytes, ref: SealedRef, payload_hash: bytes, generation: Generation) -> NewChunk:
    """What is entered into the index once the object is durable."""
    return NewChunk(
        index_hash=index_hash,
        object_id=ObjectId(ref.object_id),
        sealed_size=ref.sealed_size,
        payload_hash=payload_hash,
        generation=generation.number,
    )
