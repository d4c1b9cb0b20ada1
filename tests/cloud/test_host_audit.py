"""The audit log of a cloud host: bounded, and whole whoever writes to it at the same time."""

import json
import os
import threading
from pathlib import Path

import pytest

from entrepot.cloud.host import auditfile
from entrepot.cloud.host.audit import AuditLog
from entrepot.cloud.host.settings import HostSettings, check_settings
from entrepot.core.errors import BadInputError, StorageError

FOR_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can write for others")


def log(folder: Path, *, size: int = 2000, files: int = 3) -> AuditLog:
    return AuditLog(folder / "audit.log", lambda: 1_774_267_200.0, rotate_bytes=size, files=files)


def numbers(folder: Path) -> list[int]:
    """What is noted in all files, oldest first."""
    files = [*sorted(folder.glob("audit-*.log")), folder / "audit.log"]
    return [json.loads(line)["number"] for file in files if file.exists() for line in file.read_text().splitlines()]


def test_a_log_that_has_grown_is_renamed_and_nothing_is_lost(tmp_path: Path) -> None:
    for number in range(40):
        log(tmp_path, files=100).note("service.stop", actor="local", subject="s", number=number)
    assert numbers(tmp_path) == list(range(40))
    rotated = sorted(file.name for file in tmp_path.glob("audit-*.log"))
    assert rotated[:2] == ["audit-20260323T120000Z-000000.log", "audit-20260323T120000Z-000001.log"]
    assert all(file.stat().st_size < 2300 and file.stat().st_mode & 0o777 == 0o600 for file in tmp_path.iterdir())


def test_the_oldest_go(tmp_path: Path) -> None:
    for number in range(200):
        log(tmp_path).note("service.stop", actor="local", subject="s", number=number)
    assert len(list(tmp_path.glob("audit-*.log"))) == 3
    kept = numbers(tmp_path)
    assert kept == list(range(kept[0], 200))
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 4 * 2300


TENANTS = ("sub-0000000000000001", "sub-0000000000000002")


@pytest.mark.parametrize("loud", [f"{TENANTS[1]} 3f2a91c0", "unknown"])
def test_nobody_pushes_anothers_lines_out_of_the_log(tmp_path: Path, loud: str) -> None:
    quiet = ("local", "host", TENANTS[0])
    for number, actor in enumerate(quiet):
        log(tmp_path).note("service.stop", actor=actor, subject="s", number=number)
    for number in range(200):
        log(tmp_path).note("token.give", actor=loud, subject="s", number=1000 + number)
    found = log(tmp_path).last(10_000)
    assert {line["actor"]: line["number"] for line in found if line["actor"] != loud} == {"local": 0, "host": 1} | {
        TENANTS[0]: 2
    }
    own = [line["number"] for line in found if line["actor"] == loud]
    assert own == list(range(own[0], 1200))
    assert own[0] > 1000, "its own history is bounded"


def test_lines_of_all_files_are_shown_in_the_order_of_time(tmp_path: Path) -> None:
    times = iter(range(100))
    own = AuditLog(tmp_path / "audit.log", lambda: 1_774_267_200 + next(times) / 10, rotate_bytes=500, files=100)
    actors = ("local", TENANTS[0], "unknown", TENANTS[1], TENANTS[0])
    for number in range(40):
        own.note("service.stop", actor=actors[number % 5], subject="s", number=number)
    (tmp_path / "audit-sub-nobody.log").write_text("not the host's\n")
    assert [line["number"] for line in own.last(1000)] == list(range(40))
    assert [line["number"] for line in own.last(7)] == list(range(33, 40))


def test_a_file_that_is_begun_gets_a_durable_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, named = tmp_path.stat().st_ino, list[int]()
    monkeypatch.setattr(os, "fsync", lambda descriptor: named.append(os.fstat(descriptor).st_ino))
    for actor in ("local", "local", TENANTS[0], TENANTS[0], "unknown"):
        log(tmp_path, size=10**6).note("service.stop", actor=actor, subject="s")
    assert named == [folder] * 3


def test_what_others_named_alike_is_in_nobodys_way_and_stays(tmp_path: Path) -> None:
    names = ("mine", "20260323T120000Z-000009-old", "20260323T120000Z-zzz")
    others = [tmp_path / f"audit-{name}.log" for name in names]
    for other in others:
        other.write_text("not the host's\n")
    for number in range(200):
        log(tmp_path).note("service.stop", actor="local", subject="s", number=number)
    assert shown(tmp_path, 5) == list(range(195, 200))
    assert [other.read_text() for other in others] == ["not the host's\n"] * 3


def test_the_newest_lines_are_read_over_renamed_files_and_without_a_torn_one(tmp_path: Path) -> None:
    for number in range(40):
        log(tmp_path, files=100).note("service.stop", actor="local", subject="s", number=number)
    with (tmp_path / "audit.log").open("ab") as file:
        file.write(b'{"time": "2026')
    assert shown(tmp_path, 31) == list(range(9, 40))
    assert len(log(tmp_path).last(1000)) == 40
    log(tmp_path, files=100).note("service.stop", actor="local", subject="s", number=40)
    assert shown(tmp_path, 31) == list(range(10, 41)), "the torn line takes nothing with it"


def shown(folder: Path, count: int) -> list[str | int]:
    return [line["number"] for line in log(folder).last(count)]


