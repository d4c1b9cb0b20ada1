"""Tells how many bytes come from a store, as they come: whoever reads from a cloud pays for what leaves it."""

from collections.abc import Callable, Iterator
from typing import Final

from entrepot.objects.store import Fetched, ObjectStore, Page, Unchanged
from entrepot.objects.wrapper import StoreWrapper

ENTRY_BYTES: Final = 800
"""A listing's bytes do not show through the vendor's client: about so many for each key in it, estimated."""


class ReceivingStore(StoreWrapper):
    """Wraps a store; as thread-safe as ``received``, which is told of bytes: of values exactly, of listings about."""

    def __init__(self, inner: ObjectStore, received: Callable[[int], None]) -> None:
        super().__init__(inner)
        self._received = received

    def read(self, key: str, *, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """See :meth:`ObjectStore.read`. Pieces of a read that breaks off count, too."""
        for piece in self._inner.read(key, start=start, length=length):
            self._received(len(piece))
            yield piece

    def fetch(self, key: str, *, known: str = "", limit: int) -> Fetched | Unchanged:
        """See :meth:`ObjectStore.fetch`."""
        found = self._inner.fetch(key, known=known, limit=limit)
        if isinstance(found, Fetched):
            self._received(len(found.data))
        return found

    def list(self, prefix: str = "", *, after: str = "", limit: int = 1000) -> Page:
        """See :meth:`ObjectStore.list`."""
        page = self._inner.list(prefix, after=after, limit=limit)
        self._received(ENTRY_BYTES * len(page.entries))
        return page
