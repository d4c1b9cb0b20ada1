"""The index of a tree finds every byte of every chunk again, and every byte of the plaintext."""

import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from entrepot.client.treeindex import TreeIndex, build_index
from entrepot.content.digests import digest_of
from entrepot.content.manifest import Entry, EntryKind, Extent, Part
from entrepot.core.errors import FormatError
from entrepot.protocol import SealedRef


def ref(data: bytes) -> SealedRef:
    return SealedRef(hashlib.sha256(data).digest(), len(data) + 17, len(data), b"k" * 32, digest_of(data))


@st.composite
def versions(draw: st.DrawFn) -> tuple[list[Part], dict[str, bytes], dict[bytes, bytes]]:
    """Parts, files and chunks of a small version: groups of small files, and files of several chunks and parts."""
    files: dict[str, bytes] = {}
    chunks: dict[bytes, bytes] = {}
    parts: list[Part] = []
    number = 0
    for _ in range(draw(st.integers(1, 4))):
        refs: list[SealedRef] = []
        entries: list[Entry] = []
        for size in draw(st.lists(st.integers(0, 50), min_size=1, max_size=5)):  # a group
            data = draw(st.binary(min_size=size, max_size=size))
            files[f"{number:04d}"] = data
            number += 1
        group = [
            f"{index:04d}"
            for index in range(number)
            if f"{index:04d}" not in {e.path for p in parts for e in p.entries}
        ]
        plain = b"".join(files[name] for name in group)
        at = 0
        for name in group:
            data = files[name]
            extents = (Extent(0, at, len(data)),) if data else ()
            at += len(data)
            entries.append(Entry(kind=EntryKind.FILE, path=name, size=len(data), digest=b"s" * 32, extents=extents))
        if plain:
            refs.append(ref(plain))
            chunks[refs[0].object_id] = plain
        parts.append(Part(1, tuple(refs), tuple(entries)))
        pieces = draw(st.lists(st.binary(min_size=1, max_size=60), min_size=0, max_size=4))  # a large file
        name = f"{number:04d}"
        whole = b"".join(pieces)
        if pieces:
            files[name] = whole
            number += 1
            offset = 0
            for piece in pieces:  # each chunk in a part of its own
                extents = (Extent(0, 0, len(piece)),)
                entry = Entry(
                    kind=EntryKind.FILE, path=name, size=len(whole), digest=b"s" * 32, offset=offset, extents=extents
                )
                parts.append(Part(1, (ref(piece),), (entry,)))
                chunks[ref(piece).object_id] = piece
                offset += len(piece)
    return parts, files, chunks


@given(version=versions(), run=st.integers(1, 7), data=st.data())
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=60, deadline=None
)
def test_every_chunk_and_every_range_is_found(tmp_path: Path, version, run: int, data: st.DataObject) -> None:
    parts, files, chunks = version
    path = tmp_path / f"index-{os.urandom(4).hex()}"
    build_index(parts, path, run=run)
    plaintext = b"".join(files[name] for name in sorted(files))
    with TreeIndex(path) as index:
        assert index.plain_size == len(plaintext)
        for object_id, plain in chunks.items():
            pieces = index.covering(object_id, len(plain))
            assert pieces is not None
            joined = b"".join(files[piece.path][piece.offset : piece.offset + piece.length] for piece in pieces)
            assert joined == plain
        assert index.covering(b"\xff" * 32, 5) is None
        position = data.draw(st.integers(0, len(plaintext)))
        length = data.draw(st.integers(0, len(plaintext) - position))
        found = index.ranges(position, length)
        joined = b"".join(files[piece.path][piece.offset : piece.offset + piece.length] for piece in found)
        assert joined == plaintext[position : position + length]
        with pytest.raises(FormatError, match="beyond the end"):
            index.ranges(position, len(plaintext) - position + 1)
    assert not list(tmp_path.glob(".index*"))


def test_a_chunk_of_which_the_tree_has_only_a_part_is_not_covered(tmp_path: Path) -> None:
    chunk = ref(b"0123456789")
    entry = Entry(kind=EntryKind.FILE, path="a", size=4, digest=b"s" * 32, extents=(Extent(0, 3, 4),))
    build_index([Part(1, (chunk,), (entry,))], tmp_path / "index")
    with TreeIndex(tmp_path / "index") as index:
        assert index.covering(chunk.object_id, 10) is None
        assert [piece.start for piece in index.pieces(chunk.object_id)] == [3]


def test_a_version_without_bytes_has_an_index(tmp_path: Path) -> None:
    build_index([Part(1, (), (Entry(kind=EntryKind.FOLDER, path="a"),))], tmp_path / "index")
    with TreeIndex(tmp_path / "index") as index:
        assert index.plain_size == 0
        assert index.ranges(0, 0) == []
        assert index.covering(b"x" * 32, 5) is None


@pytest.mark.parametrize("data", [b"", b"short", b"ENTIDX\x00\x02" + bytes(24), b"ENTIDX\x00\x01" + b"\xff" * 24])
def test_foreign_or_cut_files_are_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "index").write_bytes(data)
    with pytest.raises(FormatError):
        TreeIndex(tmp_path / "index")


def test_a_flipped_bit_is_a_format_error_or_another_answer(tmp_path: Path) -> None:
    chunk = ref(b"0123456789")
    entries = [
        Entry(kind=EntryKind.FILE, path=name, size=5, digest=b"s" * 32, extents=(Extent(0, at, 5),))
        for name, at in (("a/\u00e9", 0), ("b", 5))
    ]
    path = tmp_path / "index"
    build_index([Part(1, (chunk,), tuple(entries))], path)
    good = path.read_bytes()
    refused = 0
    for bit in range(len(good) * 8):
        data = bytearray(good)
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        try:
            with TreeIndex(path) as index:
                for piece in index.covering(chunk.object_id, 10) or ():
                    assert 0 <= piece.offset < 2**63 - piece.length
                for part in index.ranges(0, 10):
                    assert part.offset >= 0 < part.length
        except FormatError:
            refused += 1
    assert refused > 100
