from pathlib import Path

import pytest

from entrepot.objects.folder import FolderStore
from entrepot.objects.memory import MemoryStore
from entrepot.objects.shelf import Shelf
from entrepot.objects.store import ObjectStore


@pytest.fixture(params=["memory", "folder"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    """Every adapter that needs no server. A new one is added here and passes the whole suite."""
    return MemoryStore() if request.param == "memory" else FolderStore(tmp_path / "store")


@pytest.fixture
def shelf(store: ObjectStore) -> Shelf:
    return Shelf(store)
