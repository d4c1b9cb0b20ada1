"""Which old bytes a chunk is patched against."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from entrepot.content.delta.folding import fold
from entrepot.content.delta.format import MAX_RANGES, MAX_REFERENCE, PlainRange
from entrepot.content.delta.references import SLACK, Anchor, merge, window


def test_version_numbers_fold_away() -> None:
    assert fold("lib/app-1.10.3/data2.bin") == fold("lib/app-2.0/data7.bin")
    assert fold("readme") == "readme"


def test_hashes_in_names_fold_away_but_words_do_not() -> None:
    assert fold("libs/libblas-8fb3d286.so") == fold("libs/libblas-ff651d7f.so")
    assert fold("a/deadbeef.txt") == "a/deadbeef.txt"


def test_a_window_without_drift_is_the_same_place_with_slack() -> None:
    low, length = window(1_000_000, 1_200_000, Anchor(0, 0), Anchor(5_000_000, 5_000_000))
    assert (low, low + length) == (1_000_000 - SLACK, 1_200_000 + SLACK)


def test_a_window_follows_the_anchors() -> None:
    low, length = window(1_000_000, 1_100_000, Anchor(900_000, 1_900_000), Anchor(1_200_000, 2_200_000))
    assert low <= 2_000_000
    assert low + length >= 2_100_000


@given(
    st.integers(0, 10**7),
    st.integers(1, 4 * 10**6),
    st.integers(0, 10**7),
    st.integers(0, 10**7),
    st.integers(0, 10**7),
)
def test_windows_are_never_negative_nor_too_large(start: int, length: int, old: int, gap: int, old_gap: int) -> None:
    before = Anchor(max(0, start - gap), old)
    after = Anchor(start + length + gap, old + old_gap)
    low, size = window(start, start + length, before, after)
    assert low >= 0
    assert 0 <= size <= MAX_REFERENCE


@given(st.lists(st.tuples(st.integers(0, 10**8), st.integers(1, 10**7)), max_size=30))
def test_merged_ranges_keep_the_bounds(raw: list[tuple[int, int]]) -> None:
    merged = merge([PlainRange(position, length) for position, length in raw])
    assert len(merged) <= MAX_RANGES
    assert sum(piece.length for piece in merged) <= MAX_REFERENCE
    ends = [(piece.position, piece.position + piece.length) for piece in merged]
    assert all(first[1] <= second[0] for first, second in itertools.pairwise(ends))
