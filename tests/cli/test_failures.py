"""Errors are one message, one next step and the exit code of their family."""

import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer.main

from entrepot.cli import failures
from entrepot.cli.options import pin_digits
from entrepot.cli.tree import branch_of, build, listing_of
from entrepot.core.errors import (
    BadInputError,
    EntrepotError,
    Family,
    NotFoundError,
    RefusedError,
    UnavailableError,
    error_classes,
)


def python(program: str, *, well: bool = True) -> subprocess.CompletedProcess[str]:
    """A Python of its own that ran a program; ``well``: it must have ended with 0."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert not well or done.returncode == 0, done.stderr
    return done


@pytest.mark.parametrize("kind", sorted(set(error_classes().values()), key=lambda kind: kind.code))
def test_every_error_of_the_site_ends_with_the_exit_code_of_its_family(logged_in, entrepot, kind) -> None:
    logged_in.replies["GET /api/v1/contents"] = kind("It went wrong.", next_step="Do this.")
    ran = entrepot("content", "list")
    assert ran.code == kind.family.exit_code
    assert "It went wrong." in ran.err
    assert "Do this." in ran.err
    assert ran.out == ""
    assert "Traceback" not in ran.err


def test_exit_codes_are_distinct_and_not_those_of_the_shell() -> None:
    codes = [family.exit_code for family in Family]
    assert len(set(codes)) == len(codes)
    assert all(0 < code < 126 for code in codes)


def test_a_traceback_is_shown_on_request_only(logged_in, entrepot, monkeypatch: pytest.MonkeyPatch) -> None:
    logged_in.replies["GET /api/v1/contents"] = RefusedError("No.")
    monkeypatch.setenv("ENTREPOT_DEBUG", "1")
    assert "Traceback" in entrepot("content", "list").err


def test_a_site_that_does_not_answer_is_unavailable(entrepot, logged_in, config) -> None:
    ran = entrepot("--site", "https://127.0.0.1:1", "content", "list")
    assert ran.code == Family.NOT_FOUND.exit_code  # never logged in there
    saved = (config / "credentials.json").read_text().replace(logged_in.url, "https://127.0.0.1:1")
    (config / "credentials.json").write_text(saved)
    assert entrepot("content", "list").code == UnavailableError.family.exit_code


@pytest.mark.parametrize(
    "arguments", [["content", "show"], ["content", "publish", "/x", "--type", "nonsense"], ["nope"]]
)
def test_wrong_usage_points_to_the_help(entrepot, arguments: list[str]) -> None:
    ran = entrepot(*arguments)
    assert ran.code == 2
    assert "--help" in ran.err


def test_a_bug_is_reported_as_one(entrepot, logged_in) -> None:
    logged_in.replies["GET /api/v1/contents"] = {"not": "a list"}
    assert entrepot("content", "list").code == Family.INTEGRITY.exit_code
    assert failures._bug(ZeroDivisionError("x")) == Family.INTERNAL.exit_code


def test_a_client_only_installation_says_which_extra_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    code = failures._missing(ModuleNotFoundError("No module named 'granian'", name="granian.server"))
    assert code == Family.USAGE.exit_code
    assert "pip install '.[server]'" in capsys.readouterr().err


def test_every_package_of_the_servers_is_known_to_be_one() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = {re.split(r"[^\w.-]", line)[0] for line in project["optional-dependencies"]["server"]}
    brought_by = importlib.metadata.packages_distributions()
    known = {distribution.lower() for module in failures.EXTRA_PACKAGES for distribution in brought_by[module]}
    assert {name.replace("_", "-") for name in known} >= wanted


def test_the_command_line_loads_no_server_library_for_administrators() -> None:
    program = (
        "import sys, entrepot.cli.app;"
        "bad = {'sqlalchemy', 'granian', 'litestar', 'alembic', 'aiohttp'} & set(sys.modules);"
        "sys.exit(repr(bad) if bad else 0)"
    )
    python(program)


@pytest.mark.process
def test_a_plan_is_made_where_no_server_package_is_installed() -> None:
    program = (
        "import sys; sys.modules.update(dict.fromkeys(('alembic', 'argon2', 'dns', 'granian', 'jinja2', 'litestar',"
        "'obstore', 'prometheus_client', 'psycopg', 'sqlalchemy', 'uvloop')));"
        "from entrepot.cli.failures import run; sys.exit(run(['plan', '--clients', '5', '--prices', 'azure-blob']))"
    )
    assert "From the cloud" in python(program).stdout


def test_the_reader_of_a_pipe_may_leave() -> None:
    program = "import os, sys; sys.argv = ['entrepot', '--help']; os.close(1); os.dup2(os.pipe()[1], 1);"
    program += "from entrepot.cli import main; main()"
    assert "Traceback" not in python(program, well=False).stderr


def test_every_error_class_is_an_entrepot_error() -> None:
    assert all(issubclass(kind, EntrepotError) for kind in error_classes().values())


@pytest.mark.parametrize(
    ("arguments", "branch"),
    [
        (["content", "list"], "content"),
        (["--site", "https://host", "cloud", "list"], "cloud"),
        (["--site=https://host", "cloud", "list"], "cloud"),
        (["--site", "content"], ""),
        (["demo"], "demo"),
        (["contnt", "list"], ""),
        (["--help"], ""),
        ([], ""),
    ],
)
def test_a_command_line_asks_for_one_branch_of_the_tree(arguments: list[str], branch: str) -> None:
    assert branch_of(arguments) == branch


def test_a_command_loads_its_own_group_and_no_other() -> None:
    program = (
        "import sys; from entrepot.cli.failures import run; run(['client', '--help']);"
        "groups = {name for name in sys.modules if name.startswith('entrepot.cli.')};"
        "sys.exit(repr(groups) if groups & {'entrepot.cli.content', 'entrepot.cli.cost', 'entrepot.cli.cloud'} else 0)"
    )
    assert "enrol" in python(program).stdout


def test_each_branch_alone_has_what_it_has_in_the_whole_tree() -> None:
    whole: Any = typer.main.get_command(build())
    for name, command in whole.commands.items():
        alone: Any = typer.main.get_command(build(name))
        assert list(alone.commands) == [name]
        assert list(getattr(alone.commands[name], "commands", ())) == list(getattr(command, "commands", ()))


def test_what_does_not_exist_is_answered_with_how_to_see_what_does(logged_in, entrepot) -> None:
    logged_in.replies["GET /api/v1/contents/nothing"] = NotFoundError("There is no content 'nothing'.")
    ran = entrepot("content", "show", "nothing")
    assert ran.code == Family.NOT_FOUND.exit_code
    assert "entrepot content list" in ran.err


@pytest.mark.parametrize(
    ("arguments", "listing"),
    [
        (["content", "show", "x"], "entrepot content list"),
        (["--site", "content", "content", "show", "x"], "entrepot content list"),
        (["host", "subscription", "add", "contoso"], "entrepot host subscription list"),
        (["alert", "window", "remove", "x"], "entrepot alert window list"),
        (["alert", "mail", "test"], "entrepot alert list"),
        (["host", "init"], ""),
        (["login", "https://x"], ""),
        (["contnt", "list"], ""),
    ],
)
def test_what_lists_the_things_that_a_command_is_about(arguments: list[str], listing: str) -> None:
    assert listing_of(arguments) == listing


@pytest.mark.parametrize("pin", ["zz", "12", "g" * 64, "a" * 65])
def test_what_is_no_pin_is_told_where_the_pin_is_printed(pin: str) -> None:
    with pytest.raises(BadInputError) as caught:
        pin_digits(pin)
    assert "entrepot host status" in caught.value.next_step
    assert pin_digits("AB-" * 32) == "ab" * 32


@pytest.mark.parametrize("family", [family for family in Family if family is not Family.REFUSED])
def test_an_error_that_names_no_next_step_gets_one(family: Family) -> None:
    assert failures.advice(family)


@pytest.mark.parametrize("name", ["", " ", ".", "..", "a/b", "../contents"])
def test_a_name_that_would_lead_elsewhere_is_refused_before_anything_is_asked(logged_in, entrepot, name: str) -> None:
    for command in (("content", "show"), ("content", "delete", "--yes"), ("cloud", "delete", "--yes")):
        ran = entrepot(*command, name)
        assert ran.code == Family.USAGE.exit_code
        assert "no name or id" in ran.err


def test_a_password_that_nobody_can_be_asked_for_names_the_option_that_gives_it(entrepot, tmp_path: Path) -> None:
    home = tmp_path / "site"
    ran = entrepot("site", "init", "--name", "Contoso", "--url", "https://127.0.0.1:8443", "--home", str(home))
    assert ran.code == Family.USAGE.exit_code
    assert "--passphrase-file FILE" in ran.err
    assert not home.exists()


def test_an_export_that_nobody_can_be_asked_for_names_the_options_that_it_has(entrepot, tmp_path: Path) -> None:
    ran = entrepot("key", "export", str(tmp_path / "secrets"), "--home", str(tmp_path))
    assert ran.code == Family.USAGE.exit_code
    assert "--passphrase-file FILE or --passphrase-stdin" in ran.err
