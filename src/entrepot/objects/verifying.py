"""Never passes a damaged object on as a whole one.

Whole objects are hashed while they are read. Their last piece is held back until the hash is right, so whoever reads
gets either all bytes of the object, or fewer and an error. While nothing has been passed on yet, a wrong object is read
once more: its bytes may have been damaged on the way. Ranges and documents pass unchecked: who opens an object checks
it anyway, and signed documents are checked by their readers.
"""

from collections.abc import Iterator
from typing import Final

from entrepot.core.errors import BadInputError, IntegrityError
from entrepot.core.ids import ObjectId, object_id_from_hex
from entrepot.objects.hashing import ObjectHasher
from entrepot.objects.keys import OBJECTS, check_range
from entrepot.objects.store import Fetched, Unchanged
from entrepot.objects.wrapper import StoreWrapper

TRIES: Final = 2


class VerifyingStore(StoreWrapper):
    """Wraps a store; thread-safe. Put it around retries: what arrives damaged is read anew from the beginning."""

    def read(self, key: str, *, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """See :meth:`ObjectStore.read`.

        Raises:
            IntegrityError: what is stored is not what the key names; the last piece was not given.
        """
        check_range(start, length)
        object_id = _object_of(key)
        if object_id is None or start or not self._is_whole(key, length):
            yield from self._inner.read(key, start=start, length=length)
            return
        for tries_left in reversed(range(TRIES)):
            passed = False
            try:
                for piece in _checked(self._inner.read(key), object_id, key):
                    passed = True
                    yield piece
            except IntegrityError:
                if passed or not tries_left:
                    raise
            else:
                return

    def fetch(self, key: str, *, known: str = "", limit: int) -> Fetched | Unchanged:
        """See :meth:`ObjectStore.fetch`.

        Raises:
            IntegrityError: what is stored is not what the key names.
        """
        object_id = _object_of(key)
        for tries_left in reversed(range(TRIES)):
            found = self._inner.fetch(key, known=known, limit=limit)
            try:
                if object_id is not None and isinstance(found, Fetched):
                    list(_checked(iter((found.data,)), object_id, key))
            except IntegrityError:
                if not tries_left:
                    raise
            else:
                break
        return found

    def _is_whole(self, key: str, length: int | None) -> bool:
        return length is None or (length > 0 and length >= self._inner.stat(key).size)


def _object_of(key: str) -> ObjectId | None:
    if not key.startswith(OBJECTS):
        return None
    try:
        return object_id_from_hex(key.rpartition("/")[2])
    except BadInputError:
        return None  # no shelf has made this key


def _checked(pieces: Iterator[bytes], object_id: ObjectId, key: str) -> Iterator[bytes]:
    hasher = ObjectHasher()
    held: bytes | None = None
    for piece in pieces:
        hasher.update(piece)
        if held is not None:
            yield held
        held = piece
    if hasher.object_id() != object_id:
        raise IntegrityError(
            f"The object store holds a damaged {key}: its bytes do not match its id.",
            next_step="Remove it there and distribute the content again.",
        )
    if held is not None:
        yield held
