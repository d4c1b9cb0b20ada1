"""Whatever version of this program sealed an object, a repair can make it again: each way is held fast by an id."""

import hashlib
import random
from pathlib import Path
from typing import Final

import msgspec
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from entrepot.content.compressing import Earlier, Effort, Way
from entrepot.content.manifest import Entry, EntryKind, Extent, Part
from entrepot.content.repairing import WAYS, rebuilt, sealed_as
from entrepot.content.sealing import Generation, Purpose, derive_key, open_sealed, seal
from entrepot.core.ids import ObjectId
from entrepot.core.secret import Secret

GENERATION = Generation(1, Secret(bytes(32)))
SHIPPED: dict[Way, str] = {
    0: "d8a2cd8b06ceb7edcf3154bc94780fb215dfcceaac1b6990e3ce03222bf931c6",
    3: "61ea578a51b48314c3e9d4637590669116b49b4b2aef44ab1361e52d2dfb96e2",
    Effort.PROGRAM: "dd760401dd7f5ccd2f7e2bf9a90c85c36915bd098b57343456e6654f37a09f4f",
    Effort.TEXT: "8e6e835b6a4425625c2db054418d7a735b918c148c63fc8e31907bcd86fb0647",
    Earlier.PROGRAM: "6a057d20c6fc25635938eae7b88a7fe6b8c3e3f24ac6e6bf7432e6b423b25eb5",
    Earlier.REPEATING: "987e5449c6ef68f3201219d425d1ffcb751a311e89b8cb5418044d77b9ba77c8",
    Earlier.TEXT: "d24e77a217588fbc88211d6f277dc5f887552c2a2cbd98055fb46158f5f9daae",
}
"""A zstd that compresses otherwise fails here, and should: what it sealed before could no longer be made again."""
LONG: Final = {Effort.PROGRAM: 10}
"""What is seen in longer text only: where the window ends."""


def text(times: int = 1) -> bytes:
    """The same 60 KB of words everywhere, or ten times as many, on which all ways differ."""
    dice = random.Random(3)
    words = [bytes(dice.choices(b"etaoinshrdlu", k=dice.randint(3, 9))) for _ in range(2000)]
    return b" ".join(dice.choices(words, k=times * 10_000))


@pytest.mark.parametrize("way", SHIPPED, ids=str)
def test_each_way_that_was_ever_shipped_still_makes_the_same_object_and_a_repair_finds_it(way: Way) -> None:
    plain = text(LONG.get(way, 1))
    sealed = seal(plain, purpose=Purpose.CHUNK, generation=GENERATION, level=way)
    assert sealed_as(plain, sealed.ref) == sealed.data
    payload = AESGCM(sealed.ref.key).decrypt(bytes(12), sealed.data, None)
    key = derive_key(GENERATION, Purpose.CHUNK, hashlib.sha256(payload).digest())  # as it was before BLAKE3
    before = msgspec.structs.replace(sealed.ref, key=key, object_id=bytes.fromhex(SHIPPED[way]))
    made = sealed_as(plain, before)
    assert made is not None
    assert open_sealed(made, before) == plain


def test_no_effort_is_forgotten() -> None:
    assert {*Effort, *Earlier} - {Effort.NONE, Effort.SAMPLE} <= set(WAYS)


def file(path: str, *extents: Extent, offset: int = 0, size: int = 0) -> Entry:
    """A file of a manifest; its own hash does not matter here."""
    size = size or sum(extent.length for extent in extents)
    return Entry(EntryKind.FILE, path, 0o644, size, bytes(32), offset, extents)


def test_a_chunk_that_goes_on_in_the_next_part_is_put_together(tmp_path: Path) -> None:
    sealed = seal(b"first, second", purpose=Purpose.CHUNK, generation=GENERATION, level=3)
    (tmp_path / "a").write_bytes(b"first, ")
    (tmp_path / "b").write_bytes(b"second")
    parts = [
        Part(1, (sealed.ref,), (file("a", Extent(0, 0, 7)),)),
        Part(1, (sealed.ref,), (file("b", Extent(0, 7, 6)),)),
    ]
    wanted = [ObjectId(sealed.ref.object_id)]
    assert list(rebuilt(parts, wanted, tmp_path)) == [(wanted[0], sealed.data)]
    assert list(rebuilt(parts[:1], wanted, tmp_path)) == []


def test_a_chunk_comes_from_a_later_part_when_its_first_file_has_changed(tmp_path: Path) -> None:
    sealed = seal(b"the same twice", purpose=Purpose.CHUNK, generation=GENERATION, level=3)
    (tmp_path / "a").write_bytes(b"the same Twice")
    (tmp_path / "z").write_bytes(b"the same twice")
    parts = [Part(1, (sealed.ref,), (file(name, Extent(0, 0, 14)),)) for name in ("a", "z")]
    wanted = [ObjectId(sealed.ref.object_id)]
    assert list(rebuilt(parts[:1], wanted, tmp_path)) == []
    assert list(rebuilt(parts, wanted, tmp_path)) == [(wanted[0], sealed.data)]
