"""The delta format as it is on the wire: ``docs/formats/delta.md`` cites these vectors."""

import hashlib
from pathlib import Path

import msgspec

from entrepot.content.delta.format import (
    DeltaPart,
    DeltaRoot,
    Patch,
    PlainRange,
    decode_delta_part,
    decode_delta_root,
    encode_delta_root,
)
from entrepot.content.delta.patching import apply_patch
from entrepot.core.encoding import pack
from entrepot.protocol import SealedRef

GOLDEN = Path(__file__).parent / "golden"


def filled(byte: int) -> bytes:
    return bytes([byte]) * 32


def old_plaintext() -> bytes:
    """10,000 bytes that anyone can compute: SHA-256 of the counters 0, 1, 2 … as decimal text."""
    return b"".join(hashlib.sha256(str(n).encode()).digest() for n in range(313))[:10_000]


def digest(byte: int) -> bytes:
    """What stands for a BLAKE3 digest of something."""
    return b"\x1e\x20" + filled(byte)


ROOT = DeltaRoot(
    version=2,
    content="pkg-00112233445566ff",
    old_number=1,
    new_number=2,
    old_root=filled(1),
    new_root=filled(2),
    patches=1,
    parts=(SealedRef(filled(3), 117, 100, filled(4), digest(5)),),
    packs=(SealedRef(filled(6), 217, 200, filled(7), digest(8)),),
)
PART = DeltaPart(2, (Patch(filled(9), 0, 10, 150, (PlainRange(0, 4000), PlainRange(6000, 4000))),))


FIRST = msgspec.structs.replace(
    ROOT,
    version=1,
    parts=(SealedRef(filled(3), 117, 100, filled(4), filled(5)),),
    packs=(SealedRef(filled(6), 217, 200, filled(7), filled(8)),),
)
MANIFEST = (Patch(filled(10), 0, 0, 10, (PlainRange(5, 70_000),)),)


def test_what_version_1_wrote_is_read() -> None:
    assert decode_delta_root((GOLDEN / "root-1.bin").read_bytes()) == FIRST
    patched = msgspec.structs.replace(FIRST, manifest=MANIFEST)
    assert decode_delta_root((GOLDEN / "root-1-manifest.bin").read_bytes()) == patched
    part = msgspec.structs.replace(PART, version=1)
    assert decode_delta_part((GOLDEN / "part-1.bin").read_bytes(), FIRST) == part


def test_the_root_encodes_to_its_vector() -> None:
    vector = (GOLDEN / "root.bin").read_bytes()
    assert encode_delta_root(ROOT) == vector
    assert decode_delta_root(vector) == ROOT


def test_the_root_with_a_patched_manifest_encodes_to_its_vector() -> None:
    patched = msgspec.structs.replace(ROOT, manifest=MANIFEST)
    vector = (GOLDEN / "root-manifest.bin").read_bytes()
    assert encode_delta_root(patched) == vector
    assert decode_delta_root(vector) == patched


def test_a_field_that_comes_later_does_not_disturb_a_reader() -> None:
    later = pack([*msgspec.structs.astuple(ROOT), "a field of tomorrow"])
    assert decode_delta_root(later) == ROOT


def test_the_part_encodes_to_its_vector() -> None:
    vector = (GOLDEN / "part.bin").read_bytes()
    assert pack(PART) == vector
    assert decode_delta_part(vector, ROOT) == PART


def test_the_patch_vector_applies() -> None:
    old = old_plaintext()
    new = old[:3000] + b"a few new bytes" + old[3500:]
    patch = (GOLDEN / "patch.bin").read_bytes()
    assert apply_patch(old, patch, size=len(new), digest=hashlib.sha256(new).digest()) == new
