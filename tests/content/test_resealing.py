"""Versions that are sealed anew: same content, other objects; on every ledger, interrupted anywhere."""

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.content import resealing
from entrepot.content.chunking import domain_keys
from entrepot.content.manifest import Part
from entrepot.content.reading import open_root, parts
from entrepot.content.recovering import recover_ref
from entrepot.content.resealing import Resealed, reseal, reseal_version
from entrepot.content.sealing import Generation, Purpose, open_sealed, seal
from entrepot.core.encoding import b64url, unb64url
from entrepot.core.errors import CancelledError, IntegrityError, StorageError
from entrepot.core.ids import ObjectId
from entrepot.core.secret import Secret
from entrepot.objects.shelf import key_of
from entrepot.protocol import SealedRef

OLD = Generation(1, Secret(b"c" * 32))
NEW = Generation(2, Secret(b"n" * 32))


def keys_of(generation: Generation) -> Any:
    """The site's rule: an index of its own for each generation."""
    keys = domain_keys(Secret(b"d" * 32), generation)
    index_key = Secret(keys.index_key.reveal()[:-1] + bytes([generation.number]))
    return type(keys)(seed=keys.seed, grouping_key=keys.grouping_key, index_key=index_key, generation=generation)


def signed(payload: bytes) -> str:
    return f"test.{b64url(payload)}.x"


def believed(document: bytes) -> bytes:
    return unb64url(document.decode().split(".")[1])


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "big").write_bytes(secrets.token_bytes(3_000_000))
    (folder / "twin").write_bytes((folder / "big").read_bytes())
    for number in range(30):
        (folder / f"small {number}").write_bytes(secrets.token_bytes(2000))
    (folder / "empty").touch()
    (folder / "link").symlink_to("big")
    return folder


def run(library: Any, ledgers: Any, published: SealedRef, **how: Any) -> Resealed:
    session = ledgers.open_session("test")
    made = reseal_version(
        published, shelf=library.shelf, ledger=session, keys=keys_of(NEW), verify=believed, sign=signed, **how
    )
    ledgers.adopt(session.session, made.set_id)
    return made


@given(plain=st.binary(max_size=5000))
def test_the_payload_stays_and_the_key_is_another(plain: bytes) -> None:
    sealed = seal(plain, purpose=Purpose.CHUNK, generation=OLD)
    anew = reseal(sealed.data, sealed.ref, purpose=Purpose.CHUNK, generation=NEW)
    assert open_sealed(anew.data, anew.ref) == plain
    assert anew.payload_hash == sealed.payload_hash
    assert (anew.ref.sealed_size, anew.ref.digest) == (sealed.ref.sealed_size, sealed.ref.digest)
    assert anew.ref.object_id != sealed.ref.object_id
    assert anew.ref.key != sealed.ref.key
    # byte for byte what publishing the same content under the new generation gives
    assert anew.data == seal(plain, purpose=Purpose.CHUNK, generation=NEW).data


@given(plain=st.binary(max_size=5000), at=st.integers(min_value=0))
def test_a_damaged_object_is_not_sealed_anew(plain: bytes, at: int) -> None:
    sealed = seal(plain, purpose=Purpose.CHUNK, generation=OLD)
    damaged = bytearray(sealed.data)
    damaged[at % len(damaged)] ^= 1
    with pytest.raises(IntegrityError):
        reseal(bytes(damaged), sealed.ref, purpose=Purpose.CHUNK, generation=NEW)


@given(plain=st.binary(max_size=5000))
def test_a_reference_is_found_again_from_the_secret_and_the_index(plain: bytes) -> None:
    sealed = seal(plain, purpose=Purpose.MANIFEST_ROOT, generation=OLD)
    how: dict[str, Any] = {"purpose": Purpose.MANIFEST_ROOT, "payload_hash": sealed.payload_hash}
    assert recover_ref(sealed.data, generation=OLD, **how) == sealed.ref
    with pytest.raises(IntegrityError):
        recover_ref(sealed.data, generation=NEW, **how)


