"""Reading ahead: cuts do not depend on windows, order is kept, and memory is bounded."""

import io
import os
import random
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pyfastcdc import FastCDC

from entrepot.content.ahead import (
    AHEAD,
    AVERAGE_CHUNK,
    MAX_CHUNK,
    MIN_CHUNK,
    WINDOW,
    WINDOWS,
    Chunks,
    Hashed,
    read_ahead,
)
from entrepot.content.digests import digest_of
from entrepot.content.grouping import ITEM, Group, Piece
from entrepot.content.manifest import Entry, EntryKind
from entrepot.content.patterns import Excludes
from entrepot.content.snapshot import FileItem, Warnings, walk
from entrepot.content.sources import SourceFile
from entrepot.core.errors import RefusedError
from entrepot.core.sizes import MIB

SEED = 0x1234_5678_9ABC


def files(source: Path) -> Iterator[FileItem]:
    for item in walk(source, Excludes(()), Warnings(for_windows=False)):
        assert isinstance(item, FileItem)
        yield item


def group(plain: bytes, *names: str) -> Group:
    return Group(plain, tuple(Entry(EntryKind.FILE, name) for name in names))


def reads(pieces: Iterator[Piece]) -> list[Hashed | Chunks]:
    with ThreadPoolExecutor(3) as pool:
        return list(read_ahead(pieces, pool, SEED))


