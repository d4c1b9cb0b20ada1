"""Both databases, with all tables."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from entrepot.database.engine import Database
from entrepot.database.hierarchy import Hierarchy, Site, add_site, create_hierarchy
from entrepot.protocol.drillapi import DrillReport, DrillTimes

from ..databases import embedded_copy

_TIMES = DrillTimes()
DRILL_REPORT = DrillReport(
    seconds=30,
    steady_seconds=25,
    requests=10,
    whole=10,
    unfinished=0,
    received=100,
    verified=100,
    damaged=0,
    bytes_per_second=4,
    first_byte=_TIMES,
    whole_object=_TIMES,
    statuses={"200": 10},
    errors={},
    examples=(),
    limited=0,
    unavailable=0,
    refused=0,
    instances=(),
    own_cpu_percent=1,
    own_delay=_TIMES,
    clients_per_day=3,
    interrupted=False,
    conclusions=("fine",),
)
"""What a small load drill told, wherever tests keep one."""


def _filled(database: Database) -> Database:
    record = Hierarchy(name="Test", epoch=1, trust_number=1, trust_document="", root_public=bytes(32))
    with database.transaction() as connection:
        create_hierarchy(connection, record, now=0)
        add_site(connection, Site(code="PS1", name="One", url="https://x", vault_public=bytes(32), created=0))
    return database


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty hierarchy on either database."""
    if request.param == "postgres":
        yield _filled(request.getfixturevalue("postgres_database"))
        return
    made = _filled(embedded_copy(request.getfixturevalue("sqlite_template"), tmp_path / "site.db"))
    yield made
    made.close()


@pytest.fixture
def postgres_hierarchy(postgres_database: Database) -> Database:
    """An empty hierarchy on PostgreSQL, for what SQLite cannot do: two writers at once."""
    return _filled(postgres_database)