def test_a_line_that_is_written_in_pieces_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: whole(descriptor, data[:7]))
    for number in range(3):
        log(tmp_path).note("service.stop", actor="local", subject="s", number=number)
    assert shown(tmp_path, 10) == numbers(tmp_path) == [0, 1, 2]


def test_lines_of_any_length_are_read_a_block_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(20):
        log(tmp_path, size=10**6).note("a.b", actor="x" * (23 * number), subject="é" * number, number=number)
    for block in (1, 2, 3, 10, 33, 100, 10**6):
        monkeypatch.setattr("entrepot.cloud.host.auditfile._BLOCK", block)
        assert shown(tmp_path, 15) == list(range(5, 20))
        assert shown(tmp_path, 100) == list(range(20))


def test_to_read_the_log_makes_no_file_and_needs_no_leave_to_write(tmp_path: Path) -> None:
    assert log(tmp_path).last(10) == []
    assert list(tmp_path.iterdir()) == []
    log(tmp_path, size=1).note("service.stop", actor="local", subject="s", number=1)
    assert shown(tmp_path, 10) == [1]
    assert not (tmp_path / "audit.log").exists(), "it was renamed, and nothing was noted since"


def test_no_order_waits_for_a_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log(tmp_path).note("service.stop", actor="local", subject="s", number=1)
    decoded = auditfile._decoded
    noted = []

    def meanwhile(line: bytes) -> dict[str, str | int] | None:
        if not noted:
            noted.append(log(tmp_path, size=1).note("service.stop", actor="local", subject="s", number=2))
        return decoded(line)

    monkeypatch.setattr(auditfile, "_decoded", meanwhile)
    assert shown(tmp_path, 10) == [1], "what was there when it was asked for"
    assert shown(tmp_path, 10) == [1, 2]


@FOR_ROOT
def test_what_root_notes_leaves_the_log_to_the_homes_owner(tmp_path: Path) -> None:
    os.chown(tmp_path, 12345, 23456)
    log(tmp_path).note("subscription.set", actor="local", subject="s", number=1)
    made = (tmp_path / "audit.log").stat()
    assert (made.st_uid, made.st_gid, made.st_mode & 0o777) == (12345, 23456, 0o600)


@FOR_ROOT
def test_root_gives_away_nothing_that_has_content(tmp_path: Path) -> None:
    os.chown(tmp_path, 12345, 23456)
    (tmp_path / "audit.log").write_text("moved here by whoever owns the home\n")
    log(tmp_path).note("subscription.set", actor="local", subject="s", number=1)
    assert (tmp_path / "audit.log").stat().st_uid == 0


@pytest.mark.parametrize("put", [Path.symlink_to, pytest.param(Path.hardlink_to, marks=FOR_ROOT)])
def test_a_link_in_the_place_of_the_log_is_refused_and_what_it_leads_to_stays(put, tmp_path: Path) -> None:
    home, target = tmp_path / "home", tmp_path / "shadow"
    home.mkdir()
    target.write_text('{"root": "*"}\n')
    if os.geteuid() == 0:
        os.chown(home, 12345, 23456)
    before = target.stat()
    put(home / "audit.log", target)
    with pytest.raises(StorageError, match="link"):
        log(home).note("subscription.set", actor="local", subject="s")
    with pytest.raises(StorageError, match="link"):
        log(home).last(10)
    after = target.stat()
    assert target.read_text() == '{"root": "*"}\n'
    assert (after.st_uid, after.st_gid, after.st_mode) == (before.st_uid, before.st_gid, before.st_mode)


def test_a_snapshot_of_hard_links_leaves_the_host_its_log(tmp_path: Path) -> None:
    home, snapshot = tmp_path / "home", tmp_path / "snapshot"
    home.mkdir()
    for number in range(3):
        log(home).note("service.stop", actor="local", subject="s", number=number)
        snapshot.unlink(missing_ok=True)
        snapshot.hardlink_to(home / "audit.log")
    assert shown(home, 10) == [0, 1, 2]


def test_a_link_that_leads_nowhere_makes_no_file_there(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "audit.log").symlink_to(tmp_path / "nologin")
    with pytest.raises(StorageError, match="link"):
        log(home).note("subscription.set", actor="local", subject="s")
    assert not (tmp_path / "nologin").exists()


@pytest.mark.parametrize("name", ["audit.log", "audit-20260323T120000Z-000000.log"])
def test_nobody_waits_for_a_pipe_in_the_place_of_a_log(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(StorageError, match="no plain file"):
        log(tmp_path).last(10)


def test_several_that_write_at_once_lose_no_line_to_a_rotation(tmp_path: Path) -> None:
    def write(first: int) -> None:
        own = log(tmp_path, files=1000)  # as a process of its own: descriptor, lock and all
        for number in range(first, first + 50):
            own.note("service.stop", actor="local", subject="s", number=number)

    threads = [threading.Thread(target=write, args=(first,)) for first in range(0, 200, 50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(numbers(tmp_path)) == list(range(200))


@pytest.mark.parametrize("wrong", [{"audit_rotate_bytes": 1}, {"audit_files": 0}])
def test_settings_that_would_keep_nothing_are_refused(wrong) -> None:
    with pytest.raises(BadInputError, match="audit_rotate_bytes"):
        check_settings(HostSettings(listen="127.0.0.1:0", url="https://127.0.0.1:1", **wrong))
