from collections.abc import Callable
from pathlib import Path

import pytest

from entrepot.objects.folder import FolderStore
from entrepot.objects.memory import MemoryStore
from entrepot.objects.metering import Meter, MeteredStore
from entrepot.objects.opening import open_remote
from entrepot.objects.remembering import RememberingStore
from entrepot.objects.retrying import Backoff, RetryingStore
from entrepot.objects.shelf import Shelf
from entrepot.objects.store import ObjectStore
from entrepot.objects.throttling import Pace, ThrottledStore, unlimited
from entrepot.objects.verifying import VerifyingStore
from entrepot.objects.wrapper import StoreWrapper

LOCAL = ["memory", "folder", "wrapper", "retrying", "throttled", "verifying", "metered", "remembering", "all wrappers"]
REMOTE = ["s3", "azure"]


def _fast(inner: ObjectStore) -> ThrottledStore:
    return ThrottledStore(inner, up=Pace(lambda: 1e12), down=Pace(unlimited))


def _everything(inner: ObjectStore) -> ObjectStore:
    """As a gateway stacks them, and the pace outside."""
    return _fast(VerifyingStore(RememberingStore(RetryingStore(MeteredStore(inner, Meter())))))


WRAPPERS: dict[str, Callable[[ObjectStore], ObjectStore]] = {
    "wrapper": StoreWrapper,
    "retrying": lambda inner: RetryingStore(inner, Backoff(attempts=3, first=0.001)),
    "throttled": _fast,
    "verifying": VerifyingStore,
    "metered": lambda inner: MeteredStore(inner, Meter()),
    "remembering": RememberingStore,
    "all wrappers": _everything,
}


@pytest.fixture(params=[*LOCAL, *(pytest.param(name, marks=pytest.mark.process) for name in REMOTE)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    """Every adapter and every wrapper. A new one is added here and passes the whole suite."""
    match request.param:
        case "memory":
            return MemoryStore()
        case "folder":
            return FolderStore(tmp_path / "store")
        case "s3":
            return open_remote(request.getfixturevalue("moto").settings(), meter=Meter())
        case "azure":
            return open_remote(request.getfixturevalue("azurite").settings(), meter=Meter())
        case wrapper:
            return WRAPPERS[wrapper](FolderStore(tmp_path / "store"))


@pytest.fixture
def shelf(store: ObjectStore) -> Shelf:
    return Shelf(store, lookups=4)
