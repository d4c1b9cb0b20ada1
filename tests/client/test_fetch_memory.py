"""Fetching streams: what it holds in memory depends neither on the size of a file nor on the number of files."""

import asyncio
import random
import sys
from pathlib import Path

import pytest

from entrepot.content.digests import Digester, digest_of
from entrepot.content.manifest import Entry, EntryKind, Extent, Part
from entrepot.content.sealing import Purpose
from entrepot.core.sizes import GIB, KIB, MIB

LIMIT = 300 * MIB

FETCH = """
import asyncio, sys
from pathlib import Path
from entrepot.client.fetch import fetch
result = asyncio.run(fetch(Path(sys.argv[1]), sys.argv[2]))
peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(result.files, result.plain_size, int(peak) * 1024, result.delta_chunks, result.folder)
"""

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc"),
]


async def fetch_alone(home: Path, content: str) -> tuple[int, int, int, int, Path]:
    """Fetch in a process of its own: files, bytes, peak memory, chunks from a delta, folder."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", FETCH, str(home), content, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    files, size, peak, rebuilt, folder = output.decode().split(maxsplit=4)
    return int(files), int(size), int(peak), int(rebuilt), Path(folder.strip())


@pytest.mark.long
async def test_a_file_of_4_gib(world, tools) -> None:
    """In 64 manifest parts; most of it zeros, as in the image of a disk."""
    step = 4 * MIB
    kinds = [bytes(step), random.Random(1).randbytes(step), b"text " * (step // 5) + bytes(step % 5)]
    refs = tuple(world.library.seal(kind, Purpose.CHUNK) for kind in kinds)
    count, per_part = 4 * GIB // step, 16
    which = [(1 if n % 32 == 0 else 2 if n % 16 == 5 else 0) for n in range(count)]
    digest = Digester()
    for kind in which:
        digest.update(kinds[kind])
    parts = [
        Part(
            version=2,
            chunks=refs,
            entries=(
                Entry(
                    kind=EntryKind.FILE,
                    path="disk.img",
                    mode=0o644,
                    size=count * step,
                    digest=digest.digest(),
                    offset=first * step,
                    extents=tuple(Extent(kind, 0, step) for kind in which[first : first + per_part]),
                ),
            ),
        )
        for first in range(0, count, per_part)
    ]
    world.library.forge(parts)
    world.point("near")
    files, size, peak, _, folder = await fetch_alone(await world.client(), tools.content)
    assert (files, size) == (1, 4 * GIB) == (1, (folder / "disk.img").stat().st_size)
    with (folder / "disk.img").open("rb") as file:
        for number in (0, 5, 32, count - 1):
            file.seek(number * step)
            assert file.read(step) == kinds[which[number]]
    (folder / "disk.img").unlink()  # pytest keeps the folders of its last runs
    assert peak <= LIMIT


@pytest.mark.long
async def test_100_000_small_files(world, tools, tmp_path: Path) -> None:
    source = tmp_path / "source"
    noise = random.Random(2).randbytes(MIB)
    for number in range(100_000):
        if number % 250 == 0:
            folder = source / f"{number:06d}"
            folder.mkdir(parents=True)
        at = number * 7 % (MIB - 4 * KIB)
        (folder / f"a file with a name of its own {number:06d}").write_bytes(noise[at : at + number % (4 * KIB)])
    await asyncio.to_thread(world.publish, source)
    world.point("near")
    files, _, peak, _, folder = await fetch_alone(await world.client(), tools.content)
    assert files == 100_000
    for path in list(source.rglob("a file*"))[::997]:
        assert (folder / path.relative_to(source)).read_bytes() == path.read_bytes()
    assert peak <= LIMIT


async def test_a_delta_to_320_mb_in_large_chunks_and_a_thousand_small_ones(world, tools) -> None:
    large, small = 80, 1000
    noise = random.Random(3).randbytes(2000 * small)

    def release(number: int) -> Part:
        """Large files repeat a piece of their own a hundred times since the second."""
        pieces = [random.Random(n).randbytes(40_000) * (1 if number == 1 else 100) for n in range(large)]
        texts = [noise[2000 * n : 2000 * (n + 1)] + b"%d" % number for n in range(small)]
        refs = tuple(world.library.seal(plain, Purpose.CHUNK) for plain in pieces + texts)
        entries = []
        for n, plain in enumerate(pieces + texts):
            name, whole = f"{n:05}", (Extent(n, 0, len(plain)),)
            entries.append(Entry(EntryKind.FILE, name, 0o644, len(plain), digest_of(plain), 0, whole))
        return Part(version=2, chunks=refs, entries=tuple(entries))

    world.point("near")
    home = await world.client()
    world.library.forge([release(1)], number=1)
    world.current = 1
    await fetch_alone(home, tools.content)
    world.library.forge([release(2)], number=2)
    world.current = 2
    await asyncio.to_thread(world.offer_delta, 1, 2)
    _, size, peak, rebuilt, folder = await fetch_alone(home, tools.content)
    for number in range(large):
        (folder / f"{number:05}").unlink()
    assert size > LIMIT
    assert rebuilt == large + small
    assert peak <= 200 * MIB
