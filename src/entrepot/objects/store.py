"""The port to everything that stores objects: folder, memory, Azure Blob, S3.

A key is a ``/``-separated ASCII path. Implementations are synchronous (call them from worker threads), safe to use
from several threads and processes at once, and translate their vendor's errors.

What ``durable`` means, store by store:

- *memory*: nothing survives the process.
- *folder*: bytes and name were synced to the disk; without ``durable`` after the next :meth:`ObjectStore.flush`.
- *S3, Azure Blob*: the service has confirmed the whole value, which it promises to keep; ``durable=False`` and
  ``flush`` change nothing. A value travels in one request, so no unfinished upload stays behind.
"""

from collections.abc import Iterable, Iterator
from typing import Final, Protocol

import msgspec

MAX_LINK_SECONDS: Final = 60


class Stored(msgspec.Struct, frozen=True):
    """One stored key. ``modified``: seconds since 1970."""

    key: str
    size: int
    modified: float


class Page(msgspec.Struct, frozen=True):
    """Entries in ascending order of key; ``more`` when there are further ones after the last."""

    entries: tuple[Stored, ...]
    more: bool


class Fetched(msgspec.Struct, frozen=True):
    """A whole value. ``version`` differs from that of every other value that the key had; empty: not known."""

    data: bytes
    version: str


class Unchanged(msgspec.Struct, frozen=True):
    """The value is still the one whose version is known."""


class SignedUrl(msgspec.Struct, frozen=True):
    """Whoever has ``url`` may read one key until ``expires`` (seconds since 1970). It is a secret until then."""

    url: str
    expires: float

    def __repr__(self) -> str:
        return f"SignedUrl(***, {self.expires})"


class NoUrl(msgspec.Struct, frozen=True):
    """The store gives no such addresses: its values are streamed by whoever holds it."""


class ObjectStore(Protocol):
    """What rooms above need of a store.

    Errors: ``NotFoundError``, ``UnavailableError`` (retryable), ``StorageError``, ``ForbiddenError`` (the store does
    not accept our credentials), ``TrustError`` (its certificate); also while iterating.
    All methods are idempotent and may be retried.
    """

    def put(self, key: str, data: bytes | Iterable[bytes], *, if_absent: bool = False, durable: bool = True) -> bool:
        """Store under ``key``, whole or not at all; a reader never sees part of it.

        Args:
            if_absent: store only if the key is free; then exactly one of several racing writers gets True (all those
                that brought the same bytes may, where a lost answer made it unclear who came first).
            durable: on return it survives power loss; with False only after the next :meth:`flush`.

        Returns:
            whether it was stored (always True without ``if_absent``).
        """

    def flush(self) -> None:
        """Make every ``put`` of this store object so far durable."""

    def read(self, key: str, *, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Pieces of at most 256 KiB, from ``start``, ``length`` bytes or to the end. Missing keys raise before the
        first piece. A value that ends too early raises, it never looks whole.
        """

    def fetch(self, key: str, *, known: str = "", limit: int) -> Fetched | Unchanged:
        """A whole small value, in one request where the store is far away.

        Args:
            known: version of the value that the caller has; empty: none.

        Raises:
            LimitedError: it is larger than ``limit`` bytes.
        """

    def stat(self, key: str) -> Stored:
        """Size and time of a key."""

    def delete(self, key: str) -> bool:
        """Remove a key; False when it was not there. On S3 two callers that race may both be told True."""

    def list(self, prefix: str = "", *, after: str = "", limit: int = 1000) -> Page:
        """Keys that begin with ``prefix`` and are greater than ``after``, ascending."""

    def link(self, key: str, *, seconds: int) -> SignedUrl | NoUrl:
        """An address at which anyone may read this one key, for at most ``MAX_LINK_SECONDS``.

        It is made without asking the store: the key may be missing.
        """
