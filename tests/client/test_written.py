"""A chunk that several parts of a manifest name is fetched once, cache or not."""

import os
from pathlib import Path

import pytest

from entrepot.client import written
from entrepot.client.fetch import fetch
from entrepot.client.records import Record
from entrepot.client.written import Written
from entrepot.content.digests import digest_of
from entrepot.content.manifest import Entry, EntryKind, Extent, Part, Root, encode_part
from entrepot.content.sealing import Purpose
from entrepot.core.encoding import pack
from entrepot.protocol import SealedRef

DATA = os.urandom(5000)


def file(path: str, data: bytes, *extents: Extent) -> Entry:
    return Entry(EntryKind.FILE, path, 0o644, len(data), digest_of(data), 0, extents)


async def test_it_is_fetched_once_without_a_cache(world, tools, tmp_path: Path) -> None:
    whole = world.library.seal(DATA, Purpose.CHUNK)
    rest = world.library.seal(b"rest", Purpose.CHUNK)
    parts = [
        Part(2, (whole,), (file("a", DATA[:2000], Extent(0, 0, 2000)), file("b", DATA[2000:], Extent(0, 2000, 3000)))),
        Part(2, (rest,), (file("c", b"rest", Extent(0, 0, 4)),)),
        *(Part(2, (rest,), (file(name, b"rest", Extent(0, 0, 4)),)) for name in "defg"),
        Part(2, (whole,), (file("h", DATA[1000:2500], Extent(0, 1000, 1500)),)),
    ]
    world.library.forge(parts)
    point = world.point("near")
    home = await world.client(cache_size="0")

    result = await fetch(home, tools.content)

    assert (result.folder / "h").read_bytes() == DATA[1000:2500]
    assert point.requests[whole.object_id.hex()] == 1


class TestRecut:
    @pytest.fixture
    def record(self, world, tmp_path: Path) -> Record:
        self.chunk: SealedRef = world.library.seal(DATA, Purpose.CHUNK)
        entries = (file("a", DATA[:2000], Extent(0, 0, 2000)), file("b", DATA[2000:], Extent(0, 2000, 3000)))
        part = encode_part(Part(2, (self.chunk,), entries))
        self.part: SealedRef = world.library.seal(part, Purpose.MANIFEST_PART)
        record = Record(tmp_path / "record")
        record.begin(pack(Root(2, "pkg-0123456789abcdef", 1, 2, 5000, 1, 5000, windows_safe=True, parts=(self.part,))))
        record.keep_part(0, part, plain=True)
        self.folder = tmp_path / "tree"
        self.folder.mkdir()
        (self.folder / "a").write_bytes(DATA[:2000])
        (self.folder / "b").write_bytes(DATA[2000:])
        return record

    def test_what_was_written_comes_back(self, record: Record) -> None:
        found = Written(self.folder, record)
        assert found.recut(self.chunk) is None
        found.note(self.chunk, 0, self.part)
        assert found.recut(self.chunk) == DATA

    def test_the_first_part_that_names_it_is_read(self, record: Record, world) -> None:
        other = encode_part(Part(2, (self.chunk,), (file("z", DATA[:10], Extent(0, 0, 10)),)))
        record.keep_part(1, other, plain=True)
        ref = world.library.seal(other, Purpose.MANIFEST_PART)
        found = Written(self.folder, record)
        found.note(self.chunk, 1, ref)
        assert found.recut(self.chunk) is None  # it has a few bytes of it only
        found.note(self.chunk, 0, self.part)
        found.note(self.chunk, 1, ref)
        assert found.recut(self.chunk) == DATA

    @pytest.mark.parametrize("what", ["changed", "cut", "gone", "no part", "another part"])
    def test_what_was_touched_since_is_not_taken(self, record: Record, what: str) -> None:
        found = Written(self.folder, record)
        found.note(self.chunk, 0, self.part)
        if what == "changed":
            (self.folder / "a").write_bytes(DATA[:1999] + bytes([DATA[1999] ^ 1]))
        elif what == "cut":
            (self.folder / "b").write_bytes(DATA[2000:-1])
        elif what == "gone":
            (self.folder / "a").unlink()
        elif what == "no part":
            (record.folder / "parts" / "000000.plain").unlink()
        else:
            record.keep_part(0, b"another part", plain=True)
        assert found.recut(self.chunk) is None

    def test_the_last_chunks_are_remembered(self, record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(written, "CHUNKS", 2)
        found = Written(self.folder, record)
        found.note(self.chunk, 0, self.part)
        for number in range(3):
            found.note(SealedRef(bytes([number]) * 32, 1, 1, bytes(32), bytes(34)), 0, self.part)
        assert len(found._where) == 2
        assert found.recut(self.chunk) is None
