"""The object set: the sorted ids of all objects that a version, or a delta, needs (architecture 2.5).

``MAGIC`` (8 bytes), then the ids, 32 bytes each, strictly ascending. It is stored *unsealed* under its own object id:
it lets points and
gateways decide what a token may read, and tells them nothing else.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from entrepot.core.errors import FormatError
from entrepot.core.ids import OBJECT_ID_BYTES, ObjectId

MAGIC: Final = b"ENTSET\x00\x01"


def encode_set(ascending: Iterable[bytes]) -> Iterator[bytes]:
    """Pieces of an encoded set, of at most 128 KiB; the ids come sorted and distinct."""
    buffer = bytearray(MAGIC)
    for object_id in ascending:
        buffer += object_id
        if len(buffer) >= 128 * 1024:
            yield bytes(buffer)
            buffer.clear()
    if buffer:
        yield bytes(buffer)


class ObjectSet:
    """Membership by binary search over the encoded bytes (a map of a verified file, or bytes in memory).

    Raises:
        FormatError: no magic, or a length that is no multiple of 32. Order is the writer's promise, proven by the
        set's own id.
    """

    def __init__(self, data: "bytes | memoryview") -> None:
        if bytes(data[: len(MAGIC)]) != MAGIC or (len(data) - len(MAGIC)) % OBJECT_ID_BYTES:
            raise FormatError("This is not an object set of version 1.")
        self._data = data

    def __len__(self) -> int:
        return (len(self._data) - len(MAGIC)) // OBJECT_ID_BYTES

    def __getitem__(self, index: int) -> ObjectId:
        if not 0 <= index < len(self):
            raise IndexError(index)
        at = len(MAGIC) + index * OBJECT_ID_BYTES
        return ObjectId(bytes(self._data[at : at + OBJECT_ID_BYTES]))

    def __iter__(self) -> Iterator[ObjectId]:
        return (self[index] for index in range(len(self)))

    def __contains__(self, object_id: object) -> bool:
        if not isinstance(object_id, bytes):
            return False
        data, low, high = self._data, 0, len(self)
        while low < high:  # asked at every request: without a call for each step
            middle = (low + high) // 2
            at = len(MAGIC) + middle * OBJECT_ID_BYTES
            found = bytes(data[at : at + OBJECT_ID_BYTES])
            if found == object_id:
                return True
            if found < object_id:
                low = middle + 1
            else:
                high = middle
        return False
