"""Comparing manifests by merging them, against plain dictionaries; and making chunks again from the source."""

import hashlib
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from entrepot.content.comparing import Kind, differences, entries
from entrepot.content.digests import digest_of
from entrepot.content.manifest import Entry, EntryKind, Extent, Part
from entrepot.content.repairing import rebuilt, sealed_as
from entrepot.content.sealing import Purpose, open_sealed, seal
from entrepot.core.ids import ObjectId
from entrepot.core.paths import path_key

PATHS = st.lists(st.sampled_from(["a", "b", "é", "x y"]), min_size=1, max_size=3).map("/".join)
TREES = st.dictionaries(PATHS, st.binary(max_size=2), max_size=8)


def of(tree: dict[str, bytes]) -> list[Entry]:
    return [
        Entry(kind=EntryKind.FILE, path=path, size=len(data), digest=digest_of(data))
        for path, data in sorted(tree.items(), key=lambda item: path_key(item[0]))
    ]


@given(old=TREES, new=TREES)
def test_a_merge_finds_what_dictionaries_say(old: dict[str, bytes], new: dict[str, bytes]) -> None:
    found = {each.path: each.kind for each in differences(of(old), of(new))}
    expected = dict.fromkeys(old.keys() - new.keys(), Kind.REMOVED)
    expected |= dict.fromkeys(new.keys() - old.keys(), Kind.ADDED)
    expected |= {path: Kind.SAME if old[path] == new[path] else Kind.CHANGED for path in old.keys() & new.keys()}
    assert found == expected


def test_a_file_that_goes_on_in_the_next_part_counts_once() -> None:
    first = Entry(kind=EntryKind.FILE, path="big", size=4, digest=bytes(32), extents=(Extent(0, 0, 2),))
    rest = Entry(kind=EntryKind.FILE, path="big", size=4, digest=bytes(32), offset=2, extents=(Extent(0, 0, 2),))
    parts = [Part(1, (), (first,)), Part(1, (), (rest,))]
    assert list(entries(parts)) == [first]


def test_chunks_are_made_again_byte_for_byte_or_not_at_all(library, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for number in range(200):
        (source / f"small{number:03}").write_bytes(b"%d " % number * 2000)
    (source / "big").write_bytes(hashlib.shake_128(b"big").digest(3_000_000))
    published = library.publish(source)
    wanted = {ObjectId(ref.object_id) for part in library.parts(published) for ref in part.chunks}
    made = dict(rebuilt(library.parts(published), wanted, source))
    assert made.keys() == wanted
    for object_id, data in made.items():
        assert data == library.shelf.read_whole(object_id)
    (source / "small007").write_bytes(b"changed")
    (source / "big").unlink()
    fewer = dict(rebuilt(library.parts(published), wanted, source))
    assert fewer.keys() < wanted
    assert all(library.shelf.read_whole(object_id) == data for object_id, data in fewer.items())


def test_a_single_file_is_its_own_source(library, tmp_path: Path) -> None:
    file = tmp_path / "setup.exe"
    file.write_bytes(hashlib.shake_128(b"exe").digest(700_000))
    published = library.publish(file)
    wanted = {ObjectId(ref.object_id) for part in library.parts(published) for ref in part.chunks}
    assert dict(rebuilt(library.parts(published), wanted, file)).keys() == wanted


def test_other_bytes_never_become_the_object(library) -> None:
    generation = library.keys.generation
    sealed = seal(b"right" * 100, purpose=Purpose.CHUNK, generation=generation)
    assert sealed_as(b"right" * 100, sealed.ref) == sealed.data
    assert open_sealed(sealed.data, sealed.ref) == b"right" * 100
    assert sealed_as(b"wrong" * 100, sealed.ref) is None
