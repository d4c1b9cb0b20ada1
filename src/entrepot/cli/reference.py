"""Writes ``docs/cli.md`` from the command tree: ``python -m entrepot.cli.reference > docs/cli.md``."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import typer.main

from entrepot.cli.app import app
from entrepot.cli.helping import choices_of, default_of, names_of
from entrepot.core.errors import Family

STATE: Final = Path("/var/lib")
"""Folders below it are the same on every machine; others are the account's own."""

INTRO = """\
# The command line

Made from the commands themselves by `python -m entrepot.cli.reference > docs/cli.md`; do not edit.

Administrator commands speak to a site's REST API and work from any machine: `entrepot login URL --fingerprint HEX`
once, then everything else. Role commands run or change the role in a `--home` folder on this machine.

- Results go to standard output, messages and progress to standard error, as a bar at a
  terminal and elsewhere as a line now and then. `--json` gives the result as JSON.
- Times are shown as local time with its offset from UTC, sizes with a unit (GB is 10^9 bytes). In JSON times are
  seconds since 1970 UTC, sizes are bytes.
- Commands that destroy ask first, unless `--yes`; with `--dry-run` they only tell what would come of it. Commands that
  start a task wait for it, unless `--no-wait`.
- Passwords come from a prompt, `--password-file` or `--password-stdin`, never from the arguments.
- `ENTREPOT_CONFIG_DIR` moves the folder of credentials, `ENTREPOT_SITE` chooses the site, `ENTREPOT_DEBUG=1` shows
  tracebacks.

## Exit codes

| code | family |
|---:|---|
| 0 | success |
"""


def reference() -> str:
    """The whole page."""
    codes = "".join(f"| {f.exit_code} | {f.name.lower().replace('_', ' ')} |\n" for f in Family)
    root: Any = typer.main.get_command(app)
    rows = "".join(_row(option) for option in root.params if option.name != "help")
    before = (
        f"{INTRO}{codes}| 130 | interrupted (Ctrl-C) |\n\n## Options before the command\n\n| | |\n|---|---|\n{rows}"
    )
    return before + "".join(_commands(root, "entrepot"))


def _commands(group: Any, path: str) -> Iterator[str]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield f"\n## {path} {name}\n\n{_text(command.help)}\n"
            yield from _commands(command, f"{path} {name}")
        else:
            yield from _command(command, f"{path} {name}")


def _command(command: Any, path: str) -> Iterator[str]:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option" and p.name != "help"]
    usage = " ".join([path, *(f"{a.name.upper()}" for a in arguments), *(["[OPTIONS]"] if options else [])])
    yield f"\n### {path}\n\n```\n{usage}\n```\n\n{_text(command.help)}\n"
    if arguments or options:
        yield "\n| | |\n|---|---|\n"
    yield from (_row(parameter) for parameter in (*arguments, *options))


def _row(parameter: Any) -> str:
    names = parameter.name.upper() if parameter.param_type_name == "argument" else names_of(parameter)
    choices = ", ".join(f"`{choice}`" for choice in choices_of(parameter))
    default = _default(parameter)
    told = (
        (parameter.help or "").replace("|", "/"),
        "*Required.*" if parameter.required else "",
        f"One of {choices}." if choices else "",
        f"Default: {default}." if default else "",
    )
    return f"| `{names}` | {' '.join(part for part in told if part)} |\n"


def _default(parameter: Any) -> str:
    """As :func:`default_of`, on whatever machine the page is made."""
    value = parameter.default
    if isinstance(value, Path) and value.is_absolute() and not value.is_relative_to(STATE):
        return "a folder of the account's own"
    found = default_of(parameter)
    return f"`{found}`" if found else ""


def _text(text: str) -> str:
    """Help as Markdown: examples become code."""
    before, _, after = text.replace("\b\n", "\b").partition("\b")
    words = re.sub(r"[ \t]+\n", "\n", before).strip()
    if not after:
        return words
    lines = [line.removeprefix("  ") for line in after.splitlines()]
    return f"{words}\n\n```\n" + "\n".join(line for line in lines[1:] if line.strip()) + "\n```"


if __name__ == "__main__":
    sys.stdout.write(reference())
