"""Fetching streams: what it holds in memory depends neither on the size of a file nor on the number of files."""

import asyncio
import hashlib
import random
import sys
from pathlib import Path

import pytest

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
print(result.files, result.plain_size, int(peak) * 1024, result.folder)
"""

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc"),
]


async def fetch_alone(home: Path, content: str) -> tuple[int, int, int, Path]:
    """Fetch in a process of its own: files, bytes, peak memory, folder."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", FETCH, str(home), content, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    files, size, peak, folder = output.decode().split(maxsplit=3)
    return int(files), int(size), int(peak), Path(folder.strip())


async def test_a_file_of_4_gib(world, tools) -> None:
    """In 64 manifest parts; most of it zeros, as in the image of a disk."""
    step = 4 * MIB
    kinds = [bytes(step), random.Random(1).randbytes(step), b"text " * (step // 5) + bytes(step % 5)]
    refs = tuple(world.library.seal(kind, Purpose.CHUNK) for kind in kinds)
    count, per_part = 4 * GIB // step, 16
    which = [(1 if n % 32 == 0 else 2 if n % 16 == 5 else 0) for n in range(count)]
    digest = hashlib.sha256()
    for kind in which:
        digest.update(kinds[kind])
    parts = [
        Part(
            version=1,
            chunks=refs,
            entries=(
                Entry(
                    kind=EntryKind.FILE,
                    path="disk.img",
                    mode=0o644,
                    size=count * step,
                    sha256=digest.digest(),
                    offset=first * step,
                    extents=tuple(Extent(kind, 0, step) for kind in which[first : first + per_part]),
                ),
            ),
        )
        for first in range(0, count, per_part)
    ]
    world.library.forge(parts)
    world.point("near")
    files, size, peak, folder = await fetch_alone(await world.client(), tools.content)
    assert (files, size) == (1, 4 * GIB) == (1, (folder / "disk.img").stat().st_size)
    with (folder / "disk.img").open("rb") as file:
        for number in (0, 5, 32, count - 1):
            file.seek(number * step)
            assert file.read(step) == kinds[which[number]]
    (folder / "disk.img").unlink()  # pytest keeps the folders of its last runs
    assert peak <= LIMIT


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
    files, _, peak, folder = await fetch_alone(await world.client(), tools.content)
    assert files == 100_000
    for path in list(source.rglob("a file*"))[::997]:
        assert (folder / path.relative_to(source)).read_bytes() == path.read_bytes()
    assert peak <= LIMIT
