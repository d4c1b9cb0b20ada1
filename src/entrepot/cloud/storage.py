"""The object store of one cloud service, as host and gateways open it: a folder, or a prefix in S3 or Azure Blob."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import msgspec

from entrepot.core.errors import EntrepotError, StorageError
from entrepot.objects.folder import FolderStore
from entrepot.objects.metering import Meter
from entrepot.objects.opening import USUAL, Waits, open_remote
from entrepot.objects.retrying import DEFAULT, Backoff
from entrepot.objects.serving import ServedStore
from entrepot.objects.settings import StoreKind, StoreSettings
from entrepot.objects.store import ObjectStore, Stored

LOOKUPS: Final = 32
"""Questions for objects on their way to a store far away at once."""
_DELETERS: Final = 16
_NAMED: Final = 10
_PROBE: Final = "probe"


class ServiceStore(msgspec.Struct, frozen=True, kw_only=True):
    """An open store.

    Attributes:
        store: reads and writes.
        lookups: for :class:`~entrepot.objects.shelf.Shelf`.
        remote: whether it is far away: requests cost time and money.
        meter: what goes there and comes from there; a folder's stays empty.
    """

    store: ObjectStore
    lookups: int
    remote: bool
    meter: Meter


_SOON: Final = Waits(connect=3, silence=3, whole=60)
_ONCE: Final = Backoff(attempts=1)


def open_service_store(folder: Path, settings: StoreSettings, *, soon: Meter | None = None) -> ServiceStore:
    """Open a service's store; no request is made yet.

    Args:
        folder: where it lies if ``settings`` say so.
        settings: with the service's own prefix.
        soon: for who asks again in a moment anyway: each request is tried once, and ends soon; it is counted here.

    Raises:
        StorageError: settings or credentials cannot be used.
    """
    meter = Meter() if soon is None else soon
    if settings.kind is StoreKind.FOLDER:
        return ServiceStore(store=FolderStore(folder), lookups=1, remote=False, meter=meter)
    try:
        how = (DEFAULT, USUAL) if soon is None else (_ONCE, _SOON)
        store = ServedStore(open_remote(settings, meter=meter, backoff=how[0], waits=how[1]))
    except EntrepotError as error:
        raise StorageError(
            f"The service's object store cannot be opened: {error.message}", next_step=error.next_step
        ) from None
    return ServiceStore(store=store, lookups=LOOKUPS, remote=True, meter=meter)


def probe(store: ObjectStore) -> None:
    """Write, read and remove a value, so that a store that cannot be used shows before anything relies on it.

    Raises:
        StorageError: what was written is not what is read.
        EntrepotError: as the store raises.
    """
    store.put(_PROBE, b"entrepot")
    read = b"".join(store.read(_PROBE))
    store.delete(_PROBE)
    if read != b"entrepot":
        raise StorageError(
            "The object store does not give back what it was given.", next_step="Look for a cache in front of it."
        )


def remove_all(store: ObjectStore) -> tuple[str, ...]:
    """Delete every key, then look whether any is left. May be repeated.

    Returns:
        what is left, by name; empty when nothing is.

    Raises:
        EntrepotError: as the store raises; some keys may be gone.
    """
    with ThreadPoolExecutor(_DELETERS, thread_name_prefix="delete") as pool:
        for _ in range(2):
            after, more = "", True
            while more:
                page = store.list(after=after)
                for _ in pool.map(store.delete, [entry.key for entry in page.entries]):
                    pass
                more = page.more
                after = page.entries[-1].key if page.entries else after
            store.flush()
            left = store.list(limit=_NAMED + 1)
            if not left.entries:
                return ()
    names = [f"in the object store: {entry.key}" for entry in left.entries[:_NAMED]]
    return (*names, *(["and more"] if len(left.entries) > _NAMED or left.more else []))


def all_values(store: ObjectStore) -> Iterator[Stored]:
    """Everything that is stored, in the order of keys; it is asked for in pages."""
    after, more = "", True
    while more:
        page = store.list(after=after)
        yield from page.entries
        more = page.more
        after = page.entries[-1].key if page.entries else after
