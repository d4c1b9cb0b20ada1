"""A safe tree reads and writes below its root and nowhere else, with descriptors and (as on Windows) without."""

import errno
import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from entrepot.client.safetree import HAS_DIR_FD, SafeTree
from entrepot.content.digests import digest_of
from entrepot.core.errors import ConflictError, StorageError

Open = Callable[[Path], SafeTree]


@pytest.fixture(params=[True, False], ids=["descriptors", "checked-paths"])
def open_tree(request: pytest.FixtureRequest) -> Open:
    if request.param and not HAS_DIR_FD:
        pytest.skip("this system has no calls relative to folders")
    return lambda root: SafeTree(root, descriptors=request.param)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_bytes(b"precious")
    return tmp_path / "root"


def test_what_is_written_is_read(root: Path, open_tree: Open) -> None:
    with open_tree(root) as tree:
        tree.write("a/b/file", 5, b"world")
        tree.write("a/b/file", 0, b"hello")
        tree.write("a/other", 0, b"")
        assert tree.read("a/b/file", 0, 100) == b"helloworld"
        assert tree.read("a/b/file", 3, 4) == b"lowo"
        assert tree.holds("a/b/file", 10, digest_of(b"helloworld"))
        assert tree.holds("a/b/file", 10, hashlib.sha256(b"helloworld").digest()), "as it was published before BLAKE3"
        assert not tree.holds("a/b/file", 10, digest_of(b"helloWorld"))
        assert not tree.holds("a/b/file", 9, digest_of(b"helloworld"))
        assert tree.holds("a/other", 0, digest_of(b""))
        tree.cut("a/b/file", 4)
        assert (root / "a" / "b" / "file").read_bytes() == b"hell"


def test_what_is_not_there_is_none(root: Path, open_tree: Open) -> None:
    (root / "file").write_bytes(b"x")
    with open_tree(root) as tree:
        for path in ("missing", "no/such/folder", "file/below"):
            assert tree.find(path) is None
            assert tree.read(path, 0, 1) is None
            assert not tree.holds(path, 0, digest_of(b""))
            assert tree.link_target(path) is None
            assert tree.remove(path)


def test_reading_follows_no_link(root: Path, open_tree: Open) -> None:
    (root / "folder").symlink_to(root.parent / "outside")
    (root / "link").symlink_to(root.parent / "outside" / "file")
    with open_tree(root) as tree:
        assert tree.read("folder/file", 0, 100) is None
        assert not tree.holds("folder/file", 8, digest_of(b"precious"))
        assert tree.read("link", 0, 100) is None
        found = tree.find("link")
        assert found is not None
        assert found.kind == "link"


def test_writing_replaces_links_and_follows_none(root: Path, open_tree: Open) -> None:
    outside = root.parent / "outside"
    (root / "folder").symlink_to(outside)
    (root / "link").symlink_to(outside / "file")
    (root / "dangling").symlink_to(outside / "new")
    os.link(outside / "file", root / "second-name")
    with open_tree(root) as tree:
        for path in ("folder/file", "folder/new", "link", "dangling", "second-name"):
            tree.write(path, 0, b"ours")
        tree.make_folder("folder/deeper", 0o755)
    assert (outside / "file").read_bytes() == b"precious"
    assert [path.name for path in outside.iterdir()] == ["file"]
    assert not (root / "folder").is_symlink()
    assert {(root / name).read_bytes() for name in ("link", "dangling", "second-name")} == {b"ours"}


def test_a_file_put_whole_replaces_whatever_stands_there_and_follows_no_link(root: Path, open_tree: Open) -> None:
    outside = root.parent / "outside"
    (root / "way").symlink_to(outside)
    (root / "link").symlink_to(outside / "file")
    (root / "dangling").symlink_to(outside / "new")
    os.link(outside / "file", root / "second-name")
    os.mkfifo(root / "pipe")
    (root / "folder").mkdir()
    (root / "longer").write_bytes(b"what an earlier run left")
    (root / "longer").chmod(0o444)
    paths = ("way/file", "link", "dangling", "second-name", "pipe", "folder", "longer", "a/new/one")
    with open_tree(root) as tree:
        for path in paths:
            tree.put(path, memoryview(b"ours"), 0o540)
    assert {(root / path).read_bytes() for path in paths} == {b"ours"}
    assert {stat.S_IMODE((root / path).lstat().st_mode) for path in paths} == {0o540}
    assert [(path.name, path.read_bytes()) for path in outside.iterdir()] == [("file", b"precious")]


def test_a_file_is_not_put_in_place_of_a_folder_with_other_things(root: Path, open_tree: Open) -> None:
    (root / "folder").mkdir()
    (root / "folder" / "mine").touch()
    with open_tree(root) as tree, pytest.raises(StorageError, match="folder"):
        tree.put("folder", b"ours", 0o644)
    assert (root / "folder" / "mine").exists()


