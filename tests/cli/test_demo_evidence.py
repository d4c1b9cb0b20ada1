"""The demonstration's evidence would notice if its claims were false."""

import os
from pathlib import Path

import pytest
from rich.console import Console

from entrepot.cli.demo.evidence import compare_trees, needles_of, search_store
from entrepot.cli.demo.narration import Narrator
from entrepot.cli.demo.processes import StepFailedError
from entrepot.cli.demo.software import REBUILT_EVERY, _rebuilt


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    (folder / "sub" / "empty").mkdir(parents=True)
    (folder / "readme-of-the-product.txt").write_bytes(bytes(range(32, 127)) * 20)
    (folder / "sub" / "run").write_bytes(b"#!/bin/sh\n")
    (folder / "sub" / "run").chmod(0o755)
    (folder / "link").symlink_to("sub/run")
    return folder


def copy(source: Path, target: Path) -> Path:
    os.system(f"cp -a {source} {target}")
    return target


def test_equal_trees_are_equal(source: Path, tmp_path: Path) -> None:
    found = compare_trees(source, copy(source, tmp_path / "copy"))
    assert (found.files, found.differing) == (2, ())


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda root: (root / "sub" / "run").chmod(0o644), "sub/run"),
        (lambda root: (root / "sub" / "run").write_bytes(b"#!/bin/sh\r"), "sub/run"),
        (lambda root: (root / "extra").write_bytes(b""), "extra"),
        (lambda root: (root / "sub" / "empty").rmdir(), "sub/empty"),
        (lambda root: ((root / "link").unlink(), (root / "link").symlink_to("sub")), "link"),
    ],
)
def test_every_difference_is_named(source: Path, tmp_path: Path, change, named: str) -> None:
    fetched = copy(source, tmp_path / "copy")
    change(fetched)
    assert named in compare_trees(source, fetched).differing


def test_excluded_names_do_not_count(source: Path, tmp_path: Path) -> None:
    fetched = copy(source, tmp_path / "copy")
    (source / "__pycache__").mkdir()
    (source / "__pycache__" / "x.pyc").write_bytes(b"x")
    assert compare_trees(source, fetched, excludes=("__pycache__",)).differing == ()


@pytest.mark.parametrize(
    ("leak", "what"),
    [
        (lambda source: (source / "readme-of-the-product.txt").read_bytes()[:600], "plaintext"),
        (lambda source: os.urandom(100) + b"readme-of-the-product.txt" + os.urandom(100), "a file name"),
        (lambda source: os.urandom(100) + b"K" * 32 + os.urandom(100), "a key"),
        (lambda source: b"\0" * 5000, "compressible"),
    ],
)
def test_a_store_that_tells_anything_is_found_out(source: Path, tmp_path: Path, leak, what: str) -> None:
    store = tmp_path / "store"
    (store / "objects" / "ab").mkdir(parents=True)
    (store / "objects" / "ab" / "cd").write_bytes(os.urandom(5000))
    needles = needles_of([source], [b"K" * 32])
    assert search_store(store, needles).found == ()
    (store / "objects" / "ab" / "ef").write_bytes(leak(source))
    assert any(what in text for text in search_store(store, needles).found)


def test_a_name_in_the_stores_names_is_found(source: Path, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "readme-of-the-product.txt").write_bytes(os.urandom(10))
    assert search_store(tmp_path / "store", needles_of([source], [])).found != ()


def test_a_claim_that_does_not_hold_fails_its_step() -> None:
    tell = Narrator(Console(quiet=True), steps=1, version="0")
    with tell, pytest.raises(StepFailedError, match="the moon"), tell.step("Astronomy"):
        tell.claim("the earth is round", True)
        tell.claim("the moon is cheese", False, "ask a mouse")
    assert [claim.text for claim in tell.outcome.steps[0].claims] == ["the earth is round"]
    assert not tell.outcome.steps[0].done


def test_the_rebuilt_release_differs_in_some_files_only(tmp_path: Path) -> None:
    first, second = _rebuilt(tmp_path)
    differing = compare_trees(first, second).differing
    files = sum(1 for path in first.rglob("*") if path.is_file())
    assert len(differing) == -(-files // REBUILT_EVERY)
    sizes = [sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) for folder in (first, second)]
    assert 0 < sizes[0] < sizes[1]
