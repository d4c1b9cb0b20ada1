import hashlib
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.core.errors import IntegrityError, LimitedError, NotFoundError
from entrepot.core.ids import ObjectId
from entrepot.objects.hashing import BLOCK, ObjectHasher, object_id_of
from entrepot.objects.memory import MemoryStore
from entrepot.objects.shelf import Shelf, key_of
from entrepot.protocol.dataplane import MAX_OBJECT_BYTES

DATA = b"some sealed bytes" * 9000
ID = object_id_of(DATA)


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


class TestObjectId:
    def test_is_the_hash_of_block_hashes(self) -> None:
        blocks = [DATA[at : at + BLOCK] for at in range(0, len(DATA), BLOCK)]
        outer = hashlib.sha256(b"".join(hashlib.sha256(block).digest() for block in blocks))
        assert object_id_of(DATA) == outer.digest()
        assert len(blocks) == 3

    @given(st.binary(max_size=300), st.integers(1, 90), st.integers(1, 100_000))
    def test_does_not_depend_on_the_pieces(self, seed: bytes, size: int, repeat: int) -> None:
        data = (seed * repeat)[: 3 * BLOCK + 7]
        hasher = ObjectHasher()
        for piece in pieces(data, size * 1000):
            hasher.update(piece)
        assert hasher.object_id() == object_id_of(data)
        assert hasher.size == len(data)

    @pytest.mark.parametrize("size", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK])
    def test_at_the_edges_of_blocks(self, size: int) -> None:
        hasher = ObjectHasher()
        hasher.update(bytes(size))
        assert hasher.object_id() == object_id_of(bytes(size))


class TestShelf:
    def test_gives_back_what_it_took(self, shelf: Shelf) -> None:
        assert shelf.put(ID, pieces(DATA, 1000)) == len(DATA)
        assert shelf.read_whole(ID, len(DATA)) == DATA
        assert b"".join(shelf.read(ID, 10, 20)) == DATA[10:30]
        assert shelf.size(ID) == len(DATA)
        assert shelf.has([ID, object_id_of(b"other")]) == [True, False]

    def test_replaces_what_was_cut_short(self, shelf: Shelf) -> None:
        assert shelf.put_sealed(ID, DATA)
        assert not shelf.put_sealed(ID, DATA)
        shelf.store.put(key_of(ID), b"")
        assert shelf.sizes([ID, object_id_of(b"other")]) == [0, None]
        assert shelf.put_sealed(ID, DATA)
        assert shelf.read_whole(ID) == DATA

    @pytest.mark.parametrize("durable", [True, False])
    def test_refuses_bytes_that_are_not_the_object(self, shelf: Shelf, durable: bool) -> None:
        for wrong in (DATA[:-1], DATA + b"x", DATA.replace(b"s", b"S", 1), b""):
            with pytest.raises(IntegrityError, match=ID.hex()[:16]):
                shelf.put(ID, wrong, durable=durable)
        shelf.flush()
        assert shelf.has([ID]) == [False]
        assert shelf.page() == []

    def test_refuses_what_is_too_large_while_it_arrives(self, shelf: Shelf) -> None:
        sent = 0

        def endless() -> Iterator[bytes]:
            nonlocal sent
            while True:
                sent += 1
                yield bytes(4 * 1024 * 1024)

        with pytest.raises(LimitedError):
            shelf.put(ID, endless())
        assert sent == MAX_OBJECT_BYTES // (4 * 1024 * 1024) + 1
        assert shelf.page() == []

    def test_a_second_put_changes_nothing_and_consumes_nothing(self, shelf: Shelf) -> None:
        shelf.put(ID, DATA)
        rest = pieces(DATA, 1000)
        assert shelf.put(ID, rest) == len(DATA)
        assert next(rest) == DATA[:1000]

    def test_put_sealed_says_what_is_new(self, shelf: Shelf) -> None:
        assert shelf.put_sealed(ID, DATA, durable=False)
        assert not shelf.put_sealed(ID, DATA)
        shelf.flush()
        assert shelf.read_whole(ID) == DATA

    def test_a_flipped_bit_in_the_store_is_named(self, shelf: Shelf) -> None:
        shelf.put(ID, DATA)
        flipped = bytearray(DATA)
        flipped[70_000] ^= 1
        shelf.store.put(key_of(ID), bytes(flipped))
        with pytest.raises(IntegrityError, match=ID.hex()[:16]):
            shelf.read_whole(ID)

    def test_read_whole_is_bounded(self, shelf: Shelf) -> None:
        shelf.put(ID, DATA)
        with pytest.raises(LimitedError):
            shelf.read_whole(ID, len(DATA) - 1)

    def test_missing_objects_are_not_found(self, shelf: Shelf) -> None:
        with pytest.raises(NotFoundError):
            next(shelf.read(ID))
        with pytest.raises(NotFoundError):
            shelf.read_whole(ID)
        with pytest.raises(NotFoundError):
            shelf.size(ID)
        assert not shelf.delete(ID)

    def test_pages_come_in_order_of_ids_and_skip_strangers(self, shelf: Shelf) -> None:
        objects = {object_id_of(b"%d" % n): b"%d" % n for n in range(40)}
        for object_id, data in objects.items():
            shelf.put(object_id, data, durable=False)
        shelf.store.put("objects/00/note.txt", b"not an object")
        shelf.store.put(f"objects/ff/{'00' * 32}", b"in the wrong place")
        shelf.store.put("zz", b"a document")
        got: list[tuple[ObjectId, int]] = []
        while page := shelf.page(got[-1][0] if got else None, limit=7):
            assert len(page) <= 7
            got += page
        assert got == [(object_id, len(objects[object_id])) for object_id in sorted(objects)]

    def test_delete_removes(self, shelf: Shelf) -> None:
        shelf.put(ID, DATA)
        assert shelf.delete(ID)
        shelf.flush()
        assert shelf.has([ID]) == [False]


def test_objects_lie_below_their_first_two_digits() -> None:
    store = MemoryStore()
    Shelf(store).put(ID, DATA)
    assert store.list().entries[0].key == f"objects/{ID.hex()[:2]}/{ID.hex()}"
