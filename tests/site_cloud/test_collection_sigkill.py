"""One real SIGKILL after another: a process that collects is killed wherever it is, and nothing is lost or doubled."""

import itertools
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import func, select

from entrepot.database.engine import open_database, sqlite_url
from entrepot.database.tables.usage import transaction_segment, transfer_bucket
from entrepot.objects.folder import FolderStore
from entrepot.site.cloud.summary import parse_summary

from ..databases import create_tables
from .conftest import NOW, Gateway, record

SEGMENTS = 60
MOST_KILLS, LEAST_KILLS = 10, 5
ROOT = Path(__file__).parents[2]

_COLLECT = """
import sys
from pathlib import Path
from entrepot.database.engine import open_database, sqlite_url
from entrepot.objects.folder import FolderStore
from entrepot.objects.shelf import Shelf
from entrepot.site.cloud import collection
from entrepot.web.dataplane import ShelfHolder
from tests.site_cloud.bare import bare_point
import asyncio

collection.PAGE, collection.LINES_A_BATCH = 8, 7
home = Path(sys.argv[1])
collector = collection.Collector(
    open_database(sqlite_url(home / "site.db")), home / "logs", holder=sys.argv[2], clock=lambda: float(sys.argv[3])
)
holder = ShelfHolder(Shelf(FolderStore(home / "store")))

def telling(work):
    def told(*args):
        print("step", flush=True)
        return work(*args)
    return told

collector._take, collector._write = telling(collector._take), telling(collector._write)
holder.delete_document = telling(holder.delete_document)
asyncio.run(collector.run_once(bare_point("pt-1"), holder))
print("done", flush=True)
"""


def _run(home, life: int, steps: int | None) -> bool:
    """Collect in a process of its own, killed in its n-th step (a segment counted, lines written, a segment deleted);
    whether it came to its end before."""
    words = [sys.executable, "-c", _COLLECT, str(home), f"life-{life}", str(NOW)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        for number, line in enumerate(process.stdout):
            if line == "done\n":
                return True
            if number == steps:
                process.kill()
                process.wait()
                assert process.returncode == -signal.SIGKILL
                return False
    raise AssertionError(f"The process ended by itself: {process.returncode}")


def _collected(database) -> int:
    with database.reading() as connection:
        return connection.execute(select(func.count()).select_from(transaction_segment)).scalar_one()


@pytest.mark.long
@pytest.mark.process
def test_a_collection_killed_again_and_again_counts_and_logs_exactly_once(tmp_path) -> None:
    database = open_database(sqlite_url(tmp_path / "site.db"))
    create_tables(database)
    store = FolderStore(tmp_path / "store")
    gateway = Gateway("pt-1")
    for number in range(SEGMENTS):
        key, data = gateway.segment([record(number, device=f"dev-{number % 7}"), record(1, device="dev-0")])
        store.put(key, data)
    draw = random.Random(7)
    halves = []
    for life in itertools.count():
        if _run(tmp_path, life, draw.randrange(30) if life < MOST_KILLS else None):
            break
        halves.append(_collected(database))
    assert len(halves) >= LEAST_KILLS, "each of them within a collection"
    assert any(0 < count < SEGMENTS for count in halves), "some when only a part was counted"
    with database.reading() as connection:
        rows = connection.execute(select(transfer_bucket)).all()
    counted = {(row.device, row.status): (row.requests, row.bytes) for row in rows}
    database.close()
    assert sum(sent for _, sent in counted.values()) == sum(range(SEGMENTS)) + SEGMENTS
    assert sum(requests for requests, _ in counted.values()) == 2 * SEGMENTS
    logged: dict[tuple[str, str], tuple[int, int]] = {}
    for line in (tmp_path / "logs" / "CloudDP-cloud1.log").read_bytes().decode().split("\r\n")[:-1]:
        row = parse_summary(line)
        before = logged.get((row.device, row.status), (0, 0))
        logged[row.device, row.status] = (before[0] + row.requests, before[1] + row.bytes)
    assert logged == counted
    assert store.list("tx/").entries == ()
