"""Waiting for the site's durable tasks, with progress. The task goes on when the command stops waiting."""

import functools
import time
from collections.abc import Callable
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from entrepot.cli.output import print_json, say, when
from entrepot.cli.patience import Patience
from entrepot.cli.session import SiteSession
from entrepot.cli.tidings import Tidings
from entrepot.core.errors import CancelledError, EntrepotError, UnavailableError
from entrepot.core.sizes import format_size
from entrepot.core.terminal import harmless
from entrepot.protocol.siteapi import TaskInfo, TaskState
from entrepot.rules.pace import format_seconds

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 1.0


def finish(session: SiteSession, task: TaskInfo, *, wait: bool, as_json: bool, done: str = "") -> TaskInfo:
    """What every command that starts a task ends with: follow it or name it, then show it.

    Args:
        done: what to tell a person once the task has completed.

    Raises:
        EntrepotError: the task failed or was cancelled; of the class that failed it.
    """
    if wait:
        task = follow(session, task)
    if as_json:
        print_json(task)
    elif wait:
        say(f"[green]✓[/] {done or task.message or task.title}")
    else:
        say(f"Started: {task.title} ({task.id}). Watch it with: entrepot task show {task.id} --wait")
        if task.message:
            say(f"[yellow]Remark:[/] {task.message}")
    return task


def follow(session: SiteSession, task: TaskInfo) -> TaskInfo:
    """Show a task's progress until it ends. Ctrl-C ends the watching only, and says so.

    Raises:
        EntrepotError: it failed or was cancelled.
        KeyboardInterrupt: nobody waits any more.
    """
    try:
        task = watched(session, task)
    except KeyboardInterrupt:
        say(
            f"The site goes on: {task.title}. Watch it again with: entrepot task show {task.id} --wait; "
            f"end it with: entrepot task cancel {task.id}"
        )
        raise
    return succeeded(task)


def watched(session: SiteSession, task: TaskInfo) -> TaskInfo:
    """The end of a task, whatever it was; with progress until then."""
    with TaskProgress() as progress:
        return progress.until_final(task, lambda task_id: session.get(f"/tasks/{task_id}", TaskInfo))


def succeeded(task: TaskInfo) -> TaskInfo:
    """A task that ended well.

    Raises:
        EntrepotError: it failed or was cancelled.
    """
    if task.state is TaskState.FAILED:
        raise error_of(task)
    if task.state is TaskState.CANCELLED:
        raise CancelledError(f"{task.title}: an administrator cancelled it.")
    return task


class TaskProgress:
    """On standard error: a bar where that is a terminal, else a line now and then, and anywhere why a task waits. Use
    as a context manager."""

    def __init__(self, *, silent: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        console = Console(stderr=True)
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[amount]}", markup=False),
        )
        self._progress = Progress(
            *columns, TimeElapsedColumn(), console=console, disable=silent or not console.is_terminal, transient=True
        )
        self._bar: TaskID | None = None
        self._console = None if silent else console
        self._clock = clock
        self._tidings = Tidings(self._console, clock=clock)
        self._told = ""

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def until_final(self, task: TaskInfo, ask: Callable[[str], TaskInfo]) -> TaskInfo:
        """Ask again and again, ever more slowly, until the task has ended. A site that is started anew is waited for.

        Raises:
            UnavailableError: the site has not answered for a minute.
        """
        pause, patience = _FIRST_PAUSE, Patience(clock=self._clock)
        while True:
            self.show(task)
            self._tell_trouble(task)
            if task.state.final:
                return task
            time.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_PAUSE)
            try:
                task = patience.ask(functools.partial(ask, task.id), self._tell_silence) or task
            except UnavailableError as error:
                raise _unwatched(task, error) from error

    def _tell_silence(self, reason: str) -> None:
        self._tell_once(f"{reason} The site is asked again; the task goes on when it runs.")

    def _tell_trouble(self, task: TaskInfo) -> None:
        """Say once what a task waits for that was put back: a cloud that does not answer is no matter of seconds."""
        if task.state is TaskState.CREATED and task.error:
            self._tell_once(
                f"{task.title}: {task.error}", f" It is tried again by itself, next at {when(task.run_after)}."
            )

    def _tell_once(self, reason: str, then: str = "") -> None:
        if self._console is None or reason == self._told:
            return
        self._told = reason
        self._console.print(Text(harmless(reason + then)), soft_wrap=True)

    def show(self, task: TaskInfo) -> None:
        """Draw one state of the task, or tell it."""
        text = harmless(f"{task.title}: {task.step}" if task.step else task.title)
        if amount(task):
            self._tidings.tell(f"{text}: {amount(task)}")
        if self._bar is None:
            self._bar = self._progress.add_task(text, amount="", total=None)
        self._progress.update(
            self._bar, description=text, completed=task.done, total=task.total or None, amount=harmless(amount(task))
        )


def amount(task: TaskInfo) -> str:
    """How much of the task is done, in its unit; while it is worked on also how fast, and how long the rest takes."""
    if not task.total and not task.done:
        return ""
    if task.unit == "bytes":
        total = f" of {format_size(task.total)}" if task.total else ""
        return f"{format_size(task.done)}{total}{_pace(task)}"
    total = f" of {task.total}" if task.total else ""
    return f"{task.done}{total} {task.unit}{_pace(task)}"


def _pace(task: TaskInfo) -> str:
    """How fast it goes, and how long the rest takes."""
    rate = format_size(task.rate) if task.unit == "bytes" else str(task.rate)
    text = f", {rate}/s" if task.rate else ""
    return text + (f", about {format_seconds(task.seconds_left)} left" if task.seconds_left else "")


def _unwatched(task: TaskInfo, error: UnavailableError) -> UnavailableError:
    """What ends the watching of a task, of which nothing is known then."""
    return UnavailableError(
        f"{error.message} {task.title} goes on when the site runs.",
        next_step=f"Start the site; then: entrepot task show {task.id} --wait",
    )


def error_of(task: TaskInfo) -> EntrepotError:
    """The error that failed a task, as the class that its stable code names."""
    from entrepot.core.errors import error_classes

    chosen = error_classes().get(task.error_code, EntrepotError)
    text = task.error or task.message or "it failed"
    return chosen(f"{task.title}: {text}", next_step=f"See: entrepot task show {task.id}")
