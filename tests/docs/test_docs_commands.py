"""Every ``entrepot`` command in a page exists, with the options that the page gives it."""

import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import typer.main

from entrepot.cli.app import app

ROOT: Any = typer.main.get_command(app)
_BLOCK = re.compile(r"^```[ \t]*(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
_SHELLS = {"", "bash", "sh", "shell", "console"}
_SPAN = re.compile(r"`(entrepot [^`]+)`")
_NO_COMMANDS = {"entrepot golden <name>"}
"""Text in a page that begins like a command: what the keys of the golden vectors are hashes of."""


def commands(text: str) -> Iterator[str]:
    """The commands in a page: lines of shell blocks, and code within sentences."""
    for language, block in _BLOCK.findall(text):
        if language in _SHELLS:
            for line in re.sub(r"\\\n\s*", " ", block).splitlines():
                command = re.sub(r"^(?:[$#] |[A-Z_]+=\S+ )+", "", line.strip())
                if command.startswith("entrepot "):
                    yield re.sub(r"\s{3,}\(.*\)$", "", command)
    yield from (found for found in _SPAN.findall(_BLOCK.sub("", text)) if found not in _NO_COMMANDS)


def options(command: Any) -> set[str]:
    return {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)} | {"--help"}


def problem(line: str) -> str:
    """What of a command does not exist; empty when all does."""
    words = [word for word in shlex.split(line, comments=True)[1:] if word != "…"]
    here, known = ROOT, options(ROOT)
    while words and (words[0].startswith("-") or hasattr(here, "commands")):
        word = words.pop(0)
        if word.startswith("-"):
            if word.partition("=")[0] not in known:
                return f"no option {word}"
        elif word in here.commands:
            here = here.commands[word]
            known = known | options(here)
        else:
            return f"no command {word}"
    unknown = [word for word in words if re.match(r"--?[a-z]", word) and word.partition("=")[0] not in options(here)]
    return f"no option {unknown[0]}" if unknown else ""


def test_every_command_of_a_page_exists(page):
    wrong = {line: found for line in commands(page.read_text("utf-8")) if (found := problem(line))}
    assert wrong == {}


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("entrepot site init --home x --site PS1", ""),
        ("entrepot cloud create NAME --host https://a --host-pin 3F2A…   # a note", ""),
        ("entrepot content", ""),
        ("entrepot --version", ""),
        ("entrepot cloud explode x", "no command explode"),
        ("entrepot cloud stop x --hard", "no option --hard"),
        ("entrepot frobnicate", "no command frobnicate"),
    ],
)
def test_what_does_not_exist_is_named(line, found):
    assert problem(line) == found


def test_commands_are_found_in_blocks_and_in_sentences():
    page = "Run `entrepot demo`.\n```bash\n$ entrepot cloud stop a \\\n    --yes\nls\n```\n```python\nentrepot x\n```\n"
    assert list(commands(page)) == ["entrepot cloud stop a  --yes", "entrepot demo"]
