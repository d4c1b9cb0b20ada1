"""How results are shown: a table for people, JSON for programs."""

import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from pathlib import PurePath
from typing import Final, TypeVar

import msgspec
import typer
from rich.console import Console
from rich.text import Text

from entrepot.cli.tables import print_table
from entrepot.core.errors import BadInputError
from entrepot.core.sizes import format_size
from entrepot.core.terminal import harmless, harmless_json

PIPE_WIDTH: Final = 4500
"""A path has up to 4,096 bytes."""
T = TypeVar("T")
_LEAD: Final = re.compile(r"\[(green|yellow)\]([^\[\]]*)\[/\]")


def print_json(value: object) -> None:
    """Indented JSON, one document, on standard output."""
    data = msgspec.json.encode(value, enc_hook=_path_text)
    sys.stdout.write(harmless_json(msgspec.json.format(data, indent=2).decode()) + "\n")
    sys.stdout.flush()


def print_line(text: str) -> None:
    """One result, alone on standard output, as programs take it: exact, but where a person looks."""
    typer.echo(harmless(text) if sys.stdout.isatty() else text)


def _path_text(value: object) -> str:
    if isinstance(value, PurePath):
        return str(value)
    raise TypeError(f"no JSON for {type(value).__name__}")


def stdout() -> Console:
    """Where results go; wide where it is no terminal, so that nothing is broken over lines in files and pipes."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)


def stderr() -> Console:
    """Where a table goes that comes before a result, so that the result can be piped."""
    return Console(stderr=True, highlight=False, width=None if sys.stderr.isatty() else PIPE_WIDTH)


def print_rows(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, empty: str, console: Console | None = None
) -> None:
    """A table without frames; ``empty`` says what an empty listing means and what to do next.

    Args:
        console: where to, if not to standard output.
    """
    console = console or stdout()
    found = [[harmless(cell) for cell in row] for row in rows]
    if found:
        print_table(console, [*map(harmless, columns)], found)  # a certificate's name may be a heading
    else:
        console.print(Text(harmless(empty, lines=True)))


def print_facts(title: str, facts: Sequence[tuple[str, str]]) -> None:
    """One thing and its properties; empty properties are left out. Values are never cut: people copy them."""
    console = stdout()
    console.print(Text(harmless(title), "bold"), soft_wrap=True)
    shown = [(name, value) for name, value in facts if value]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        lines = harmless(value, lines=True).splitlines()
        console.print(Text.assemble("  ", (f"{name:<{width}}", "dim"), "  ", lines[0]), soft_wrap=True)
        for line in lines[1:]:
            console.print(Text(f"  {'':<{width}}  {line}"), soft_wrap=True)


def print_listed(
    found: Sequence[T],
    columns: Mapping[str, Callable[[T], str]],
    *,
    as_json: bool,
    empty: str,
) -> None:
    """A list as JSON, or as a table: of each column its heading, and what it says of one."""
    if as_json:
        print_json(found)
    else:
        print_rows(tuple(columns), ([tell(one) for tell in columns.values()] for one in found), empty=empty)


def print_done(info: object, told: str, *, as_json: bool) -> None:
    """What came of an order: as JSON, or a sentence."""
    if as_json:
        print_json(info)
    else:
        say(told)


def say(text: str, *, style: str = "") -> None:
    """One line for a person, on standard error, so that results can be piped.

    Args:
        text: may begin with a word in colour, such as ``[yellow]Warning:[/]``. The rest is shown as it is: names, paths
            and messages may hold what would be taken for markup.
        style: of the whole line.
    """
    text = harmless(text)
    lead = _LEAD.match(text)
    line = Text(style=style)
    if lead:
        line.append(lead[2], lead[1])
    line.append(text[lead.end() :] if lead else text)
    Console(stderr=True, highlight=False).print(line, soft_wrap=True)


def confirm(question: str, *, yes: bool) -> None:
    """Ask before something is destroyed.

    Raises:
        BadInputError: nobody is there to ask and ``--yes`` was not given.
        Abort: the answer was no.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise BadInputError(f"{question} Nobody is there to ask.", next_step="Give --yes if you mean it.")
    typer.confirm(harmless(question), abort=True, err=True)


def when(seconds: float) -> str:
    """Local time to the second, with how far it is from UTC; empty for 0 (never)."""
    return _local(seconds).isoformat(sep=" ", timespec="seconds") if seconds else ""


def when_noted(text: str) -> str:
    """Local time of what was noted as RFC 3339 text, such as in a log; the text itself if it is none."""
    try:
        return when(datetime.fromisoformat(text).timestamp())
    except ValueError:
        return text


def hour(seconds: float) -> str:
    """Local time of an hour's begin, with how far it is from UTC."""
    return _local(seconds).isoformat(sep=" ", timespec="minutes")


def day(seconds: float) -> str:
    """Local date; empty for 0."""
    return _local(seconds).strftime("%Y-%m-%d") if seconds else ""


def _local(seconds: float) -> datetime:
    return datetime.fromtimestamp(int(seconds), UTC).astimezone()


def size(count: int) -> str:
    """A size in bytes, readable."""
    return format_size(count)


def age(seconds: int) -> str:
    """How old figures are: ``45 s``, ``12 min``, ``3 h``, ``2 d``."""
    for limit, unit, step in ((120, "s", 1), (7200, "min", 60), (172_800, "h", 3600)):
        if seconds < limit:
            return f"{seconds // step} {unit}"
    return f"{seconds // 86_400} d"


def how_old(collected: int, seconds: int, *, some: bool = False) -> str:
    """How old collected figures are, in words.

    Args:
        collected: when they were; 0: not all of them were ever.
        some: there are figures, whether or not all were collected.
    """
    if collected:
        return f"{age(seconds)} old"
    return "not all collected yet" if some else "not collected yet"


def yes_no(flag: bool) -> str:
    """A flag in words."""
    return "yes" if flag else "no"


def money(amount: Decimal | float | None, currency: str = "") -> str:
    """An amount with two decimals, and in what; None: it is not known."""
    if amount is None:
        return "not known"
    exact = amount if isinstance(amount, Decimal) else Decimal(str(amount))
    return f"{exact.quantize(Decimal('0.01'), rounding=ROUND_HALF_UP):,} {currency}".rstrip()
