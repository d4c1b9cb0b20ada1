"""Reading ahead: cuts do not depend on windows, order is kept, and memory is bounded."""

import hashlib
import io
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pyfastcdc import FastCDC

from entrepot.content import ahead
from entrepot.content.ahead import (
    AHEAD,
    AVERAGE_CHUNK,
    MAX_CHUNK,
    MIN_CHUNK,
    RUN_BYTES,
    RUN_ITEMS,
    WINDOW,
    Chunks,
    Read,
    read_ahead,
)
from entrepot.content.patterns import Excludes
from entrepot.content.snapshot import FileItem, Item, Warnings, walk
from entrepot.core.errors import RefusedError
from entrepot.core.sizes import KIB, MIB

SEED = 0x1234_5678_9ABC


def items(source: Path) -> Iterator[Item]:
    return walk(source, Excludes(()), Warnings(for_windows=False))


def reads(source: Path) -> list[Read]:
    with ThreadPoolExecutor(3) as pool:
        return list(read_ahead(items(source), pool, SEED))


@pytest.mark.parametrize("size", [MIN_CHUNK, MIB, WINDOW - 1, WINDOW, WINDOW + 1, 40 * MIB + 12_345])
@pytest.mark.parametrize("kind", ["random", "zeros", "mixed"])
def test_windows_move_no_cut(tmp_path: Path, size: int, kind: str) -> None:
    noise = random.Random(size).randbytes(size)
    data = {"random": noise, "zeros": bytes(size), "mixed": noise[: size // 2] + bytes(size - size // 2)}[kind]
    (tmp_path / "big").write_bytes(data)
    found = [read for read in reads(tmp_path) if isinstance(read, Chunks)]
    chunker = FastCDC(min_size=MIN_CHUNK, avg_size=AVERAGE_CHUNK, max_size=MAX_CHUNK, seed=SEED)
    expected = [bytes(chunk.data) for chunk in chunker.cut_stream(io.BytesIO(data))]
    assert [bytes(plain) for read in found for plain, _ in read.plain] == expected
    hashes = [hashlib.sha256(plain).digest() for plain in expected]
    assert [sha256 for read in found for _, sha256 in read.plain] == hashes
    assert [read.sha256 for read in found] == [b""] * (len(found) - 1) + [hashlib.sha256(data).digest()]


@pytest.mark.parametrize("quick", [True, False], ids=["from memory", "from a slow disk"])
def test_order_is_kept_between_small_and_big(tmp_path: Path, quick: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "QUICK_FILE", 60.0 if quick else -60.0)
    noise = random.Random(3)
    for number in range(60):
        size = noise.choice([0, 10, 5 * KIB, 200 * KIB, 300 * KIB, 9 * MIB if number % 20 == 7 else 20])
        (tmp_path / f"{number:02d}").write_bytes(noise.randbytes(size))
    seen: list[tuple[str, bytes]] = []
    data = b""
    for read in reads(tmp_path):
        if isinstance(read, Chunks):
            data += b"".join(plain for plain, _ in read.plain)
            if read.sha256:
                seen.append((read.item.path, data))
                data = b""
        else:
            seen += [(small.item.path, small.data) for small in read]
            assert all(small.sha256 == hashlib.sha256(small.data).digest() for small in read)
            assert sum(len(small.data) for small in read) < RUN_BYTES + MIN_CHUNK
    assert seen == [(item.path, (tmp_path / item.path).read_bytes()) for item in items(tmp_path)]


def test_no_more_is_read_ahead_than_said(tmp_path: Path) -> None:
    for number in range(200):
        (tmp_path / f"{number:03d}").write_bytes(bytes(MIN_CHUNK + number))
    walked = 0

    def counted() -> Iterator[Item]:
        nonlocal walked
        for item in items(tmp_path):
            assert isinstance(item, FileItem)
            walked += item.size
            yield item

    given = 0
    with ThreadPoolExecutor(3) as pool:
        for read in read_ahead(counted(), pool, SEED):
            assert isinstance(read, Chunks)
            given += read.item.size
            assert walked - given <= AHEAD + WINDOW


def test_empty_folders_are_not_walked_without_end(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (folder,) = items(tmp_path)
    walked = given = 0

    def many() -> Iterator[Item]:
        nonlocal walked
        for _ in range(3 * AHEAD // KIB):
            walked += 1
            yield folder

    with ThreadPoolExecutor(3) as pool:
        for read in read_ahead(many(), pool, SEED):
            assert isinstance(read, tuple)
            given += len(read)
            assert walked - given <= AHEAD // KIB + RUN_ITEMS
    assert given == 3 * AHEAD // KIB


def test_a_file_that_vanishes_ends_the_reading_in_its_turn(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).write_bytes(bytes(MIB))
    found = list(items(tmp_path))
    (tmp_path / "b").unlink()
    with ThreadPoolExecutor(3) as pool:
        ahead = read_ahead(found, pool, SEED)
        first = next(ahead)
        assert isinstance(first, Chunks)
        assert first.item.path == "a"
        with pytest.raises(RefusedError, match="'b' changed"):
            next(ahead)


@pytest.mark.parametrize(("seconds", "in_pool"), [(60.0, 0), (-60.0, 9)], ids=["quick", "slow"])
def test_small_files_that_have_to_be_waited_for_are_read_many_at_a_time(
    tmp_path: Path, seconds: float, in_pool: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead, "QUICK_FILE", seconds)
    for number in range(10 * RUN_ITEMS):
        (tmp_path / f"{number:04d}").write_bytes(b"%d" % number)

    class Counted(ThreadPoolExecutor):
        given = 0

        def submit(self, fn, /, *args, **named):
            self.given += 1
            return super().submit(fn, *args, **named)

    with Counted(3) as pool:
        read = list(read_ahead(items(tmp_path), pool, SEED))
        assert pool.given == in_pool  # the first run of ten tells how quick the source is
    assert [small.data for run in read for small in run] == [b"%d" % number for number in range(10 * RUN_ITEMS)]
