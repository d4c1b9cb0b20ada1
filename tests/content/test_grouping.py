"""Groups of small files: every byte in its place, big files passed on, and memory is bounded."""

import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from entrepot.content import grouping
from entrepot.content.digests import digest_of
from entrepot.content.grouping import (
    AHEAD,
    BIG,
    GROUP_MAX,
    ITEM,
    RUN_BYTES,
    RUN_ITEMS,
    Group,
    Piece,
    grouped,
    read_runs,
)
from entrepot.content.patterns import Excludes
from entrepot.content.snapshot import FileItem, Item, Warnings, walk
from entrepot.core.secret import Secret
from entrepot.core.sizes import KIB, MIB

KEY = Secret(b"g" * 32)


def items(source: Path) -> Iterator[Item]:
    return walk(source, Excludes(()), Warnings(for_windows=False))


def contents(pieces: list[Piece], source: Path) -> list[tuple[str, bytes]]:
    """Paths and bytes, as they lie in the pieces."""
    found = []
    for piece in pieces:
        if isinstance(piece, FileItem):
            found.append((piece.path, (source / piece.path).read_bytes()))
            continue
        at = 0
        for entry in piece.entries:
            data = piece.plain[at : at + entry.size]
            assert entry.digest == digest_of(data)
            found.append((entry.path, data))
            at += entry.size
        assert at == len(piece.plain)
    return found


@pytest.mark.parametrize("quick", [True, False], ids=["from memory", "from a slow disk"])
def test_every_file_is_in_its_place(tmp_path: Path, quick: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grouping, "QUICK_FILE", 60.0 if quick else -60.0)
    monkeypatch.setattr(grouping, "_waits", iter(range(0, 1 << 30, RUN_ITEMS)).__next__)
    noise = random.Random(3)
    for number in range(60):
        size = noise.choice([0, 10, 5 * KIB, 200 * KIB, 300 * KIB, MIB if number % 20 == 7 else 20])
        (tmp_path / f"{number:02d}").write_bytes(noise.randbytes(size))
    with ThreadPoolExecutor(3) as pool:
        pieces = list(grouped(items(tmp_path), KEY, pool))
    assert contents(pieces, tmp_path) == [(item.path, (tmp_path / item.path).read_bytes()) for item in items(tmp_path)]
    assert all(piece.size >= BIG for piece in pieces if isinstance(piece, FileItem))
    assert all(len(piece.plain) < GROUP_MAX + BIG for piece in pieces if isinstance(piece, Group))


def test_empty_folders_are_not_walked_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grouping, "QUICK_FILE", -60.0)
    monkeypatch.setattr(grouping, "_waits", iter(range(0, 1 << 30, RUN_ITEMS)).__next__)
    (tmp_path / "folder").mkdir()
    (folder,) = items(tmp_path)
    walked = given = 0

    def many() -> Iterator[Item]:
        nonlocal walked
        for _ in range(3 * AHEAD // KIB):
            walked += 1
            yield folder

    with ThreadPoolExecutor(3) as pool:
        for run in read_runs(many(), pool):
            assert isinstance(run, tuple)
            given += len(run)
            assert walked - given <= AHEAD // ITEM + RUN_ITEMS
    assert given == 3 * AHEAD // KIB


def test_big_files_behind_a_slow_one_are_bounded_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grouping, "QUICK_FILE", -60.0)
    monkeypatch.setattr(grouping, "_waits", iter(range(0, 1 << 30, RUN_ITEMS)).__next__)
    for name, size in (("big", BIG), ("small", 1)):
        (tmp_path / name).write_bytes(bytes(size))
    big, small = items(tmp_path)
    walked = 0

    def many() -> Iterator[Item]:
        nonlocal walked
        for number in range(3 * AHEAD // ITEM):
            walked += 1
            yield small if number < 2 * RUN_ITEMS else big

    with ThreadPoolExecutor(1) as pool:
        never_ends = threading.Event()
        pool.submit(never_ends.wait)  # so the second run is not read
        runs = read_runs(many(), pool)
        next(runs)
        threading.Timer(0.3, never_ends.set).start()
        next(runs)
        assert walked <= AHEAD // ITEM + 2 * RUN_ITEMS + 1
        never_ends.set()
        assert sum(1 for _ in runs) == 3 * AHEAD // ITEM - 2 * RUN_ITEMS


@pytest.mark.parametrize(("seconds", "in_pool"), [(60.0, 0), (-60.0, 9)], ids=["quick", "slow"])
def test_small_files_that_have_to_be_waited_for_are_read_many_at_a_time(
    tmp_path: Path, seconds: float, in_pool: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grouping, "QUICK_FILE", seconds)
    monkeypatch.setattr(grouping, "_waits", iter(range(0, 1 << 30, RUN_ITEMS)).__next__)
    for number in range(10 * RUN_ITEMS):
        (tmp_path / f"{number:04d}").write_bytes(b"%d" % number)

    class Counted(ThreadPoolExecutor):
        given = 0

        def submit(self, fn, /, *args, **named):
            self.given += 1
            return super().submit(fn, *args, **named)

    with Counted(3) as pool:
        runs = list(read_runs(items(tmp_path), pool))
        assert pool.given == in_pool  # the first run of ten tells how quick the source is
    assert [small.data for run in runs for small in run] == [b"%d" % number for number in range(10 * RUN_ITEMS)]
    assert all(sum(len(small.data) for small in run) < RUN_BYTES + BIG for run in runs)


def test_a_busy_processor_is_not_taken_for_a_slow_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grouping, "QUICK_FILE", -60.0)
    monkeypatch.setattr(grouping, "_waits", lambda: 7)  # it took long, but waited for nothing
    for number in range(3 * RUN_ITEMS):
        (tmp_path / f"{number:04d}").write_bytes(b"%d" % number)
    pool = ThreadPoolExecutor(1)
    pool.shutdown()  # whoever gives it work fails
    assert len(list(read_runs(items(tmp_path), pool))) == 3
