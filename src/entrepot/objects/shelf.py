"""The shelf: immutable objects by their id, on any store, hashed while they come in."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from entrepot.core.errors import BadInputError, IntegrityError, LimitedError, NotFoundError
from entrepot.core.ids import ObjectId, object_id_from_hex
from entrepot.objects.hashing import ObjectHasher, object_id_of
from entrepot.objects.keys import OBJECTS
from entrepot.objects.store import ObjectStore
from entrepot.protocol.dataplane import MAX_OBJECT_BYTES

PREFIX: Final = OBJECTS


def key_of(object_id: ObjectId) -> str:
    """Where an object lies in a store: ``objects/<first two digits>/<all 64>``."""
    digits = object_id.hex()
    return f"{PREFIX}{digits[:2]}/{digits}"


class Shelf:
    """Objects by id. Thread-safe, and safe between processes, as its store is.

    Attributes:
        store: the store below, for documents that have names of their own.

    Args:
        lookups: how many questions to the store may be on their way at once; more than one for stores far away.
    """

    def __init__(self, store: ObjectStore, *, lookups: int = 1) -> None:
        self.store = store
        self._lookups = lookups

    def has(self, ids: Sequence[ObjectId]) -> list[bool]:
        """Which of these are here, in their order."""
        return [size is not None for size in self.sizes(ids)]

    def sizes(self, ids: Sequence[ObjectId]) -> list[int | None]:
        """Their sizes in bytes, in their order; None for what is not here."""
        if self._lookups == 1 or len(ids) < 2:
            return [self._size_or_none(object_id) for object_id in ids]
        with ThreadPoolExecutor(min(self._lookups, len(ids)), thread_name_prefix="lookup") as pool:
            return list(pool.map(self._size_or_none, ids))

    def put(
        self, object_id: ObjectId, data: bytes | Iterable[bytes], *, durable: bool = True, replace: bool = False
    ) -> int:
        """Take an object in; does nothing when it is here already (``data`` is then not consumed).

        Args:
            data: all of it, or pieces of any size.
            durable: see :meth:`ObjectStore.put`.
            replace: put it in the place of what is here: that is damaged.

        Returns:
            its size in bytes.

        Raises:
            IntegrityError: the bytes hash to another id; nothing is stored.
            LimitedError: more than ``MAX_OBJECT_BYTES``; nothing is stored.
        """
        held = None if replace else self._size_or_none(object_id)
        if held is not None:
            return held
        pieces: Iterable[bytes] = (data,) if isinstance(data, bytes) else data
        hasher = ObjectHasher()
        self.store.put(key_of(object_id), _checked(object_id, pieces, hasher), durable=durable)
        return hasher.size

    def put_sealed(self, object_id: ObjectId, data: bytes, *, durable: bool = True) -> bool:
        """Take in an object that this process has just sealed, so that its id need not be computed again.

        One of another size is damaged (cut short by a crash of the disk, say) and replaced.

        Returns:
            whether it is new here.
        """
        if self._size_or_none(object_id) == len(data):
            return False
        self.store.put(key_of(object_id), data, durable=durable)
        return True

    def read(self, object_id: ObjectId, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Pieces of at most 256 KiB, *unverified*: whoever opens the object checks it.

        Raises:
            NotFoundError: before the first piece, when it is not here.
        """
        return self.store.read(key_of(object_id), start=start, length=length)

    def read_whole(self, object_id: ObjectId, limit: int = MAX_OBJECT_BYTES) -> bytes:
        """All bytes, verified against the id.

        Raises:
            NotFoundError: it is not here.
            LimitedError: it is larger than ``limit`` bytes.
            IntegrityError: what is stored is not what the id names.
        """
        gathered = bytearray()
        for piece in self.store.read(key_of(object_id), length=limit + 1):
            gathered += piece
        if len(gathered) > limit:
            raise LimitedError(f"The object {object_id.hex()[:16]} is larger than {limit} bytes.")
        whole = bytes(gathered)
        if object_id_of(whole) != object_id:
            raise IntegrityError(
                f"The object {object_id.hex()[:16]} is damaged: its bytes do not match its id.",
                next_step="Delete it here and fetch it again from another holder.",
            )
        return whole

    def size(self, object_id: ObjectId) -> int:
        """Its size in bytes.

        Raises:
            NotFoundError: it is not here.
        """
        return self.store.stat(key_of(object_id)).size

    def delete(self, object_id: ObjectId) -> bool:
        """Remove it; False when it was not here. Durable after :meth:`flush`."""
        return self.store.delete(key_of(object_id))

    def page(self, after: ObjectId | None = None, limit: int = 1000) -> list[tuple[ObjectId, int]]:
        """Ids in ascending order from the one that follows ``after``, with sizes; empty at the end."""
        found: list[tuple[ObjectId, int]] = []
        last = key_of(after) if after is not None else ""
        more = True
        while more and len(found) < limit:
            page = self.store.list(PREFIX, after=last, limit=limit - len(found))
            for entry in page.entries:
                last = entry.key
                object_id = _id_of(entry.key)
                if object_id is not None:
                    found.append((object_id, entry.size))
            more = page.more
        return found

    def flush(self) -> None:
        """Make all that was put or deleted so far durable."""
        self.store.flush()

    def _size_or_none(self, object_id: ObjectId) -> int | None:
        try:
            return self.store.stat(key_of(object_id)).size
        except NotFoundError:
            return None


def _checked(object_id: ObjectId, pieces: Iterable[bytes], hasher: ObjectHasher) -> Iterator[bytes]:
    """Pass pieces on; raise at the end, before the store names them, when they are not the object."""
    for piece in pieces:
        hasher.update(piece)
        if hasher.size > MAX_OBJECT_BYTES:
            raise LimitedError(f"No object is larger than {MAX_OBJECT_BYTES} bytes.")
        yield piece
    if hasher.object_id() != object_id:
        raise IntegrityError(f"The bytes sent for object {object_id.hex()[:16]} do not match its id.")


def _id_of(key: str) -> ObjectId | None:
    """The id in a key; None for a key that no shelf has made."""
    try:
        object_id = object_id_from_hex(key.rpartition("/")[2])
    except BadInputError:
        return None
    return object_id if key == key_of(object_id) else None
