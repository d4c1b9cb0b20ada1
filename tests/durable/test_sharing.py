"""Files that another program has open, as Windows reports them: tried again for a while, then named."""

import errno
from pathlib import Path

import pytest

from entrepot.core.errors import StorageError
from entrepot.durable import sharing
from entrepot.durable.files import storage_errors, write_file
from entrepot.durable.sharing import PAUSES, InUseError, insist, is_in_use


def windows_error(code: int) -> PermissionError:
    """What Python raises on Windows for this system error."""
    error = PermissionError(errno.EACCES, "as Windows says it")
    error.winerror = code  # type: ignore[attr-defined]  # only Windows has it
    return error


@pytest.mark.parametrize("code", [5, 32, 33])
def test_a_file_that_is_held_for_a_moment_is_replaced(code: int) -> None:
    answers: list[OSError | None] = [windows_error(code), windows_error(code), None]
    slept: list[float] = []

    def action() -> str:
        answer = answers.pop(0)
        if answer is not None:
            raise answer
        return "done"

    assert insist(action, sleep=slept.append) == "done"
    assert slept == list(PAUSES[:2])


def test_a_file_that_stays_held_is_given_up_in_less_than_two_seconds() -> None:
    tried: list[None] = []
    slept: list[float] = []

    def action() -> None:
        tried.append(None)
        raise windows_error(32)

    with pytest.raises(PermissionError):
        insist(action, sleep=slept.append)
    assert len(tried) == len(PAUSES) + 1
    assert sum(slept) < 2


@pytest.mark.parametrize("error", [PermissionError(errno.EACCES, "POSIX"), OSError(errno.ENOSPC, "full")])
def test_what_waiting_does_not_mend_is_not_tried_again(error: OSError) -> None:
    tried: list[None] = []

    def action() -> None:
        tried.append(None)
        raise error

    with pytest.raises(OSError, match=error.strerror):
        insist(action, sleep=lambda _: None)
    assert len(tried) == 1


@pytest.mark.parametrize("error", [windows_error(32), windows_error(33), OSError(errno.ETXTBSY, "it runs")])
def test_the_error_names_the_file_and_says_to_close_the_program(error: OSError) -> None:
    assert is_in_use(error)
    with pytest.raises(InUseError, match=r"tool\.exe: another program") as caught, storage_errors("tool.exe"):
        raise error
    assert "Close the program" in caught.value.next_step


def test_refused_access_alone_is_not_taken_for_it() -> None:
    assert not is_in_use(windows_error(5))
    with pytest.raises(StorageError) as caught, storage_errors("tool.exe"):
        raise windows_error(5)
    assert not isinstance(caught.value, InUseError)


def test_a_file_that_is_held_keeps_its_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "settings"
    write_file(path, b"old")

    def refuse(_self: Path, _target: Path) -> Path:
        raise windows_error(32)

    monkeypatch.setattr(sharing, "PAUSES", (0.0, 0.0))
    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(InUseError):
        write_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
