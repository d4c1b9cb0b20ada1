"""A server keeps one gathering process ready; it is used once, replaced, and ends with the server."""

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from entrepot.content import apart, spare
from entrepot.content.apart import gathered
from entrepot.content.gathering import Asked, Findings
from entrepot.content.grouping import Group
from entrepot.content.spare import Spare
from entrepot.core.errors import UnavailableError

pytestmark = pytest.mark.process


@pytest.fixture
def kept() -> Iterator[Spare]:
    made = Spare()
    made.keep()
    yield made
    if made._kept is not None:
        end(made._kept)


def waiting(kept: Spare) -> spare.Process:
    process = kept._kept
    assert process is not None
    return process


def end(process: spare.Process) -> None:
    process.kill()
    with process:
        pass


def test_the_one_that_waits_is_given_once_and_replaced(kept: Spare) -> None:
    first = waiting(kept)
    taken = kept.take()
    another = kept.take()
    assert taken is first
    assert another.pid != first.pid
    kept.replenish()
    assert waiting(kept).pid not in (first.pid, another.pid)
    for process in (taken, another):
        end(process)


def test_a_second_replenishing_starts_nothing(kept: Spare) -> None:
    first = waiting(kept)
    kept.replenish()
    assert waiting(kept) is first


def test_another_comes_soon_without_being_waited_for(kept: Spare) -> None:
    taken = kept.take()
    kept.replenish_soon()
    timers = [each for each in threading.enumerate() if isinstance(each, threading.Timer)]
    (timer,) = [each for each in timers if each.function == kept.replenish]
    timer.join()
    assert waiting(kept).pid != taken.pid
    end(taken)


def test_one_that_died_meanwhile_is_not_given(kept: Spare) -> None:
    dead = waiting(kept)
    end(dead)
    taken = kept.take()
    assert taken.poll() is None
    assert taken.pid != dead.pid
    end(taken)


def test_it_ends_by_itself_when_the_server_is_gone(kept: Spare) -> None:
    process = kept.take()
    assert process.stdin is not None
    process.stdin.close()  # as the system does with what a killed process had open
    assert process.wait(60) == 0
    end(process)


def test_who_keeps_none_starts_one_when_it_is_needed() -> None:
    none = Spare()
    none.replenish()
    assert none._kept is None
    end(none.take())


def test_a_spare_that_cannot_be_started_harms_nobody(kept: Spare, monkeypatch: pytest.MonkeyPatch) -> None:
    end(kept.take())
    monkeypatch.setattr(spare.sys, "executable", "/nonexistent/python")
    kept.replenish()
    with pytest.raises(UnavailableError):
        kept.take()


def test_a_source_is_gathered_by_the_one_that_waited(
    tmp_path: Path, kept: Spare, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apart, "SPARE", kept)
    monkeypatch.setattr(apart, "FEW", -1)
    ready = waiting(kept)
    (tmp_path / "file").write_bytes(b"small")
    asked = Asked(source=os.fsencode(tmp_path), excludes=(), for_windows=False, grouping_key=b"g" * 32)
    with ThreadPoolExecutor(1) as pool, gathered(asked, pool, lambda: False) as pieces:
        group, findings = pieces
    assert isinstance(group, Group)
    assert group.plain == b"small"
    assert isinstance(findings, Findings)
    assert ready.poll() is not None
