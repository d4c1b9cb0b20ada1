"""Parts of the new manifest as patches."""

import random
from pathlib import Path

import msgspec
import pytest
from versions import GENERATION, Shelf, build_version

from entrepot.content.delta.format import DeltaRoot, PlainRange, decode_delta_root, encode_delta_root
from entrepot.content.delta.making import Made, Version, make_delta
from entrepot.content.delta.manifestparts import manifest_bytes
from entrepot.content.delta.reading import rebuild_chunk
from entrepot.content.digests import digest_of
from entrepot.core.errors import FormatError, IntegrityError

NOISE = random.Random(5)


@pytest.fixture
def release(tmp_path: Path) -> tuple[Shelf, Version, Version, Made, DeltaRoot]:
    """A thousand files in twenty manifest parts, of which one changes; the paths carry the version number."""
    shelf = Shelf()
    files = {f"app-{{}}/folder{n % 10}/file{n}": NOISE.randbytes(40) for n in range(1000)}
    old = build_version(shelf, 1, {path.format("1.0"): data for path, data in files.items()})
    later = {path.format("1.1"): data for path, data in files.items()} | {"app-1.1/folder3/file3": b"changed"}
    new = build_version(shelf, 2, later)
    made = make_delta(
        old, new, scratch=tmp_path, generation=GENERATION, sign=lambda payload: payload.hex(), store=shelf.store
    )
    assert made is not None
    return shelf, old, new, made, decode_delta_root(bytes.fromhex(shelf.read(made.root).decode()))


def test_every_changed_part_comes_back_byte_for_byte(release: tuple[Shelf, Version, Version, Made, DeltaRoot]) -> None:
    shelf, old, new, made, root = release
    patches = {patch.chunk: patch for patch in root.manifest}
    lacking = [ref for ref in new.root.parts if ref.object_id not in {part.object_id for part in old.root.parts}]
    assert lacking
    for ref in lacking:
        patch = patches[ref.object_id]
        before = manifest_bytes(old.root.parts, patch.ranges, lambda number: shelf.read(old.root.parts[number]))
        assert before is not None
        pack = shelf.read(root.packs[patch.pack])
        assert digest_of(rebuild_chunk(patch, pack, before, ref)) == ref.digest
    assert made.fetched < sum(ref.sealed_size for ref in lacking)


def test_a_swapped_patch_is_refused(release: tuple[Shelf, Version, Version, Made, DeltaRoot]) -> None:
    shelf, old, new, _, root = release
    refs = {ref.object_id: ref for ref in new.root.parts}
    first, second = root.manifest[:2]
    before = manifest_bytes(old.root.parts, first.ranges, lambda number: shelf.read(old.root.parts[number]))
    assert before is not None
    with pytest.raises((FormatError, IntegrityError)):
        rebuild_chunk(first, shelf.read(root.packs[first.pack]), before, refs[second.chunk])


def test_ranges_beyond_the_old_manifest_are_refused(release: tuple[Shelf, Version, Version, Made, DeltaRoot]) -> None:
    shelf, old, *_ = release
    end = sum(ref.plain_size for ref in old.root.parts)
    with pytest.raises(FormatError, match="beyond the end"):
        manifest_bytes(old.root.parts, (PlainRange(end - 1, 2),), lambda number: shelf.read(old.root.parts[number]))


def test_an_old_part_that_is_gone_is_no_error(release: tuple[Shelf, Version, Version, Made, DeltaRoot]) -> None:
    _, old, *_ = release
    assert manifest_bytes(old.root.parts, (PlainRange(0, 5),), lambda _: None) is None


def test_impossible_manifest_patches_are_refused(release: tuple[Shelf, Version, Version, Made, DeltaRoot]) -> None:
    *_, root = release
    outside = msgspec.structs.replace(root.manifest[0], offset=root.packs[0].plain_size)
    with pytest.raises(FormatError, match="outside its pack"):
        decode_delta_root(encode_delta_root(msgspec.structs.replace(root, manifest=(outside,))))
