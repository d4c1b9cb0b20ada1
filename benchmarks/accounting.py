"""How fast transaction records are collected and rolled up, and in how much memory.

Ten million records of 24 hours, from four gateway instances: 20,000 devices that each download 60 contents, some nine
requests for each, so 1.2 million distinct pairs of device and content. The segments lie in a folder store; the measured
process is the site's own collector with its embedded database: it verifies and counts every segment, fills the hourly
buckets, writes ``CloudDP-<service>.log`` and deletes the segments. ``records_per_s`` is for each second of processor
time, ``records_per_s_wall`` by the clock. With ``BUDGETS=1`` budgets of the cloud point, of all devices and of ten
contents add up what they bound meanwhile.
"""

import asyncio
import json
import os
import random
import resource
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.corpus import ROOT
from benchmarks.measuring import fresh, report, run
from entrepot.core.times import DAY, hour_of
from entrepot.database import budgets
from entrepot.database.budgets import Budget, Scope
from entrepot.database.cloud import CloudPoint
from entrepot.database.device_collections import ALL_DEVICES_ID
from entrepot.database.engine import open_database, sqlite_url
from entrepot.database.schema import upgrade
from entrepot.objects.folder import FolderStore
from entrepot.objects.shelf import Shelf
from entrepot.protocol.cloudpointapi import CloudPointState, Thresholds
from entrepot.protocol.control import ServiceState
from entrepot.protocol.transactions import Record, SegmentHeader, encode_header, encode_records, segment_key
from entrepot.site.cloud.collection import Collector
from entrepot.web.dataplane import ShelfHolder

RECORDS = 10_000_000
DEVICES = 20_000
CONTENTS = 60
INSTANCES = 4
A_SEGMENT = 36_000
A_FRAME = 4_000
START = hour_of(1_774_267_200)
POINT = "pt-0000000000000001"
BUDGETS = (
    (Scope.POINT, POINT),
    (Scope.COLLECTION, ALL_DEVICES_ID),
    *((Scope.CONTENT, f"set-{bytes([number]).hex() * 8}") for number in range(10)),
)
"""Of the point, all devices, and a sixth of the contents (as sets that belong to none are called)."""


def records(count: int) -> Iterator[Record]:
    """Records in the order of their time: each minute some pairs begin, and take two minutes for their requests."""
    draw = random.Random(7)
    devices = DEVICES * count // RECORDS  # fewer records, fewer devices: the same work for each
    pairs = [(device, content) for device in range(devices) for content in range(CONTENTS)]
    draw.shuffle(pairs)
    sets = [bytes([number]) * 32 for number in range(CONTENTS)]
    names = [f"dev-{number:016x}" for number in range(devices)]
    a_pair = -(-count // len(pairs))
    minutes = DAY // 60
    a_minute = -(-len(pairs) // minutes)
    waiting: list[tuple[int, int]] = []
    made = 0
    for minute in range(minutes):
        waiting += pairs[minute * a_minute : (minute + 1) * a_minute]
        now = [pair for pair in waiting for _ in range(a_pair // 2 + a_pair % 2)]
        draw.shuffle(now)
        for at, (device, content) in enumerate(now):
            if made == count:
                return
            made += 1
            yield Record(
                time=(START + minute * 60) * 1000 + at * 60_000 // len(now),
                device=names[device],
                set_id=sets[content],
                object_id=draw.randbytes(32),
                status=200,
                sent=draw.randrange(1_000, 1_200_000),
                duration=draw.randrange(2_000),
            )
        waiting = waiting[-a_minute:]


def prepare(store: FolderStore, count: int) -> int:
    """Write the segments; how many."""
    import hashlib

    previous = {number: bytes(32) for number in range(INSTANCES)}
    sequences = dict.fromkeys(range(INSTANCES), 0)
    source = records(count)
    written = 0
    while True:
        batch = [record for _, record in zip(range(A_SEGMENT), source, strict=False)]
        if not batch:
            return written
        number = written % INSTANCES
        instance = f"gw-{number:016x}"
        header = SegmentHeader(POINT, instance, sequences[number], previous[number], batch[0].time)
        frames = b"".join(encode_records(batch[at : at + A_FRAME]) for at in range(0, len(batch), A_FRAME))
        data = encode_header(header) + frames
        store.put(segment_key(hour_of(batch[0].time // 1000), instance, sequences[number]), [data])
        previous[number] = hashlib.sha256(data).digest()
        sequences[number] += 1
        written += 1


def cloud_point() -> CloudPoint:
    """The point whose records they are."""
    return CloudPoint(
        point=POINT,
        name="cloud1",
        site="PS1",
        service="cloud1",
        description="",
        provider="host",
        host_url="",
        host_pin="",
        subscription="",
        management_certificate="",
        region="",
        fqdn="",
        port=0,
        address="",
        state=CloudPointState.READY,
        wanted=ServiceState.RUNNING,
        message="",
        instances_wanted=INSTANCES,
        instances=(),
        certificate_subject="",
        certificate_thumbprint="",
        certificate_expires=0,
        certificate="",
        sealed_key=b"",
        thresholds=Thresholds(),
        created=0,
    )


def collect(work: Path) -> None:
    """The measured part, in a process of its own."""
    database = open_database(sqlite_url(work / "site.db"))
    upgrade(database)
    if os.environ.get("BUDGETS"):
        with database.transaction() as connection:
            for scope, subject in BUDGETS:
                budgets.put_budget(connection, Budget(scope=scope, subject=subject, bytes=10**15, created=START))
    collector = Collector(database, work / "logs", holder="benchmark", clock=lambda: START + DAY + 60)
    holder = ShelfHolder(Shelf(FolderStore(work / "store")))
    before, begun = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    if "--profile" in sys.argv:
        import cProfile

        with cProfile.Profile() as profile:
            summary = asyncio.run(collector.run_once(cloud_point(), holder))
        profile.print_stats("tottime")
    else:
        summary = asyncio.run(collector.run_once(cloud_point(), holder))
    wall, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_SELF)
    with database.reading() as connection:
        pairs = connection.exec_driver_sql(
            "SELECT count(*) FROM (SELECT DISTINCT device, content FROM transfer_bucket)"
        )
        print(
            json.dumps(
                {
                    "records": summary.records,
                    "segments": summary.segments,
                    "pairs": pairs.scalar_one(),
                    "gaps": len(summary.gaps),
                    "wall": wall,
                    "cpu": after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime,
                    "log_bytes": sum(path.stat().st_size for path in (work / "logs").iterdir()),
                }
            )
        )
    database.close()


def main() -> None:
    """Measure and print."""
    if "--once" in sys.argv:
        collect(Path(sys.argv[-1]))
        return
    count = int(os.environ.get("RECORDS", RECORDS))
    work = fresh(ROOT / "accounting").resolve()
    work.mkdir(parents=True)
    prepare(FolderStore(work / "store"), count)
    done = run([sys.executable, "-m", "benchmarks.accounting", "--once", str(work)])
    seen = json.loads(done.output.splitlines()[-1])
    assert (seen["records"], seen["gaps"]) == (count, 0), seen
    figures = {
        "records_per_s": round(count / seen["cpu"]),
        "records_per_s_wall": round(count / seen["wall"]),
        "peak_rss_mib": done.peak_rss_mib,
        "records": count,
        "pairs": seen["pairs"],
    }
    report(figures, json.dumps(seen, indent=2))
    shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
