"""A store around a store: forwards everything; what wraps overrides what it is for."""

from collections.abc import Iterable, Iterator

from entrepot.objects.store import Fetched, NoUrl, ObjectStore, Page, SignedUrl, Stored, Unchanged


class StoreWrapper:
    """An :class:`~entrepot.objects.store.ObjectStore` that behaves as ``inner`` does."""

    def __init__(self, inner: ObjectStore) -> None:
        self._inner = inner

    def put(self, key: str, data: bytes | Iterable[bytes], *, if_absent: bool = False, durable: bool = True) -> bool:
        """See :meth:`ObjectStore.put`."""
        return self._inner.put(key, data, if_absent=if_absent, durable=durable)

    def flush(self) -> None:
        """See :meth:`ObjectStore.flush`."""
        self._inner.flush()

    def read(self, key: str, *, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """See :meth:`ObjectStore.read`."""
        return self._inner.read(key, start=start, length=length)

    def fetch(self, key: str, *, known: str = "", limit: int) -> Fetched | Unchanged:
        """See :meth:`ObjectStore.fetch`."""
        return self._inner.fetch(key, known=known, limit=limit)

    def stat(self, key: str) -> Stored:
        """See :meth:`ObjectStore.stat`."""
        return self._inner.stat(key)

    def delete(self, key: str) -> bool:
        """See :meth:`ObjectStore.delete`."""
        return self._inner.delete(key)

    def list(self, prefix: str = "", *, after: str = "", limit: int = 1000) -> Page:
        """See :meth:`ObjectStore.list`."""
        return self._inner.list(prefix, after=after, limit=limit)

    def link(self, key: str, *, seconds: int) -> SignedUrl | NoUrl:
        """See :meth:`ObjectStore.link`."""
        return self._inner.link(key, seconds=seconds)
