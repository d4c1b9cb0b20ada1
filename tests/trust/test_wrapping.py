"""Secrets under a wrapping key: nothing passes for another name, another number, another key."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.core.errors import EntrepotError, FormatError, IntegrityError
from entrepot.core.secret import Secret
from entrepot.trust.vault import ServerVault
from entrepot.trust.wrapping import MAX_SECRET, WrappingKey, is_wrapped, wrapping_number

KEY = WrappingKey(7, Secret(b"w" * 32))
GOLDEN = Path(__file__).parent / "golden" / "wrapped-secret.bin"


@given(name=st.text(max_size=60), value=st.binary(max_size=200))
def test_what_is_wrapped_opens_under_its_name_and_no_other(name: str, value: bytes) -> None:
    wrapped = KEY.wrap(name, Secret(value))
    assert is_wrapped(wrapped)
    assert wrapping_number(wrapped) == 7
    assert KEY.unwrap(name, wrapped).reveal() == value
    with pytest.raises(IntegrityError):
        KEY.unwrap(name + "x", wrapped)


@given(at=st.integers(min_value=0, max_value=10_000), bit=st.integers(min_value=0, max_value=7))
def test_any_flipped_bit_is_noticed(at: int, bit: int) -> None:
    wrapped = bytearray(KEY.wrap("content/1", Secret(b"s" * 32)))
    wrapped[at % len(wrapped)] ^= 1 << bit
    with pytest.raises((IntegrityError, FormatError)):
        KEY.unwrap("content/1", bytes(wrapped))


@given(data=st.binary(max_size=200))
def test_foreign_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(EntrepotError):
        KEY.unwrap("content/1", data)


def test_another_wrapping_key_of_the_same_number_opens_nothing() -> None:
    with pytest.raises(IntegrityError, match="does not open"):
        WrappingKey(7, Secret(b"x" * 32)).unwrap("dedupe", KEY.wrap("dedupe", Secret(b"s")))


def test_two_wrappings_of_one_secret_share_nothing() -> None:
    one, other = KEY.wrap("dedupe", Secret(b"s" * 32)), KEY.wrap("dedupe", Secret(b"s" * 32))
    assert one[:5] == other[:5]
    assert one[5:] != other[5:]


def test_what_is_sealed_to_a_vault_is_not_taken_for_wrapped(tmp_path: Path) -> None:
    sealed = ServerVault.create(tmp_path / "vault.key").seal("dedupe", Secret(b"s" * 32))
    assert not is_wrapped(sealed)
    with pytest.raises(FormatError):
        wrapping_number(sealed)


def test_a_secret_that_is_too_large_is_refused() -> None:
    with pytest.raises(FormatError, match="64 KiB"):
        KEY.wrap("dedupe", Secret(bytes(MAX_SECRET + 1)))


def test_what_earlier_versions_wrapped_opens() -> None:
    assert KEY.unwrap("secret/content/1", GOLDEN.read_bytes()).reveal() == bytes(range(32))
