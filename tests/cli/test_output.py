"""What is shown is what was meant, whatever names and messages hold; and no secret shows by accident."""

import contextlib
import io
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import typer
from rich.console import Console

from entrepot.cli import failures, waiting, watching
from entrepot.cli.client import show_located
from entrepot.cli.output import (
    confirm,
    day,
    hour,
    print_facts,
    print_json,
    print_line,
    print_rows,
    say,
    when,
    when_noted,
)
from entrepot.cli.secrets import read_pem, read_secret
from entrepot.cli.waiting import TaskProgress, amount
from entrepot.client.fetch import Located
from entrepot.core.errors import BadInputError
from entrepot.protocol.costapi import BudgetChange
from entrepot.protocol.location import Withheld
from entrepot.protocol.siteapi import TaskInfo, TaskState

ODD = "pages/[id]/[/x] [bold]loud :warning:"
"""A path as web frameworks have them, a name as anybody may choose one."""


LOOKS_LIKE_PICTURES = ("2001:db8:100:a::/64", "C:\\apps\\", ODD)
"""Rich has pictures called 100, a, b, ab, cd and abc, and writes them for these names between colons."""


def test_what_is_between_colons_is_shown_as_it_is_and_so_is_a_last_backslash(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for text in LOOKS_LIKE_PICTURES:
        for width in (200, 20):
            out = io.StringIO()
            print_rows(("Name", text), [("", text)], empty="", console=Console(file=out, width=width))
            assert out.getvalue().count(text) == 2
        print_rows(("Name",), [], empty=text)
        print_facts(text, [("name", f"{text}\n{text}")])
        assert capsys.readouterr().out.count(text) == 1 + 3
        failures._report(text, text, 1)
        assert capsys.readouterr().err == f"Error: {text}\nNext:  {text}\n"


def test_a_pipe_gets_a_line_for_each_row_however_long_its_paths_are(capsys: pytest.CaptureFixture[str]) -> None:
    path = "/".join(["folder"] * 500)
    print_rows(("Path", "Size"), [(path, "1 MB"), ("short", "2 MB")], empty="")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines if "MB" in line] == [[path, "1", "MB"], ["short", "2", "MB"]]


def test_a_line_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    say(f"{ODD} is removed.")
    say(f"[yellow]Warning:[/] {ODD}")
    say(ODD, style="dim")
    assert capsys.readouterr().err == f"{ODD} is removed.\nWarning: {ODD}\n{ODD}\n"


HOSTILE = "a[red]\x1b]52;c;aGk=\x07\x9b2J\r\u202eb[/x]"
"""A name that would fill the clipboard, clear the screen, and be read backwards."""
SHOWN = r"a[red]\x1b]52;c;aGk=\x07\x9b2J\r\u202eb[/x]"


