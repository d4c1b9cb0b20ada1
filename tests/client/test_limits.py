"""What a fetch may take: memory that does not grow with the content, and a disk that may be full."""

import asyncio
import errno
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from entrepot.client.cache import Cache
from entrepot.client.fetch import fetch
from entrepot.content.digests import Digester
from entrepot.content.manifest import Entry, EntryKind, Extent, Part
from entrepot.content.sealing import Purpose
from entrepot.core.errors import StorageError, UnavailableError
from entrepot.core.sizes import KIB

_PROGRAM = """
import asyncio, re, sys
from pathlib import Path
from entrepot.client.cache import Cache
from entrepot.client.fetch import fetch
result = asyncio.run(fetch(Path(sys.argv[1]), sys.argv[2]))
peak = re.search(r"VmHWM:\\s+([0-9]+) kB", Path("/proc/self/status").read_text())
print(result.plain_size, int(peak[1]) * 1024)
"""


@pytest.mark.process
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
async def test_memory_does_not_grow_with_the_file(world, tools) -> None:
    """A file of 1.2 GB in 72 manifest parts; its chunks compress well, so that the server has little to do."""
    chunks = [bytes([number]) * (4 * 2**20) for number in range(4)]
    refs = tuple(world.library.seal(chunk, Purpose.CHUNK) for chunk in chunks)
    count, per_part = 288, 4
    digest = Digester()
    for number in range(count):
        digest.update(chunks[number % 4])
    size = count * len(chunks[0])
    parts = [
        Part(
            version=2,
            chunks=refs,
            entries=(
                Entry(
                    kind=EntryKind.FILE,
                    path="large",
                    mode=0o644,
                    size=size,
                    digest=digest.digest(),
                    offset=first * len(chunks[0]),
                    extents=tuple(Extent((first + n) % 4, 0, len(chunks[0])) for n in range(per_part)),
                ),
            ),
        )
        for first in range(0, count, per_part)
    ]
    world.library.forge(parts)
    world.point("near")
    home = await world.client()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _PROGRAM, str(home), tools.content, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    plain_size, peak = map(int, output.split())
    assert plain_size == size > 1_200_000_000
    assert peak < 250_000_000


@pytest.mark.parametrize("to", [False, True])
async def test_a_full_disk_is_named_and_what_was_written_counts_later(
    world, tools, tmp_path: Path, to: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "app"
    source.mkdir()
    for number in range(12):
        (source / f"file-{number:02d}").write_bytes(bytes([number]) + os.urandom(299_999))
    world.publish(source)
    point = world.point("near")
    home = await world.client(cache_size="0", parallel=1)
    target = tmp_path / "target" if to else None
    room = [2_000_000]
    write = os.write

    def full(descriptor: int, data: bytes) -> int:
        if len(data) >= 5000:  # content, not the client's own small files
            if room[0] < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            room[0] -= len(data)
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(StorageError, match="No space is left"):
        await fetch(home, tools.content, to=target)
    assert not list((home / "content").iterdir())
    assert world.reports[-1].outcome == "failed"
    served = point.served

    monkeypatch.undo()
    result = await fetch(home, tools.content, to=target)

    assert tools.listing(result.folder) == tools.listing(source)
    assert result.present > 0
    assert point.served - served < 2_200_000  # of 3.6 million: six files were there


def used_below(root: Path) -> int:
    """Bytes of the disk that files below a folder take."""
    return sum(path.lstat().st_blocks * 512 for path in root.rglob("*") if not path.is_dir())


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, int], None]:
    """Makes a disk as small as it is told, of which what lies in some folder has taken its part."""

    def small(root: Path, size: int) -> None:
        def usage(_: object) -> tuple[int, int, int]:
            used = used_below(root)
            return SimpleNamespace(total=size, used=used, free=max(0, size - used))  # type: ignore[return-value]

        monkeypatch.setattr(shutil, "disk_usage", usage)

    return small


@pytest.mark.parametrize("to", [False, True])
async def test_what_cannot_fit_is_refused_before_it_is_fetched(world, tools, tmp_path: Path, to: bool, disk) -> None:
    source = tmp_path / "app"
    source.mkdir()
    (source / "file").write_bytes(os.urandom(2_000_000))
    world.publish(source)
    point = world.point("near")
    home = await world.client()
    disk(home, 1_500_000)
    for _ in range(2):  # nor later: what the first attempt left behind is no reason to fill the disk
        with pytest.raises(StorageError, match=r"needs 2.0 MB, but .* left"):
            await fetch(home, tools.content, to=tmp_path / "target" if to else None)
    assert point.served < 20_000


@pytest.fixture
def seven(world, tmp_path: Path) -> Path:
    """A content of 1.8 MB in seven chunks, published: its files are as large as the smallest chunk, so none is cut."""
    source = tmp_path / "app"
    source.mkdir()
    for number in range(7):
        (source / f"file-{number}").write_bytes(bytes([number]) + os.urandom(256 * KIB - 1))
    world.publish(source)
    return source


async def broken_off(home: Path, point, tools, *, after: int, to: Path | None = None) -> None:
    """A fetch whose only source stops to deliver after so many requests, and is there again afterwards."""

    def count(_: bytes) -> None:
        if point.requests.total() == after:
            point.failing = UnavailableError("Down.")

    point.gate = count
    with pytest.raises(UnavailableError):
        await fetch(home, tools.content, to=to)
    point.failing, point.gate = None, lambda _: None


