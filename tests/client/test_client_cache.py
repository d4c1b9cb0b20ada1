"""The cache of sealed objects stays within its limit, forgets the oldest first, and never gives out damage."""

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from entrepot.client.cache import Cache
from entrepot.core.errors import StorageError
from entrepot.objects.hashing import object_id_of
from entrepot.objects.shelf import Shelf, key_of


def put(cache: Cache, data: bytes) -> bytes:
    object_id = object_id_of(data)
    assert cache.keep(object_id, data)
    return object_id


def age(root: Path, object_id: bytes, seconds: int) -> None:
    path = root.joinpath(*key_of(object_id).split("/"))  # type: ignore[arg-type]
    os.utime(path, (seconds, seconds))


def test_what_is_kept_is_found_by_the_next_process(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 1000)
    object_id = put(cache, b"object")
    assert cache.read(object_id, 6) == b"object"
    cache.flush()
    again = Cache(tmp_path, 1000)
    assert again.read(object_id, 6) == b"object"
    assert again.held() == 6
    assert again.has(object_id)
    assert again.read(object_id_of(b"other"), 5) is None


def test_the_oldest_go_first_and_use_makes_young(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 1000)
    ids = [put(cache, bytes([number]) * 100) for number in range(10)]
    cache.flush()
    for number, object_id in enumerate(ids):
        age(tmp_path, object_id, 1000 + number)
    assert cache.read(ids[0], 100) is not None  # used now: the youngest

    put(cache, b"x" * 100)  # one too many: back to nine tenths of the limit

    assert cache.held() <= 900
    assert [cache.has(object_id) for object_id in ids] == [True, False, False] + [True] * 7


def test_damage_is_removed_and_not_given_out(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 1000)
    object_id = put(cache, b"object")
    cache.flush()
    tmp_path.joinpath(*key_of(object_id).split("/")).write_bytes(b"Object")  # type: ignore[arg-type]
    assert cache.read(object_id, 6) is None
    assert not cache.has(object_id)


def test_an_object_that_grew_or_cannot_be_read_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache(tmp_path, 1000)
    object_id = put(cache, b"object")
    cache.flush()
    with tmp_path.joinpath(*key_of(object_id).split("/")).open("ab") as file:  # type: ignore[arg-type]
        file.write(b"more")
    assert cache.read(object_id, 6) is None
    assert not cache.has(object_id)

    put(cache, b"object")
    cache.flush()

    def unreadable(*_: object, **__: object) -> bytes:
        raise StorageError("A sector cannot be read.")

    monkeypatch.setattr(Shelf, "read_whole", unreadable)
    assert cache.read(object_id, 6) is None
    assert not cache.has(object_id)


def test_an_object_larger_than_the_limit_is_not_kept(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 5)
    assert not cache.keep(object_id_of(b"object"), b"object")
    assert cache.held() == 0
    assert not Cache(tmp_path, 0).keep(object_id_of(b""), b"x")


def test_a_disk_that_refuses_costs_the_cache_only(tmp_path: Path) -> None:
    (tmp_path / "cache").write_bytes(b"a file where the folder should be")
    cache = Cache(tmp_path / "cache", 1000)
    assert cache.read(object_id_of(b"object"), 6) is None
    assert not cache.keep(object_id_of(b"object"), b"object")


def test_clearing_frees_everything(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 10_000)
    for number in range(20):
        put(cache, bytes([number]) * 100)
    assert cache.clear() == 2000
    assert cache.held() == 0
    assert not [path for path in (tmp_path / "objects").rglob("*") if path.is_file()]


@given(sizes=st.lists(st.integers(1, 400), max_size=40), limit=st.integers(0, 1500))
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=25, deadline=None
)
def test_the_limit_holds_whatever_comes(tmp_path: Path, sizes: list[int], limit: int) -> None:
    root = tmp_path / os.urandom(4).hex()
    cache = Cache(root, limit)
    for number, size in enumerate(sizes):
        data = number.to_bytes(4, "big") + bytes(size)
        cache.keep(object_id_of(data), data)
        assert cache.held() <= limit
    cache.flush()
    on_disk = sum(path.stat().st_size for path in (root / "objects").rglob("*") if path.is_file())
    assert on_disk == cache.held() == Cache(root, limit).held()


def test_room_is_left_to_the_files_though_what_is_old_cannot_be_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = Cache(tmp_path, 1000)
    put(cache, b"object")

    def refuse(_limit: int) -> int:
        raise StorageError("A sector cannot be read.")

    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(total=1000, used=900, free=100))
    with monkeypatch.context() as broken:
        broken.setattr(cache, "trim", refuse)
        with pytest.raises(StorageError):
            cache.leave(500)
    assert not cache.keep(object_id_of(b"another"), b"another")
    cache.leave(0)
    assert cache.keep(object_id_of(b"another"), b"another")
