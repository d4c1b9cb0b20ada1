"""What was published before digests were BLAKE3 lives on: it is sealed anew, and deltas lead away from it."""

import hashlib
import secrets
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from entrepot.content.chunking import domain_keys
from entrepot.content.delta.format import decode_delta_root
from entrepot.content.delta.making import Version, make_delta
from entrepot.content.delta.reading import DeltaCursor, rebuild_chunk
from entrepot.content.manifest import EntryKind, Part, Root, encode_part
from entrepot.content.reading import open_root, parts
from entrepot.content.resealing import reseal_version
from entrepot.content.sealing import Generation, Purpose, Sealed, derive_key, open_sealed, seal
from entrepot.core.encoding import pack
from entrepot.core.ids import ObjectId
from entrepot.core.secret import Secret
from entrepot.objects.hashing import object_id_of
from entrepot.protocol import SealedRef

from .conftest import GENERATION, sign, verify

SHA256_SIZE = 32


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "big").write_bytes(secrets.token_bytes(600_000))
    for number in range(10):
        (folder / f"small {number}").write_bytes(secrets.token_bytes(2000))
    return folder


def published_before(library: Any, source: Path, *, like: Any) -> SealedRef:
    """The root of a version as it was sealed then; ``like`` publishes it as it is now."""

    def keep(plain: bytes, purpose: Purpose) -> SealedRef:
        now = seal(plain, purpose=purpose, generation=GENERATION)
        payload = AESGCM(now.ref.key).decrypt(bytes(12), now.data, None)
        key = derive_key(GENERATION, purpose, hashlib.sha256(payload).digest())
        data = AESGCM(key).encrypt(bytes(12), payload, None)
        ref = SealedRef(object_id_of(data), len(data), len(plain), key, hashlib.sha256(plain).digest())
        library.shelf.put_sealed(ObjectId(ref.object_id), data)
        return ref

    published = like.publish(source)
    made = []
    for part in like.parts(published):
        chunks = tuple(keep(open_sealed(like.fetch(ref), ref), Purpose.CHUNK) for ref in part.chunks)
        entries = tuple(
            msgspec.structs.replace(each, digest=hashlib.sha256((source / each.path).read_bytes()).digest())
            if each.kind == EntryKind.FILE
            else each
            for each in part.entries
        )
        made.append(keep(encode_part(Part(1, chunks, entries)), Purpose.MANIFEST_PART))
    root = msgspec.structs.replace(like.root(published), version=1, parts=tuple(made))
    return keep(sign(pack(root)).encode(), Purpose.MANIFEST_ROOT)


def opened(library: Any, ref: SealedRef) -> tuple[Root, list[Part]]:
    root = open_root(library.fetch(ref), ref, verify)
    return root, list(parts(root, library.fetch))


def test_sealed_anew_it_reads_the_same_and_shares_its_chunks_with_what_is_published_then(
    make_library: Any, source: Path
) -> None:
    library = make_library()
    before = published_before(library, source, like=make_library())
    library.keys = domain_keys(Secret(b"d" * 32), Generation(2, Secret(b"n" * 32)))
    made = reseal_version(
        before,
        shelf=library.shelf,
        ledger=library.ledgers.open_session("test"),
        keys=library.keys,
        verify=verify,
        sign=sign,
    )
    (old, old_parts), (new, new_parts) = opened(library, before), opened(library, made.root)
    assert (old.version, new.version) == (1, 2)
    assert [part.entries for part in new_parts] == [part.entries for part in old_parts]
    chunks = [ref for part in new_parts for ref in part.chunks]
    assert {len(ref.digest) for ref in chunks} == {SHA256_SIZE}
    assert [open_sealed(library.fetch(ref), ref) for ref in chunks] == [
        open_sealed(library.fetch(ref), ref) for part in old_parts for ref in part.chunks
    ]
    assert {ref.object_id for part in library.parts(library.publish(source, 2)) for ref in part.chunks} == {
        ref.object_id for ref in chunks
    }


def test_a_delta_leads_from_it_to_what_is_published_now(make_library: Any, source: Path, tmp_path: Path) -> None:
    library = make_library()
    before = published_before(library, source, like=make_library())
    published = library.publish(source, 2)
    made_of: dict[bytes, bytes] = {}

    def store(sealed: Sealed) -> None:
        made_of[sealed.ref.object_id] = sealed.data

    def read(ref: SealedRef) -> bytes:
        return open_sealed(library.fetch(ref), ref)

    (old_root, old_parts), (new_root, [new_part]) = opened(library, before), opened(library, published.root)
    (tmp_path / "scratch").mkdir()
    delta = make_delta(
        Version(old_root, before, read),
        Version(new_root, published.root, read),
        scratch=tmp_path / "scratch",
        generation=GENERATION,
        sign=sign,
        store=store,
        workers=1,
    )
    assert delta is not None
    assert delta.fetched < published.stored_size / 10
    root = decode_delta_root(verify(open_sealed(made_of[delta.root.object_id], delta.root)))
    cursor = DeltaCursor(root)
    assert cursor.wanted is not None
    cursor.feed(open_sealed(made_of[cursor.wanted.object_id], cursor.wanted))
    patches = cursor.take(ref.object_id for ref in new_part.chunks)
    plain = b"".join((source / each.path).read_bytes() for part in old_parts for each in part.entries)
    for ref in new_part.chunks:
        patch = patches[ref.object_id]
        old = b"".join(plain[each.position : each.position + each.length] for each in patch.ranges)
        packed = root.packs[patch.pack]
        pack_bytes = open_sealed(made_of[packed.object_id], packed)
        assert rebuild_chunk(patch, pack_bytes, old, ref) == read(ref)