@pytest.mark.skipif(sys.platform == "win32", reason="the test's disk counts blocks")
@pytest.mark.parametrize("to", [False, True])
async def test_what_an_interrupted_fetch_wrote_needs_no_room_again(
    world, seven: Path, tools, tmp_path: Path, to: bool, disk
) -> None:
    """Room for the files that are missing is enough, and the cache gives up nothing for the others."""
    point = world.point("near")
    home = await world.client(parallel=1, retries=0)
    target = tmp_path / "target" if to else None
    await broken_off(home, point, tools, after=7, to=target)
    kept, served = Cache(home / "cache", 10**9).held(), point.served
    written = sum(used_below(folder) for folder in (home / "staging", tmp_path / "target") if folder.exists())
    assert min(kept, written) > 600_000
    missing = used_below(seven) - written
    disk(tmp_path, used_below(tmp_path) + missing + 50_000)

    result = await fetch(home, tools.content, to=target)

    assert tools.listing(result.folder) == tools.listing(seven)
    assert result.present > 600_000
    assert point.served - served < missing + 20_000
    assert Cache(home / "cache", 10**9).held() >= kept


@pytest.mark.skipif(sys.platform == "win32", reason="the test's disk counts blocks")
async def test_the_rest_of_an_interrupted_fetch_is_refused_where_it_cannot_fit(world, seven: Path, tools, disk) -> None:
    assert seven
    point = world.point("near")
    home = await world.client(parallel=1, retries=0, cache_size="0")
    await broken_off(home, point, tools, after=5)
    served = point.served
    disk(home, used_below(home) + 300_000)
    with pytest.raises(StorageError, match=r"needs 1\.\d MB more, but the disk of .* left"):
        await fetch(home, tools.content)
    assert point.served - served < 20_000


@pytest.mark.skipif(sys.platform == "win32", reason="makes no holes there")
@pytest.mark.parametrize("to", [False, True])
async def test_a_disk_image_with_holes_needs_room_for_what_is_in_it(
    world, tools, tmp_path: Path, to: bool, disk
) -> None:
    source = tmp_path / "app"
    source.mkdir()
    with (source / "image").open("wb") as file:
        file.write(os.urandom(300_000))
        file.truncate(24_000_000)
    world.publish(source)
    world.point("near")
    home = await world.client()
    disk(home, 6_000_000)
    result = await fetch(home, tools.content, to=tmp_path / "target" if to else None)
    assert (result.folder / "image").read_bytes() == (source / "image").read_bytes()
    assert (result.folder / "image").stat().st_blocks * 512 < 6_000_000


async def test_the_cache_leaves_the_disk_to_the_files(world, tools, tmp_path: Path, disk) -> None:
    """Both would not fit: without that, nothing but emptying the cache would ever let the download succeed."""
    source = tmp_path / "app"
    source.mkdir()
    for number in range(4):
        (source / f"file-{number}").write_bytes(os.urandom(500_000))
    world.publish(source)
    world.point("near")
    home = await world.client(parallel=1)
    disk(home, 3_000_000)
    result = await fetch(home, tools.content)
    assert tools.listing(result.folder) == tools.listing(source)
    kept = Cache(home / "cache", 10**9).held()
    assert 400_000 < kept < 1_100_000  # what there was room for besides

    (source / "file-4").write_bytes(os.urandom(700_000))
    world.publish(source, 2)
    await asyncio.to_thread(shutil.rmtree, home / "content")
    result = await fetch(home, tools.content)
    assert tools.listing(result.folder) == tools.listing(source)
    assert Cache(home / "cache", 10**9).held() < kept


async def test_the_cache_keeps_what_it_has_where_the_files_go_to_another_disk(
    world, tools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "target"

    def usage(folder: Path) -> SimpleNamespace:
        there = folder == target or target in folder.parents
        return SimpleNamespace(total=10**9 if there else 10**7, used=0, free=10**9 if there else 600_000)

    source = tmp_path / "app"
    source.mkdir()
    for number in range(3):
        (source / f"file-{number}").write_bytes(os.urandom(500_000))
    world.publish(source)
    world.point("near")
    home = await world.client()
    await fetch(home, tools.content)
    kept = Cache(home / "cache", 10**9).held()
    (source / "file-3").write_bytes(os.urandom(400_000))
    world.publish(source, 2)

    target.mkdir()
    monkeypatch.setattr(shutil, "disk_usage", usage)
    result = await fetch(home, tools.content, to=target)

    assert tools.listing(result.folder) == tools.listing(source)
    assert Cache(home / "cache", 10**9).held() > kept + 400_000


async def test_equal_files_are_fetched_once(world, tmp_path: Path, tools) -> None:
    source = tmp_path / "app"
    source.mkdir()
    data = os.urandom(600_000)
    for number in range(8):
        (source / f"copy-{number}").write_bytes(data)
    world.publish(source)
    point = world.point("near")
    result = await fetch(await world.client(), tools.content)
    assert tools.listing(result.folder) == tools.listing(source)
    assert set(point.requests.values()) == {1}