def test_a_file_put_whole_has_its_permissions_only_when_all_of_it_is_written(
    root: Path, open_tree: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = os.write

    def short(descriptor: int, data: memoryview) -> int:
        assert stat.S_IMODE(os.fstat(descriptor).st_mode) == 0o600
        return system(descriptor, data[:3])

    with open_tree(root) as tree, monkeypatch.context() as patched:
        patched.setattr(os, "write", short)
        tree.put("file", b"hello world", 0o755)
    assert (root / "file").read_bytes() == b"hello world"
    assert stat.S_IMODE((root / "file").stat().st_mode) == 0o755


def test_removing_removes_links_themselves(root: Path, open_tree: Open) -> None:
    outside = root.parent / "outside"
    (root / "folder").symlink_to(outside)
    (root / "full").mkdir()
    (root / "full" / "file").touch()
    with open_tree(root) as tree:
        assert tree.remove("folder/file")
        assert tree.remove("folder")
        assert not tree.remove("full")
    assert (outside / "file").exists()
    assert not (root / "folder").exists()


def test_a_special_file_in_the_way_does_not_hang(root: Path, open_tree: Open) -> None:
    os.mkfifo(root / "pipe")
    with open_tree(root) as tree:
        assert tree.read("pipe", 0, 1) is None
        tree.write("pipe", 0, b"a file now")
    assert (root / "pipe").read_bytes() == b"a file now"


def test_a_file_in_the_way_of_a_folder_is_replaced(root: Path, open_tree: Open) -> None:
    (root / "a").write_bytes(b"file")
    with open_tree(root) as tree:
        tree.write("a/b", 0, b"x")
    assert (root / "a" / "b").read_bytes() == b"x"


def test_links_are_made_and_replaced(root: Path, open_tree: Open) -> None:
    with open_tree(root) as tree:
        tree.make_link("sub/link", "../target")
        tree.make_link("sub/link", "../target")
        assert tree.link_target("sub/link") == "../target"
        tree.make_link("sub/link", "other")
        assert tree.link_target("sub/link") == "other"
        tree.write("sub/link", 0, b"file")
        assert tree.link_target("sub/link") is None
        with pytest.raises(ConflictError, match="not part of the content"):
            tree.make_link("sub", "elsewhere")


def test_taking_moves_a_file_and_replaces_what_is_there(root: Path, open_tree: Open) -> None:
    (root / "staging").mkdir()
    with open_tree(root) as tree, open_tree(root / "staging") as staging:
        for path in ("new/file", "link", "folder"):
            staging.write(path, 0, b"taken")
        (root / "link").symlink_to(root.parent / "outside" / "file")
        (root / "folder").mkdir()
        for path in ("new/file", "link", "folder"):
            tree.take(staging, path)
            assert tree.read(path, 0, 10) == b"taken"
        staging.write("full", 0, b"x")
        tree.write("full/of/things", 0, b"x")
        with pytest.raises(ConflictError, match="not part of the content"):
            tree.take(staging, "full")
    assert (root.parent / "outside" / "file").read_bytes() == b"precious"


def test_permissions_are_given_and_read_only_leftovers_replaced(root: Path, open_tree: Open) -> None:
    with open_tree(root) as tree:
        tree.write("tool", 0, b"x")
        tree.finish("tool", 0o111)
        assert stat.S_IMODE((root / "tool").stat().st_mode) == 0o511  # its owner may always read it
        tree.finish("tool", 0o444, sync=True)
        tree.write("tool", 0, b"y")
        assert tree.read("tool", 0, 1) == b"y"


def test_what_a_read_only_leftover_holds_stays_when_another_piece_is_written(
    root: Path, open_tree: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = os.open

    def as_an_ordinary_account(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        """The administrator's account, which may run this test, is refused nothing."""
        if flags & os.O_RDWR and os.path.lexists(root / "big") and not (root / "big").stat().st_mode & stat.S_IWUSR:
            raise PermissionError(errno.EACCES, "read-only", path)
        return system(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", as_an_ordinary_account)
    (root / "big").write_bytes(b"good")
    (root / "big").chmod(0o444)
    with open_tree(root) as tree:
        tree.write("big", 4, b"more")
    assert (root / "big").read_bytes() == b"goodmore"


def test_a_root_that_is_no_folder_is_an_error(root: Path, open_tree: Open) -> None:
    with pytest.raises(StorageError):
        open_tree(root / "missing")
    (root / "file").touch()
    with pytest.raises(StorageError):
        open_tree(root / "file")


def open_descriptors() -> int:
    """How many this process has; 0 where the system does not say."""
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.exists() else 0


def test_neighbouring_paths_reuse_open_folders_and_close_them_all(root: Path, open_tree: Open) -> None:
    before = open_descriptors()
    with open_tree(root) as tree:
        for path in ("a/b/c/1", "a/b/c/2", "a/b/3", "a/x/y/4", "5", "a/b/c/6"):
            tree.write(path, 0, path.encode())
    assert open_descriptors() == before
    assert (root / "a" / "b" / "c" / "6").read_bytes() == b"a/b/c/6"
