from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entrepot.content.manifest import VERSION, Entry, EntryKind, Extent, Part, Root, encode_part
from entrepot.content.reading import MAX_DOCUMENT, PartSequence, open_root, parts, read_root
from entrepot.content.sealing import Generation, Purpose, Sealed, seal
from entrepot.core.encoding import pack
from entrepot.core.errors import FormatError, IntegrityError, TrustError
from entrepot.core.secret import Secret
from entrepot.protocol import SealedRef

GENERATION = Generation(1, Secret(b"c" * 32))
CHUNK = SealedRef(b"o" * 32, 117, 100, b"k" * 32, b"s" * 32)


def sealed(data: bytes, purpose: Purpose = Purpose.MANIFEST_PART) -> Sealed:
    return seal(data, purpose=purpose, generation=GENERATION)


def file(path: str, size: int = 10, *, offset: int = 0, length: int = -1) -> Entry:
    took = size if length < 0 else length
    return Entry(EntryKind.FILE, path, 0o644, size, b"h" * 32, offset, (Extent(0, 0, took),))


def part(*entries: Entry) -> Sealed:
    return sealed(encode_part(Part(VERSION, (CHUNK,), entries)))


def manifest(*made: Sealed, files: int, size: int, windows_safe: bool = True) -> tuple[Root, dict[bytes, bytes]]:
    refs = tuple(each.ref for each in made)
    root = Root(VERSION, "pkg-0011223344556677", 1, files, size, 1, 117, windows_safe, refs)
    return root, {each.ref.object_id: each.data for each in made}


def read(root: Root, objects: dict[bytes, bytes], *, for_windows: bool = False) -> Iterator[Part]:
    return parts(root, lambda ref: objects[ref.object_id], for_windows=for_windows)


def paths(found: Iterator[Part]) -> list[str]:
    return [entry.path for each in found for entry in each.entries]


def test_parts_come_in_order_opened_and_checked() -> None:
    root, objects = manifest(part(file("a"), file("b")), part(file("c")), files=3, size=30)
    assert paths(read(root, objects)) == ["a", "b", "c"]


def test_a_content_without_parts_has_no_entries() -> None:
    root, objects = manifest(files=0, size=0)
    assert paths(read(root, objects)) == []


def test_order_counts_across_parts() -> None:
    for made in ((part(file("b")), part(file("a"))), (part(file("a")), part(file("a")))):
        root, objects = manifest(*made, files=2, size=20)
        with pytest.raises(FormatError, match="out of order"):
            paths(read(root, objects))


def test_a_file_goes_on_in_the_next_part() -> None:
    begin, end = part(file("a", 150, length=100)), part(file("a", 150, offset=100, length=50), file("b"))
    root, objects = manifest(begin, end, files=2, size=160)
    assert paths(read(root, objects)) == ["a", "a", "b"]
    root, objects = manifest(begin, files=1, size=150)
    with pytest.raises(FormatError, match="incomplete"):
        paths(read(root, objects))


@pytest.mark.parametrize(("files", "size"), [(2, 10), (1, 11), (0, 0)])
def test_totals_must_add_up(files: int, size: int) -> None:
    root, objects = manifest(part(file("a")), files=files, size=size)
    with pytest.raises(FormatError, match="totals"):
        paths(read(root, objects))


def test_the_promise_to_windows_is_checked() -> None:
    for entries in ((file("aux"),), (file("A"), file("a"))):
        made = part(*entries)
        root, objects = manifest(made, files=len(entries), size=10 * len(entries))
        with pytest.raises(FormatError):
            paths(read(root, objects))
        honest, objects = manifest(made, files=len(entries), size=10 * len(entries), windows_safe=False)
        assert len(paths(read(honest, objects))) == len(entries)
        with pytest.raises(FormatError):
            paths(read(honest, objects, for_windows=True))


def test_a_part_of_another_kind_does_not_pass() -> None:
    made = sealed(b"not a part at all")
    root, objects = manifest(made, files=0, size=0)
    with pytest.raises(FormatError, match="manifest part"):
        paths(read(root, objects))


def test_an_oversized_part_is_refused_before_it_is_opened() -> None:
    made = part(file("a"))
    big = msgspec.structs.replace(made.ref, plain_size=2 * 1024 * 1024)
    root, objects = manifest(made, files=1, size=10)
    with pytest.raises(FormatError, match="larger than any part"):
        paths(read(msgspec.structs.replace(root, parts=(big,)), objects))


def test_a_damaged_part_is_named_and_may_be_taken_from_elsewhere() -> None:
    made = part(file("a"))
    root, _ = manifest(made, files=1, size=10)
    sequence = PartSequence(root)
    assert sequence.wanted == made.ref
    with pytest.raises(IntegrityError, match=made.ref.object_id.hex()[:16]):
        sequence.take(bytes(len(made.data)))
    assert sequence.wanted == made.ref
    assert sequence.take(made.data).entries == (file("a"),)
    assert sequence.wanted is None
    with pytest.raises(FormatError, match="no further"):
        sequence.take(made.data)


class TestRoot:
    ROOT = Root(VERSION, "pkg-0011223344556677", 1, 1, 10, 1, 117, True, (CHUNK,))

    def test_opens_verifies_and_decodes(self) -> None:
        made = sealed(b"signed " + pack(self.ROOT), Purpose.MANIFEST_ROOT)
        assert open_root(made.data, made.ref, lambda document: document.removeprefix(b"signed ")) == self.ROOT

    def test_a_bad_signature_comes_first(self) -> None:
        def refuse(document: bytes) -> bytes:
            raise TrustError("not ours")

        with pytest.raises(TrustError):
            read_root(b"\xff garbage", refuse)

    def test_its_size_is_bounded_before_anything_is_verified(self) -> None:
        def never(document: bytes) -> bytes:
            raise AssertionError("verified an oversized document")

        with pytest.raises(FormatError, match="larger"):
            read_root(bytes(MAX_DOCUMENT + 1), never)


@settings(max_examples=200)
@given(st.lists(st.tuples(st.sampled_from("abAB/"), st.integers(0, 3), st.integers(0, 3)), max_size=6))
def test_any_sequence_of_entries_gives_parts_or_a_named_error(drawn: list[tuple[str, int, int]]) -> None:
    made = [
        part(Entry(EntryKind.FILE, name, 0, size, b"h" * 32, offset, (Extent(0, 0, 1),)))
        for name, size, offset in drawn
    ]
    root, objects = manifest(*made, files=len(made), size=sum(size for _, size, _ in drawn))
    try:
        found = paths(read(root, objects))
    except FormatError:
        return
    assert found == sorted(found)
