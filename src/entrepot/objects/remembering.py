"""Remembers the sizes of objects in a store far away: an object's bytes never change, so neither does its size.

A gateway asks for the size before it reads; with this, a download is one request to the store instead of two. That an
object is gone shows when it is read. What is *not* there is not remembered: it may come at any moment.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

from entrepot.objects.keys import OBJECTS
from entrepot.objects.store import ObjectStore, Stored
from entrepot.objects.wrapper import StoreWrapper

MOST: Final = 65_536


class RememberingStore(StoreWrapper):
    """Wraps a store; thread-safe.

    Args:
        most: so many sizes are kept, the least recently asked for go first; about 300 bytes each.
    """

    def __init__(self, inner: ObjectStore, *, most: int = MOST) -> None:
        super().__init__(inner)
        self._most = most
        self._lock = threading.Lock()
        self._known: OrderedDict[str, Stored] = OrderedDict()

    def put(self, key: str, data: bytes | Iterable[bytes], *, if_absent: bool = False, durable: bool = True) -> bool:
        """See :meth:`ObjectStore.put`."""
        try:
            return self._inner.put(key, data, if_absent=if_absent, durable=durable)
        finally:
            self._forget(key)

    def stat(self, key: str) -> Stored:
        """See :meth:`ObjectStore.stat`; of objects what was true once."""
        if not key.startswith(OBJECTS):
            return self._inner.stat(key)
        with self._lock:
            found = self._known.get(key)
            if found is not None:
                self._known.move_to_end(key)
                return found
        found = self._inner.stat(key)
        with self._lock:
            self._known[key] = found
            if len(self._known) > self._most:
                self._known.popitem(last=False)
        return found

    def delete(self, key: str) -> bool:
        """See :meth:`ObjectStore.delete`."""
        try:
            return self._inner.delete(key)
        finally:
            self._forget(key)

    def _forget(self, key: str) -> None:
        with self._lock:
            self._known.pop(key, None)
