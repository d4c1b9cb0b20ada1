"""Waiting for distributions, with one bar a point, or a line now and then where there is no terminal; why one is tried
again is told anywhere."""

import functools
import shlex
import time
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from entrepot.cli.patience import Patience
from entrepot.cli.session import SiteSession, seg
from entrepot.cli.tidings import Tidings
from entrepot.core.errors import UnavailableError
from entrepot.core.sizes import format_size
from entrepot.core.terminal import harmless
from entrepot.protocol.contentapi import DistributionInfo, DistributionState

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 1.0


def watch_distribution(
    session: SiteSession, content: str, points: AbstractSet[str], *, clock: Callable[[], float] = time.monotonic
) -> list[DistributionInfo]:
    """Follow a content's distribution to some points until every one has it, or failed for good. A site that is started
    anew is waited for.

    Args:
        points: point ids.
        clock: seconds, of any beginning.

    Raises:
        UnavailableError: a transfer failed for good, or the site has not answered for a minute.
    """
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[amount]}"),
        TimeElapsedColumn(),
    )
    bars: dict[str, TaskID] = {}
    told: set[str] = set()
    tidings, patience = Tidings(console, clock=clock), Patience(clock=clock)
    pause = _FIRST_PAUSE
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        while True:
            rows = _asked(session, content, points, patience, functools.partial(_tell_silence, console, told))
            for row in rows or ():
                _draw(progress, bars, row)
                _tell(console, told, row)
            tidings.tell("; ".join(f"{row.point_name}: {_moved(row)}" for row in rows or () if _moved(row)))
            if rows is not None and all(row.state.settled for row in rows):
                break
            time.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_PAUSE)
    _check(content, rows)
    return rows


def _check(content: str, rows: Sequence[DistributionInfo]) -> None:
    failed = [row for row in rows if row.state is not DistributionState.SUCCESS]
    if failed:
        reasons = "; ".join(f"{row.point_name}: {row.message or row.state.value}" for row in failed)
        raise UnavailableError(
            f"Not everywhere: {reasons}",
            next_step=f"See: entrepot content status {shlex.quote(content)}; then distribute it again.",
        )


def _asked(
    session: SiteSession, content: str, points: AbstractSet[str], patience: Patience, silent: Callable[[str], None]
) -> list[DistributionInfo] | None:
    """How far the distribution is; None while the site is silent."""
    path = f"/contents/{seg(content)}/distribution"
    try:
        rows = patience.ask(lambda: session.get(path, list[DistributionInfo]), silent)
    except UnavailableError as error:
        raise UnavailableError(
            f"{error.message} The distribution goes on when the site runs.",
            next_step=f"Start the site; then: entrepot content status {shlex.quote(content)} --wait",
        ) from error
    return None if rows is None else [row for row in rows if row.point in points]


def _tell_silence(console: Console, told: set[str], reason: str) -> None:
    if reason not in told:
        told.add(reason)
        text = f"{reason} The site is asked again; the distribution goes on when it runs."
        console.print(Text(harmless(text)), soft_wrap=True)


def _tell(console: Console, told: set[str], row: DistributionInfo) -> None:
    """Say why a point is waited for; the same only once, for it may be tried again for hours."""
    reason = harmless(f"{row.point_name}: {row.message}")
    if row.state.settled or not row.message or reason in told:
        return
    told.add(reason)
    console.print(Text.assemble(("Tried again:", "yellow"), " ", reason), soft_wrap=True)


def _draw(progress: Progress, bars: dict[str, TaskID], row: DistributionInfo) -> None:
    if row.point not in bars:
        bars[row.point] = progress.add_task("", total=None, amount="")
    text = harmless(f"{row.point_name}: {row.state.value.replace('_', ' ')}")
    progress.update(bars[row.point], description=text, completed=row.done, total=row.total or None, amount=_moved(row))


def _moved(row: DistributionInfo) -> str:
    return f"{format_size(row.done)} of {format_size(row.total)}" if row.total else ""
