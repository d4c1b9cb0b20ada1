"""Fixtures of the cloud room."""

from collections.abc import Callable
from pathlib import Path

import pytest

from entrepot.protocol.transactions import Record


@pytest.fixture
def make_record() -> Callable[[int], Record]:
    """A record that can be told from others by its number."""

    def make(number: int) -> Record:
        return Record(
            time=1_700_000_000_000 + number,
            device=f"dev-{number:016x}",
            set_id=bytes(32),
            object_id=number.to_bytes(32, "big"),
            status=200,
            sent=number,
            duration=5,
        )

    return make


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """The folder of all instances' journals."""
    folder = tmp_path / "state"
    folder.mkdir()
    return folder
