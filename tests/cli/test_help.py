"""Help teaches: every command has a description and an example that names existing options; the reference is true."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from entrepot.cli.app import app
from entrepot.cli.helping import page
from entrepot.cli.reference import reference

ROOT: Any = typer.main.get_command(app)
REFERENCE = Path(__file__).parents[2] / "docs" / "cli.md"


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


def context_of(path: tuple[str, ...]) -> Any:
    """The context that Typer makes for a command or group, from the root down."""
    command, context = ROOT, typer.Context(ROOT, info_name="entrepot")
    for name in path:
        command = command.commands[name]
        context = typer.Context(command, info_name=name, parent=context)
    return context


EVERY = dict(commands(ROOT))
EACH = pytest.mark.parametrize("path", sorted(EVERY), ids=" ".join)


def options(command: Any) -> set[str]:
    return {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}


def arguments(command: Any) -> list[Any]:
    return [each for each in command.params if each.param_type_name == "argument"]


@EACH
def test_every_command_has_an_example_of_itself(path: tuple[str, ...]) -> None:
    text = EVERY[path].help
    assert re.search(r"Examples?:", text), "no example"
    assert f"entrepot {' '.join(path)}" in text


@EACH
def test_examples_use_options_that_exist(path: tuple[str, ...]) -> None:
    text = EVERY[path].help.partition("\b")[2].replace("\\\n", " ")
    for line in text.splitlines():
        if not line.strip().startswith("entrepot "):
            continue
        words = shlex.split(line, comments=True)
        named = next((words[1:end] for end in (4, 3, 2) if tuple(words[1:end]) in EVERY), None)
        assert named is not None, f"no such command: {line}"
        used = {word for word in words if word.startswith("-") and len(word) > 1}
        assert used <= options(EVERY[tuple(named)]), f"unknown options in: {line}"


@EACH
def test_every_option_is_described(path: tuple[str, ...]) -> None:
    for parameter in EVERY[path].params:
        assert parameter.name == "help" or parameter.help, f"{parameter.name} has no help"


@EACH
def test_no_option_takes_a_password_itself(path: tuple[str, ...]) -> None:
    for name in options(EVERY[path]):
        if "password" in name or "passphrase" in name:
            assert name.endswith(("-file", "-stdin")), f"{name} would show up in process lists"


def test_every_command_has_json_but_those_that_serve() -> None:
    missing = [path for path, command in EVERY.items() if "--json" not in options(command)]
    assert [path for path in missing if path[-1] != "serve"] == []


def test_everything_that_removes_or_deletes_has_yes() -> None:
    words = ("delete", "remove", "block", "cancel", "revoke", "disable")
    spared = {("alert", "cancel"), ("alert", "disable")}  # they hide a notice and can be taken back
    missing = [path for path, command in EVERY.items() if path[-1] in words and "--yes" not in options(command)]
    assert set(missing) == spared


def test_everything_that_asks_for_confirmation_can_tell_first_what_it_would_do() -> None:
    asking = [path for path, command in EVERY.items() if "--yes" in options(command)]
    assert ("point", "remove") in asking
    assert [path for path in asking if "--dry-run" not in options(EVERY[path])] == []


def test_the_reference_page_is_up_to_date() -> None:
    assert REFERENCE.read_text(encoding="utf-8") == reference(), "run: python -m entrepot.cli.reference > docs/cli.md"


def test_the_reference_tells_choices_defaults_and_the_options_before_every_command() -> None:
    lines = set(reference().splitlines())
    assert {
        "| `--of` | What the name is of. One of `cloud-point`, `content`, `collection`. Default: `cloud-point`. |",
        "| `--wait, --no-wait` | Wait until the task has ended, with progress; or only start it. Default: `--wait`. |",
        "| `--site` | Address of the site to talk to; default: of the last login. |",
    } <= lines
    assert any(line.startswith("| `--home` ") and "account's own" in line for line in lines)
    assert any(line.startswith("| `--home` ") and "`/var/lib/entrepot/host`" in line for line in lines)


@EACH
def test_help_breaks_no_name_and_no_line_on_80_columns(path: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    for known in (path, path[:-1]):
        context = context_of(known)
        text = page(context.command, context, columns=80)
        words = set(text.replace(",", " ").split())
        names = {name for name in options(context.command) if name.startswith("-")}
        names |= set(getattr(context.command, "commands", ()))
        assert names <= words, f"cut: {names - words}"
        assert {each.name.upper() for each in arguments(context.command) if each.required} <= words
        examples = (context.command.help or "").partition("\b")[2]
        assert [line for line in text.splitlines() if len(line) > 80 and line.strip() not in examples] == []


def test_help_tells_values_bounds_variables_and_defaults(entrepot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    budget, home, root = (entrepot(*words, "--help").out for words in (("budget", "set"), ("host", "serve"), ()))
    lines = {" ".join(line.split()) for line in budget.splitlines()}
    assert "Usage: entrepot budget set NAME [AMOUNT] [OPTIONS]" in lines
    assert "--of TEXT What the name is of. One of cloud-point, content," in lines
    assert "--throttle-percent NUMBER Throttle from this share on; 0: never. 0 to 100." in lines
    assert "--home PATH" in home
    assert "ENTREPOT_HOME. Default: /var/lib/entrepot/host" in " ".join(home.split())
    assert "Roles on this machine:" in root.splitlines()


def test_a_group_without_a_command_shows_its_help_where_messages_go(entrepot) -> None:
    ran = entrepot("point")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("Usage: entrepot point [OPTIONS] COMMAND\n")


def test_version_and_completion_are_offered(entrepot) -> None:
    ran = entrepot("--version")
    assert ran.code == 0
    assert re.fullmatch(r"entrepot \d+\.\d+\.\d+\n", ran.out)
    assert "--install-completion" in options(ROOT)
