"""What brings home the records of dead instances goes on, whatever it meets."""

from pathlib import Path

import pytest

from entrepot.cloud.gateway.shipping import adopt_leftovers
from entrepot.cloud.host.leftovers import Leftovers
from entrepot.objects.memory import MemoryStore

from .journaling import LIMITS, NOW, MakeRecord, numbers, open_journal


async def test_a_defect_that_is_met_once_is_logged_and_ends_nothing(
    state: Path, make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    defects = [ValueError("Nobody thought of this.")]

    def adopt(state: Path, store: MemoryStore) -> int:
        if defects:
            raise defects.pop()
        return adopt_leftovers(state, store)

    monkeypatch.setattr("entrepot.cloud.host.leftovers.adopt_leftovers", adopt)
    monkeypatch.setattr("entrepot.cloud.host.leftovers.AGAIN_SECONDS", 0.01)
    store, dead = MemoryStore(), open_journal(state)
    dead.append([make_record(7)], now_ms=NOW, limits=LIMITS)
    dead.release()  # as the kernel does when a process ends
    leftovers = Leftovers("dp1", state, store, tuple)
    try:
        assert await leftovers.settle(20)
    finally:
        await leftovers.end()
    assert numbers(store) == [7]
    assert "Nobody thought of this." in capsys.readouterr().out
