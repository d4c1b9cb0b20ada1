"""Publishing streams: what it holds in memory depends neither on the size of a file nor on the number of files."""

import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from entrepot.core.sizes import GIB, KIB, MIB

LIMIT = 300 * MIB

PUBLISH = """
import resource, sys, time
from pathlib import Path
from entrepot.content.chunking import domain_keys
from entrepot.content.publish import publish
from entrepot.content.sealing import Generation
from entrepot.core.secret import Secret
from entrepot.database.engine import open_database, sqlite_url
from entrepot.database.library import SqlLibrary
from entrepot.objects.folder import FolderStore
from entrepot.objects.shelf import Shelf

home = Path(sys.argv[1])
library = SqlLibrary(open_database(sqlite_url(home / "test.db")), clock=time.time, new_id=lambda: "child",
    pause=time.sleep)
ledger = library.open_session("child")
published = publish(Path(sys.argv[2]), content="pkg-0011223344556677", number=1,
    shelf=Shelf(FolderStore(home / "store")), ledger=ledger,
    keys=domain_keys(Secret(b"d" * 32), Generation(1, Secret(b"c" * 32))), sign=lambda p: p.hex())
library.adopt(ledger.session, published.set_id)
peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
gathering = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(published.files, published.plain_size, published.chunks, (int(peak) + gathering) * 1024)
"""

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc"),
]


@pytest.fixture
def publish_alone(tmp_path: Path, make_sqlite_ledgers: Any) -> Any:
    """Publishes in a process of its own, with the ledger in SQL on the disk: files, bytes, chunks, peak memory
    (of the process that gathers the source, too)."""

    def run(source: Path) -> tuple[int, ...]:
        home = tmp_path / "home"
        home.mkdir()
        make_sqlite_ledgers(home)[1].close()
        done = subprocess.run(
            [sys.executable, "-c", PUBLISH, str(home), str(source)], stdout=subprocess.PIPE, check=True, text=True
        )
        return tuple(map(int, done.stdout.split()))

    return run


@pytest.mark.long
def test_a_file_of_4_gib(tmp_path: Path, publish_alone: Any) -> None:
    """Holes between islands of data, so that it needs little room on the disk; each island is cut differently."""
    source = tmp_path / "disk.img"
    noise = random.Random(1)
    with source.open("wb") as file:
        os.truncate(file.fileno(), 4 * GIB)
        for at in range(0, 4 * GIB, 128 * MIB):
            file.seek(at + noise.randrange(64 * MIB))
            file.write(noise.randbytes(3 * MIB))
    files, size, chunks, peak = publish_alone(source)
    assert (files, size) == (1, 4 * GIB)
    assert chunks > 100
    assert peak <= LIMIT


@pytest.mark.long
def test_100_000_small_files(tmp_path: Path, publish_alone: Any) -> None:
    source = tmp_path / "source"
    noise = random.Random(2).randbytes(MIB)
    for number in range(100_000):
        if number % 250 == 0:
            folder = source / f"{number:06d}"
            folder.mkdir(parents=True)
        at = number * 7 % (MIB - 4 * KIB)
        (folder / f"a file with a name of its own {number:06d}").write_bytes(noise[at : at + number % (4 * KIB)])
    files, size, chunks, peak = publish_alone(source)
    assert files == 100_000
    assert chunks > size // MIB
    assert peak <= LIMIT
