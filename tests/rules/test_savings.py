"""What a download did not have to transfer (R28)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.core.errors import BadInputError
from entrepot.rules.savings import KINDS, TRANSFERRED, Piece, is_plausible, savings


def split(*pieces, plain=1000, sealed=600, success=True, distinct=0):
    sizes = {"plain": plain, "sealed": sealed, "distinct": distinct}
    return {(one.kind, one.point): one.bytes for one in savings(pieces, **sizes, success=success)}


def piece(kind, size, form="full", point=""):
    return Piece(kind=kind, form=form, point=point, bytes=size)


def test_each_byte_that_was_not_transferred_has_its_reason():
    found = split(
        piece("own-cache", 100), piece("installed", 200), piece("peer", 50), piece("cloud", 30, "delta", "pt-1")
    )
    assert found == {
        (TRANSFERRED, "pt-1"): 30,
        ("compression", "pt-1"): 400,
        ("own-cache", "pt-1"): 100,
        ("installed", "pt-1"): 200,
        ("peer", "pt-1"): 50,
        ("delta", "pt-1"): 220,
    }


def test_what_no_download_can_have_taken_is_not_plausible():
    assert is_plausible([piece("cloud", 6000)], plain=1000, sealed=600), "made anew a few times"
    claimed = [piece("cloud", 2**61), piece("peer", 2**61)]
    assert not is_plausible(claimed, plain=1000, sealed=600)
    assert is_plausible([], plain=0, sealed=0)


def test_a_full_download_saves_by_compression_only():
    assert split(piece("cloud", 600, point="pt-1")) == {(TRANSFERRED, "pt-1"): 600, ("compression", "pt-1"): 400}


def test_what_is_in_a_version_more_than_once_is_saved_by_dedupe():
    whole = piece("cloud", 600, point="pt-1")
    assert split(whole, distinct=900) == {
        (TRANSFERRED, "pt-1"): 600,
        ("dedupe", "pt-1"): 100,
        ("compression", "pt-1"): 300,
    }


def test_a_failed_download_saves_nothing_but_what_was_sent_counts():
    assert split(piece("cloud", 90, point="pt-1"), piece("peer", 50), success=False) == {(TRANSFERRED, "pt-1"): 90}


def test_a_device_that_boasts_is_believed_within_the_size_of_the_version():
    assert split(piece("own-cache", 10**12)) == {("compression", ""): 400, ("own-cache", ""): 600}


def test_negative_sizes_are_refused():
    with pytest.raises(BadInputError):
        split(piece("cloud", -1))


pieces = st.lists(
    st.builds(
        piece,
        st.sampled_from(["own-cache", "installed", "peer", "point", "cloud", "something new"]),
        st.integers(0, 10**12),
        st.sampled_from(["full", "delta"]),
        st.sampled_from(["pt-1", "pt-2"]),
    ),
    max_size=12,
)


@given(pieces, st.integers(0, 10**12), st.integers(0, 10**12), st.integers(0, 10**12), st.booleans())
def test_savings_never_exceed_what_there_was_to_save(found, plain, sealed, distinct, success):
    result = savings(found, plain=plain, sealed=sealed, distinct=distinct, success=success)
    assert all(one.kind in KINDS and one.bytes >= 0 for one in result)
    saved = sum(one.bytes for one in result if one.kind != TRANSFERRED)
    sent = sum(one.bytes for one in result if one.kind == TRANSFERRED)
    assert saved <= max(0, plain - sealed) + max(0, sealed - sent)
