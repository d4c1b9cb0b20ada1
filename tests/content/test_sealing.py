import random

import msgspec
import pytest
import zstandard
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from entrepot.content.digests import digest_of
from entrepot.content.references import MAX_PLAIN, OVERHEAD, check_ref
from entrepot.content.sealing import Generation, Purpose, derive_key, open_sealed, seal
from entrepot.core.errors import FormatError, IntegrityError
from entrepot.core.secret import Secret
from entrepot.objects.hashing import object_id_of
from entrepot.protocol import SealedRef

GENERATION = Generation(1, Secret(b"c" * 32))
TEXT = b"a text that compresses well " * 100


@given(st.binary(max_size=5000), st.sampled_from(Purpose), st.sampled_from([0, 1, 3]))
def test_opens_to_what_was_sealed(plain: bytes, purpose: Purpose, level: int) -> None:
    sealed = seal(plain, purpose=purpose, generation=GENERATION, level=level)
    assert open_sealed(sealed.data, sealed.ref) == plain
    assert sealed.ref.object_id == object_id_of(sealed.data)
    assert len(sealed.data) <= len(plain) + OVERHEAD
    assert derive_key(GENERATION, purpose, sealed.payload_hash) == sealed.ref.key


def test_equal_plaintexts_give_equal_objects_and_others_do_not() -> None:
    first = seal(TEXT, purpose=Purpose.CHUNK, generation=GENERATION)
    assert seal(TEXT, purpose=Purpose.CHUNK, generation=GENERATION) == first
    others = [
        seal(TEXT + b"!", purpose=Purpose.CHUNK, generation=GENERATION),
        seal(TEXT, purpose=Purpose.MANIFEST_PART, generation=GENERATION),
        seal(TEXT, purpose=Purpose.CHUNK, generation=Generation(2, GENERATION.secret)),
        seal(TEXT, purpose=Purpose.CHUNK, generation=Generation(1, Secret(b"x" * 32))),
    ]
    assert len({first.ref.key, *(other.ref.key for other in others)}) == 5
    assert len({first.ref.object_id, *(other.ref.object_id for other in others)}) == 5


def test_the_key_depends_on_the_compressed_form_too() -> None:
    """One key never meets two plaintexts, whatever compressor made P."""
    keys = {seal(TEXT, purpose=Purpose.CHUNK, generation=GENERATION, level=level).ref.key for level in (0, 3)}
    assert len(keys) == 2


def test_a_hash_that_the_caller_knows_is_taken() -> None:
    digest = digest_of(TEXT)
    assert seal(TEXT, purpose=Purpose.CHUNK, generation=GENERATION, digest=digest) == seal(
        TEXT, purpose=Purpose.CHUNK, generation=GENERATION
    )


def test_what_does_not_shrink_is_stored_raw() -> None:
    noise = random.Random(1).randbytes(100_000)
    assert len(seal(noise, purpose=Purpose.CHUNK, generation=GENERATION).data) == len(noise) + OVERHEAD
    assert len(seal(TEXT, purpose=Purpose.CHUNK, generation=GENERATION).data) < 200


def test_keys_do_not_show() -> None:
    ref = seal(TEXT, purpose=Purpose.CHUNK, generation=GENERATION).ref
    assert ref.key.hex() not in repr(ref)
    assert repr(ref.key) not in repr(ref)


@settings(max_examples=300)
@given(st.data(), st.sampled_from([b"", b"x", TEXT, random.Random(2).randbytes(70_000)]))
def test_any_mutation_is_noticed(data: st.DataObject, plain: bytes) -> None:
    sealed = seal(plain, purpose=Purpose.CHUNK, generation=GENERATION)
    mutated = bytearray(sealed.data)
    match data.draw(st.sampled_from(["flip", "cut", "grow", "insert"])):
        case "flip":
            at = data.draw(st.integers(0, len(mutated) - 1))
            mutated[at] ^= 1 << data.draw(st.integers(0, 7))
        case "cut":
            del mutated[data.draw(st.integers(0, len(mutated) - 1)) :]
        case "grow":
            mutated += data.draw(st.binary(min_size=1, max_size=40))
        case _:
            at = data.draw(st.integers(0, len(mutated)))
            mutated[at:at] = b"\x00"
    with pytest.raises(IntegrityError, match=sealed.ref.object_id.hex()[:16]):
        open_sealed(bytes(mutated), sealed.ref, "chunk")


