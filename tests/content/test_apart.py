"""A source that is gathered in a process of its own gives the same as here; however that process ends, nobody waits."""

import contextlib
import os
import random
import shutil
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from entrepot.content import apart
from entrepot.content.apart import gathered
from entrepot.content.gathering import Asked, Findings, gather
from entrepot.content.grouping import Group, Piece
from entrepot.core.encoding import pack, unpack
from entrepot.core.errors import CancelledError, EntrepotError, NotFoundError, RefusedError, UnavailableError
from entrepot.core.sizes import KIB, MIB

pytestmark = pytest.mark.process


def asked(source: Path, **how: Any) -> Asked:
    given = {"excludes": (), "for_windows": False, "grouping_key": b"g" * 32} | how
    return Asked(source=os.fsencode(source), **given)


def never() -> bool:
    return False


@pytest.fixture(autouse=True)
def every_source_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "FEW", -1)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as made:
        yield made


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The processes that were started."""
    started: list[Any] = []
    begin = apart.subprocess.Popen

    def start(*args: Any, **named: Any) -> Any:
        started.append(begin(*args, **named))
        return started[-1]

    monkeypatch.setattr(apart.subprocess, "Popen", start)
    return started


def fill(folder: Path, count: int, largest: int) -> Path:
    noise = random.Random(count)
    for number in range(count):
        below = folder / f"folder {number % 7}"
        below.mkdir(parents=True, exist_ok=True)
        (below / f"{number:05d}").write_bytes(noise.randbytes(noise.randrange(largest)))
    return folder


def test_it_gives_the_same_as_here(tmp_path: Path, pool: ThreadPoolExecutor, children: list[Any]) -> None:
    source = fill(tmp_path / os.fsdecode(b"not \xff UTF-8"), 120, 300 * KIB)
    (source / "empty").mkdir()
    (source / "big").write_bytes(os.urandom(3 * MIB))
    (source / "link").symlink_to("big")
    (source / "NUL").write_text("a name that Windows cannot store")
    shutil.copytree(source / "folder 1", source / "the same once more")
    question = asked(source, excludes=("folder 3/", "*.lgo"), once=True)
    with gathered(question, pool, never) as pieces:
        found = list(pieces)
    assert found == list(gather(question, pool))
    assert any(entry.extents for group in found if isinstance(group, Group) for entry in group.entries)
    assert isinstance(found[-1], Findings)
    assert [text for text in found[-1].remarks if "NUL" not in text] == ["The pattern '*.lgo' left nothing out."]
    assert len(found[-1].remarks) == 2
    assert not found[-1].windows_safe
    assert len(children) == 1
    assert children[0].returncode is not None


def test_a_server_that_runs_on_after_an_upgrade_is_given_what_it_understands(tmp_path: Path) -> None:
    before = unpack(pack((os.fsencode(tmp_path), (), False, b"g" * 32)), Asked, "x")  # as it was until repeats came
    assert not before.once


@pytest.mark.parametrize(
    ("prepare", "how", "error", "text"),
    [
        (lambda _: None, {}, NotFoundError, "cannot be read"),
        (lambda source: os.mkfifo(fill(source, 1, 10) / "pipe"), {}, RefusedError, "'pipe' is a FIFO"),
        (lambda source: (fill(source, 1, 10) / "NUL").touch(), {"for_windows": True}, RefusedError, "NUL"),
    ],
    ids=["no source", "a FIFO", "a name that Windows cannot store"],
)
def test_what_is_refused_is_refused_in_the_same_words(
    tmp_path: Path, pool: ThreadPoolExecutor, prepare: Any, how: Any, error: type[EntrepotError], text: str
) -> None:
    prepare(tmp_path / "source")
    question = asked(tmp_path / "source", **how)
    with pytest.raises(error) as here:
        list(gather(question, pool))
    with pytest.raises(error, match=text) as there, gathered(question, pool, never) as pieces:
        list(pieces)
    assert (str(there.value), there.value.next_step) == (str(here.value), here.value.next_step)


def test_a_killed_process_is_an_error_that_may_be_tried_again(
    tmp_path: Path, pool: ThreadPoolExecutor, children: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apart, "WAITING", MIB)
    source = fill(tmp_path / "source", 200, 250 * KIB)
    got: list[Piece | Findings] = []
    with pytest.raises(UnavailableError, match="was ended") as error, gathered(asked(source), pool, never) as pieces:
        for piece in pieces:
            got.append(piece)
            children[0].kill()
    assert error.value.retryable
    taken = sum(len(piece.plain) for piece in got if isinstance(piece, Group))
    assert 0 < taken <= apart.WAITING + 4 * MIB  # what had come already counts, and what lay in the pipe
    assert children[0].returncode == -signal.SIGKILL


def test_a_process_that_never_began_is_an_error(
    tmp_path: Path, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apart.sys, "executable", "/bin/false")
    with pytest.raises(UnavailableError), gathered(asked(fill(tmp_path / "source", 1, 10)), pool, never) as pieces:
        list(pieces)


def test_a_process_that_cannot_be_started_is_an_error(
    tmp_path: Path, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apart.sys, "executable", str(tmp_path / "no interpreter"))
    source = asked(fill(tmp_path / "source", 1, 10))
    with pytest.raises(UnavailableError, match="started: No such file"), gathered(source, pool, never) as pieces:
        list(pieces)


def test_a_publish_is_cancelled_although_the_source_does_not_answer(
    tmp_path: Path, pool: ThreadPoolExecutor, children: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other process stands still, as it would with a file server that does not answer."""
    monkeypatch.setattr(apart, "PATIENCE_SECONDS", 0.05)

    def stop() -> bool:
        os.kill(children[0].pid, signal.SIGSTOP)
        return True

    source = asked(fill(tmp_path / "source", 300, 250 * KIB))
    with pytest.raises(CancelledError), gathered(source, pool, stop) as pieces:
        list(pieces)
    assert children[0].returncode == -signal.SIGKILL


def test_the_key_is_not_shown(tmp_path: Path) -> None:
    assert "gggg" not in repr(asked(tmp_path))


def test_who_stops_taking_ends_the_process(tmp_path: Path, pool: ThreadPoolExecutor, children: list[Any]) -> None:
    source = fill(tmp_path / "source", 300, 250 * KIB)
    with contextlib.suppress(KeyboardInterrupt), gathered(asked(source), pool, never) as pieces:
        next(pieces)
        raise KeyboardInterrupt
    assert children[0].returncode is not None


def test_a_small_source_needs_no_other_process(
    tmp_path: Path, pool: ThreadPoolExecutor, children: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apart, "FEW", 20)
    for count, started in ((20, 0), (21, 1)):
        with gathered(asked(fill(tmp_path / f"{count}", count, 10)), pool, never) as pieces:
            list(pieces)
        assert len(children) == started
