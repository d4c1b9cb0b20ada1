"""A folder that ``--to`` names is kept the same as the version, in place, and nothing else in it is touched."""

import os
import shutil
from pathlib import Path

import pytest

from entrepot.client import target as target_module
from entrepot.client.fetch import fetch
from entrepot.client.target import obsolete
from entrepot.core.errors import ConflictError, StorageError


@pytest.fixture
async def home(world, source: Path) -> Path:
    world.publish(source)
    world.point("near")
    return await world.client()


async def test_a_new_folder_becomes_the_content_and_nothing_more(
    world, source: Path, tools, tmp_path: Path, home: Path
) -> None:
    result = await fetch(home, tools.content, to=tmp_path / "deep" / "target")
    assert result.folder == tmp_path / "deep" / "target"
    assert tools.listing(result.folder) == tools.listing(source)
    assert not list((home / "content").iterdir())


async def test_an_empty_folder_may_be_given(world, source: Path, tools, tmp_path: Path, home: Path) -> None:
    (tmp_path / "target").mkdir()
    await fetch(home, tools.content, to=tmp_path / "target")
    assert tools.listing(tmp_path / "target") == tools.listing(source)


async def test_the_next_version_changes_what_differs(world, source: Path, tools, tmp_path: Path, home: Path) -> None:
    target = tmp_path / "target"
    await fetch(home, tools.content, to=target)
    untouched = (target / "data" / "large.bin").stat().st_ino
    (target / "own-notes.txt").write_text("somebody's own file")
    (target / "data" / "own").mkdir()
    (source / "bin" / "tool").write_bytes(b"#!/bin/sh\necho two\n")
    (source / "bin" / "tool").chmod(0o644)
    (source / "bin" / "back").unlink()
    (source / "hollow" / "deep").rmdir()
    (source / "hollow").rmdir()
    (source / "data" / "small-05").unlink()
    (source / "data" / "small-06").unlink()
    (source / "data" / "small-06").mkdir()
    (source / "data" / "small-06" / "now a folder").write_bytes(os.urandom(10))
    world.publish(source, 2)

    result = await fetch(home, tools.content, to=target)

    found = tools.listing(target)
    assert found.pop("own-notes.txt")[1] == b"somebody's own file"
    assert found.pop("data/own") == ("folder",)
    assert found == tools.listing(source)
    assert (target / "data" / "large.bin").stat().st_ino == untouched
    assert result.present > 3_000_000
    assert world.locations[-1].held == (1,)


async def test_fetching_the_same_again_does_nothing_and_mends_damage(
    world, source: Path, tools, tmp_path: Path, home: Path
) -> None:
    target = tmp_path / "target"
    await fetch(home, tools.content, to=target)
    before = world.requests()
    again = await fetch(home, tools.content, to=target)
    assert (again.present, world.requests()) == (again.plain_size, before)

    (target / "data" / "small-01").write_bytes(b"damaged")
    (target / "link").unlink()
    (target / "bin" / "tool").unlink()
    await fetch(home, tools.content, to=target)
    assert tools.listing(target) == tools.listing(source)


async def test_killed_while_it_clears_up_the_next_run_leaves_nothing_of_its_own(
    world, source: Path, tools, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, remove = tmp_path / "target", shutil.rmtree

    def killed(folder: Path, **how: bool) -> None:
        if folder.parent == target and folder.is_dir():
            raise ConnectionAbortedError
        remove(folder, **how)

    with monkeypatch.context() as patch:
        patch.setattr(target_module.shutil, "rmtree", killed)
        with pytest.raises(StorageError):
            await fetch(home, tools.content, to=target)
    await fetch(home, tools.content, to=target)
    assert tools.listing(target) == tools.listing(source)


async def test_an_older_version_can_be_put_back(world, source: Path, tools, tmp_path: Path, home: Path) -> None:
    target = tmp_path / "target"
    before = tools.listing(source)
    await fetch(home, tools.content, to=target)
    (source / "added").write_bytes(b"two")
    world.publish(source, 2)
    await fetch(home, tools.content, to=target)
    await fetch(home, tools.content, to=target, version=1)
    assert tools.listing(target) == before


async def test_a_folder_that_was_replaced_by_another_is_not_ours(
    world, source: Path, tools, tmp_path: Path, home: Path
) -> None:
    target = tmp_path / "target"
    await fetch(home, tools.content, to=target)
    target.rename(tmp_path / "moved")
    target.mkdir()
    (target / "bin").write_bytes(b"not ours")
    with pytest.raises(ConflictError, match="is not empty"):
        await fetch(home, tools.content, to=target)
    assert (target / "bin").read_bytes() == b"not ours"


async def test_own_files_in_the_way_are_kept_and_named(world, source: Path, tools, tmp_path: Path, home: Path) -> None:
    target = tmp_path / "target"
    await fetch(home, tools.content, to=target)
    (target / "data" / "fresh").mkdir()
    (target / "data" / "fresh" / "notes").write_bytes(b"mine")
    (source / "data" / "fresh").write_bytes(b"a file")
    world.publish(source, 2)
    with pytest.raises(ConflictError, match="fresh' is a folder with files that are not part"):
        await fetch(home, tools.content, to=target)
    assert (target / "data" / "fresh" / "notes").read_bytes() == b"mine"

    (target / "data" / "fresh" / "notes").rename(tmp_path / "notes")
    await fetch(home, tools.content, to=target)
    assert tools.listing(target) == tools.listing(source)


async def test_a_folder_that_holds_other_content_is_refused(
    world, source: Path, tools, tmp_path: Path, home: Path
) -> None:
    target = tmp_path / "target"
    await fetch(home, tools.content, to=target)
    state = next((home / "targets").iterdir()) / "target.json"
    state.write_bytes(state.read_bytes().replace(tools.content.encode(), b"pkg-ffffffffffffffff"))
    with pytest.raises(ConflictError, match="another content"):
        await fetch(home, tools.content, to=target)


async def test_a_version_given_up_leaves_nothing_in_the_next(
    world, source: Path, tools, tmp_path: Path, home: Path
) -> None:
    from entrepot.core.errors import EntrepotError

    target = tmp_path / "target"
    await fetch(home, tools.content, to=target)
    (source / "only-in-two").write_bytes(os.urandom(300_000))
    (source / "data" / "small-00").write_bytes(b"as in two")
    world.publish(source, 2)
    wanted = world.points["near"]
    wanted.damage = lambda _, data: bytes(len(data)) if len(data) > 250_000 else data
    with pytest.raises(EntrepotError):
        await fetch(home, tools.content, to=target)
    wanted.damage = lambda _, data: data
    (source / "only-in-two").unlink()
    (source / "only-in-three").write_bytes(b"three")
    world.publish(source, 3)

    await fetch(home, tools.content, to=target)

    assert tools.listing(target) == tools.listing(source)
    (record,) = (home / "targets").iterdir()
    assert sorted(path.name for path in record.iterdir()) == [f"{tools.content}.3", "target.json"]


@pytest.mark.parametrize("batch", [1, 2, 100])
def test_another_spelling_is_the_same_file_where_case_does_not_count(
    monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    monkeypatch.setattr(target_module, "BATCH", batch)
    old = ["Data/one", "Data/two", "README", "gone", "same"]
    new = ["data/one", "data/three", "readme", "same"]
    assert list(obsolete(old, lambda: iter(new), ignores_case=True)) == ["Data/two", "gone"]
    assert list(obsolete(old, lambda: iter(new), ignores_case=False)) == ["Data/one", "Data/two", "README", "gone"]
