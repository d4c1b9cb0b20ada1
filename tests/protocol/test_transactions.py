"""Transaction segments: the golden vectors, and what damage does."""

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.core.errors import FormatError
from entrepot.protocol import transactions as tx

GOLDEN = Path(__file__).parent / "golden"


def golden_segments() -> list[bytes]:
    """Two chained segments of one instance, as docs/formats/transaction-record.md shows them."""
    first_records = [
        tx.Record(
            time=1_774_276_200_123,
            device="dev-0123456789abcdef",
            set_id=bytes(range(32)),
            object_id=bytes(range(32, 64)),
            status=200,
            sent=1_048_576,
            duration=87,
        ),
        tx.Record(
            time=1_774_276_200_200,
            device="dev-0123456789abcdef",
            set_id=bytes(range(32)),
            object_id=bytes(range(64, 96)),
            status=206,
            sent=65_536,
            duration=3,
        ),
    ]
    second_records = [
        tx.Record(
            time=1_774_276_231_000,
            device="",
            set_id=b"",
            object_id=bytes(range(32, 64)),
            status=401,
            sent=0,
            duration=0,
            method="HEAD",
        ),
        tx.Record(
            time=1_774_276_232_000,
            device="dev-fedcba9876543210",
            set_id=bytes(range(32)),
            object_id=bytes(range(32, 64)),
            status=302,
            sent=0,
            duration=1,
            delivery="redirect",
        ),
    ]
    first = tx.encode_header(
        tx.SegmentHeader("pt-00112233aabbccdd", "gw-0011223344556677", 0, bytes(32), 1_774_276_200_124)
    ) + tx.encode_records(first_records)
    second = tx.encode_header(
        tx.SegmentHeader(
            "pt-00112233aabbccdd", "gw-0011223344556677", 1, hashlib.sha256(first).digest(), 1_774_276_231_001
        )
    ) + b"".join(tx.encode_records([record]) for record in second_records)
    third = tx.encode_header(
        tx.SegmentHeader(
            "pt-00112233aabbccdd", "gw-0011223344556677", 2, hashlib.sha256(second).digest(), 1_774_276_262_000
        )
    ) + tx.encode_records(
        [
            tx.Record(
                time=1_774_276_262_000,
                device="dev-fedcba9876543210",
                set_id=bytes(range(32)),
                object_id=bytes(range(32, 64)),
                status=307,
                sent=0,
                duration=2,
                delivery="redirect",
                granted=1_048_576,
            )
        ]
    )
    return [first, second, third]


@pytest.mark.parametrize("index", [0, 1, 2])
def test_golden_segment_is_what_the_encoder_writes(index: int) -> None:
    assert golden_segments()[index].hex() == (GOLDEN / f"segment-{index}.bin").read_bytes().hex()


def test_golden_segments_read_back_and_are_chained() -> None:
    first, second, third = ((GOLDEN / f"segment-{index}.bin").read_bytes() for index in (0, 1, 2))
    header, batches = tx.decode_segment(second)
    assert header.previous == hashlib.sha256(first).digest()
    assert header.sequence == 1
    assert [[record.status for record in batch] for batch in batches] == [[401], [302]]
    later, granted = tx.decode_segment(third)
    assert later.previous == hashlib.sha256(second).digest()
    assert [[(record.sent, record.granted) for record in batch] for batch in granted] == [[(0, 1_048_576)]]
    assert tx.segment_key(1_774_274_400, header.instance, 1) == "tx/1774274400/gw-0011223344556677/00000001"


def test_the_documented_digests_are_those_of_the_golden_segments() -> None:
    page = (Path(__file__).parents[2] / "docs/formats/transaction-record.md").read_text()
    for index in (0, 1, 2):
        assert hashlib.sha256((GOLDEN / f"segment-{index}.bin").read_bytes()).hexdigest() in page


@given(cut=st.integers(min_value=0, max_value=10_000))
def test_a_segment_cut_anywhere_is_refused_or_read_to_a_frame_boundary(cut: int) -> None:
    whole = golden_segments()[1]
    torn = whole[: cut % len(whole)]
    ends = [end for end, _ in tx.frames(whole)]
    if len(torn) < len(tx.MAGIC):
        with pytest.raises(FormatError):
            list(tx.frames(torn, torn_tail=True))
        return
    assert [end for end, _ in tx.frames(torn, torn_tail=True)] == [end for end in ends if end <= len(torn)]
    if len(torn) not in (*ends, len(tx.MAGIC)):
        with pytest.raises(FormatError):
            list(tx.frames(torn))


@given(at=st.integers(min_value=0), bit=st.integers(min_value=0, max_value=7))
def test_a_flipped_bit_is_noticed(at: int, bit: int) -> None:
    damaged = bytearray(golden_segments()[0])
    damaged[at % len(damaged)] ^= 1 << bit
    with pytest.raises(FormatError):
        _, batches = tx.decode_segment(bytes(damaged))
        list(batches)


def test_a_tail_of_zeros_is_a_torn_tail() -> None:
    whole = golden_segments()[0]
    assert [end for end, _ in tx.frames(whole + bytes(4096), torn_tail=True)] == [end for end, _ in tx.frames(whole)]
    with pytest.raises(FormatError, match="damaged at byte"):
        list(tx.frames(whole + bytes(4096)))


def test_a_segment_that_is_too_large_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(FormatError, match="16 MiB"):
        tx.decode_segment(bytes(tx.MAX_SEGMENT_BYTES + 1))


def test_a_segment_without_header_is_refused() -> None:
    with pytest.raises(FormatError, match="no header"):
        tx.decode_segment(tx.MAGIC)
