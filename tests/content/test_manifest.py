import contextlib
import itertools

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entrepot.content.manifest import (
    VERSION,
    Entry,
    EntryKind,
    Extent,
    OrderCheck,
    Part,
    Root,
    decode_part,
    decode_root,
    encode_part,
    join_part,
)
from entrepot.core.encoding import pack
from entrepot.core.errors import EntrepotError, FormatError
from entrepot.core.paths import case_key, path_key
from entrepot.protocol import SealedRef

REF = SealedRef(b"o" * 32, 117, 100, b"k" * 32, b"s" * 32)
SHA = b"h" * 32


def file(path: str, size: int = 10, *, offset: int = 0, length: int = -1, mode: int = 0o644) -> Entry:
    took = size if length < 0 else length
    return Entry(EntryKind.FILE, path, mode, size, SHA, offset, (Extent(0, 0, took),) if took else ())


def part(*entries: Entry) -> Part:
    return Part(VERSION, (REF,), entries)


GOOD = part(
    file("a", 100),
    file("b/empty", 0),
    Entry(EntryKind.LINK, "b/link", target="../a"),
    Entry(EntryKind.FOLDER, "c", 0o755),
)
ROOT = Root(VERSION, "pkg-0011223344556677", 1, 2, 100, 1, 117, True, (REF,))


class TestPart:
    def test_reads_back(self) -> None:
        assert decode_part(encode_part(GOOD)) == GOOD

    def test_is_joined_from_entries_that_are_packed_already(self) -> None:
        assert join_part(GOOD.chunks, map(pack, GOOD.entries)) == encode_part(GOOD)

    @pytest.mark.parametrize(
        "entry",
        [
            file("/a"),
            file("../a"),
            file("a/../b"),
            file("a//b"),
            file(""),
            file("a\x00b"),
            file("x" * 256),
            file("a", mode=0o4755),
            file("a", mode=-1),
            Entry(EntryKind.FILE, "a", 0, 10, b"short", 0, (Extent(0, 0, 10),)),
            Entry(EntryKind.FILE, "a", 0, 10, SHA, 11, ()),
            Entry(EntryKind.FILE, "a", 0, -1, SHA, 0, ()),
            Entry(EntryKind.FILE, "a", 0, 10, SHA, -1, (Extent(0, 0, 10),)),
            Entry(EntryKind.FILE, "a", 0, 10, SHA, 0, (Extent(1, 0, 10),)),
            Entry(EntryKind.FILE, "a", 0, 10, SHA, 0, (Extent(-1, 0, 10),)),
            Entry(EntryKind.FILE, "a", 0, 10, SHA, 0, (Extent(0, -1, 10),)),
            Entry(EntryKind.FILE, "a", 0, 10, SHA, 0, (Extent(0, 0, 0),)),
            Entry(EntryKind.FILE, "a", 0, 200, SHA, 0, (Extent(0, 1, 100),)),
            Entry(EntryKind.FILE, "a", 0, 10, SHA, 0, (Extent(0, 0, 11),)),
            Entry(EntryKind.FILE, "a", 0, 10, SHA, 0, (Extent(0, 0, 10),), "target"),
            Entry(EntryKind.FILE, "a", 0, 10, SHA, 0, ()),
            Entry(EntryKind.FOLDER, "a", 0, 1),
            Entry(EntryKind.FOLDER, "a", target="b"),
            Entry(EntryKind.FOLDER, "a", 0, 0, SHA),
            Entry(EntryKind.LINK, "a", target="/etc"),
            Entry(EntryKind.LINK, "a", target=".."),
            Entry(EntryKind.LINK, "a", target=""),
            Entry(EntryKind.LINK, "a", target="é" * 2048),
            Entry(EntryKind.LINK, "a", 0, 0, b"", 0, (Extent(0, 0, 1),), "b"),
            Entry(3, "a"),
        ],
        ids=repr,
    )
    def test_refuses_what_no_writer_makes(self, entry: Entry) -> None:
        with pytest.raises(FormatError):
            decode_part(encode_part(part(entry)))

    def test_refuses_other_versions_by_name(self) -> None:
        with pytest.raises(FormatError, match="version 3; this version of Entrepôt reads version 2"):
            decode_part(encode_part(Part(3, (), ())))

    def test_refuses_impossible_references(self) -> None:
        with pytest.raises(FormatError, match="chunk"):
            decode_part(encode_part(Part(VERSION, (msgspec.structs.replace(REF, key=b""),), ())))


class TestRoot:
    def test_reads_back(self) -> None:
        assert decode_root(pack(ROOT)) == ROOT

    @pytest.mark.parametrize("field", ["number", "files", "plain_size", "chunks", "stored_size"])
    def test_refuses_negative_totals(self, field: str) -> None:
        with pytest.raises(FormatError, match="negative"):
            decode_root(pack(msgspec.structs.replace(ROOT, **{field: -1})))

    def test_refuses_other_versions_by_name(self) -> None:
        with pytest.raises(FormatError, match="version 9"):
            decode_root(pack(msgspec.structs.replace(ROOT, version=9)))


