"""References that no path suggests: renamed, moved and merged files; and the choice of ranges."""

import itertools
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from versions import GENERATION, Shelf, build_version

from entrepot.content.delta import making
from entrepot.content.delta.format import MAX_RANGES, MAX_REFERENCE, PlainRange
from entrepot.content.delta.making import Made, make_delta
from entrepot.content.delta.patching import make_patch
from entrepot.content.delta.plaintext import OldPlaintext
from entrepot.content.delta.references import merge
from entrepot.content.delta.similarity import Similarity, features, sampling
from entrepot.core.sizes import GIB, MIB

NOISE = random.Random(11)


def delta(files: dict[str, bytes], later: dict[str, bytes], folder: Path) -> Made | None:
    shelf = Shelf()
    old, new = build_version(shelf, 1, files), build_version(shelf, 2, later)
    return make_delta(
        old, new, scratch=folder, generation=GENERATION, sign=lambda payload: payload.hex(), store=shelf.store
    )


def changed(body: bytes) -> bytes:
    return body[: len(body) // 2] + b"a change" + body[len(body) // 2 :]


def test_a_file_under_quite_another_name_is_found_by_its_content(tmp_path: Path) -> None:
    body = NOISE.randbytes(200_000)
    made = delta({"lib/alpha.so": body, "stays": b"x"}, {"plugins/omega.bin": changed(body), "stays": b"x"}, tmp_path)
    assert made is not None
    assert made.fetched < 5_000


def test_files_merged_into_one_are_found_by_their_content(tmp_path: Path) -> None:
    one, two = NOISE.randbytes(90_000), NOISE.randbytes(90_000)
    made = delta({"a/one": one, "z/two": two, "m": NOISE.randbytes(9)}, {"both": changed(one) + two}, tmp_path)
    assert made is not None
    assert made.fetched < 5_000


def test_files_that_changed_places_are_found_by_their_content(tmp_path: Path) -> None:
    one, two = NOISE.randbytes(200_000), NOISE.randbytes(200_000)
    made = delta({"one": one, "two": two}, {"one": changed(two), "two": changed(one)}, tmp_path)
    assert made is not None
    assert made.fetched < 5_000


def test_what_was_pushed_far_along_in_its_file_is_found_by_its_content(tmp_path: Path) -> None:
    """Much is put before everything, and every chunk changes: its place says nothing, and no chunk is an anchor."""
    body = NOISE.randbytes(3 << 20)
    first = NOISE.randbytes(10 << 20)
    later = first + b"".join(changed(body[at : at + 90_000]) for at in range(0, len(body), 90_000))
    made = delta({"disk.img": body}, {"disk.img": later}, tmp_path)
    assert made is not None
    assert made.fetched < len(first) + 100_000


def test_runs_are_not_compared_with_runs(tmp_path: Path, monkeypatch) -> None:
    """Their objects are tiny, and the comparison of two large ones takes many seconds."""
    compared = []
    monkeypatch.setattr(making, "make_patch", lambda old, new: compared.append(len(new)) or make_patch(old, new))
    body, runs = NOISE.randbytes(200_000), b"".join(bytes([n]) * 1024 for n in range(100))
    made = delta({"a": body, "disk.img": runs}, {"a": changed(body), "disk.img": b"\7" * 2 * MIB}, tmp_path)
    assert made is not None
    assert 256 * 1024 not in compared
    assert made.patches == 1


def test_a_chunk_whose_pieces_changed_places_within_it_refers_to_the_old_one(tmp_path: Path) -> None:
    """Hits far along in the new bytes, and far ahead: both sides together ask for more than a patch may have."""
    around, body = NOISE.randbytes(4 * MIB), NOISE.randbytes(4 * MIB)
    shelf = Shelf()
    old = build_version(shelf, 1, {"disk.img": around + body + around[::-1]})
    plaintext = OldPlaintext(old.parts(), old.read, tmp_path)
    similar = Similarity(plaintext, tmp_path, lambda: False)
    found = similar.find(b"".join(body[at : at + MIB] for at in (3 * MIB, 2 * MIB, MIB, 0)))
    similar.close()
    plaintext.close()
    assert found[0].position <= 4 * MIB + 64 * 1024
    assert found[0].position + found[0].length >= 8 * MIB - 64 * 1024
    assert sum(each.length for each in found) <= MAX_REFERENCE


def test_moved_content_that_the_new_version_still_has_is_not_looked_through(tmp_path: Path) -> None:
    """What both versions hold is found as it is; the index holds what is gone."""
    shelf = Shelf()
    kept, lost = NOISE.randbytes(300_000), NOISE.randbytes(300_000)
    old = build_version(shelf, 1, {"a": kept, "b": lost})
    plaintext = OldPlaintext(old.parts(), old.read, tmp_path)
    new = build_version(shelf, 2, {"z": kept})
    lacking = sum(plaintext.want(part.chunks) for part in new.parts())
    assert (lacking, list(plaintext.gone()), plaintext.gone_bytes()) == (0, [(300_000, 300_000)], 300_000)
    plaintext.close()


@pytest.mark.parametrize(("size", "share"), [(0, 4), (GIB, 4), (GIB + 1, 8), (20 * GIB, 128), (1 << 50, 256)])
def test_the_index_stays_small_however_much_there_is(size: int, share: int) -> None:
    assert sampling(size) == share - 1


def test_runs_of_one_byte_tell_nothing() -> None:
    assert list(features(bytes(1_000_000))) == []


def test_content_that_was_never_there_gets_no_patch(tmp_path: Path) -> None:
    made = delta({"a": NOISE.randbytes(100_000)}, {"b": NOISE.randbytes(100_000)}, tmp_path)
    assert made is None or made.patches == 0


def test_features_do_not_depend_on_where_content_lies() -> None:
    body = NOISE.randbytes(100_000)
    moved = NOISE.randbytes(777) + body
    shared = {value for value, _ in features(body)} & {value for value, _ in features(moved)}
    assert len(shared) > 50


@given(st.lists(st.tuples(st.integers(0, 1 << 30), st.integers(1, 1 << 24)), max_size=40))
def test_merged_ranges_keep_the_bounds_of_the_format(drawn: list[tuple[int, int]]) -> None:
    merged = merge([PlainRange(position, length) for position, length in drawn])
    assert len(merged) <= MAX_RANGES
    assert sum(piece.length for piece in merged) <= MAX_REFERENCE
    assert all(a.position + a.length <= b.position for a, b in itertools.pairwise(merged))
    assert bool(merged) == bool(drawn)