@pytest.fixture
def east(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This machine's clock is two hours before UTC's."""
    if sys.platform == "win32":
        pytest.skip("a process has the system's time zone there")
    with monkeypatch.context() as changed:
        changed.setenv("TZ", "EAST-2")
        time.tzset()
        yield
    time.tzset()


def test_people_see_local_times_and_how_far_they_are_from_utc(logged_in, entrepot, east) -> None:
    at = 1_774_267_200  # 2026-03-23T12:00:00Z
    logged_in.replies["GET /api/v1/budget-changes"] = [
        BudgetChange(name="cloud-eu", scope="cloud-point", at=at, by="admin", what="500 GB"),
    ]
    assert "2026-03-23 14:00:00+02:00 cloud-point cloud-eu" in " ".join(entrepot("budget", "history").out.split())
    assert entrepot("budget", "history", "--json").value[0]["at"] == at
    assert (when(0), hour(at), day(at)) == ("", "2026-03-23 14:00+02:00", "2026-03-23")
    assert when_noted("2026-03-23T12:00:00Z") == when(at)
    assert when_noted("long ago") == "long ago"


DEVICES = (
    ("pc-berlin-000001", "approved", "2026-03-23 14:00:00+02:00", "dev-0123456789abcdef"),
    ("laptop", "waits until an administrator compared its fingerprint", "", "dev-00000000"),
)


@pytest.mark.parametrize("columns", [200, 100, 80, 72, 60, 40])
def test_a_table_breaks_no_name_time_or_id_however_narrow_the_terminal_is(columns: int) -> None:
    out = io.StringIO()
    print_rows(("Name", "State", ">Seen", "Id"), DEVICES, empty="", console=Console(file=out, width=columns))
    words = set(out.getvalue().split())
    assert {"Name", "Seen"} | {word for row in DEVICES for cell in row for word in cell.split()} <= words
    lines = [" ".join(line.split()) for line in out.getvalue().splitlines()]
    if columns >= 80:  # the longest words of all columns fit side by side: it is a table
        assert max(map(len, out.getvalue().splitlines())) <= columns
        assert "Name State Seen Id" in lines
    else:
        assert lines[:5] == ["", *map(" ".join, zip(("Name", "State", "Seen", "Id"), DEVICES[0], strict=True))]
    if columns == 200:
        assert lines[3:5] == [" ".join(DEVICES[0]), " ".join(cell for cell in DEVICES[1] if cell)]


def test_nothing_that_is_shown_can_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows(("Name", HOSTILE), [(HOSTILE, HOSTILE)], empty="")
    print_rows(("Name",), [], empty=f"Nothing is in {HOSTILE}.")
    print_facts(HOSTILE, [("note", f"{HOSTILE}\n{HOSTILE}")])
    say(HOSTILE)
    say(f"[yellow]Warning:[/] {HOSTILE}", style="dim")
    failures._report(HOSTILE, HOSTILE, 1)
    shown = "".join(capsys.readouterr())
    assert shown.count(SHOWN) == 3 + 1 + 3 + 2 + 2
    assert all(character.isprintable() or character == "\n" for character in shown)


def test_a_traceback_that_was_asked_for_cannot_steer_the_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(failures.DEBUG_VARIABLE, "1")
    try:
        raise BadInputError(HOSTILE)
    except BadInputError as error:
        failures._report(error.message, "", 1)
    told = capsys.readouterr().err
    assert f"BadInputError: {SHOWN}" in told
    assert "\x1b" not in told


def test_results_for_programs_stay_exact_and_are_harmless_where_a_person_looks(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    print_json({"name": HOSTILE})
    written = capsys.readouterr().out
    assert json.loads(written) == {"name": HOSTILE}
    assert all(character.isprintable() or character == "\n" for character in written)
    print_line(HOSTILE)
    assert capsys.readouterr().out == f"{HOSTILE}\n"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    print_line(HOSTILE)
    assert capsys.readouterr().out == f"{SHOWN}\n"


class Answering(io.StringIO):
    """A person at a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("answer", ["y", "n"])
def test_a_question_is_asked_where_it_does_not_get_into_the_result(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    monkeypatch.setattr(sys, "stdin", Answering(f"{answer}\n"))
    with contextlib.nullcontext() if answer == "y" else pytest.raises(typer.Abort):
        confirm(f"Remove {HOSTILE}?", yes=False)
    asked = capsys.readouterr()
    assert f"Remove {SHOWN}? [y/N]" in asked.err
    assert asked.out.strip() == ""


@pytest.mark.parametrize(("title", "shown"), [(ODD, "[id]/[/x]"), (HOSTILE, SHOWN)])
def test_the_progress_of_a_task_with_an_odd_name_is_shown(
    monkeypatch: pytest.MonkeyPatch, title: str, shown: str
) -> None:
    texts = dict.fromkeys(("id", "kind", "subject", "message", "error", "error_code"), "")
    numbers = dict.fromkeys(("total", "attempts", "created", "started", "finished", "run_after"), 0)
    task = TaskInfo(title=title, step=title, unit=title, done=1, state=TaskState.IN_PROGRESS, **texts, **numbers)
    seen: list[str] = []
    for room in (waiting, watching):
        monkeypatch.setattr(room, "Console", lambda **_: _terminal(seen))
    with TaskProgress() as progress:
        progress.show(task)
        progress._progress.refresh()
    assert max(text.count(shown) for text in seen) == 3
    assert not any(HOSTILE in text for text in seen)


def test_a_task_at_work_shows_how_fast_it_goes_and_what_is_left() -> None:
    assert amount(at_work(unit="bytes", done=1_000_000, total=4_000_000, rate=50_000, seconds_left=60)) == (
        "1.0 MB of 4.0 MB, 50.0 kB/s, about 1 min left"
    )
    assert amount(at_work(unit="objects", done=7, rate=3)) == "7 objects, 3/s"
    assert amount(at_work(unit="bytes", total=5)) == "0 B of 5 B"


def at_work(**changes: str | int) -> TaskInfo:
    texts = dict.fromkeys(("id", "kind", "subject", "step", "unit", "message", "error", "error_code", "title"), "")
    numbers = dict.fromkeys(("done", "total", "attempts", "created", "started", "finished", "run_after"), 0)
    return msgspec.convert({"state": "in_progress", **texts, **numbers, **changes}, TaskInfo)


def _terminal(seen: list[str]) -> Console:
    class Written:
        def write(self, text: str) -> int:
            seen.append(text)
            return len(text)

        def flush(self) -> None:
            pass

    return Console(file=Written(), force_terminal=True, width=400)  # type: ignore[arg-type]  # all that it needs


def test_a_password_file_that_is_no_text_is_refused_and_shows_none_of_it(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_bytes(b"pass\xe4word\n")
    file.chmod(0o600)
    with pytest.raises(BadInputError, match="not text in UTF-8") as caught:
        read_secret("Password", file=file)
    assert "e4" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_certificates_are_text_of_a_sensible_size(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    for data in (b"\x30\x82\xff", b"x" * (1024 * 1024 + 1)):
        file.write_bytes(data)
        with pytest.raises(BadInputError):
            read_pem(file)
    with contextlib.suppress(BadInputError):
        file.write_bytes(b"-----BEGIN")
        assert read_pem(file) == "-----BEGIN"


def test_a_device_is_told_by_which_addresses_it_was_judged_and_why_there_is_no_source(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = Located(
        content="pkg-1",
        name="App",
        version=2,
        network="internet",
        given=(),
        withheld=(Withheld(name="Berlin", reason="version 2 is on its way there (41 %)"),),
        addresses=("203.0.113.9", "2001:db8::1", "2001:db8::2", "2001:db8::3", "2001:db8::4", "2001:db8::5"),
    )
    show_located(found)
    told = " ".join(capsys.readouterr().err.split())
    addresses = "203.0.113.9, 2001:db8::1, 2001:db8::2, 2001:db8::3 and 2 more"
    assert f"by {addresses} the site sees this device on the internet." in told
    assert "Not offered: Berlin: version 2 is on its way there (41 %)" in told
    show_located(msgspec.structs.replace(found, addresses=()))
    assert "version 2; the site sees this device on the internet." in " ".join(capsys.readouterr().err.split())
