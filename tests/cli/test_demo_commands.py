"""The commands that the demonstration shows beside what it does exist, with the options that it names."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

import entrepot.cli.demo
from entrepot.cli.app import app

DEMO = Path(entrepot.cli.demo.__file__).parent


def shown() -> Iterator[str]:
    """Each command line in the story, with placeholders as they are written."""
    for source in sorted(DEMO.glob("*.py")):
        for told in re.findall(r'tell\.command\(f?"([^"]+)"\)', source.read_text(encoding="utf-8")):
            yield from (part.strip() for part in told.split(";"))


COMMANDS = sorted(set(shown()))


def test_there_are_such_commands() -> None:
    assert len(COMMANDS) > 10


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_that_is_shown_exists_with_its_options(line: str) -> None:
    name, *words = line.split()
    assert name == "entrepot"
    command: Any = typer.main.get_command(app)
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    options = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    assert {word for word in words if word.startswith("--")} <= options
