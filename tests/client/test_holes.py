"""A sparse file takes no more of the disk on the device than it has data, and is right whatever stood there before."""

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entrepot.client.fetch import fetch
from entrepot.client.holes import BLOCK, write_at
from entrepot.core.errors import UnavailableError
from entrepot.core.sizes import MIB

SIZE = 24 * MIB


def room(path: Path) -> int:
    """Bytes of the disk that a file takes."""
    return path.stat().st_blocks * 512


@pytest.fixture
def image(world, tmp_path: Path) -> Path:
    """The source folder of a published version: a disk image with a little data at the beginning, within and behind."""
    source = tmp_path / "app"
    source.mkdir()
    with (source / "image").open("wb") as file:
        for at in (0, SIZE // 2 + 12_345, SIZE - 5 * MIB):
            file.seek(at)
            file.write(os.urandom(50_000))
        file.truncate(SIZE)
    world.publish(source)
    return source


@pytest.mark.parametrize("to", [False, True])
async def test_a_sparse_file_is_sparse_on_the_device(world, image: Path, tools, tmp_path: Path, to: bool) -> None:
    world.point("near")
    result = await fetch(await world.client(), tools.content, to=tmp_path / "target" if to else None)
    assert tools.listing(result.folder) == tools.listing(image)
    assert room(result.folder / "image") <= SIZE // 8


async def test_what_an_earlier_attempt_left_is_overwritten_with_zeros(world, image: Path, tools) -> None:
    near = world.point("near")
    home = await world.client(retries=0)

    def fail(_: bytes, data: bytes) -> bytes:
        if near.requests.total() > 3:
            raise UnavailableError("Not now.")
        return data

    near.damage = fail
    with pytest.raises(UnavailableError):
        await fetch(home, tools.content)
    (staged,) = (path for path in (home / "staging").iterdir() if not path.name.endswith(".record"))
    (staged / "image").write_bytes(b"\xff" * (SIZE + 5))
    near.damage = lambda _, data: data
    result = await fetch(home, tools.content)
    assert tools.listing(result.folder) == tools.listing(image)


PIECES = st.lists(
    st.tuples(
        st.integers(0, 4 * BLOCK),
        st.lists(st.tuples(st.booleans(), st.sampled_from((1, 100, BLOCK, BLOCK + 7, 2 * BLOCK))), max_size=4),
    ),
    max_size=5,
)


@settings(deadline=None, max_examples=60)
@given(before=st.sampled_from((0, 1, BLOCK + 9, 3 * BLOCK)), writes=PIECES)
def test_whatever_is_written_where_is_there_when_the_file_has_its_size(
    before: int, writes: list[tuple[int, list[tuple[bool, int]]]]
) -> None:
    with tempfile.TemporaryFile() as file:
        meant = bytearray(b"\xff" * before)
        file.write(meant)
        file.flush()
        for at, pieces in writes:
            data = b"".join((bytes if zero else b"\x01".__mul__)(size) for zero, size in pieces)
            write_at(file.fileno(), at, data)
            meant += bytes(max(0, at + len(data) - len(meant)))
            meant[at : at + len(data)] = data
        file.truncate(len(meant))
        assert os.pread(file.fileno(), len(meant) + 1, 0) == meant


def test_where_the_system_cannot_tell_holes_zeros_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system = os.lseek

    def without_holes(descriptor: int, at: int, whence: int) -> int:
        if whence in (os.SEEK_DATA, os.SEEK_HOLE):
            raise OSError(22, "Invalid argument")
        return system(descriptor, at, whence)

    path = tmp_path / "file"
    path.write_bytes(b"\xff" * 3 * BLOCK)
    monkeypatch.setattr(os, "lseek", without_holes)
    with path.open("r+b") as file:
        write_at(file.fileno(), 5, bytes(2 * BLOCK))
    assert path.read_bytes() == b"\xff" * 5 + bytes(2 * BLOCK) + b"\xff" * (BLOCK - 5)
