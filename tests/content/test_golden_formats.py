"""The formats are fixed: bytes that were written once are read for ever, and are written the same.

``docs/formats/{sealed-object,manifest,object-set}.md`` explain the files in ``golden/``. Compressed payloads are only
read: another zstd version may compress otherwise, and no reader may care.
"""

import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from blake3 import blake3
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from entrepot.content.chunking import domain_keys
from entrepot.content.digests import digest_of, matches
from entrepot.content.manifest import Entry, EntryKind, Extent, Part, Root, decode_part, decode_root, encode_part
from entrepot.content.objectset import ObjectSet, encode_set
from entrepot.content.sealing import Generation, Purpose, derive_key, open_sealed, seal
from entrepot.core.encoding import pack
from entrepot.core.errors import IntegrityError
from entrepot.core.secret import Secret
from entrepot.protocol import SealedRef

GOLDEN = Path(__file__).parent / "golden"
VALUES: dict[str, Any] = json.loads((GOLDEN / "values.json").read_text())
SEALED: dict[str, Any] = VALUES["sealed"]
WRITTEN = [name for name in SEALED if not name.endswith("-1")]
"""The others are as they were before digests were BLAKE3: they are only read."""
GENERATION = Generation(VALUES["generation"], Secret(bytes.fromhex(VALUES["content_secret"])))


def reference(fields: dict[str, Any]) -> SealedRef:
    return SealedRef(
        object_id=bytes.fromhex(fields["object_id"]),
        sealed_size=fields["sealed_size"],
        plain_size=fields["plain_size"],
        key=bytes.fromhex(fields["key"]),
        digest=bytes.fromhex(fields["digest"]),
    )


@pytest.mark.parametrize("name", SEALED)
def test_sealed_objects_open(name: str) -> None:
    fields = SEALED[name]
    data = (GOLDEN / f"{name}.sealed").read_bytes()
    ref = reference(fields)
    plain = open_sealed(data, ref)
    assert plain == bytes.fromhex(fields["plain"]) * fields["repeat"]
    key = derive_key(GENERATION, Purpose[fields["purpose"]], bytes.fromhex(fields["payload_hash"]))
    assert key.hex() == fields["key"]
    wrong = ref.digest[:-1] + bytes([ref.digest[-1] ^ 1])
    with pytest.raises(IntegrityError, match="other bytes"):
        open_sealed(data, msgspec.structs.replace(ref, digest=wrong))


@pytest.mark.parametrize("name", [name for name in WRITTEN if SEALED[name]["codec"] == "RAW"])
def test_raw_objects_are_sealed_the_same(name: str) -> None:
    fields = SEALED[name]
    sealed = seal(
        bytes.fromhex(fields["plain"]) * fields["repeat"],
        purpose=Purpose[fields["purpose"]],
        generation=GENERATION,
        level=0,
    )
    assert sealed.data == (GOLDEN / f"{name}.sealed").read_bytes()
    assert sealed.ref == reference(fields)
    assert sealed.payload_hash.hex() == fields["payload_hash"]


VERSIONS = pytest.mark.parametrize(("version", "old"), [(2, ""), (1, "-1")])


@VERSIONS
def test_manifest_part(version: int, old: str) -> None:
    chunk = reference(SEALED[f"chunk-raw{old}"])
    tool, empty = (bytes.fromhex(VALUES[f"{name}_digest{old}"]) for name in ("tool", "empty"))
    part = Part(
        version,
        (chunk,),
        (
            Entry(EntryKind.FILE, "bin/tool", 0o755, 13, tool, 0, (Extent(0, 0, 13),)),
            Entry(EntryKind.FOLDER, "empty", 0o755),
            Entry(EntryKind.LINK, "latest", target="bin/tool"),
            Entry(EntryKind.FILE, "zero", 0o644, 0, empty),
        ),
    )
    data = (GOLDEN / f"part{old}.msgpack").read_bytes()
    assert encode_part(part) == data
    assert decode_part(data) == part


@VERSIONS
def test_manifest_root(version: int, old: str) -> None:
    root = Root(version, "pkg-0011223344556677", 7, 2, 13, 1, 30, True, (reference(SEALED[f"part-raw{old}"]),))
    data = (GOLDEN / f"root{old}.msgpack").read_bytes()
    assert pack(root) == data
    assert decode_root(data) == root


def test_digests() -> None:
    """``1e 20`` and BLAKE3, whose own test vectors begin with that of no bytes; SHA-256 of what was there before."""
    assert VALUES["empty_digest"] == "1e20af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
    for name, fields in SEALED.items():
        plain, digest = bytes.fromhex(fields["plain"]) * fields["repeat"], bytes.fromhex(fields["digest"])
        assert (digest_of(plain) if name in WRITTEN else hashlib.sha256(plain).digest()) == digest, name
        assert matches(digest, plain)
        assert not matches(digest, plain + b"x")


def test_object_set() -> None:
    ids = sorted(bytes.fromhex(SEALED[name]["object_id"]) for name in WRITTEN)
    data = (GOLDEN / "objects.set").read_bytes()
    assert b"".join(encode_set(ids)) == data
    assert list(ObjectSet(data)) == ids


def test_domain_keys() -> None:
    fields = VALUES["domain"]
    keys = domain_keys(Secret(bytes.fromhex(fields["dedupe_secret"])), GENERATION)
    assert keys.seed == fields["seed"]
    assert keys.grouping_key.reveal().hex() == fields["grouping_key"]
    assert keys.index_key.reveal().hex() == fields["index_key"]
    digest = bytes.fromhex(SEALED["chunk-raw"]["digest"])
    assert keys.index_hash(Purpose.CHUNK, digest).hex() == fields["index_hash"]


def test_by_hand_from_the_page() -> None:
    """``docs/formats/sealed-object.md``, step by step, with nothing of ours."""
    payload = b"\x00" + b"Hello, world!"
    payload_hash = b"\x1e\x20" + blake3(payload).digest()
    extracted = hmac.digest(bytes(32), bytes.fromhex(VALUES["content_secret"]), "sha256")
    info = b"entrepot/seal/1" + b"\x01" + b"\x00\x00\x00\x01" + payload_hash
    key = hmac.digest(extracted, info + b"\x01", "sha256")
    sealed = AESGCM(key).encrypt(bytes(12), payload, None)
    assert sealed == (GOLDEN / "chunk-raw.sealed").read_bytes()
    assert hashlib.sha256(hashlib.sha256(sealed).digest()).hexdigest() == SEALED["chunk-raw"]["object_id"]
    blocks = (GOLDEN / "chunk-blocks.sealed").read_bytes()
    hashes = hashlib.sha256(blocks[:65536]).digest() + hashlib.sha256(blocks[65536:]).digest()
    assert hashlib.sha256(hashes).hexdigest() == SEALED["chunk-blocks"]["object_id"]
