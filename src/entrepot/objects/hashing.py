"""The object id: one hash that names an object everywhere and lets any holder verify it without a key."""

import hashlib
from typing import Final

from entrepot.core.ids import ObjectId

BLOCK: Final = 64 * 1024


class ObjectHasher:
    """Computes an object id while bytes arrive in pieces of any size.

    The id is SHA-256 over the concatenated SHA-256 hashes of 64 KiB blocks: BranchCache v1's segment hash of data
    ([MS-PCCRC] 2.2). ``block_hashes`` are kept only on request (32 bytes per 64 KiB).
    """

    def __init__(self) -> None:
        self._outer = hashlib.sha256()
        self._inner = hashlib.sha256()
        self._filled = 0
        self.size = 0

    def update(self, data: bytes | bytearray | memoryview) -> None:
        """Take in the next bytes."""
        view = memoryview(data)
        self.size += len(view)
        while view:
            room = BLOCK - self._filled
            piece = view[:room]
            self._inner.update(piece)
            self._filled += len(piece)
            view = view[room:]
            if self._filled == BLOCK:
                self._close_block()

    def _close_block(self) -> None:
        self._outer.update(self._inner.digest())
        self._inner = hashlib.sha256()
        self._filled = 0

    def object_id(self) -> ObjectId:
        """The id of all bytes taken in. Call once, at the end."""
        if self._filled:
            self._close_block()
        return ObjectId(self._outer.digest())


def object_id_of(data: bytes | bytearray | memoryview) -> ObjectId:
    """The id of bytes in memory."""
    view = memoryview(data)
    return ObjectId(
        hashlib.sha256(
            b"".join(hashlib.sha256(view[at : at + BLOCK]).digest() for at in range(0, len(view), BLOCK))
        ).digest()
    )
