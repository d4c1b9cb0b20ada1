"""Writes ``docs/cli.md`` from the command tree: ``python -m entrepot.cli.reference > docs/cli.md``."""

import re
import sys
from collections.abc import Iterator
from typing import Any

import typer.main

from entrepot.cli.app import app
from entrepot.core.errors import Family

INTRO = """\
# The command line

Made from the commands themselves by `python -m entrepot.cli.reference > docs/cli.md`; do not edit.

Administrator commands speak to a site's REST API and work from any machine: `entrepot login URL --fingerprint HEX`
once, then everything else. Role commands run or change the role in a `--home` folder on this machine.

- Results go to standard output, messages and progress to standard error. `--json` gives the result as JSON.
- Commands that destroy ask first, unless `--yes`. Commands that start a task wait for it, unless `--no-wait`.
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
    return INTRO + codes + "| 130 | interrupted (Ctrl-C) |\n" + "".join(_commands(root, "entrepot"))


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
    for parameter in (*arguments, *options):
        names = parameter.name.upper() if parameter in arguments else _names(parameter)
        required = " *Required.*" if parameter.required else ""
        yield f"| `{names}` | {(parameter.help or '').replace('|', '/')}{required} |\n"


def _names(option: Any) -> str:
    names = [*option.opts, *option.secondary_opts]
    return ", ".join(sorted(names, key=lambda name: (not name.startswith("--"), names.index(name))))


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
