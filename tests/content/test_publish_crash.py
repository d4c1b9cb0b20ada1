"""SIGKILL in the middle of a publish: nothing is lost, nothing is stored twice, nothing is left behind."""

import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from entrepot.content.sweep import sweep
from entrepot.core.sizes import KIB, MIB
from entrepot.core.times import HOUR
from entrepot.objects.folder import FolderStore
from entrepot.objects.shelf import Shelf

CHILD = """
import sys, time
from pathlib import Path
from entrepot.content import keeping
from entrepot.content.chunking import domain_keys
from entrepot.content.publish import publish
from entrepot.content.sealing import Generation
from entrepot.core.secret import Secret
from entrepot.database.engine import open_database, sqlite_url
from entrepot.database.library import SqlLibrary
from entrepot.objects.folder import FolderStore
from entrepot.objects.shelf import Shelf

home, stop_at = Path(sys.argv[1]), int(sys.argv[2])
keeping.BATCH_BYTES, keeping.GROUP_BYTES = 1 << 20, 4 << 20
keeper_class, calls = keeping.Keeper, 0

def step(name):
    real = getattr(keeper_class, name)
    def counted(self, *args):
        global calls
        calls += 1
        if calls == stop_at:
            print("reached", flush=True)
            time.sleep(600)
        return real(self, *args)
    setattr(keeper_class, name, counted)

for name in ("_seal", "_store", "_await_storing", "_commit", "_add"):
    step(name)
library = SqlLibrary(open_database(sqlite_url(home / "test.db")), clock=lambda: 1e6, new_id=lambda: f"child-{stop_at}",
    pause=time.sleep)
ledger = library.open_session("child")
publish(home / "source", content="pkg-0011223344556677", number=1, shelf=Shelf(FolderStore(home / "store")),
    ledger=ledger, keys=domain_keys(Secret(b"d" * 32), Generation(1, Secret(b"c" * 32))), sign=lambda p: p.hex())
print("done", calls, flush=True)
"""


@pytest.mark.process
@pytest.mark.parametrize("stop_at", [2, 9, 17, 31, 46])
def test_a_killed_publish_is_taken_up_again(
    tmp_path: Path,
    stop_at: int,
    make_library: Callable[..., Any],
    make_sqlite_ledgers: Callable[[Path], Any],
    tree_of: Callable[[Path], Any],
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "big").write_bytes(random.Random(1).randbytes(9 * MIB))
    for number in range(60):
        (source / f"{number:03}").write_bytes(random.Random(number).randbytes(40 * KIB))
    ledgers, database = make_sqlite_ledgers(tmp_path)
    command = [sys.executable, "-c", CHILD, str(tmp_path), str(stop_at)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "reached\n"
        child.send_signal(signal.SIGKILL)

    library = make_library(Shelf(FolderStore(tmp_path / "store")))
    library.ledgers = ledgers.library
    before = len(library.shelf.page())
    published = library.publish(source)
    assert len(library.shelf.page()) == before + published.new_objects
    library.restore(published, tmp_path / "back")
    assert tree_of(tmp_path / "back") == tree_of(source)
    for _ in range(2):
        ledgers.now += 2 * HOUR
        sweep(ledgers.sweeping, library.shelf, now=ledgers.now)
    assert len(library.shelf.page()) == published.objects + 1
    ledgers.library.drop(published.set_id)
    for _ in range(2):
        ledgers.now += 2 * HOUR
        sweep(ledgers.sweeping, library.shelf, now=ledgers.now)
    assert library.shelf.page() == []
    database.close()