@pytest.mark.parametrize("size", [MIN_CHUNK, MIB, WINDOW - 1, WINDOW, WINDOW + 1, 40 * MIB + 12_345])
@pytest.mark.parametrize("kind", ["random", "zeros", "mixed"])
def test_windows_move_no_cut(tmp_path: Path, size: int, kind: str) -> None:
    noise = random.Random(size).randbytes(size)
    data = {"random": noise, "zeros": bytes(size), "mixed": noise[: size // 2] + bytes(size - size // 2)}[kind]
    (tmp_path / "big").write_bytes(data)
    found = [read for read in reads(files(tmp_path)) if isinstance(read, Chunks)]
    chunker = FastCDC(min_size=MIN_CHUNK, avg_size=AVERAGE_CHUNK, max_size=MAX_CHUNK, seed=SEED)
    expected = [bytes(chunk.data) for chunk in chunker.cut_stream(io.BytesIO(data))]
    assert [bytes(plain) for read in found for plain, _ in read.plain] == expected
    hashes = [digest_of(plain) for plain in expected]
    assert [digest for read in found for _, digest in read.plain] == hashes
    assert [read.digest for read in found] == [b""] * (len(found) - 1) + [digest_of(data)]


def test_what_comes_first_is_given_before_much_is_read_ahead() -> None:
    taken: list[int] = []

    def pieces() -> Iterator[Piece]:
        for number in range(100):
            taken.append(number)
            yield group(bytes(MIB), str(number))

    with ThreadPoolExecutor(2) as pool:
        reading = read_ahead(pieces(), pool, SEED)
        next(reading)
        at_first = len(taken)
        for _ in range(60):
            next(reading)
        later = len(taken) - 61
        reading.close()
    assert at_first <= 3  # of a MiB each
    assert AHEAD / MIB - 2 <= later <= AHEAD / MIB + 2


def test_order_is_kept_between_groups_and_big_files(tmp_path: Path) -> None:
    noise = random.Random(3)
    for number in range(30):
        (tmp_path / f"{number:02d}").write_bytes(noise.randbytes(9 * MIB if number % 10 == 7 else MIN_CHUNK + number))
    pieces: list[Piece] = []
    for item in files(tmp_path):
        pieces += [item, group(item.path.encode(), item.path)]
    seen: list[tuple[str, bytes]] = []
    data = b""
    for read in reads(iter(pieces)):
        if isinstance(read, Hashed):
            assert read.digest == digest_of(read.group.plain)
            seen.append(("group", read.group.plain))
            continue
        data += b"".join(plain for plain, _ in read.plain)
        if read.digest:
            seen.append((read.item.path, data))
            data = b""
    expected = [(item.path, (tmp_path / item.path).read_bytes()) for item in files(tmp_path)]
    assert seen == [each for path, data in expected for each in ((path, data), ("group", path.encode()))]


class AtOnce(Executor):
    """Does all work when it is given."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        done: Future[Any] = Future()
        done.set_result(fn(*args, **kwargs))
        return done


def test_of_a_big_file_two_windows_more_are_read_than_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "big").write_bytes(random.Random(5).randbytes(6 * WINDOW))
    read: list[int] = []
    whole = SourceFile.read

    def counted(self: SourceFile, size: int, *, again: int = 0) -> bytes:
        data = whole(self, size, again=again)
        read.append(len(data) - again)
        return data

    monkeypatch.setattr(SourceFile, "read", counted)
    seen = [len(read) for _ in read_ahead(files(tmp_path), AtOnce(), SEED)]
    assert seen[0] == 1 + WINDOWS
    assert all(now <= taken + WINDOWS for taken, now in enumerate(seen, start=1))
    assert sum(read) == 6 * WINDOW


def test_a_files_hash_is_that_of_its_chunks_even_where_it_is_written_unnoticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "big").write_bytes(random.Random(7).randbytes(3 * WINDOW))
    whole, again_read = SourceFile.read, []

    def written_meanwhile(self: SourceFile, size: int, *, again: int = 0) -> bytes:
        data = whole(self, size, again=again)
        again_read.append(again)
        return b"?" * again + data[again:]

    monkeypatch.setattr(SourceFile, "read", written_meanwhile)
    read = list(read_ahead(files(tmp_path), AtOnce(), SEED))
    assert any(again_read)
    data = b"".join(plain for each in read if isinstance(each, Chunks) for plain, _ in each.plain)
    assert read[-1].digest == digest_of(data)


def test_what_fails_later_comes_in_its_turn(tmp_path: Path) -> None:
    path = tmp_path / "big"
    path.write_bytes(random.Random(6).randbytes(3 * WINDOW))
    given = read_ahead(files(tmp_path), AtOnce(), SEED)
    taken = [next(given)]  # two more windows are read by now
    os.truncate(path, WINDOW)
    with pytest.raises(RefusedError, match="changed"):
        taken += given
    assert len(taken) == 1 + WINDOWS


def test_no_more_is_read_ahead_than_said(tmp_path: Path) -> None:
    for number in range(200):
        (tmp_path / f"{number:03d}").write_bytes(bytes(MIN_CHUNK + number))
    walked = 0

    def counted() -> Iterator[FileItem]:
        nonlocal walked
        for item in files(tmp_path):
            walked += item.size
            yield item

    given = 0
    with ThreadPoolExecutor(3) as pool:
        for read in read_ahead(counted(), pool, SEED):
            assert isinstance(read, Chunks)
            given += read.item.size
            assert walked - given <= AHEAD + WINDOW


def test_groups_without_bytes_are_not_taken_without_end() -> None:
    taken = given = 0
    names = tuple(f"{number:03d}" for number in range(100))

    def many() -> Iterator[Group]:
        nonlocal taken
        for _ in range(3 * AHEAD // (100 * ITEM)):
            taken += 1
            yield group(b"", *names)

    with ThreadPoolExecutor(3) as pool:
        for _ in read_ahead(many(), pool, SEED):
            given += 1
            assert taken - given <= AHEAD // (100 * ITEM) + 1
    assert given == 3 * AHEAD // (100 * ITEM)


def test_a_file_that_vanishes_ends_the_reading_in_its_turn(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).write_bytes(bytes(MIB))
    found = list(files(tmp_path))
    (tmp_path / "b").unlink()
    with ThreadPoolExecutor(3) as pool:
        ahead = read_ahead(found, pool, SEED)
        first = next(ahead)
        assert isinstance(first, Chunks)
        assert first.item.path == "a"
        with pytest.raises(RefusedError, match="'b' disappeared"):
            next(ahead)
