"""Whatever a manifest says, and whoever plants links in the target: nothing outside the target is written."""

import os
from pathlib import Path

import pytest

from entrepot.client.fetch import fetch
from entrepot.content.digests import digest_of
from entrepot.content.manifest import Entry, EntryKind, Extent, Part
from entrepot.content.sealing import Purpose
from entrepot.core.errors import ConflictError, FormatError, IntegrityError
from entrepot.protocol import SealedRef

DATA = b"hostile bytes"


def file(path: str, data: bytes = DATA, *, chunk: int = 0, **fields: object) -> Entry:
    values = {
        "mode": 0o644,
        "size": len(data),
        "digest": digest_of(data),
        "extents": (Extent(chunk, 0, len(data)),) if data else (),
    } | fields
    return Entry(kind=EntryKind.FILE, path=path, **values)  # type: ignore[arg-type]


def link(path: str, target: str) -> Entry:
    return Entry(kind=EntryKind.LINK, path=path, target=target)


@pytest.fixture
def forge(world):
    """Publish these entries as a single part with one chunk."""
    ref = world.library.seal(DATA, Purpose.CHUNK)
    world.point("near")

    def make(*entries: Entry, **totals: object) -> SealedRef:
        world.library.forge([Part(version=2, chunks=(ref,), entries=entries)], **totals)
        return ref

    return make


async def refused(world, tools, tmp_path: Path, *, to: bool = False, match: str = "") -> None:
    """The fetch fails with an integrity error, and only the client's own folders exist afterwards."""
    home = await world.client()
    target = tmp_path / "deep" / "target" if to else None

    def around() -> set[str]:
        """Everything beside the client's own folder."""
        others = [path for path in tmp_path.iterdir() if path != home]
        return {f"{path.name}/{name}" for path in others if path.is_dir() for name in tools.listing(path)}

    before = around()
    with pytest.raises(IntegrityError, match=match):
        await fetch(home, tools.content, to=target)
    assert {name for name in around() - before if not name.startswith("deep/target/.entrepot-")} <= {"deep/target"}
    assert not list((home / "content").iterdir())


@pytest.mark.parametrize(
    "path",
    [
        "../escaped",
        "/tmp/escaped",
        "a/../../escaped",
        "a//b",
        "./a",
        "..",
        "",
        "a/.",
        "nul\0byte",
        "x" * 256,
        "/".join(["long"] * 1000),
    ],
)
@pytest.mark.parametrize("to", [False, True])
async def test_paths_that_leave_the_target_are_refused(
    world, tools, tmp_path: Path, forge, path: str, to: bool
) -> None:
    forge(file(path))
    await refused(world, tools, tmp_path, to=to, match="unsafe path")


@pytest.mark.parametrize(
    "entries",
    [
        (link("a", "/etc/passwd"),),
        (link("a", "../outside"),),
        (link("a/b", "../../outside"),),
        (link("a", "C:/Windows"),),
        (link("a", "b\\..\\..\\c"),),
        (link("d", "."), link("e", "d/..")),  # each seems to stay, together they leave
        (link("a", ""),),
    ],
)
async def test_links_that_leave_the_target_are_refused(world, tools, tmp_path: Path, forge, entries) -> None:
    forge(*entries)
    await refused(world, tools, tmp_path, match="leads out of the content")


@pytest.mark.parametrize(
    ("entries", "match"),
    [
        ((link("a", "b"), file("a/passwd")), "lies below"),
        ((file("a"), file("a/b")), "lies below"),
        ((file("a"), file("a")), "twice or out of order"),
        ((file("b"), file("a")), "twice or out of order"),
        ((file("a", extents=(Extent(0, 0, 5), Extent(0, 0, 5), Extent(0, 0, 9))),), "more bytes than its size"),
        ((file("a", extents=(Extent(0, 0, 5),)),), "incomplete"),
        ((file("a", extents=(Extent(0, 5, 13),)),), "beyond the end"),
        ((file("a", extents=(Extent(7, 0, 13),)),), "not listed"),
        ((file("a", extents=(Extent(0, -1, 13),)),), "not listed"),
        ((file("a", mode=0o4755),), "special permission bits"),
        ((Entry(kind=7, path="a"),), "kind this version does not know"),
    ],
)
async def test_entries_that_contradict_each_other_are_refused(
    world, tools, tmp_path: Path, forge, entries, match: str
) -> None:
    forge(*entries)
    await refused(world, tools, tmp_path, match=match)


async def test_more_files_or_bytes_than_promised_are_refused_before_they_are_written(
    world, tools, tmp_path: Path, forge
) -> None:
    ref = forge()
    parts = [Part(version=2, chunks=(ref,), entries=(file(name),)) for name in ("a", "b")]
    world.library.forge([Part(version=2, chunks=(ref,), entries=(file("0"), file("1"))), *parts], files=1)
    await refused(world, tools, tmp_path, match="more than its root promises")
    assert world.points["near"].requests[ref.object_id.hex()] == 0


async def test_a_bomb_that_opens_to_more_than_it_says_is_refused(world, tools, tmp_path: Path) -> None:
    bomb = world.library.seal(bytes(8 * 2**20), Purpose.CHUNK)
    small = SealedRef(bomb.object_id, bomb.sealed_size, bomb.sealed_size, bomb.key, bomb.digest)
    entry = file("a", size=bomb.sealed_size, extents=(Extent(0, 0, bomb.sealed_size),))
    world.library.forge([Part(version=2, chunks=(small,), entries=(entry,))])
    world.point("near")
    await refused(world, tools, tmp_path, match="another size")