@settings(max_examples=400)
@given(st.data())
def test_mutated_bytes_give_named_errors_only(data: st.DataObject) -> None:
    for good, decode in ((encode_part(GOOD), decode_part), (pack(ROOT), decode_root)):
        mutated = bytearray(good)
        for _ in range(data.draw(st.integers(1, 4))):
            at = data.draw(st.integers(0, len(mutated) - 1))
            match data.draw(st.sampled_from("foid")):
                case "f":
                    mutated[at] ^= 1 << data.draw(st.integers(0, 7))
                case "o":
                    mutated[at] = data.draw(st.sampled_from([0x00, 0x7F, 0xC0, 0xC6, 0xDC, 0xDD, 0xDF, 0xFF]))
                case "i":
                    mutated[at:at] = data.draw(st.binary(max_size=6))
                case _:
                    del mutated[at : at + data.draw(st.integers(1, 9))]
                    mutated += b"\xc0" * (not mutated)
        with contextlib.suppress(FormatError):
            decode(bytes(mutated))


@given(st.binary(max_size=300))
def test_foreign_bytes_give_named_errors_only(data: bytes) -> None:
    for decode in (decode_part, decode_root):
        try:
            decode(data)
        except EntrepotError as error:
            assert isinstance(error, FormatError)


def accepts(*entries: Entry, fold_case: bool = False) -> bool:
    check = OrderCheck(fold_case=fold_case)
    try:
        for entry in entries:
            check.accept(entry)
        check.finish()
    except FormatError:
        return False
    return True


class TestOrder:
    def test_path_order_is_accepted(self) -> None:
        assert accepts(file("a/b"), file("a/c/d"), file("a-b"), Entry(EntryKind.FOLDER, "b"), file("é"))

    @pytest.mark.parametrize(
        "paths", [("b", "a"), ("a", "a"), ("a-b", "a/b"), ("a", "a/b"), ("a/b", "a/b/c"), ("a/c", "a/b"), ("a/b", "a")]
    )
    def test_other_sequences_are_not(self, paths: tuple[str, ...]) -> None:
        assert not accepts(*map(file, paths))

    def test_nothing_lies_below_a_link(self) -> None:
        assert not accepts(Entry(EntryKind.LINK, "a", target="b"), file("a/b"))

    def test_a_file_may_go_on(self) -> None:
        pieces = file("a", 30, length=10), file("a", 30, offset=10, length=10), file("a", 30, offset=20, length=10)
        assert accepts(*pieces, file("b"))
        assert not accepts(*pieces[:2])
        assert not accepts(*pieces[:2], file("b"))
        assert not accepts(pieces[0], pieces[2])
        assert not accepts(pieces[1], pieces[2])
        assert not accepts(pieces[0], pieces[0])
        assert not accepts(*pieces, file("a", 30, offset=30, length=0))

    @pytest.mark.parametrize("change", [{"size": 40}, {"digest": b"x" * 32}, {"mode": 0}, {"path": "b"}])
    def test_but_must_stay_itself(self, change: dict[str, object]) -> None:
        rest = msgspec.structs.replace(file("a", 30, offset=10, length=20), **change)
        assert not accepts(file("a", 30, length=10), rest)

    @pytest.mark.parametrize(
        "paths",
        [
            ("A", "a"),
            ("A/x", "a/y"),
            ("A/x", "a"),
            ("A", "a/x"),
            ("x/A/1", "x/B", "x/a"),
            ("A/b/c", "A/b/d", "A/c", "B/x", "a/z"),
            ("ABC/x/y", "ABC/z", "Abc"),
            ("É", "é"),
        ],
    )
    def test_names_that_collide_where_case_does_not_count(self, paths: tuple[str, ...]) -> None:
        assert accepts(*map(file, paths))
        assert not accepts(*map(file, paths), fold_case=True)

    @pytest.mark.parametrize("paths", [("A/x", "B/X"), ("a/b/c", "a/c/b", "b/a"), ("a/a/a/a", "a/b"), ("x/a", "y/A")])
    def test_equal_names_in_different_folders_do_not(self, paths: tuple[str, ...]) -> None:
        assert accepts(*map(file, paths), fold_case=True)


PATHS = st.lists(st.lists(st.sampled_from("aAbB"), min_size=1, max_size=4).map("/".join), max_size=8)


def collides(paths: list[str]) -> bool:
    """The definition: two different spellings of one name in one folder."""
    spelled: dict[tuple[str, ...], str] = {}
    for path in paths:
        parts = path.split("/")
        for depth, name in enumerate(parts):
            place = (*parts[:depth], case_key(name))
            if spelled.setdefault(place, name) != name:
                return True
    return False


@settings(max_examples=500)
@given(PATHS)
def test_collisions_are_found_exactly(paths: list[str]) -> None:
    ordered = sorted(set(paths), key=path_key)
    leaves = [
        path
        for path, following in itertools.zip_longest(ordered, ordered[1:], fillvalue="")
        if not following.startswith(f"{path}/")
    ]
    entries = list(map(file, leaves))
    assert accepts(*entries)
    assert accepts(*entries, fold_case=True) != collides(leaves)
