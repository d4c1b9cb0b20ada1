"""The recorder of an instance: what it commits, what it ships and when, what it does when it cannot."""

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from entrepot.cloud.gateway.journal import BATCH, Limits
from entrepot.cloud.gateway.recorder import TransactionRecorder
from entrepot.cloud.gateway.shipping import adopt_leftovers
from entrepot.core.errors import StorageError
from entrepot.objects.memory import MemoryStore

from ..waiting import until_now
from .journaling import LIMITS, NOW, MakeRecord, numbers, open_journal


def make_recorder(
    state: Path, store: MemoryStore, failed: list[str], clock: Callable[[], float], limits: Limits = LIMITS
) -> TransactionRecorder:
    return TransactionRecorder(
        open_journal(state),
        state=state,
        folder=state / "gw-1",
        store=store,
        clock=clock,
        limits=lambda: limits,
        running=list,
        on_failure=lambda: failed.append("failed"),
    )


def test_the_shipper_survives_whatever_the_system_refuses(
    state: Path, make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    problems = [OSError(errno.ENFILE, "Too many open files in system")]

    def adopt(state: Path, store: MemoryStore) -> int:
        if problems:
            raise problems.pop()
        return adopt_leftovers(state, store)

    monkeypatch.setattr("entrepot.cloud.gateway.recorder.adopt_leftovers", adopt)
    store, failed = MemoryStore(), list[str]()
    recorder = make_recorder(state, store, failed, lambda: NOW / 1000)
    recorder.start()
    recorder.record(make_record(7))
    recorder.ship_soon()
    until_now(lambda: numbers(store) == [7], "the record was shipped")
    assert problems == []
    recorder.close(ship_seconds=20)


@pytest.mark.parametrize("asked", [True, False])
def test_an_idle_instance_ships_what_another_left_when_the_site_asks_and_now_and_then(
    state: Path, make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch, asked: bool
) -> None:
    looked, shipped = threading.Event(), threading.Event()

    def adopt(state: Path, store: MemoryStore) -> int:
        count = adopt_leftovers(state, store)
        looked.set()
        if count:
            shipped.set()
        return count

    monkeypatch.setattr("entrepot.cloud.gateway.recorder.adopt_leftovers", adopt)
    monkeypatch.setattr("entrepot.cloud.gateway.recorder.LOOK_SECONDS", 3600 if asked else 0.5)
    store = MemoryStore()
    idle = make_recorder(state, store, [], lambda: NOW / 1000)
    idle.start()
    assert looked.wait(120)  # at the start there was nothing
    dead = open_journal(state, "gw-2")
    dead.append([make_record(5)], now_ms=NOW, limits=LIMITS)
    dead.sync()
    dead.release()  # as the kernel does when a process ends
    if asked:
        idle.ship_soon()
    assert shipped.wait(120)
    assert numbers(store, "gw-2") == [5]
    idle.close(ship_seconds=20)


def test_the_recorder_commits_and_ships_everything_on_close(state: Path, make_record: MakeRecord) -> None:
    store, failed = MemoryStore(), list[str]()
    recorder = make_recorder(state, store, failed, lambda: NOW / 1000)
    recorder.start()
    for number in range(3000):
        recorder.record(make_record(number))
    recorder.close(ship_seconds=20)
    assert numbers(store) == list(range(3000))
    assert list(state.iterdir()) == []
    assert failed == []


def test_a_young_segment_is_shipped_when_the_site_asks_for_it(state: Path, make_record: MakeRecord) -> None:
    store, journal = MemoryStore(), open_journal(state)
    recorder = TransactionRecorder(
        journal,
        state=state,
        folder=state / "gw-1",
        store=store,
        clock=lambda: NOW / 1000,
        limits=lambda: LIMITS,
        running=list,
        on_failure=lambda: None,
    )
    recorder.record(make_record(1))
    recorder.run_once()
    assert journal.closed == 0  # its 30 seconds are not over
    recorder.ship_soon()
    recorder.run_once()
    assert journal.closed == 1
    recorder.run_once()
    assert journal.closed == 1  # asked once, hurried once
    recorder.close(ship_seconds=1)


def test_a_recorder_whose_sync_fails_ends_the_process(
    state: Path, make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed: list[str] = []
    recorder = make_recorder(state, MemoryStore(), failed, lambda: NOW / 1000)
    recorder.record(make_record(1))

    def broken(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", broken)
    with pytest.raises(StorageError):
        recorder.run_once()
    assert failed == ["failed"]


def test_so_it_does_when_a_segment_that_is_full_cannot_be_closed(
    state: Path, make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of a burst, before the records are synced together."""
    failed: list[str] = []
    recorder = make_recorder(state, MemoryStore(), failed, lambda: NOW / 1000, Limits(size=1, seconds=30))
    for number in range(BATCH + 1):
        recorder.record(make_record(number))
    tries: list[int] = []

    def broken_once(descriptor: int) -> None:
        tries.append(descriptor)
        if len(tries) == 1:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", broken_once)
    with pytest.raises(StorageError):
        recorder.run_once()
    assert (failed, len(tries)) == (["failed"], 1)