def test_a_version_reads_the_same_and_shares_no_object(make_library: Any, ledgers: Any, source: Path) -> None:
    library = make_library()
    library.ledgers = ledgers.library
    published = library.publish(source)
    before = {ref.object_id for part in library.parts(published) for ref in part.chunks}
    made = run(library, ledgers.library, published.root)
    seen: list[tuple[Part, Part]] = []
    new_root = open_root(library.fetch(made.root), made.root, believed)
    for old, new in zip(library.parts(published), parts(new_root, library.fetch), strict=True):
        seen.append((old, new))
        assert old.entries == new.entries
        for a, b in zip(old.chunks, new.chunks, strict=True):
            assert (a.digest, a.plain_size, a.sealed_size) == (b.digest, b.plain_size, b.sealed_size)
            assert b.object_id not in before
            assert open_sealed(library.fetch(a), a) == open_sealed(library.fetch(b), b)
    assert seen
    assert (made.chunks, made.stored_size) == (published.chunks, published.stored_size)
    again = run(library, ledgers.library, published.root)
    assert (again.set_id, again.new_objects) == (made.set_id, 0)


def test_a_run_that_was_broken_off_goes_on_where_it_was(
    make_library: Any, ledgers: Any, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resealing, "BATCH_BYTES", 200_000)
    monkeypatch.setattr(resealing, "GROUP_BYTES", 200_000)
    library = make_library()
    library.ledgers = ledgers.library
    published = library.publish(source)
    puts = 0
    put = library.shelf.put_sealed

    def failing(object_id: ObjectId, data: bytes, *, durable: bool = True) -> bool:
        nonlocal puts
        puts += 1
        if puts == 3:
            raise StorageError("The disk is full.")
        return bool(put(object_id, data, durable=durable))

    monkeypatch.setattr(library.shelf, "put_sealed", failing)
    with pytest.raises(StorageError):
        run(library, ledgers.library, published.root)
    monkeypatch.setattr(library.shelf, "put_sealed", put)
    made = run(library, ledgers.library, published.root)
    assert 0 < made.new_objects < made.objects + 1  # what the first run kept was found again


def test_cancelling_stops_it_between_two_batches(make_library: Any, ledgers: Any, source: Path) -> None:
    library = make_library()
    library.ledgers = ledgers.library
    published = library.publish(source)
    with pytest.raises(CancelledError):
        run(library, ledgers.library, published.root, cancelled=lambda: True)


def test_what_waits_for_a_flush_does_not_appear_later(
    make_library: Any, ledgers: Any, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resealing, "BATCH_BYTES", 200_000)
    library = make_library()
    library.ledgers = ledgers.library
    published = library.publish(source)
    waiting: list[ObjectId] = []
    put, flush = library.shelf.put_sealed, library.shelf.flush

    def noting(object_id: ObjectId, data: bytes, *, durable: bool = True) -> bool:
        waiting.append(object_id)
        return bool(put(object_id, data, durable=durable))

    def flushing() -> None:
        flush()
        waiting.clear()

    monkeypatch.setattr(library.shelf, "put_sealed", noting)
    monkeypatch.setattr(library.shelf, "flush", flushing)
    with pytest.raises(CancelledError):
        run(library, ledgers.library, published.root, cancelled=lambda: bool(waiting))
    assert waiting == []


def test_progress_ends_at_the_sum_of_what_was_read(
    make_library: Any, make_memory_ledgers: Callable[[], Any], source: Path
) -> None:
    library, ledgers = make_library(), make_memory_ledgers()
    library.ledgers = ledgers.library
    published = library.publish(source)
    seen: list[tuple[int, int]] = []
    run(library, ledgers.library, published.root, progress=lambda done, total: seen.append((done, total)))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert all(done <= total for done, total in seen)


def test_a_chunk_that_was_cut_short_meanwhile_is_noticed(make_library: Any, ledgers: Any, source: Path) -> None:
    library = make_library()
    library.ledgers = ledgers.library
    published = library.publish(source)
    before = {object_id for object_id, _ in library.shelf.page(None, 1000)}

    def cutting(payload: bytes) -> str:
        """Just before the end, the disk loses the end of the largest of the new objects."""
        new = [one for one in library.shelf.page(None, 1000) if one[0] not in before]
        largest, _ = max(new, key=lambda one: one[1])
        library.shelf.store.put(key_of(largest), b"short")
        return signed(payload)

    with pytest.raises(IntegrityError, match="cut short"):
        reseal_version(
            published.root,
            shelf=library.shelf,
            ledger=ledgers.library.open_session("test"),
            keys=keys_of(NEW),
            verify=believed,
            sign=cutting,
        )
