"""What the site makes, a client can use: every patched chunk comes back byte for byte."""

import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from versions import GENERATION, Shelf, build_version

from entrepot.content.delta.format import DeltaRoot, decode_delta_root
from entrepot.content.delta.making import Made, Version, make_delta
from entrepot.content.delta.reading import DeltaCursor, rebuild_chunk
from entrepot.content.sealing import open_sealed
from entrepot.core.errors import CancelledError


def plaintext(version: Version) -> bytes:
    """The concatenation of all files in path order."""
    out = []
    for part in version.parts():
        for entry in part.entries:
            for extent in entry.extents:
                plain = version.read(part.chunks[extent.chunk])
                out.append(plain[extent.offset : extent.offset + extent.length])
    return b"".join(out)


def make(shelf: Shelf, old: Version, new: Version, folder: Path) -> Made | None:
    return make_delta(
        old, new, scratch=folder, generation=GENERATION, sign=lambda payload: payload.hex(), store=shelf.store
    )


def root_of(shelf: Shelf, made: Made) -> DeltaRoot:
    return decode_delta_root(bytes.fromhex(shelf.read(made.root).decode()))


def rebuild_all(shelf: Shelf, old: Version, new: Version, made: Made) -> tuple[int, int]:
    """Walk manifest and delta together as a client does; returns (patched, fetched whole)."""
    before = plaintext(old)
    held = {ref.object_id for part in old.parts() for ref in part.chunks}
    root = root_of(shelf, made)
    cursor = DeltaCursor(root)
    patched, whole = set(), set()
    for part in new.parts():
        ids = [ref.object_id for ref in part.chunks]
        found = cursor.take(ids)
        while (wanted := cursor.wanted) is not None:
            cursor.feed(shelf.read(wanted))
            more = cursor.take(ids)
            if not more:
                break
            found |= more
        for ref in part.chunks:
            if ref.object_id in held or ref.object_id in patched:
                continue
            patch = found.get(ref.object_id)
            if patch is None:
                whole.add(ref.object_id)
                continue
            data = b"".join(before[r.position : r.position + r.length] for r in patch.ranges)
            pack = open_sealed(shelf.objects[root.packs[patch.pack].object_id], root.packs[patch.pack])
            assert rebuild_chunk(patch, pack, data, ref) == shelf.read(ref)
            patched.add(ref.object_id)
    assert len(patched) == made.patches
    return len(patched), len(whole)


def test_a_changed_big_file_costs_a_patch_and_no_full_object(tmp_path: Path) -> None:
    noise = random.Random(1)
    body = noise.randbytes(3_000_000)
    changed = body[:1_000_000] + b"new bytes that shift the rest" + body[1_000_000:]
    shelf = Shelf()
    old = build_version(shelf, 1, {"bin/tool": body, "readme": b"hello"})
    new = build_version(shelf, 2, {"bin/tool": changed, "readme": b"hello"})
    made = make(shelf, old, new, tmp_path)
    assert made is not None
    patched, whole = rebuild_all(shelf, old, new, made)
    assert whole == 0
    assert patched >= 8  # fixed cutting: all chunks behind the insertion changed
    assert made.size < 10_000
    assert made.saved > 1_900_000


def test_a_path_with_a_version_number_finds_its_predecessor(tmp_path: Path) -> None:
    noise = random.Random(2)
    body = noise.randbytes(800_000)
    shelf = Shelf()
    old = build_version(shelf, 1, {"lib-1.4.2/core.bin": body})
    new = build_version(shelf, 2, {"lib-1.5.0/core.bin": body[:400_000] + b"!" + body[400_000:]})
    made = make(shelf, old, new, tmp_path)
    assert made is not None
    assert rebuild_all(shelf, old, new, made)[1] == 0


def test_many_small_files_in_one_chunk_are_patched_together(tmp_path: Path) -> None:
    noise = random.Random(3)
    files = {f"src/module_{n:03}.py": noise.randbytes(3_000) for n in range(200)}
    shelf = Shelf()
    old = build_version(shelf, 1, files)
    changed = {
        path: data[:1500] + b"edit" + data[1500:] if n % 7 == 0 else data
        for n, (path, data) in enumerate(files.items())
    }
    new = build_version(shelf, 2, changed)
    made = make(shelf, old, new, tmp_path)
    assert made is not None
    patched, whole = rebuild_all(shelf, old, new, made)
    assert (patched, whole) == (4, 0)
    assert made.size < 20_000


def test_nothing_in_common_makes_no_delta(tmp_path: Path) -> None:
    noise = random.Random(4)
    shelf = Shelf()
    old = build_version(shelf, 1, {"a": noise.randbytes(500_000)})
    new = build_version(shelf, 2, {"a": noise.randbytes(500_000)})
    assert make(shelf, old, new, tmp_path) is None


def test_an_unchanged_version_makes_no_delta(tmp_path: Path) -> None:
    shelf = Shelf()
    files = {"a": random.Random(5).randbytes(500_000)}
    old, new = build_version(shelf, 1, files), build_version(shelf, 2, files)
    assert make(shelf, old, new, tmp_path) is None


def test_making_can_be_cancelled(tmp_path: Path) -> None:
    shelf = Shelf()
    body = random.Random(6).randbytes(600_000)
    old = build_version(shelf, 1, {"a": body})
    new = build_version(shelf, 2, {"a": body[::-1] + body})
    with pytest.raises(CancelledError):
        make_delta(
            old,
            new,
            scratch=tmp_path,
            generation=GENERATION,
            sign=lambda payload: payload.hex(),
            store=shelf.store,
            cancelled=lambda: True,
        )


edits = st.lists(st.tuples(st.integers(0, 2**20), st.integers(0, 3000), st.binary(max_size=200)), max_size=4)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    sizes=st.lists(st.sampled_from([0, 1, 500, 40_000, 262_144, 700_000]), min_size=1, max_size=6),
    edits=st.lists(edits, min_size=6, max_size=6),
    renamed=st.booleans(),
    per_part=st.sampled_from([1, 3]),
    seed=st.integers(0, 1000),
)
def test_any_edits_come_back_exactly(
    tmp_path_factory: pytest.TempPathFactory,
    sizes: list[int],
    edits: list[list[tuple[int, int, bytes]]],
    renamed: bool,
    per_part: int,
    seed: int,
) -> None:
    noise = random.Random(seed)
    old_files = {f"v1/file{n}": noise.randbytes(size) for n, size in enumerate(sizes)}
    new_files = {}
    for n, (path, data) in enumerate(old_files.items()):
        for at, cut, insert in edits[n]:
            at = at % (len(data) + 1)
            data = data[:at] + insert + data[at + cut :]
        new_files[path.replace("v1", "v2") if renamed else path] = data
    shelf = Shelf()
    old = build_version(shelf, 1, old_files, files_per_part=per_part)
    new = build_version(shelf, 2, new_files, files_per_part=per_part)
    made = make(shelf, old, new, tmp_path_factory.mktemp("scratch"))
    if made is not None:
        rebuild_all(shelf, old, new, made)
        assert made.saved > 0