async def test_a_file_whose_hash_is_wrong_is_named(world, tools, tmp_path: Path, forge) -> None:
    forge(file("a", digest=b"x" * 32))
    await refused(world, tools, tmp_path, match="'a' is not what the manifest promises")


async def test_a_file_of_several_pieces_whose_hash_is_wrong_is_named_and_removed(
    world, tools, tmp_path: Path, forge
) -> None:
    halves = (Extent(0, 0, 1), Extent(0, 1, len(DATA) - 1))
    forge(file("a", digest=b"x" * 32, extents=halves))
    await refused(world, tools, tmp_path, match="'a' is not what the manifest promises")


async def test_a_manifest_of_other_content_is_refused(world, tools, tmp_path: Path, forge) -> None:
    forge(file("a"), content="pkg-ffffffffffffffff")
    await refused(world, tools, tmp_path, match="not of pkg-0123456789abcdef")


async def test_names_that_windows_cannot_store_are_refused_where_that_was_promised(
    world, tools, tmp_path: Path, forge
) -> None:
    forge(file("aux.txt"), windows_safe=True)
    await refused(world, tools, tmp_path, match="reserved device name")
    forge(file("File"), file("file"), number=2, windows_safe=True)
    world.current = 2
    with pytest.raises(FormatError, match="where case does not count"):
        await fetch(tmp_path / "client", tools.content)


async def test_a_content_id_that_is_no_name_is_refused(world, tools, tmp_path: Path, forge) -> None:
    import msgspec

    forge(file("a"), content="../../escaped")
    world.alter = lambda reply: msgspec.structs.replace(reply, content="../../escaped")
    home = await world.client()
    with pytest.raises(FormatError):
        await fetch(home, tools.name)
    assert not (tmp_path.parent / "escaped.1").exists()


async def test_a_planted_link_in_a_target_is_replaced_and_not_followed(
    world, source: Path, tools, tmp_path: Path
) -> None:
    world.publish(source)
    world.point("near")
    home = await world.client()
    target, outside = tmp_path / "target", tmp_path / "outside"
    outside.mkdir()
    (outside / "tool").write_bytes(b"precious")
    (outside / "secret").write_bytes(b"precious")
    await fetch(home, tools.content, to=target)
    # Somebody turns a folder and a file of the target into links that lead outside.
    for path in (target / "bin").iterdir():
        path.unlink()
    (target / "bin").rmdir()
    (target / "bin").symlink_to(outside)
    (target / "data" / "small-03").unlink()
    (target / "data" / "small-03").symlink_to(outside / "secret")
    os.link(outside / "secret", target / "data" / "zz-not-ours")
    (source / "data" / "small-03").write_bytes(b"new")
    world.publish(source, 2)

    await fetch(home, tools.content, to=target)

    assert (outside / "tool").read_bytes() == (outside / "secret").read_bytes() == b"precious"
    assert sorted(path.name for path in outside.iterdir()) == ["secret", "tool"]
    found = tools.listing(target)
    assert found.pop("data/zz-not-ours")[1] == b"precious"
    assert found == tools.listing(source)


async def test_removing_old_files_follows_no_link(world, source: Path, tools, tmp_path: Path) -> None:
    world.publish(source)
    world.point("near")
    home = await world.client()
    target, outside = tmp_path / "target", tmp_path / "outside"
    outside.mkdir()
    (outside / "tool").write_bytes(b"precious")
    await fetch(home, tools.content, to=target)
    for path in (target / "bin").iterdir():
        path.unlink()
    (target / "bin").rmdir()
    (target / "bin").symlink_to(outside)
    (source / "bin" / "tool").unlink()
    world.publish(source, 2)

    await fetch(home, tools.content, to=target)

    assert (outside / "tool").read_bytes() == b"precious"
    assert tools.listing(target) == tools.listing(source)


async def test_links_planted_while_it_runs_are_not_followed(world, tools, tmp_path: Path) -> None:
    source = tmp_path / "app"
    for number in range(12):
        (source / f"dir-{number:02d}").mkdir(parents=True)
        (source / f"dir-{number:02d}" / "file").write_bytes(os.urandom(300_000))
    world.publish(source)
    point = world.point("near")
    home = await world.client(parallel=2)
    target, outside = tmp_path / "target", tmp_path / "outside"
    outside.mkdir()

    def plant(_: bytes, data: bytes) -> bytes:
        for staging in target.glob(".entrepot-*"):
            for number in range(12):
                place = staging / f"dir-{number:02d}"
                if not place.exists():
                    place.symlink_to(outside)
                elif not place.is_symlink() and not (place / "file").exists():
                    (place / "file").symlink_to(outside / "file")
        return data

    point.damage = plant
    await fetch(home, tools.content, to=target)

    assert list(outside.iterdir()) == []
    assert tools.listing(target) == tools.listing(source)


async def test_a_folder_that_the_client_did_not_make_is_left_alone(world, source: Path, tools, tmp_path: Path) -> None:
    world.publish(source)
    point = world.point("near")
    home = await world.client()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_bytes(b"mine")
    with pytest.raises(ConflictError, match="is not empty"):
        await fetch(home, tools.content, to=tmp_path / "mine")
    assert tools.listing(tmp_path / "mine") == {"file": ("file", b"mine", 0)}
    for wrong in (home, home / "inside", tmp_path):
        with pytest.raises(ConflictError, match="client's own files"):
            await fetch(home, tools.content, to=wrong)
    assert point.requests.total() == 1  # the manifest's root
