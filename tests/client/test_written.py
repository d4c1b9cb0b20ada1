"""A chunk that several parts of a manifest name is fetched once, cache or not."""

import os
from pathlib import Path

import pytest

from entrepot.client import written
from entrepot.client.fetch import fetch
from entrepot.client.records import Record
from entrepot.client.written import OPENED, OPENINGS, PIECES, Written
from entrepot.content.digests import digest_of
from entrepot.content.manifest import Entry, EntryKind, Extent, Part, Root, encode_part
from entrepot.content.sealing import Purpose
from entrepot.core.encoding import pack
from entrepot.core.errors import UnavailableError
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


def neighbours(world) -> list[SealedRef]:
    """Publish three parts with the same chunks, of which the first has all; the others begin with the last of them."""
    files = [os.urandom(20_000) for _ in range(20)]
    chunks = [world.library.seal(each, Purpose.CHUNK) for each in files]
    whole = [file(f"a/{at:02d}", each, Extent(at, 0, 20_000)) for at, each in enumerate(files)]
    some = [(at, each[:9000]) for at, each in reversed(list(enumerate(files)))]
    parts = [Part(2, tuple(chunks), tuple(whole))]
    for letter in "bc":
        entries = [file(f"{letter}/{20 - at:02d}", each, Extent(at, 0, 9000)) for at, each in some]
        parts.append(Part(2, tuple(chunks), tuple(entries)))
    world.library.forge(parts)
    return chunks


async def test_parts_that_are_fetched_at_the_same_time_fetch_it_once(world, tools) -> None:
    chunks = neighbours(world)
    point = world.point("near")
    home = await world.client(cache_size="0")

    result = await fetch(home, tools.content)

    assert result.files == 60
    assert {point.requests[chunk.object_id.hex()] for chunk in chunks} == {1}


async def test_what_an_interrupted_run_wrote_is_not_fetched_again_for_another_part(world, tools) -> None:
    """The first run ends when it asks for the last part: the first one is complete by then."""
    whole = world.library.seal(DATA, Purpose.CHUNK)
    last = world.library.seal(b"last", Purpose.CHUNK)
    again = file("h", DATA[1000:2500], Extent(0, 1000, 1500))
    parts = [
        Part(2, (whole,), (file("a", DATA[:2000], Extent(0, 0, 2000)), file("b", DATA[2000:], Extent(0, 2000, 3000)))),
        *(Part(2, (), (Entry(EntryKind.FOLDER, name, 0o755),)) for name in "cdefg"),
        Part(2, (whole, last), (again, file("i", b"last", Extent(1, 0, 4)))),
    ]
    world.library.forge(parts)
    point = world.point("near")
    home = await world.client(cache_size="0", retries=0)

    def fail_at_the_end(asked: bytes) -> None:
        if asked == world.library.root(1).parts[-2].object_id:
            point.failing = UnavailableError("Down.")

    point.gate = fail_at_the_end
    with pytest.raises(UnavailableError):
        await fetch(home, tools.content)
    point.failing, point.gate = None, lambda _: None
    assert point.requests[whole.object_id.hex()] == 1

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

    def test_parts_are_opened_again_and_again_only_so_often(self, record: Record, world) -> None:
        """A manifest that names chunks of more parts in turn than are at hand costs no more than to fetch them."""
        found = Written(self.folder, record)
        chunks = [self.chunk]
        found.note(self.chunk, 0, self.part)
        for number in range(1, OPENED + 1):
            data = os.urandom(100)
            (self.folder / f"{number}").write_bytes(data)
            chunk = world.library.seal(data, Purpose.CHUNK)
            part = encode_part(Part(2, (chunk,), (file(f"{number}", data, Extent(0, 0, 100)),)))
            record.keep_part(number, part, plain=True)
            found.note(chunk, number, world.library.seal(part, Purpose.MANIFEST_PART))
            chunks.append(chunk)
        rounds = [[found.recut(chunk) for chunk in chunks] for _ in range(OPENINGS + 1)]
        assert all(plain is not None for each in rounds[:OPENINGS] for plain in each)
        assert rounds[OPENINGS] == [None, *rounds[0][1:]]  # the others are at hand

    def test_the_parts_at_hand_are_opened_once(self, record: Record) -> None:
        found = Written(self.folder, record)
        found.note(self.chunk, 0, self.part)
        assert found.recut(self.chunk) == DATA
        (record.folder / "parts" / "000000.plain").unlink()
        assert found.recut(self.chunk) == DATA

    @pytest.mark.parametrize(("pieces", "taken"), [(PIECES, True), (PIECES + 1, False)])
    def test_it_is_not_put_together_of_all_too_many_pieces(
        self, record: Record, world, pieces: int, taken: bool
    ) -> None:
        data = os.urandom(pieces)
        (self.folder / "one").write_bytes(data)
        chunk = world.library.seal(data, Purpose.CHUNK)
        extents = [Extent(0, at, 1) for at in range(pieces)]
        part = encode_part(Part(2, (chunk,), (file("one", data, *extents),)))
        record.keep_part(1, part, plain=True)
        found = Written(self.folder, record)
        found.note(chunk, 1, world.library.seal(part, Purpose.MANIFEST_PART))
        assert (found.recut(chunk) == data) is taken

    def test_the_longest_of_pieces_that_begin_at_one_place_counts(self, record: Record, world) -> None:
        (self.folder / "c").write_bytes(DATA[:9])
        (self.folder / "d").write_bytes(DATA)
        files = (("c", DATA[:9]), ("d", DATA), ("e", DATA[:8]))
        part = encode_part(
            Part(2, (self.chunk,), tuple(file(name, data, Extent(0, 0, len(data))) for name, data in files))
        )
        record.keep_part(1, part, plain=True)
        found = Written(self.folder, record)
        found.note(self.chunk, 1, world.library.seal(part, Purpose.MANIFEST_PART))
        assert found.recut(self.chunk) == DATA

    def test_the_last_chunks_are_remembered(self, record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(written, "CHUNKS", 2)
        found = Written(self.folder, record)
        found.note(self.chunk, 0, self.part)
        for number in range(3):
            found.note(SealedRef(bytes([number]) * 32, 1, 1, bytes(32), bytes(34)), 0, self.part)
        assert len(found._where) == 2
        assert found.recut(self.chunk) is None
