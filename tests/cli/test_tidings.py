"""What is told about long work where there is no terminal, and while a site does not answer."""

import io
from collections.abc import Iterator
from typing import Any, cast

import pytest
from rich.console import Console

from entrepot.cli import waiting, watching
from entrepot.cli.session import SiteSession
from entrepot.cli.tidings import Tidings
from entrepot.cli.waiting import TaskProgress
from entrepot.core.errors import UnavailableError
from entrepot.protocol.contentapi import DistributionInfo, DistributionState
from entrepot.protocol.siteapi import TaskInfo, TaskState

from .test_commands import row
from .test_output import at_work


class Clock:
    """Seconds that pass when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def progress(clock: Clock, log: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> Iterator[TaskProgress]:
    """Progress of tasks written to a log; ten seconds pass between two looks."""

    def pause(_: float) -> None:
        clock.now += 10

    monkeypatch.setattr(waiting, "Console", lambda **_: Console(file=log, force_terminal=False))
    monkeypatch.setattr(waiting.time, "sleep", pause)
    with TaskProgress(clock=clock) as made:
        yield made


def test_a_log_is_told_now_and_then_ever_more_rarely(clock: Clock, log: io.StringIO) -> None:
    tidings = Tidings(Console(file=log, force_terminal=False), clock=clock)
    for second in range(1000):
        clock.now = 1000.0 + second
        tidings.tell(f"{second} s")
    assert log.getvalue().split("\n") == ["10 s", "30 s", "70 s", "150 s", "310 s", "610 s", "910 s", ""]


def test_nothing_is_told_twice_and_nothing_at_a_terminal(clock: Clock, log: io.StringIO) -> None:
    quiet = Tidings(Console(file=log, force_terminal=True), clock=clock)
    tidings = Tidings(Console(file=log, force_terminal=False), clock=clock)
    for _ in range(50):
        clock.now += 10
        quiet.tell("a bar is drawn")
        tidings.tell("half")
    assert log.getvalue() == "half\n"


def test_a_task_in_a_pipe_tells_how_far_it_is_how_fast_it_goes_and_what_is_left(
    progress: TaskProgress, log: io.StringIO
) -> None:
    working = at_work(
        title="Publish App", step="Reading", unit="bytes", done=1_000_000, total=4_000_000, rate=50_000, seconds_left=60
    )
    answers = iter([working, at_work(state="completed")])
    assert progress.until_final(at_work(), lambda _: next(answers)).state is TaskState.COMPLETED
    assert log.getvalue() == "Publish App: Reading: 1.0 MB of 4.0 MB, 50.0 kB/s, about 1 min left\n"


def test_a_site_that_is_started_anew_is_waited_for(progress: TaskProgress, log: io.StringIO) -> None:
    silent = UnavailableError("the site refuses connections.")
    answers = iter([silent, silent, silent, at_work(state="completed")])

    def ask(_: str) -> TaskInfo:
        answer = next(answers)
        if isinstance(answer, UnavailableError):
            raise answer
        return answer

    assert progress.until_final(at_work(), ask).state is TaskState.COMPLETED
    assert log.getvalue() == (
        "the site refuses connections. The site is asked again; the task goes on when it runs.\n"
    ), "told once"


def test_a_site_that_stays_away_ends_the_waiting_and_says_that_the_task_goes_on(progress: TaskProgress) -> None:
    def ask(_: str) -> TaskInfo:
        raise UnavailableError("the site refuses connections.")

    with pytest.raises(UnavailableError, match=r"Publish App goes on when the site runs\.") as caught:
        progress.until_final(at_work(id="task-1", title="Publish App"), ask)
    assert caught.value.next_step == "Start the site; then: entrepot task show task-1 --wait"


class Restarted:
    """A session with a site that gives these answers, one after the other, and then is silent."""

    def __init__(self, *answers: DistributionState | None) -> None:
        self._answers = iter(answers)

    def get(self, _path: str, _kind: Any) -> list[DistributionInfo]:
        state = next(self._answers, None)
        if state is None:
            raise UnavailableError("the site refuses connections.")
        return [row(state)]


@pytest.fixture
def watch(clock: Clock, log: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Watches a distribution, written to a log; ten seconds pass between two looks."""

    def pause(_: float) -> None:
        clock.now += 10

    monkeypatch.setattr(watching, "Console", lambda **_: Console(file=log, force_terminal=False))
    monkeypatch.setattr(watching.time, "sleep", pause)
    return lambda site: watching.watch_distribution(cast("SiteSession", site), "Office 24", {"pt-1"}, clock=clock)


def test_a_distribution_is_watched_on_when_the_site_was_started_anew(watch: Any, log: io.StringIO) -> None:
    [done] = watch(Restarted(None, DistributionState.IN_PROGRESS, None, None, DistributionState.SUCCESS))
    assert done.state is DistributionState.SUCCESS
    assert log.getvalue() == (
        "the site refuses connections. The site is asked again; the distribution goes on when it runs.\n"
        "dp-berlin: 5 B of 10 B\n"
    ), "each once"


def test_a_distribution_whose_site_stays_away_is_no_more_watched_and_goes_on(watch: Any) -> None:
    with pytest.raises(UnavailableError, match=r"The distribution goes on when the site runs\.") as caught:
        watch(Restarted(DistributionState.IN_PROGRESS))
    assert caught.value.next_step == "Start the site; then: entrepot content status 'Office 24' --wait"
