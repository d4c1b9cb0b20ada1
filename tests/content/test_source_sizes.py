"""A quick look at a source: how much there is to publish."""

import os
from pathlib import Path

import pytest

from entrepot.content.patterns import Excludes
from entrepot.content.snapshot import FileItem, Warnings, sizes, walk


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for path, size in (("a", 5), ("b/c", 70), ("b/skip.tmp", 900), ("cache/x/y", 1000), ("empty", 0)):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(bytes(size))
    (tmp_path / "link").symlink_to("b/c")
    (tmp_path / "folder-link").symlink_to("b")
    return tmp_path


@pytest.mark.parametrize("patterns", [(), ("*.tmp",), ("cache/",), ("b/**", "a"), ("*",)])
def test_it_counts_what_a_publish_takes(source: Path, patterns: tuple[str, ...]) -> None:
    taken = [
        each.size
        for each in walk(source, Excludes(patterns), Warnings(for_windows=False))
        if isinstance(each, FileItem)
    ]
    assert sorted(sizes(source, Excludes(patterns))) == sorted(taken)


def test_a_single_file_and_what_is_not_there(source: Path) -> None:
    assert list(sizes(source / "b" / "c", Excludes(()))) == list(sizes(source / "link", Excludes(()))) == [70]
    assert list(sizes(source / "nowhere", Excludes(()))) == []


def test_no_look_holds_up_the_threads_of_the_process(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``os.lstat`` lets others run while a file server is slow to answer; the ``stat`` of a folder's entry does not."""
    asked: list[str] = []
    real = os.lstat

    def lstat(path: str) -> os.stat_result:
        asked.append(os.path.relpath(path, source))
        return real(path)

    everything = {str(each.relative_to(source)) for each in source.rglob("*")}
    monkeypatch.setattr(os, "lstat", lstat)
    list(walk(source, Excludes(()), Warnings(for_windows=False)))
    assert everything <= set(asked)
    asked.clear()
    list(sizes(source, Excludes(())))
    assert everything <= set(asked)
