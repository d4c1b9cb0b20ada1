"""``--help``: what a command is for, with examples, and what may be given to it.

The page is ours and not Typer's: that one puts names, types and texts into columns of a table and cuts names that do
not fit, so that on 80 columns they cannot be typed. Here a name that is too long for its column has a line of its own;
names, values and examples are never broken.
"""

import inspect
import os
import shutil
import textwrap
from collections.abc import Iterable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any, Final, get_args

import typer
from typer.core import TyperCommand, TyperGroup

NARROWEST: Final = 40
WIDEST: Final = 100
"""Columns of text; longer lines are hard to read."""
NAME_COLUMN: Final = 30
CHOICES: Final = 24
"""So long may values be that stand for the kind of a value; longer ones are listed behind the text."""
_VALUES: Final = ((bool, ""), (int, "NUMBER"), (float, "NUMBER"), (Path, "PATH"))


class HelpfulCommand(TyperCommand):
    """A command whose ``--help`` is :func:`page`."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the page."""
        formatter.write(page(self, ctx, columns=_columns()))


class HelpfulGroup(TyperGroup):
    """A group of commands whose ``--help`` is :func:`page`."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the page."""
        formatter.write(page(self, ctx, columns=_columns()))


def with_help(app: typer.Typer) -> None:
    """Give everything in a tree of commands this help."""
    app.info.cls = HelpfulGroup
    for command in app.registered_commands:
        command.cls = HelpfulCommand
    for group in app.registered_groups:
        if group.typer_instance is not None:
            with_help(group.typer_instance)


def page(command: Any, ctx: Any, *, columns: int) -> str:
    """The whole page of a command or group.

    Args:
        columns: width of text; only names, values and lines of examples may be wider.
    """
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    options = [each for each in command.get_params(ctx) if each.param_type_name == "option"]
    below = "COMMAND" if getattr(command, "commands", None) else ""
    usage = " ".join(filter(None, [ctx.command_path, *map(_in_usage, arguments), "[OPTIONS]", below]))
    parts = [f"{_bold('Usage:')} {usage}", _text(command.help or "", columns)]
    if arguments:
        parts.append(_listed("Arguments", ((each.name.upper(), told(each)) for each in arguments), columns))
    for title, found in _panels(command).items():
        parts.append(_listed(title, found, columns))
    parts.append(_listed("Options", ((_names_and_value(each), told(each)) for each in options), columns))
    parts.append(_wrapped(command.epilog or "", columns))
    return "\n\n".join(part for part in parts if part) + "\n"


def names_of(option: Any) -> str:
    """All names of an option, the long ones first."""
    names = [*option.opts, *option.secondary_opts]
    return ", ".join(sorted(names, key=lambda name: (not name.startswith("--"), names.index(name))))


def choices_of(parameter: Any) -> list[str]:
    """The values of an enumeration, also where it is one of several types or that of a list; empty for others."""
    return list(_choices(parameter.type_descriptor.annotation))


def default_of(parameter: Any) -> str:
    """What holds when nothing is given; empty where that is nothing, or a flag that is not set."""
    value = parameter.default
    if isinstance(value, bool):
        names = parameter.opts if value else parameter.secondary_opts
        return names[0] if parameter.secondary_opts else ""
    if value is None or value in ("", ()) or callable(value):
        return ""
    return str(value.value if isinstance(value, Enum) else value)


def told(parameter: Any) -> str:
    """What a page says of an argument or option: its help, and what its type says."""
    text, default, choices = parameter.help or "", default_of(parameter), choices_of(parameter)
    variable = getattr(parameter, "envvar", None)
    parts = (
        text,
        "Required." if parameter.required else "",
        f"One of {', '.join(choices)}." if len("|".join(choices)) > CHOICES else "",
        _bounds(parameter),
        "May be repeated." if getattr(parameter, "multiple", False) and "repeated" not in text else "",
        f"Or set {variable}." if variable else "",
        f"Default: {default}" if default else "",
    )
    return " ".join(part for part in parts if part)


def _bounds(parameter: Any) -> str:
    """The bounds of a number, unless the help says them in its own words."""
    low, high = getattr(parameter, "min", None), getattr(parameter, "max", None)
    if (low, high) == (None, None):
        return ""
    text = f"{low} or more" if high is None else f"{high} or less" if low is None else f"{low} to {high}"
    return "" if text in (parameter.help or "") else f"{text}."


def _choices(annotation: Any) -> Iterator[str]:
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        yield from (str(choice.value) for choice in annotation)
    for part in get_args(annotation):
        yield from _choices(part)


def _names_and_value(option: Any) -> str:
    """``--rate TEXT``: as it is typed; of a short enumeration the values themselves."""
    choices = "|".join(choices_of(option))
    value = option.metavar or (choices if 0 < len(choices) <= CHOICES else "")
    value = value or _value(option.type_descriptor.annotation)
    return f"{names_of(option)} {value}".rstrip()


def _value(annotation: Any) -> str:
    kinds = [annotation, *get_args(annotation)]
    found = (text for kind, text in _VALUES if kind in kinds)
    return next(found, "TEXT")


def _in_usage(argument: Any) -> str:
    name = argument.name.upper() + ("..." if argument.nargs != 1 else "")
    return name if argument.required else f"[{name}]"


def _panels(group: Any) -> dict[str, list[tuple[str, str]]]:
    """The commands of a group under their headings, each with the first paragraph of its help."""
    found: dict[str, list[tuple[str, str]]] = {}
    for name, command in getattr(group, "commands", {}).items():
        first = inspect.cleandoc(command.help or "").partition("\n\n")[0]
        found.setdefault(command.rich_help_panel or "Commands", []).append((name, " ".join(first.split())))
    return found


def _text(text: str, columns: int) -> str:
    """Paragraphs, filled; what comes after a ``\\b`` stays as it is, so that examples can be copied."""
    before, _, after = inspect.cleandoc(text).partition("\b")
    filled = [_wrapped(paragraph, columns) for paragraph in before.split("\n\n")]
    return "\n\n".join(part for part in (*filled, after.strip("\n")) if part.strip())


def _wrapped(text: str, columns: int, *, indent: str = "") -> str:
    lines = textwrap.wrap(" ".join(text.split()), columns - len(indent), break_long_words=False, break_on_hyphens=False)
    return "\n".join(f"{indent}{line}" for line in lines)


def _listed(title: str, rows: Iterable[tuple[str, str]], columns: int) -> str:
    """Names with what is said of each beside them; below, where a name is too long for its column."""
    rows = list(rows)
    width = max((len(name) for name, _ in rows if len(name) <= NAME_COLUMN), default=0) + 4
    lines = [_bold(f"{title}:")]
    for name, text in rows:
        beside = _wrapped(text, columns, indent=" " * width)
        shown = f"  {_coloured(name)}"
        if len(name) <= NAME_COLUMN:
            lines.append(shown + " " * (width - 2 - len(name)) + beside[width:])
        else:
            lines.extend((shown, beside))
    return "\n".join(lines)


def _columns() -> int:
    return max(NARROWEST, min(shutil.get_terminal_size().columns, WIDEST))


def _bold(text: str) -> str:
    return text if "NO_COLOR" in os.environ else typer.style(text, bold=True)


def _coloured(text: str) -> str:
    return text if "NO_COLOR" in os.environ else typer.style(text, fg="cyan")
