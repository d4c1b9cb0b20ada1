"""How much a service stores, and the quota of its subscription: a store that counts.

The count begins with a walk over the folder and follows every put and delete that goes through this process. What
instances write on their own is not in it (records on their way to the site, slots of allowances): the site takes it
away through this process, which would subtract what it never added. The walk is repeated now and then.

The quota is checked while bytes arrive: what would pass it is refused and nothing of it is stored. Towards the quota a
file and each folder that it lies in count as ``SMALLEST`` bytes at least, as they do on a disk: else one tenant could
use up the files that a file system can have, with empty ones. Documents are let in a little beyond (``RESERVE``, all
together); those that steer the service always are: a full subscription must still be stopped, renewed and revoked.

What instances write, no site does: it would be stored uncounted.
"""

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from entrepot.core.errors import ForbiddenError, NotFoundError, StorageError
from entrepot.core.sizes import KIB, MIB, format_size
from entrepot.objects.shelf import PREFIX
from entrepot.objects.store import ObjectStore
from entrepot.objects.wrapper import StoreWrapper
from entrepot.protocol.allowances import ALLOWANCE_PREFIX, MARK_PREFIX
from entrepot.protocol.control import CONTROL_KEY, TRUST_KEY
from entrepot.protocol.transactions import TX_PREFIX

RESERVE: Final = 64 * MIB
SMALLEST: Final = 4 * KIB
_OF_INSTANCES: Final = (TX_PREFIX, ALLOWANCE_PREFIX, MARK_PREFIX)


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """``stored`` bytes of all that the site placed here, ``objects`` sealed objects among them.

    ``charged``: bytes that count towards the quota.
    """

    stored: int = 0
    objects: int = 0
    charged: int = 0

    def plus(self, key: str, size: int, *, times: int = 1) -> "Usage":
        """With one more value (``times`` -1: one less); what an instance writes does not count."""
        if not is_counted(key):
            return self
        return Usage(
            stored=max(0, self.stored + times * size),
            objects=max(0, self.objects + times * key.startswith(PREFIX)),
            charged=max(0, self.charged + times * charge(key, size)),
        )


class QuotaExceededError(StorageError):
    """The subscription's storage quota is used up."""

    code = "quota_exceeded"


def charge(key: str, size: int) -> int:
    """What a value counts towards the quota: a disk needs a file for it, and a folder for each part of its key before
    the last."""
    return max(size, SMALLEST * (1 + key.count("/")))


def measure(root: Path) -> Usage:
    """Walk over a store's folder. Files that vanish meanwhile do not count; half-written ones neither."""
    usage = Usage()
    for folder, names, files in os.walk(root):
        names[:] = [name for name in names if not name.startswith(".")]
        place = Path(folder).relative_to(root).parts
        for name in files if is_counted("/".join((*place, ""))) else ():
            try:
                size = (Path(folder) / name).stat().st_size
            except FileNotFoundError:
                continue
            usage = usage.plus("/".join((*place, name)), size)
    return usage


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
            ForbiddenError: only instances write such a value.
        """
        if not is_counted(key):
            raise ForbiddenError(f"Only the service's own instances write below {key.partition('/')[0]}/.")
        before = self._size(key)
        counter = _Counter(key, self._most(key, 0 if before is None else charge(key, before)))
        pieces = (data,) if isinstance(data, bytes) else data
        stored = self._inner.put(key, counter.over(pieces), if_absent=if_absent, durable=durable)
        if stored:
            self._replace(key, before, counter.size)
        return stored

    def _most(self, key: str, before: int) -> int:
        """So many bytes may be stored under a key for which ``before`` bytes are charged now."""
        left = self._allowance() + before
        if key in (CONTROL_KEY, TRUST_KEY):
            return max(left, 0) + RESERVE
        return left if key.startswith(PREFIX) else left + RESERVE

    def delete(self, key: str) -> bool:
        """See :class:`ObjectStore`."""
        before = self._size(key)
        removed = self._inner.delete(key)
        if removed and before is not None:
            self._replace(key, before, None)
        return removed

    def _size(self, key: str) -> int | None:
        try:
            return self._inner.stat(key).size
        except NotFoundError:
            return None

    def _replace(self, key: str, before: int | None, now: int | None) -> None:
        """What has the key changed its size; None: there is nothing."""
        with self._lock:
            if before is not None:
                self._usage = self._usage.plus(key, before, times=-1)
            if now is not None:
                self._usage = self._usage.plus(key, now)


class _Counter:
    """Counts bytes that pass, and stops at a bound."""

    def __init__(self, key: str, most: int) -> None:
        self.size = 0
        self._key = key
        self._most = most

    def over(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        self._check()
        for piece in pieces:
            self.size += len(piece)
            self._check()
            yield piece

    def _check(self) -> None:
        if charge(self._key, self.size) > self._most:
            raise QuotaExceededError(
                f"The subscription's storage quota is used up: {format_size(max(0, self._most))} are left"
                f" (a file counts as {format_size(SMALLEST)} at least).",
                next_step="Remove content, or let the cloud host's administrator raise the quota:"
                " entrepot host subscription set NAME --storage SIZE.",
            )
