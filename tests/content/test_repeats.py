"""Small files that a version holds more than once are kept once, and each is found where it lies."""

import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.content import repeats
from entrepot.content.chunking import domain_keys
from entrepot.content.digests import digest_of
from entrepot.content.grouping import GROUP_MAX_ENTRY_BYTES, Group, grouped
from entrepot.content.manifest import MAX_PART, Entry, EntryKind, Extent, decode_part
from entrepot.content.patterns import Excludes
from entrepot.content.repeats import GROUPS, Repeats
from entrepot.content.sealing import Generation
from entrepot.content.snapshot import Warnings, walk
from entrepot.content.writing import ManifestWriter
from entrepot.core.secret import Secret
from entrepot.core.sizes import KIB
from entrepot.protocol import SealedRef

KEY = Secret(b"g" * 32)


def chunks_of(groups: list[list[bytes]]) -> tuple[list[bytes], list[list[tuple[int, int]]]]:
    """What the groups' chunks hold, and of each file in which chunk it lies, and where."""
    found, chunks, places = Repeats(), [], []
    for number, files in enumerate(groups):
        chunk, where = b"", []
        for file, extent in zip(files, found.place([(digest_of(file), len(file)) for file in files]), strict=True):
            if extent is None:
                where.append((number, len(chunk)))
                chunk += file
            else:
                assert extent.length == len(file)
                where.append((number - extent.chunk, extent.offset))
        chunks.append(chunk)
        places.append(where)
    return chunks, places


FILES = st.integers(0, 12).map(lambda seed: random.Random(seed).randbytes(1 + seed * 7))


@given(st.lists(st.lists(FILES, min_size=1, max_size=6), max_size=12), st.integers(1, 5), st.integers(1, 8))
def test_every_file_is_found_where_it_lies(groups: list[list[bytes]], reach: int, files: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(repeats, "GROUPS", reach)
        patch.setattr(repeats, "FILES", files)
        chunks, places = chunks_of(groups)
    for number, (group, where) in enumerate(zip(groups, places, strict=True)):
        for file, (chunk, offset) in zip(group, where, strict=True):
            assert chunks[chunk][offset : offset + len(file)] == file
            assert number - chunk < reach


def test_what_a_group_has_twice_is_in_its_chunk_once() -> None:
    assert chunks_of([[b"one", b"other", b"one"]]) == ([b"oneother"], [[(0, 0), (0, 3), (0, 0)]])


def test_a_second_release_adds_only_what_changed() -> None:
    first = [bytes([number]) * 100 for number in range(8)]
    second = [*first[:6], b"new" * 33, first[7]]
    chunks, _ = chunks_of([first, [b"between" * 50], second])
    assert chunks[2] == b"new" * 33


def test_no_chunk_is_needed_for_a_small_part_of_it() -> None:
    licence = b"licence" * 10
    alone = [b"%d" % number * 100 for number in range(8)]
    chunks, places = chunks_of([[licence, *alone], [b"other" * 50, licence]])
    assert chunks[1].endswith(licence)
    assert places[1][1] == (1, 250)


def test_it_remembers_the_last_files_and_groups_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeats, "FILES", 50)
    found = Repeats()
    for number in range(1000):
        found.place([(digest_of(b"%d" % number), 10)])
        assert len(found._recent) + len(found._before) <= 100
    assert found.place([(digest_of(b"999"), 10)]) == [Extent(1, 0, 10)]
    assert found.place([(digest_of(b"7"), 10)]) == [None]
    assert found._sizes.maxlen == GROUPS


def test_a_part_has_room_for_a_group_whose_files_all_lie_elsewhere() -> None:
    parts: list[bytes] = []
    writer = ManifestWriter(domain_keys(Secret(b"d" * 32), Generation(1, Secret(b"c" * 32))), parts.append)
    for number in range(GROUPS - 1):
        entry = Entry(EntryKind.FILE, f"a/{number:04d}", 0o644, 9, digest_of(b"%d" % number))
        writer.group(SealedRef(digest_of(b"%d" % number)[2:], 2**24, 2**24, bytes(32), digest_of(b"")), (entry,))
    for before, letter in enumerate("bcdef"):  # as many entries as a group can have (content/grouping.py)
        count = GROUP_MAX_ENTRY_BYTES // 86 + 1
        entries = [
            Entry(EntryKind.FILE, f"{letter}/{at:04d}", 0o644, 9, digest_of(b""), 0, (Extent(1 + before + at, 0, 9),))
            for at in range(count)
        ]
        writer.group(None, tuple(entries))
    writer.finish()
    assert max(map(len, parts)) <= MAX_PART
    listed = [entry for part in parts for entry in decode_part(part).entries]
    assert len(listed) == GROUPS - 1 + 5 * count


def test_groups_end_where_they_ended_without(tmp_path: Path) -> None:
    noise = random.Random(5)
    kinds = [noise.randbytes(noise.randrange(1, 60 * KIB)) for _ in range(40)]
    for number in range(120):
        (tmp_path / f"{number:03d}").write_bytes(kinds[number % 40])

    def groups(**how: Any) -> list[Group]:
        items = walk(tmp_path, Excludes(()), Warnings(for_windows=False))
        with ThreadPoolExecutor(1) as pool:
            return [piece for piece in grouped(items, KEY, pool, **how) if isinstance(piece, Group)]

    once, each = groups(), groups(once=False)
    assert [[entry.path for entry in group.entries] for group in once] == [
        [entry.path for entry in group.entries] for group in each
    ]
    assert not any(entry.extents for group in each for entry in group.entries)
    assert sum(len(group.plain) for group in once) == sum(map(len, kinds))
    assert sum(len(group.plain) for group in each) == 3 * sum(map(len, kinds))
