"""What the demonstration says, and what it writes down.

Every claim is checked when it is made: a step that says something untrue fails there. What was claimed, with the
figures behind it, goes into one JSON document for whoever runs the demonstration as a test.
"""

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Self

import msgspec
from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from entrepot.cli.demo.processes import StepFailedError

Figure = int | float | str


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """Something that was said and checked, ``at`` so many seconds after the step began."""

    text: str
    detail: str = ""
    at: float = 0.0


class Step(msgspec.Struct, kw_only=True):
    """One step: what was claimed, the figures behind it, how long it took."""

    number: int
    title: str
    seconds: float = 0.0
    done: bool = False
    claims: list[Claim] = msgspec.field(default_factory=list)
    figures: dict[str, Figure] = msgspec.field(default_factory=dict)


class Outcome(msgspec.Struct, kw_only=True):
    """The whole demonstration, as its JSON document."""

    version: str
    seconds: float = 0.0
    succeeded: bool = False
    error: str = ""
    software: str = ""
    steps: list[Step] = msgspec.field(default_factory=list)


class Narrator:
    """Tells the story on a console. Use as a context manager.

    Args:
        console: where to; a terminal also gets a moving progress line.
        steps: how many there will be.
        version: of the product.
    """

    def __init__(self, console: Console, *, steps: int, version: str) -> None:
        self.outcome = Outcome(version=version)
        self._console = console
        self._begun = self._step_begun = time.monotonic()
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[doing]}", style="dim"),
            TimeElapsedColumn(),
            console=console,
        )
        self._task = self._bar.add_task("Demonstration", total=steps, doing="")
        self._live = Live(Group(self._bar), console=console, transient=True, refresh_per_second=8)
        self._steps = steps

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()
        self.outcome.seconds = round(time.monotonic() - self._begun, 2)

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """Tell one step; its heading appears before, its time after."""
        step = Step(number=len(self.outcome.steps) + 1, title=title)
        self.outcome.steps.append(step)
        begun = self._step_begun = time.monotonic()
        self._bar.update(self._task, description=title)
        self._console.print(f"\n[bold cyan]{step.number}/{self._steps}  {escape(title)}[/]")
        yield step
        step.seconds = round(time.monotonic() - begun, 2)
        step.done = True
        self._bar.update(self._task, advance=1, doing="")
        self._console.print(f"     [dim]{step.seconds:.1f} s[/]")

    def doing(self, text: str) -> None:
        """What is going on now; seen on terminals only."""
        self._bar.update(self._task, doing=text)

    def command(self, text: str) -> None:
        """The command line that does by hand what happens now."""
        self._console.print(f"     [dim]$ {escape(text)}[/]", soft_wrap=True)

    def note(self, text: str) -> None:
        """One line of the story."""
        self._console.print(f"     {escape(text)}", soft_wrap=True)

    def claim(self, text: str, holds: bool, detail: str = "") -> None:
        """Say something and check it.

        Raises:
            StepFailedError: it is not so.
        """
        step = self.outcome.steps[-1]
        if not holds:
            raise StepFailedError(
                f"Step {step.number} ({step.title}): it is not so that {text}.", next_step=detail or "Read the logs."
            )
        step.claims.append(Claim(text=text, detail=detail, at=round(time.monotonic() - self._step_begun, 2)))
        tail = f" [dim]({escape(detail)})[/]" if detail else ""
        self._console.print(f"   [green]✓[/] {escape(text)}{tail}", soft_wrap=True)

    def figures(self, **values: Figure) -> None:
        """Write figures down for the JSON document."""
        self.outcome.steps[-1].figures.update(values)

    def rows(self, columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
        """A small table."""
        table = Table(box=box.SIMPLE_HEAD, header_style="bold", padding=(0, 1), show_edge=False)
        for column in columns:
            right = column.startswith(">")
            table.add_column(column.lstrip(">"), justify="right" if right else "left", overflow="fold")
        for row in rows:
            table.add_row(*(escape(cell) for cell in row))
        self._console.print(table)

    def summary(self, facts: Mapping[str, str]) -> None:
        """The table at the end."""
        table = Table(box=box.ROUNDED, title="What was shown", title_justify="left", show_header=False)
        table.add_column(style="bold")
        table.add_column(overflow="fold")
        for name, value in facts.items():
            table.add_row(escape(name), escape(value))
        self._console.print()
        self._console.print(table)
