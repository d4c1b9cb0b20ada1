"""Databases to test on: embedded, and PostgreSQL."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from entrepot.database.engine import Database

from ..databases import embedded_copy

NOW = 1_774_267_200.0  # 2026-03-23T12:00:00Z


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty database with all tables, of each kind."""
    if request.param == "postgresql":
        yield request.getfixturevalue("postgres_database")
        return
    opened = embedded_copy(request.getfixturevalue("sqlite_template"), tmp_path / "site.db")
    yield opened
    opened.close()