REFS = st.builds(
    SealedRef,
    object_id=st.binary(max_size=33),
    sealed_size=st.integers(-5, 2 * MAX_PLAIN),
    plain_size=st.integers(-5, 2 * MAX_PLAIN),
    key=st.binary(max_size=33),
    digest=st.binary(max_size=33),
)


@given(REFS, st.binary(max_size=100))
def test_foreign_references_give_named_errors_only(ref: SealedRef, data: bytes) -> None:
    with pytest.raises(IntegrityError):
        open_sealed(data, ref)


@pytest.mark.parametrize(
    "change",
    [
        {"plain_size": -1},
        {"plain_size": MAX_PLAIN + 1},
        {"sealed_size": OVERHEAD - 1},
        {"sealed_size": 10**9},
        {"key": b"short"},
        {"object_id": b""},
        {"digest": bytes(31)},
    ],
)
def test_bounds_of_references(change: dict[str, object]) -> None:
    ref = seal(TEXT, purpose=Purpose.CHUNK, generation=GENERATION).ref
    check_ref(ref, "chunk")
    with pytest.raises(FormatError, match="chunk"):
        check_ref(msgspec.structs.replace(ref, **change), "chunk")


def forged(payload: bytes, plain_size: int, digest: bytes = bytes(32)) -> tuple[bytes, SealedRef]:
    """A sealed object as someone with a content key could make it."""
    key = b"k" * 32
    data = AESGCM(key).encrypt(bytes(12), payload, None)
    return data, SealedRef(object_id_of(data), len(data), plain_size, key, digest)


class TestForgery:
    """Whoever has a key can seal anything; the reader is bounded all the same."""

    def test_a_decompression_bomb_is_refused_before_it_opens(self) -> None:
        bomb = b"\x01" + zstandard.ZstdCompressor(level=19).compress(bytes(10**9))
        with pytest.raises(FormatError, match="another size"):
            open_sealed(*forged(bomb, 10**6))

    def test_a_frame_that_hides_its_size_is_refused(self) -> None:
        hidden = zstandard.ZstdCompressor(write_content_size=False).compress(TEXT)
        with pytest.raises(FormatError, match="another size"):
            open_sealed(*forged(b"\x01" + hidden, len(TEXT)))

    def test_unknown_compression_is_named(self) -> None:
        with pytest.raises(FormatError, match="compression 7"):
            open_sealed(*forged(b"\x07" + TEXT, len(TEXT)))

    def test_garbage_instead_of_a_frame(self) -> None:
        with pytest.raises(IntegrityError, match="decompress"):
            open_sealed(*forged(b"\x01" + TEXT, len(TEXT)))

    def test_an_empty_payload(self) -> None:
        with pytest.raises(IntegrityError):
            open_sealed(*forged(b"", 0))

    def test_other_bytes_than_the_reference_promises(self) -> None:
        for payload, size in ((b"\x00" + TEXT, len(TEXT)), (b"\x00" + TEXT, len(TEXT) + 1)):
            with pytest.raises(IntegrityError, match="other bytes"):
                open_sealed(*forged(payload, size))

    def test_a_second_frame_behind_the_first(self) -> None:
        frame = zstandard.ZstdCompressor().compress(TEXT)
        data, ref = forged(b"\x01" + frame + frame, len(TEXT) * 4, digest_of(TEXT))
        with pytest.raises(IntegrityError):
            open_sealed(data, ref)

    def test_a_key_of_another_object(self) -> None:
        sealed = seal(TEXT, purpose=Purpose.CHUNK, generation=GENERATION)
        with pytest.raises(IntegrityError, match="does not open"):
            open_sealed(sealed.data, msgspec.structs.replace(sealed.ref, key=b"k" * 32))
