"""A task that moves bytes over a network keeps to its rate, and can be stopped while it waits."""

import pytest

from entrepot.core.errors import CancelledError
from entrepot.site.pacing import NAP, TaskPace
from entrepot.site.reporting import Reporter


class Time:
    """Passes only while somebody waits."""

    def __init__(self) -> None:
        self.now = 100.0
        self.report = Reporter()

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        assert 0 < seconds <= NAP
        self.now += seconds

    def pace(self, rate: int) -> TaskPace:
        return TaskPace(rate, self.report, clock=self.clock, sleep=self.sleep)


async def test_what_follows_waits_until_what_went_before_has_had_its_time() -> None:
    time = Time()
    pace = time.pace(1000)
    await pace.take(3000)
    assert time.now == 100, "work goes on while its time runs"
    await pace.take(10)
    assert time.now == pytest.approx(103)
    assert pace.done == 3010


async def test_time_that_passed_without_use_is_not_saved_up() -> None:
    time = Time()
    pace = time.pace(1000)
    await pace.take(1000)
    time.now += 3600
    await pace.take(1000)
    before = time.now
    await pace.take(1)
    assert time.now - before == pytest.approx(1)


async def test_without_a_rate_nothing_waits() -> None:
    time = Time()
    pace = time.pace(0)
    for _ in range(3):
        await pace.take(10**12)
    assert time.now == 100


async def test_who_waits_can_be_stopped() -> None:
    time = Time()
    pace = time.pace(1)
    await pace.take(10**9)
    time.report.stop("cancelled")
    with pytest.raises(CancelledError):
        await pace.take(1)
