"""What every object store promises. The ``store`` fixture runs each test once for every adapter."""

import threading
from collections.abc import Iterator

import pytest

from entrepot.core.errors import BadInputError, LimitedError, NotFoundError
from entrepot.objects.store import Fetched, NoUrl, ObjectStore, SignedUrl, Unchanged


def whole(store: ObjectStore, key: str) -> bytes:
    return b"".join(store.read(key))


class TestEveryStore:
    """Tests of :class:`entrepot.objects.store.ObjectStore`."""

    def test_what_is_put_is_read_back(self, store: ObjectStore) -> None:
        assert store.put("a/b", b"hello")
        assert whole(store, "a/b") == b"hello"
        assert store.stat("a/b").size == 5
        assert store.stat("a/b").key == "a/b"

    def test_empty_values_exist(self, store: ObjectStore) -> None:
        store.put("empty", b"")
        assert store.stat("empty").size == 0
        assert whole(store, "empty") == b""

    def test_pieces_are_joined(self, store: ObjectStore) -> None:
        store.put("k", iter([b"one", b"", b"two"]))
        assert whole(store, "k") == b"onetwo"

    def test_a_later_put_replaces(self, store: ObjectStore) -> None:
        store.put("k", b"first, and longer")
        assert store.put("k", b"second")
        assert whole(store, "k") == b"second"

    def test_a_put_that_fails_half_way_leaves_what_was_there(self, store: ObjectStore) -> None:
        def broken() -> Iterator[bytes]:
            yield b"half"
            raise RuntimeError("source went away")

        store.put("k", b"old")
        for key in ("k", "fresh"):
            with pytest.raises(RuntimeError, match="went away"):
                store.put(key, broken())
        assert whole(store, "k") == b"old"
        with pytest.raises(NotFoundError):
            store.stat("fresh")

    def test_if_absent_stores_once(self, store: ObjectStore) -> None:
        assert store.put("once", b"1", if_absent=True)
        assert not store.put("once", b"2", if_absent=True)
        assert whole(store, "once") == b"1"

    def test_if_absent_has_one_winner_among_threads(self, store: ObjectStore) -> None:
        won: list[bytes] = []
        barrier = threading.Barrier(8)

        def race(name: bytes) -> None:
            barrier.wait()
            if store.put("race", name, if_absent=True):
                won.append(name)

        threads = [threading.Thread(target=race, args=(b"%d" % n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [whole(store, "race")] == won

    def test_unflushed_puts_are_visible_to_their_writer(self, store: ObjectStore) -> None:
        store.put("d/late", b"soon", durable=False)
        assert whole(store, "d/late") == b"soon"
        assert store.stat("d/late").size == 4
        assert [entry.key for entry in store.list("d/").entries] == ["d/late"]
        assert not store.put("d/late", b"no", if_absent=True)
        store.flush()
        assert whole(store, "d/late") == b"soon"
        assert [entry.key for entry in store.list("d/").entries] == ["d/late"]

    def test_the_last_of_unflushed_and_durable_puts_stays(self, store: ObjectStore) -> None:
        store.put("k", b"1", durable=False)
        store.put("k", b"2", durable=False)
        store.flush()
        assert whole(store, "k") == b"2"
        store.put("k", b"3", durable=False)
        store.put("k", b"4")
        store.flush()
        assert whole(store, "k") == b"4"

    def test_an_unflushed_put_can_be_deleted(self, store: ObjectStore) -> None:
        store.put("k", b"1", durable=False)
        assert store.delete("k")
        store.flush()
        with pytest.raises(NotFoundError):
            store.stat("k")

    def test_ranges(self, store: ObjectStore) -> None:
        data = bytes(range(256)) * 4096  # 1 MiB: several pieces
        store.put("k", data)
        for start, length in ((0, 1), (5, 300_000), (1_000_000, None), (len(data) - 1, 10), (len(data), 5), (0, 0)):
            end = len(data) if length is None else start + length
            assert b"".join(store.read("k", start=start, length=length)) == data[start:end]
        assert b"".join(store.read("k", start=len(data) + 9)) == b""
        assert max(len(piece) for piece in store.read("k")) <= 256 * 1024

    def test_a_negative_range_is_refused(self, store: ObjectStore) -> None:
        store.put("k", b"x")
        with pytest.raises(BadInputError):
            list(store.read("k", start=-1))
        with pytest.raises(BadInputError):
            list(store.read("k", length=-1))

    def test_a_value_is_fetched_only_when_it_changed(self, store: ObjectStore) -> None:
        store.put("control", b"first")
        first = store.fetch("control", limit=5)
        assert isinstance(first, Fetched)
        assert first.data == b"first"
        assert store.fetch("control", known=first.version, limit=5) == Unchanged()
        store.put("control", b"other")
        second = store.fetch("control", known=first.version, limit=5)
        assert isinstance(second, Fetched)
        assert second.data == b"other"
        assert second.version not in ("", first.version)
        with pytest.raises(NotFoundError):
            store.fetch("nothing", limit=5)
        with pytest.raises(NotFoundError):
            store.fetch("nothing", known=first.version, limit=5)

    def test_a_value_larger_than_wanted_is_not_fetched(self, store: ObjectStore) -> None:
        store.put("k", bytes(11))
        with pytest.raises(LimitedError):
            store.fetch("k", limit=10)
        store.put("empty", b"")
        empty = store.fetch("empty", limit=0)
        assert isinstance(empty, Fetched)
        assert empty.data == b""

    def test_links_are_for_a_minute_at_most(self, store: ObjectStore) -> None:
        store.put("k", b"x")
        assert isinstance(store.link("k", seconds=60), NoUrl | SignedUrl)
        for seconds in (0, -1, 61):
            with pytest.raises(BadInputError):
                store.link("k", seconds=seconds)
        with pytest.raises(BadInputError):
            store.link("../k", seconds=1)

    def test_missing_keys_are_named(self, store: ObjectStore) -> None:
        store.put("folder/key", b"x")
        for key in ("nothing", "folder", "folder/key/below"):
            with pytest.raises(NotFoundError):
                next(store.read(key))
            with pytest.raises(NotFoundError):
                store.stat(key)
            assert not store.delete(key)

    def test_delete_removes_and_says_whether_it_was_there(self, store: ObjectStore) -> None:
        store.put("a/b/c", b"x")
        assert store.delete("a/b/c")
        assert not store.delete("a/b/c")
        assert store.list().entries == ()
        store.put("a/b", b"now a key of its own")
        assert whole(store, "a/b") == b"now a key of its own"

    def test_list_is_ascending_and_pages(self, store: ObjectStore) -> None:
        keys = sorted(["a", "a-b/x", "a.b", "a/b", "a/b2", "a0", "b/c/d", "b/c-d", "objects/00/00ff", "Z", "_z/y"])
        for key in reversed(keys):
            if key != "a":  # "a" and "a/b" cannot both be in every store
                store.put(key, key.encode())
        keys.remove("a")
        assert [entry.key for entry in store.list().entries] == keys
        assert [entry.size for entry in store.list().entries] == [len(key) for key in keys]
        seen: list[str] = []
        while True:
            page = store.list(after=seen[-1] if seen else "", limit=3)
            seen += [entry.key for entry in page.entries]
            if not page.more:
                break
            assert len(page.entries) == 3
        assert seen == keys

    def test_list_by_prefix(self, store: ObjectStore) -> None:
        for key in ("tx/1/a", "tx/1/b", "tx/10/c", "tx/2/d", "txt"):
            store.put(key, b"")

        def keys(prefix: str, after: str = "") -> list[str]:
            return [entry.key for entry in store.list(prefix, after=after).entries]

        assert keys("tx/1") == ["tx/1/a", "tx/1/b", "tx/10/c"]
        assert keys("tx/1/") == ["tx/1/a", "tx/1/b"]
        assert keys("tx/1/", after="tx/1/a") == ["tx/1/b"]
        assert keys("tx/1/b") == ["tx/1/b"]
        assert keys("tx", after="tx/2/d") == ["txt"]
        assert keys("nothing") == []

    def test_a_full_page_with_nothing_after_it_says_so(self, store: ObjectStore) -> None:
        for key in ("a", "b"):
            store.put(key, b"")
        assert not store.list(limit=2).more
        assert store.list(limit=1).more

    @pytest.mark.parametrize(
        "key",
        [
            "",
            "/",
            "a/",
            "/a",
            "a//b",
            "..",
            "a/../b",
            "./a",
            ".hidden",
            "a/.staging",
            "a\\b",
            "a b",
            "ä",
            "a\n",
            "c:/x",
        ],
    )
    def test_keys_that_could_escape_are_refused(self, store: ObjectStore, key: str) -> None:
        self._refused(store, key)

    @pytest.mark.parametrize(
        "key", ["nul", "a/CON.txt", "x./y", "x.", "k" * 300, "a/" * 600 + "a", "a\x00b", "*"], ids=lambda key: key[:9]
    )
    def test_keys_that_not_every_store_can_hold_are_refused(self, store: ObjectStore, key: str) -> None:
        self._refused(store, key)

    @staticmethod
    def _refused(store: ObjectStore, key: str) -> None:
        for use in (lambda: store.put(key, b""), lambda: next(store.read(key)), lambda: store.stat(key)):
            with pytest.raises(BadInputError):
                use()
        with pytest.raises(BadInputError):
            store.delete(key)
        assert store.list().entries == ()
