"""One real SIGKILL after another: a process that collects is killed wherever it is, and nothing is lost or doubled."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest
from sqlalchemy import select

from entrepot.database.engine import open_database, sqlite_url
from entrepot.database.schema import create_tables
from entrepot.database.tables.usage import transfer_bucket
from entrepot.objects.folder import FolderStore
from entrepot.site.cloud.summary import parse_summary

from .conftest import NOW, Gateway, record

SEGMENTS = 60

_COLLECT = """
import asyncio, sys
from pathlib import Path
from entrepot.database.cloud import CloudPoint
from entrepot.database.engine import open_database, sqlite_url
from entrepot.objects.folder import FolderStore
from entrepot.objects.shelf import Shelf
from entrepot.protocol.control import ServiceState
from entrepot.protocol.cloudpointapi import CloudPointState, Thresholds
from entrepot.site.cloud import collection
from entrepot.web.dataplane import ShelfHolder

collection.PAGE, collection.LINES_A_BATCH = 8, 7
home = Path(sys.argv[1])
point = CloudPoint(
    point="pt-1", name="cloud1", site="PS1", service="cloud1", description="", provider="host", host_url="",
    host_pin="", subscription="", management_certificate="", region="", fqdn="", port=0, address="",
    state=CloudPointState.READY, wanted=ServiceState.RUNNING, message="", instances_wanted=1, instances=(),
    certificate_subject="", certificate_thumbprint="", certificate_expires=0, certificate="", sealed_key=b"",
    thresholds=Thresholds(), created=0,
)
collector = collection.Collector(
    open_database(sqlite_url(home / "site.db")), home / "logs", holder=sys.argv[2], clock=lambda: float(sys.argv[3])
)
print("go", flush=True)
asyncio.run(collector.run_once(point, ShelfHolder(Shelf(FolderStore(home / "store")))))
print("done", flush=True)
"""


def _run(home, life: int, seconds: float | None) -> bool:
    """Collect in a process of its own, killed after so long; whether it came to its end."""
    with subprocess.Popen(
        [sys.executable, "-c", _COLLECT, str(home), f"life-{life}", str(NOW)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "go\n"
        if seconds is not None:
            time.sleep(seconds)
            os.kill(process.pid, signal.SIGKILL)
        return process.stdout.readline() == "done\n"


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
    ended, life = False, 0
    while not ended:
        life += 1
        ended = _run(tmp_path, life, None if life > 15 else draw.uniform(0.0, 0.25))
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
