"""The port to everything that stores objects: folder, memory, Azure Blob, S3.

A key is a ``/``-separated ASCII path. Implementations are synchronous (call them from worker threads), safe to use
from several threads
and processes at once, and translate their vendor's errors.
"""

from collections.abc import Iterable, Iterator
from typing import Protocol

import msgspec


class Stored(msgspec.Struct, frozen=True):
    """One stored key. ``modified``: seconds since 1970."""

    key: str
    size: int
    modified: float


class Page(msgspec.Struct, frozen=True):
    """Entries in ascending order of key; ``more`` when there are further ones after the last."""

    entries: tuple[Stored, ...]
    more: bool


class ObjectStore(Protocol):
    """What rooms above need of a store.

    Errors: ``NotFoundError``, ``UnavailableError`` (retryable), ``StorageError``, ``ForbiddenError``; also while
    iterating.
    All methods are idempotent and may be retried.
    """

    def put(self, key: str, data: bytes | Iterable[bytes], *, if_absent: bool = False, durable: bool = True) -> bool:
        """Store under ``key``, whole or not at all; a reader never sees part of it.

        Args:
            if_absent: store only if the key is free; then exactly one of several racing writers gets True.
            durable: on return it survives power loss; with False only after the next :meth:`flush`.

        Returns:
            whether it was stored (always True without ``if_absent``).
        """

    def flush(self) -> None:
        """Make every ``put`` of this store object so far durable."""

    def read(self, key: str, *, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Pieces of at most 256 KiB, from ``start``, ``length`` bytes or to the end. Missing keys raise before the
        first piece.
        """

    def stat(self, key: str) -> Stored:
        """Size and time of a key."""

    def delete(self, key: str) -> bool:
        """Remove a key; False when it was not there."""

    def list(self, prefix: str = "", *, after: str = "", limit: int = 1000) -> Page:
        """Keys that begin with ``prefix`` and are greater than ``after``, ascending."""
