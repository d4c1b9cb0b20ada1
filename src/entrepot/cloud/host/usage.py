"""How much a service stores, and the quota of its subscription: a store that counts.

The count begins with a walk over the folder and follows every put and delete that goes through this process. What
instances write on their own is not in it (records on their way to the site, slots of allowances): the site takes it
away through this process, which would subtract what it never added. The walk is repeated now and then.

The quota is checked while bytes arrive: what would pass it is refused and nothing of it is stored. Documents are let in
a little beyond (``RESERVE``, all together); those that steer the service always are: a full subscription must still be
stopped, renewed and revoked.
"""

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from entrepot.core.errors import NotFoundError, StorageError
from entrepot.core.sizes import MIB, format_size
from entrepot.objects.shelf import PREFIX
from entrepot.objects.store import ObjectStore
from entrepot.objects.wrapper import StoreWrapper
from entrepot.protocol.allowances import ALLOWANCE_PREFIX, MARK_PREFIX
from entrepot.protocol.control import CONTROL_KEY, TRUST_KEY
from entrepot.protocol.transactions import TX_PREFIX

RESERVE: Final = 64 * MIB
_OF_INSTANCES: Final = (TX_PREFIX, ALLOWANCE_PREFIX, MARK_PREFIX)


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """``stored`` bytes of all that the site placed here, ``objects`` sealed objects among them."""

    stored: int = 0
    objects: int = 0


class QuotaExceededError(StorageError):
    """The subscription's storage quota is used up."""

    code = "quota_exceeded"


def measure(root: Path) -> Usage:
    """Walk over a store's folder. Files that vanish meanwhile do not count; half-written ones neither."""
    stored = objects = 0
    for folder, names, files in os.walk(root):
        names[:] = [name for name in names if not name.startswith(".")]
        key = f"{Path(folder).relative_to(root).as_posix()}/"
        is_shelf = key.startswith(PREFIX)
        for name in files if is_counted(key) else ():
            try:
                stored += (Path(folder) / name).stat().st_size
            except FileNotFoundError:
                continue
            objects += is_shelf
    return Usage(stored=stored, objects=objects)


def is_counted(key: str) -> bool:
    """Whether the site, and not an instance, places this here."""
    return not key.startswith(_OF_INSTANCES)


class CountingStore(StoreWrapper):
    """Wraps a store; thread-safe.

    Args:
        allowance: gives the bytes that may be stored here now, negative when there is too much already; asked at each
            put.
    """

    def __init__(self, inner: ObjectStore, usage: Usage, allowance: Callable[[], int]) -> None:
        super().__init__(inner)
        self._allowance = allowance
        self._lock = threading.Lock()
        self._usage = usage

    @property
    def usage(self) -> Usage:
        """What is stored, as far as is known."""
        return self._usage

    def recount(self, usage: Usage) -> None:
        """Take over the result of a new walk."""
        with self._lock:
            self._usage = usage

    def put(self, key: str, data: bytes | Iterable[bytes], *, if_absent: bool = False, durable: bool = True) -> bool:
        """See :class:`ObjectStore`.

        Raises:
            QuotaExceededError: the quota does not allow it.
        """
        before = self._size(key)
        counter = _Counter(self._most(key, before or 0))
        pieces = (data,) if isinstance(data, bytes) else data
        stored = self._inner.put(key, counter.over(pieces), if_absent=if_absent, durable=durable)
        if stored:
            self._add(key, counter.size - (before or 0), 0 if before is not None else 1)
        return stored

    def _most(self, key: str, before: int) -> int:
        """So many bytes may be stored under a key that has ``before`` now."""
        left = self._allowance() + before
        if key in (CONTROL_KEY, TRUST_KEY):
            return max(left, 0) + RESERVE
        return left if key.startswith(PREFIX) else left + RESERVE

    def delete(self, key: str) -> bool:
        """See :class:`ObjectStore`."""
        before = self._size(key)
        removed = self._inner.delete(key)
        if removed and before is not None:
            self._add(key, -before, -1)
        return removed

    def _size(self, key: str) -> int | None:
        try:
            return self._inner.stat(key).size
        except NotFoundError:
            return None

    def _add(self, key: str, stored: int, count: int) -> None:
        if not is_counted(key):
            return
        with self._lock:
            held = self._usage
            objects = held.objects + (count if key.startswith(PREFIX) else 0)
            self._usage = Usage(stored=max(0, held.stored + stored), objects=max(0, objects))


class _Counter:
    """Counts bytes that pass, and stops at a bound."""

    def __init__(self, most: int) -> None:
        self.size = 0
        self._most = most

    def over(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            self.size += len(piece)
            if self.size > self._most:
                raise QuotaExceededError(
                    f"The subscription's storage quota is used up: {format_size(max(0, self._most))} are left.",
                    next_step="Remove content, or let the cloud host's administrator raise the quota:"
                    " entrepot host subscription set NAME --storage SIZE.",
                )
            yield piece
