import errno
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from entrepot.core.errors import ConflictError, StorageError
from entrepot.durable.files import (
    make_folder,
    replacing,
    storage_errors,
    sweep_temporary,
    sync_folder,
    write_file,
    write_private,
)
from entrepot.durable.locks import HomeLock


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_file(path, b"old")
    write_file(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_file(path, b"old")

    def fail() -> None:
        with replacing(path) as file:
            file.write(b"half")
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_writer_left_is_swept_and_nothing_else(tmp_path: Path) -> None:
    write_file(tmp_path / "file", b"old")
    (tmp_path / ".hidden.tmp").write_bytes(b"someone's own")
    with replacing(tmp_path / "file") as file:
        file.write(b"half")
        (left,) = (path for path in tmp_path.iterdir() if path.name.startswith(".file."))
    left.write_bytes(b"half")  # as if the process had been killed before the rename
    assert sweep_temporary(tmp_path) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [".hidden.tmp", "file"]
    assert sweep_temporary(tmp_path / "missing") == 0


def test_readers_see_the_old_file_until_the_end(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_file(path, b"old")
    with replacing(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"


def test_private_files_are_private_from_their_first_byte(tmp_path: Path) -> None:
    path = tmp_path / "key"
    write_private(path, b"secret")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with replacing(path, mode=0o600) as file:
        assert stat.S_IMODE(os.fstat(file.fileno()).st_mode) == 0o600


def test_bytes_reach_the_disk_before_their_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    real_fsync, real_replace = os.fsync, Path.replace

    def fsync(descriptor: int) -> None:
        steps.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        real_fsync(descriptor)

    def replace(self: Path, target: Path) -> Path:
        steps.append("rename")
        return real_replace(self, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", replace)
    write_file(tmp_path / "file", b"x")
    assert steps == ["file", "rename", "folder"]


def test_folders_are_made_with_their_parents(tmp_path: Path) -> None:
    make_folder(tmp_path / "a" / "b", mode=0o700)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o700
    make_folder(tmp_path / "a" / "b")
    sync_folder(tmp_path / "a")


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name in ("file", "file/below"):
        with pytest.raises(StorageError, match="is a file"):
            make_folder(tmp_path / name)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EIO, errno.EDQUOT])
def test_the_disks_refusals_are_storage_errors(code: int) -> None:
    with pytest.raises(StorageError, match="the file") as caught, storage_errors("the file"):
        raise OSError(code, os.strerror(code))
    assert caught.value.next_step


def test_other_failures_stay_what_they_are() -> None:
    with pytest.raises(FileNotFoundError), storage_errors("the file"):
        raise FileNotFoundError(errno.ENOENT, "No such file")


def test_a_missing_folder_is_not_made_by_a_write(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_file(tmp_path / "absent" / "file", b"x")


class TestHomeLock:
    def test_one_holder_at_a_time(self, tmp_path: Path) -> None:
        with (
            HomeLock(tmp_path, "a site"),
            pytest.raises(ConflictError, match="a site"),
            HomeLock(tmp_path, "a site"),
        ):
            pass
        with HomeLock(tmp_path, "a site"):
            pass

    def test_looking_whether_it_is_free_takes_and_makes_and_removes_nothing(self, tmp_path: Path) -> None:
        HomeLock(tmp_path, "a site").check_free()
        assert list(tmp_path.iterdir()) == []
        with HomeLock(tmp_path, "a site"):
            with pytest.raises(ConflictError, match="a site"):
                HomeLock(tmp_path, "a site").check_free()
            (left := tmp_path / ".left.0123456789ab.tmp").touch()
        HomeLock(tmp_path, "a site").check_free()
        assert left.exists(), "only whoever takes it tidies"
        with HomeLock(tmp_path, "a site"):
            assert not left.exists()

    @pytest.mark.process
    def test_dies_with_its_holder(self, tmp_path: Path) -> None:
        code = (
            "import sys; from pathlib import Path; from entrepot.durable.locks import HomeLock\n"
            "lock = HomeLock(Path(sys.argv[1]), 'a site'); lock.__enter__()\n"
            "print('held', flush=True); sys.stdin.read()"
        )
        command = [sys.executable, "-c", code, str(tmp_path)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == "held\n"
            with pytest.raises(ConflictError), HomeLock(tmp_path, "a site"):
                pass
            child.send_signal(signal.SIGKILL)
            child.wait()
        with HomeLock(tmp_path, "a site"):
            pass


CHILD = """
import sys
from pathlib import Path
from entrepot.durable.files import replacing
with replacing(Path(sys.argv[1])) as file:
    file.write(b"half of the new")
    file.flush()
    print("ready", flush=True)
    sys.stdin.read()
"""


@pytest.mark.process
def test_a_killed_writer_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_file(path, b"old")
    command = [sys.executable, "-c", CHILD, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert path.read_bytes() == b"old"
    write_file(path, b"new")
    assert path.read_bytes() == b"new"


@pytest.mark.skipif(sys.platform == "win32", reason="the flag is the POSIX systems'")
def test_a_link_in_the_place_of_the_lock_makes_no_file_elsewhere(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "lock").symlink_to(tmp_path / "nologin")
    with pytest.raises(StorageError, match="lock"), HomeLock(home, "a site"):
        pass
    assert not (tmp_path / "nologin").exists()
