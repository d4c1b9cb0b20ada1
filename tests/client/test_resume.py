"""A client killed at any moment goes on where it was: what is on the disk and verified is not fetched again."""

import asyncio
import errno
import os
import signal
import sys
from pathlib import Path

import pytest

from entrepot.client.fetch import fetch
from entrepot.client.home import Home
from entrepot.client.trees import Trees
from entrepot.core.errors import StorageError

_PROGRAM = """
import asyncio, sys
from pathlib import Path
from entrepot.client.fetch import fetch
to = Path(sys.argv[3]) if len(sys.argv) > 3 else None
result = asyncio.run(fetch(Path(sys.argv[1]), sys.argv[2], to=to))
print(result.folder)
"""

pytestmark = pytest.mark.process


@pytest.fixture
def content(world, tmp_path: Path) -> Path:
    source = tmp_path / "app"
    (source / "small").mkdir(parents=True)
    (source / "large").write_bytes(os.urandom(9_000_000))
    for number in range(60):
        (source / "small" / f"file-{number:02d}").write_bytes(os.urandom(40_000))
    (source / "link").symlink_to("large")
    world.publish(source)
    return source


async def killed_after(home: Path, tools, point, requests: int, to: Path | None = None) -> None:
    """Start a real client and kill it once it has made this many requests; those beyond are left hanging."""
    released, reached = asyncio.Event(), asyncio.Event()
    before = point.requests.total()

    def gate(_: bytes) -> asyncio.Event | None:
        if point.requests.total() - before <= requests:
            return None
        reached.set()
        return released

    point.gate = gate
    arguments = [str(home), tools.content, *([str(to)] if to else [])]
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", _PROGRAM, *arguments)
    await asyncio.wait_for(reached.wait(), 60)
    await asyncio.sleep(0.3)  # let it write what it has
    process.send_signal(signal.SIGKILL)
    await process.wait()
    released.set()
    point.gate = lambda _: None


@pytest.mark.parametrize("cache_size", ["0", "1 GB"])
@pytest.mark.parametrize("to", [False, True])
async def test_a_killed_fetch_goes_on(world, content: Path, tools, tmp_path: Path, cache_size: str, to: bool) -> None:
    point = world.point("near")
    home = await world.client(cache_size=cache_size, parallel=2)
    target = tmp_path / "target" if to else None
    chunks = len(world.library.shelf.page()) - 3  # without set, root and part

    for requests in (4, 3, 3):
        await killed_after(home, tools, point, requests, target)
        assert not list((home / "content").iterdir())
    result = await fetch(home, tools.content, to=target)

    assert tools.listing(result.folder) == tools.listing(content)
    assert result.present > 0
    # At most what was under way at each kill (two downloads) was asked for again, besides the root.
    wanted = chunks + 2
    assert point.requests.total() - wanted <= 3 * 2 + 3
    again = [name for name, count in point.requests.items() if count > 1]
    assert len(again) <= 3 * 2 + 1


async def test_killed_while_it_changes_a_target_it_finishes_the_change(world, tools, tmp_path: Path) -> None:
    """Every interruption of the last step: files moved in so far stay, the rest follows."""
    content = tmp_path / "few"
    (content / "small").mkdir(parents=True)
    for name in ("large", "small/file-00", "small/file-01", "small/file-02"):
        (content / name).write_bytes(os.urandom(1000))
    (content / "link").symlink_to("large")
    world.publish(content)
    world.point("near")
    home = await world.client()
    target = tmp_path / "target"
    await fetch(home, tools.content, to=target)
    (content / "small" / "file-00").unlink()
    (content / "small" / "file-01").write_bytes(b"changed")
    (content / "added").mkdir()
    (content / "added" / "new").write_bytes(b"new")
    (content / "large").unlink()
    (content / "large").mkdir()
    (content / "large" / "inside").write_bytes(b"a folder where a file was")
    (content / "link").unlink()
    (content / "link").write_bytes(b"a file where a link was")
    world.publish(content, 2)
    program = _KILLED.format(program=_PROGRAM)

    for step in range(1, 40):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, str(home), tools.content, str(target), env=os.environ | {"STEP": str(step)}
        )
        if await process.wait() == 0:
            break
    else:
        pytest.fail("the change never came to its end")

    assert step > 8  # otherwise nothing was interrupted
    assert tools.listing(target) == tools.listing(content)


_KILLED = """
import os, signal
import entrepot.client.safetree as safetree
import entrepot.client.target as target

left = int(os.environ["STEP"])

def fatal(function):
    def wrapped(*arguments, **options):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **options)
    return wrapped

for name in ("take", "remove", "make_link"):
    setattr(safetree.SafeTree, name, fatal(getattr(safetree.SafeTree, name)))
target.write_private = fatal(target.write_private)
{program}
"""


async def test_killed_between_the_two_renames_the_version_is_installed_next_time(
    world, content: Path, tools, tmp_path: Path
) -> None:
    point = world.point("near")
    home = await world.client(cache_size="0")
    program = f"""
import os, signal, pathlib
rename = pathlib.Path.rename
def fatal(self, other):
    if other.parent.name == "content":
        os.kill(os.getpid(), signal.SIGKILL)
    return rename(self, other)
pathlib.Path.rename = fatal
{_PROGRAM}
"""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, str(home), tools.content)
    assert await process.wait() == -signal.SIGKILL
    before = point.requests.total()

    result = await fetch(home, tools.content)

    assert tools.listing(result.folder) == tools.listing(content)
    assert point.requests.total() - before == 1  # the manifest's root, to know what is right
    assert result.present == result.plain_size


async def test_a_tree_in_use_that_cannot_be_replaced_stays_installed(
    world, content: Path, tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.point("near")
    home = await world.client()
    folder = (await fetch(home, tools.content)).folder
    victim = next(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)
    victim.write_bytes(b"damaged")
    rename = Path.rename

    def in_use(self: Path, other: Path) -> Path:
        """As Windows refuses to move a folder from which a program runs."""
        if self == folder:
            raise PermissionError(errno.EACCES, "in use", str(self))
        return rename(self, other)

    monkeypatch.setattr(Path, "rename", in_use)
    with pytest.raises(StorageError):
        await fetch(home, tools.content)

    assert Trees(Home(home)).find(tools.content, 1) is not None
    monkeypatch.undo()
    assert tools.listing((await fetch(home, tools.content)).folder) == tools.listing(content)
