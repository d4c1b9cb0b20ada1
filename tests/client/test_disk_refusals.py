"""Whatever stands in the client's home, and whoever holds its files: an error that names the path, and no traceback."""

import asyncio
import errno
import os
import shutil
from pathlib import Path

import pytest

from entrepot.client.fetch import fetch
from entrepot.client.home import Home
from entrepot.client.safetree import SafeTree
from entrepot.core.errors import EntrepotError, IntegrityError, StorageError
from entrepot.durable import sharing
from entrepot.durable.sharing import InUseError

FILES = ("client.toml", "device.key", "device.json", "trust", "freshness", "lock")
FOLDERS = ("records", "content", "staging")


def into_a_loop(path: Path) -> None:
    """A link to itself: whatever is done with it, the system answers ELOOP."""
    path.symlink_to(path.name)


@pytest.mark.parametrize("put", [into_a_loop, Path.mkdir])
@pytest.mark.parametrize("name", FILES)
async def test_a_file_of_the_home_that_cannot_be_read_is_named(world, source: Path, name: str, put, tools) -> None:
    world.publish(source)
    world.point("near")
    home = await world.client()
    await fetch(home, tools.content)
    (home / name).unlink(missing_ok=True)
    put(home / name)
    with pytest.raises(EntrepotError, match=name) as caught:
        await fetch(home, tools.content)
    assert caught.value.next_step
    assert (home / name).is_symlink() or (home / name).is_dir()


@pytest.mark.parametrize("put", [into_a_loop, Path.touch])
@pytest.mark.parametrize("name", FOLDERS)
async def test_a_folder_of_the_home_that_cannot_be_used_is_named(world, source: Path, name: str, put, tools) -> None:
    world.publish(source)
    world.point("near")
    home = await world.client()
    await fetch(home, tools.content)
    shutil.rmtree(home / name)
    put(home / name)
    with pytest.raises(StorageError, match=name):
        await fetch(home, tools.content)


@pytest.mark.parametrize("name", ["policy.json", "reports", "cache"])
async def test_what_is_only_kept_for_later_does_not_stop_a_download(world, source: Path, name: str, tools) -> None:
    world.publish(source)
    world.point("near")
    home = await world.client()
    await fetch(home, tools.content)
    await asyncio.to_thread(shutil.rmtree, home / "content")
    if name == "policy.json":
        (home / name).unlink(missing_ok=True)
    else:
        shutil.rmtree(home / name)
    into_a_loop(home / name)
    result = await fetch(home, tools.content)
    assert tools.listing(result.folder) == tools.listing(source)


async def test_the_permissions_of_empty_folders_survive(world, source: Path, tools, tmp_path: Path) -> None:
    for mode in (0o700, 0o755, 0o777, 0o750):
        (source / f"empty-{mode:o}").mkdir()
        (source / f"empty-{mode:o}").chmod(mode)
    (source / "locked").mkdir()
    (source / "locked").chmod(0o500)
    world.publish(source)
    world.point("near")
    home = await world.client()
    folder = (await fetch(home, tools.content)).folder
    target = (await fetch(home, tools.content, to=tmp_path / "target")).folder
    for tree in (folder, target):
        for mode in (0o700, 0o755, 0o777, 0o750):
            assert (tree / f"empty-{mode:o}").stat().st_mode & 0o777 == mode
        assert (tree / "locked").stat().st_mode & 0o777 == 0o700  # its owner can always remove it
    (folder / "empty-750").chmod(0o777)
    await fetch(home, tools.content)
    assert (folder / "empty-750").stat().st_mode & 0o777 == 0o750


async def test_a_file_in_use_stops_an_update_in_place_and_the_next_run_does_the_rest(
    world, source: Path, tools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.publish(source)
    world.point("near")
    home = await world.client()
    target = tmp_path / "target"
    await fetch(home, tools.content, to=target)
    (source / "bin" / "tool").write_bytes(b"the next release")
    world.publish(source, 2)
    really = os.replace

    def held(old: object, new: object, **fields: object) -> None:
        if str(new).endswith("tool"):
            error = PermissionError(errno.EACCES, "held")
            error.winerror = 32  # type: ignore[attr-defined]  # as Windows answers for a program that runs
            raise error
        really(old, new, **fields)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(sharing, "PAUSES", (0.0, 0.0))
        patched.setattr(os, "replace", held)
        with pytest.raises(InUseError, match=r"bin/tool.*another program"):
            await fetch(home, tools.content, to=target)
    assert (target / "bin" / "tool").read_bytes() != b"the next release"
    result = await fetch(home, tools.content, to=target)
    assert tools.listing(result.folder) == tools.listing(source)
    assert not list(target.glob(".entrepot-*"))
    assert Home(home).targets.is_dir()


@pytest.mark.parametrize("harm", [os.unlink, lambda path: os.truncate(path, 0)])
@pytest.mark.parametrize("in_place", [False, True])
async def test_a_small_file_that_a_virus_scanner_takes_right_after_it_was_written_is_missed(
    world, source: Path, tools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm, in_place: bool
) -> None:
    world.publish(source)
    world.point("near")
    home = await world.client()
    target = tmp_path / "target" if in_place else None
    really, taken = SafeTree.put, []

    def scanned(tree: SafeTree, path: str, data: bytes | memoryview, mode: int) -> None:
        really(tree, path, data, mode)
        if path == "data/small-01":
            harm(tree.root / path)
            taken.append(path)

    with monkeypatch.context() as patched:
        patched.setattr(SafeTree, "put", scanned)
        with pytest.raises(IntegrityError, match=r"data/small-01.*gone or changed"):
            await fetch(home, tools.content, to=target)
    assert taken
    assert not list((home / "content").iterdir())
    result = await fetch(home, tools.content, to=target)
    assert tools.listing(result.folder) == tools.listing(source)
