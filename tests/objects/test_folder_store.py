import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from entrepot.core.errors import NotFoundError, StorageError
from entrepot.objects import folder as folder_module
from entrepot.objects import syncing
from entrepot.objects.folder import FolderStore
from entrepot.objects.staging import STAGING


def names(root: Path) -> list[str]:
    return sorted(
        str(path.relative_to(root)) for path in root.rglob("*") if path.is_file() and STAGING not in str(path)
    )


def test_readers_write_nothing(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "absent")
    with pytest.raises(NotFoundError):
        store.stat("k")
    assert store.list().entries == ()
    store.flush()
    assert not (tmp_path / "absent").exists()


def test_no_name_appears_before_the_flush(tmp_path: Path) -> None:
    store, other = FolderStore(tmp_path), FolderStore(tmp_path)
    store.put("a/b", b"x", durable=False)
    assert names(tmp_path) == []
    with pytest.raises(NotFoundError):
        other.stat("a/b")
    store.flush()
    assert names(tmp_path) == ["a/b"]
    assert b"".join(other.read("a/b")) == b"x"


def test_many_waiting_files_flush_by_themselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_module, "MAX_WAITING", 10)
    store = FolderStore(tmp_path)
    for n in range(25):
        store.put(f"k{n}", b"", durable=False)
    assert len(names(tmp_path)) == 20


def test_without_syncfs_each_file_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        real(descriptor)

    store = FolderStore(tmp_path)
    store.put("a/1", b"x", durable=False)
    store.put("a/2", b"y", durable=False)
    monkeypatch.setattr(syncing, "_syncfs", lambda: None)
    monkeypatch.setattr(os, "fsync", fsync)
    store.flush()
    files = [path for path in synced if STAGING in path and not path.endswith(STAGING)]
    assert len(files) == 2
    assert str(tmp_path / "a") in synced[2:]
    assert names(tmp_path) == ["a/1", "a/2"]


def test_a_full_disk_is_a_storage_error_and_leaves_nothing(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)

    def full() -> Iterator[bytes]:
        yield b"some"
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StorageError, match="No space"):
        store.put("k", full())
    assert [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "lock"] == []


def test_a_flush_that_fails_after_naming_is_made_good_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FolderStore(tmp_path)
    (tmp_path / "a").mkdir()
    store.put("a/k", b"x", durable=False)
    synced: list[set[Path]] = []

    def sync(_: Path, *, files: Iterable[Path], folders: Iterable[Path]) -> None:
        synced.append(set(folders))
        if len(synced) == 2:
            raise OSError(errno.EIO, "no")

    monkeypatch.setattr(folder_module, "sync_all", sync)
    with pytest.raises(StorageError):
        store.flush()
    store.flush()
    assert synced == [set(), {tmp_path / "a"}, {tmp_path / "a"}]


def test_a_flush_that_fails_keeps_what_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FolderStore(tmp_path)
    store.put("k", b"x", durable=False)

    def broken(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(folder_module, "sync_all", broken)
        with pytest.raises(StorageError):
            store.flush()
    assert names(tmp_path) == []
    store.flush()
    assert names(tmp_path) == ["k"]


def test_a_key_cannot_lie_below_a_key(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    store.put("a", b"")
    for if_absent, durable in ((True, True), (False, True), (False, False)):
        with pytest.raises(StorageError):
            store.put("a/b", b"", if_absent=if_absent, durable=durable)
    store.put("x/y", b"")
    for durable in (True, False):
        with pytest.raises(StorageError):
            store.put("x", b"", durable=durable)
    store.flush()
    assert names(tmp_path) == ["a", "x/y"]


def test_empty_folders_go_with_their_last_key(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    store.put("tx/1/a", b"")
    store.put("tx/2/b", b"")
    store.delete("tx/1/a")
    assert sorted(path.name for path in (tmp_path / "tx").iterdir()) == ["2"]
    store.delete("tx/2/b")
    assert [path.name for path in tmp_path.iterdir()] == [STAGING]


CHILD = """
import os, sys
from pathlib import Path
from entrepot.objects.folder import FolderStore
store = FolderStore(Path(sys.argv[1]))
store.put("durable", b"1")
store.put("waiting", b"2", durable=False)
def pieces():
    yield b"half of a file"
    print("ready", flush=True)
    sys.stdin.read()
store.put("half", pieces())
"""


@pytest.mark.process
def test_a_killed_writer_leaves_whole_keys_and_its_rest_is_swept(tmp_path: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with child:
        assert child.stdout is not None and child.stdin is not None
        assert child.stdout.readline() == "ready\n"
        alive = FolderStore(tmp_path)
        alive.put("mine", b"3")
        assert len(list((tmp_path / STAGING).iterdir())) == 2  # the living writer keeps its staging folder
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert names(tmp_path) == ["durable", "mine"]
    later = FolderStore(tmp_path)
    later.put("later", b"4")
    staged = {path.parent.name for path in (tmp_path / STAGING).rglob("*") if path.is_file()}
    assert len(staged) == 2  # alive's and later's
    assert names(tmp_path) == ["durable", "later", "mine"]


def test_a_store_that_is_closed_takes_its_staging_folder_along(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    store.put("k", b"")
    assert len(list((tmp_path / STAGING).iterdir())) == 1
    del store
    assert list((tmp_path / STAGING).iterdir()) == []
