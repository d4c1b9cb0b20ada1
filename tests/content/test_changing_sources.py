"""The source may change at any moment: it is refused by name, and nothing half-read is published."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from entrepot.content import sources
from entrepot.content.patterns import Excludes
from entrepot.content.snapshot import FileItem, Item, Warnings, walk
from entrepot.content.sources import SourceFile, read_source
from entrepot.core.errors import CancelledError, RefusedError
from entrepot.core.sizes import MIB

SIZE = 3 * MIB


def found(path: Path) -> FileItem:
    (item,) = walk(path, Excludes(()), Warnings(for_windows=False))
    assert isinstance(item, FileItem)
    return item


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def truncate(path: Path) -> None:
    os.truncate(path, 100)


def rewrite(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    other.replace(path)


def become_a_link(path: Path) -> None:
    path.rename(path.with_name("moved"))
    path.symlink_to("moved")


def become_a_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


CHANGES = [grow, truncate, rewrite, replace, become_a_link, become_a_fifo]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("size", [10, SIZE])
def test_a_change_after_it_was_found(tmp_path: Path, change: Callable[[Path], None], size: int) -> None:
    path = tmp_path / "file.bin"
    path.write_bytes(bytes(size))
    os.utime(path, (1, 1))
    item = found(path)
    change(path)
    with pytest.raises(RefusedError, match=r"'file\.bin' (changed|cannot be read)"):
        if size == 10:
            read_source(item)
        else:
            SourceFile(item).read(MIB)


@pytest.mark.parametrize("size", [10, SIZE])
def test_a_file_that_is_gone_is_called_so(tmp_path: Path, size: int) -> None:
    path = tmp_path / "file.bin"
    path.write_bytes(bytes(size))
    item = found(path)
    path.unlink()
    with pytest.raises(RefusedError, match=r"'file\.bin' disappeared while the source was being read"):
        SourceFile(item).read(MIB)


@pytest.mark.parametrize("change", [grow, truncate, rewrite])
def test_a_change_while_it_is_read(tmp_path: Path, change: Callable[[Path], None]) -> None:
    path = tmp_path / "file.bin"
    path.write_bytes(bytes(SIZE))
    os.utime(path, (1, 1))
    source = SourceFile(found(path))
    assert len(source.read(MIB)) == MIB
    change(path)
    with pytest.raises(RefusedError, match=r"'file\.bin' changed"):
        source.read(SIZE)


def test_permission_denied_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file.bin"
    path.write_bytes(b"x")
    item = found(path)

    def denied(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", denied)
        with pytest.raises(RefusedError, match=r"'file\.bin' cannot be read: Permission denied"):
            read_source(item)


def test_a_big_file_that_changes_during_a_publish(
    library: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "big").write_bytes(os.urandom(12 * MIB))
    opened: list[str] = []
    real = sources._open

    def change_then_open(item: FileItem) -> int:
        opened.append(item.path)
        if len(opened) == 2:  # its second window
            (folder / "big").write_bytes(os.urandom(12 * MIB))
        return real(item)

    monkeypatch.setattr(sources, "_open", change_then_open)
    with pytest.raises(RefusedError, match="'big' changed"):
        library.publish(folder)
    assert library.ledgers.sets == {}


def test_cancelling_in_the_middle_of_a_big_file(library: Any, tmp_path: Path) -> None:
    source = tmp_path / "big"
    source.write_bytes(os.urandom(64 * MIB))
    asked: list[None] = []

    def cancelled() -> bool:
        asked.append(None)
        return len(asked) == 5  # a file of 64 MiB has more chunks than that

    with pytest.raises(CancelledError):
        library.publish(source, cancelled=cancelled)
    assert len(asked) == 5
    assert library.ledgers.sets == {}


def test_a_folder_whose_names_change_while_its_files_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "source" / "sub"
    folder.mkdir(parents=True)
    for name in "abc":
        (folder / name).write_text(name)
    os.utime(folder, (1, 1))

    def items() -> Iterator[Item]:
        for item in walk(tmp_path / "source", Excludes(()), Warnings(for_windows=False)):
            yield item
            if item.path == "sub/b":
                (folder / "d").write_text("new")

    with pytest.raises(RefusedError, match="folder 'sub/' changed"):
        list(items())


@pytest.mark.parametrize("back", [False, True])
def test_a_folder_whose_place_a_link_takes_meanwhile(tmp_path: Path, back: bool) -> None:
    source, elsewhere, moved = tmp_path / "source", tmp_path / "elsewhere", tmp_path / "moved"
    sub = source / "sub"
    for folder in (sub, elsewhere):
        folder.mkdir(parents=True)
        for name in "abc":
            (folder / name).write_text(name)
    for folder in (source, sub, elsewhere):
        os.utime(folder, (1, 1))

    def items() -> Iterator[Item]:
        for item in walk(source, Excludes(()), Warnings(for_windows=False)):
            yield item
            if item.path == "sub/a":
                wait_for_another_time(tmp_path, sub.stat().st_ctime_ns)
                sub.rename(moved)
                sub.symlink_to(elsewhere)
            if item.path == "sub/b" and back:
                sub.unlink()
                moved.rename(sub)
            os.utime(source, (1, 1))  # the time that whoever may write there can set back

    with pytest.raises(RefusedError, match=r"folder 'sub/' changed"):
        list(items())


def wait_for_another_time(folder: Path, before: int) -> None:
    """Until the file system stamps what changes with another time than before."""
    probe = folder / "probe"
    probe.touch()
    while probe.stat().st_ctime_ns <= before:
        os.utime(probe)


def test_a_file_that_disappears_before_it_is_reached(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).write_text(name)
    items = walk(tmp_path, Excludes(()), Warnings(for_windows=False))
    assert next(items).path == "a"
    (tmp_path / "b").unlink()
    with pytest.raises(RefusedError, match="'b' disappeared"):
        next(items)
