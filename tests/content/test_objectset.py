import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.content.objectset import MAGIC, ObjectSet, encode_set
from entrepot.core.errors import FormatError

IDS = st.frozensets(st.binary(min_size=32, max_size=32), max_size=60)


@given(IDS, IDS)
def test_holds_what_was_put_in_and_nothing_else(members: frozenset[bytes], others: frozenset[bytes]) -> None:
    encoded = b"".join(encode_set(sorted(members)))
    for data in (encoded, memoryview(encoded)):
        decoded = ObjectSet(data)
        assert list(decoded) == sorted(members)
        assert len(decoded) == len(members)
        assert all(member in decoded for member in members)
        assert not any(other in decoded for other in others - members)
    assert "text" not in ObjectSet(encoded)


def test_is_encoded_in_pieces() -> None:
    ids = [number.to_bytes(32, "big") for number in range(10_000)]
    pieces = list(encode_set(ids))
    assert len(pieces) == 3
    assert max(map(len, pieces)) <= 128 * 1024 + 32
    assert len(ObjectSet(b"".join(pieces))) == 10_000


def test_an_empty_set() -> None:
    empty = ObjectSet(b"".join(encode_set([])))
    assert list(empty) == []
    assert bytes(32) not in empty


def test_indices_have_bounds() -> None:
    one = ObjectSet(MAGIC + bytes(32))
    for index in (-1, 1):
        with pytest.raises(IndexError):
            one[index]


@given(st.binary(max_size=200))
def test_foreign_bytes_are_refused(data: bytes) -> None:
    if not data.startswith(MAGIC):
        with pytest.raises(FormatError):
            ObjectSet(data)


@given(st.binary(max_size=200))
def test_a_set_whose_order_lies_still_answers(data: bytes) -> None:
    """Order is the writer's promise: a lie makes wrong answers, not crashes or endless searches."""
    whole = MAGIC + data[: len(data) // 32 * 32]
    assert (bytes(32) in ObjectSet(whole)) in (True, False)


@pytest.mark.parametrize("length", [1, 31, 33])
def test_half_an_id_is_refused(length: int) -> None:
    with pytest.raises(FormatError):
        ObjectSet(MAGIC + bytes(length))
