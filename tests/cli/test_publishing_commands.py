"""Publishing from the command line: archives, deltas, notes, rehearsals, and what applies to the next version."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from entrepot.core.errors import ConflictError, RefusedError
from entrepot.protocol.contentapi import ContentInfo, ContentType, DeltaOutlook, OriginInfo, Rehearsal, VersionInfo
from entrepot.protocol.siteapi import TaskInfo, TaskState

VERSION = VersionInfo(
    number=1, set_id="00", files=3, folders=1, links=0, plain_size=9, chunks=1, stored_size=8, new_objects=3,
    new_bytes=8, objects=3, created=1, warnings=("'app.zip' is an archive",), note="[tested] on ARM",
)  # fmt: skip


def task(state: TaskState = TaskState.COMPLETED, **changes: Any) -> TaskInfo:
    values: dict[str, Any] = {
        "id": "tsk-1", "kind": "rehearsal", "subject": "pkg-1", "title": "Rehearse publishing 7-Zip", "state": state,
        "step": "", "done": 0, "total": 0, "unit": "bytes", "message": "", "error": "", "error_code": "",
        "attempts": 1, "created": 1, "started": 1, "finished": 2, "run_after": 0,
    }  # fmt: skip
    return TaskInfo(**(values | changes))


def content(**changes: Any) -> ContentInfo:
    values: dict[str, Any] = {
        "id": "pkg-1", "name": "7-Zip", "type": ContentType.APPLICATION, "source": "/srv/app.zip", "excludes": (),
        "for_windows": False, "isolated": False, "state": "ready", "current": 1, "created": 1, "versions": (VERSION,),
        "distribution": (),
    }  # fmt: skip
    return ContentInfo(**(values | changes))


def rehearsal(**changes: Any) -> Rehearsal:
    values: dict[str, Any] = {
        "name": "7-Zip", "number": 2, "current": 1, "files": 3, "folders": 1, "links": 0, "plain_size": 9_000_000,
        "objects": 5, "stored_size": 8_000_000, "new_objects": 2, "new_bytes": 7_000_000, "chunks": 4,
        "new_chunks": 1, "new_chunk_bytes": 6_900_000, "delta": DeltaOutlook.MADE, "delta_size": 40_000, "deltas": 3,
        "points": 4, "clients": 10, "first_fetch": 8_000_000, "update_fetch": 500_000, "delta_fetch": 60_000,
        "all_first_fetch": 80_000_000, "all_update_fetch": 5_000_000, "all_delta_fetch": 600_000,
        "warnings": ("large",),
    }  # fmt: skip
    return Rehearsal(**(values | changes))


COMMAND = ("content", "publish", "/srv/7z", "--name", "7-Zip", "--dry-run", "--clients", "10")


def test_a_dry_run_asks_for_a_rehearsal_and_publishes_nothing(logged_in, entrepot) -> None:
    logged_in.replies |= {"POST /api/v1/rehearsals": task(), "GET /api/v1/rehearsals/tsk-1": rehearsal()}
    ran = entrepot(*COMMAND, "--unpack", "--deltas", "3")
    assert ran.code == 0, ran.err
    for text in (
        "4, 1 of them new (6.9 MB)",
        "7.0 MB",
        "80.0 MB",
        "500.0 kB without a delta",
        "10 clients with version 1 fetch",
        "5.0 MB without a delta",
        "60.0 kB",
        "600.0 kB",
        "40.0 kB, and 2 more",
        "each of its points (4) gets",
        "540.0 kB",
    ):
        assert text in ran.out
    assert "large" in ran.out + ran.err
    asked = logged_in.bodies("POST /api/v1/rehearsals")[0]
    assert (asked["clients"], asked["unpack"], asked["delta_versions"]) == (10, True, 3)
    assert entrepot(*COMMAND, "--json").value["new_bytes"] == 7_000_000
    assert {asked for asked, _, _ in logged_in.asked} == {
        "POST /api/v1/rehearsals",
        "GET /api/v1/rehearsals/tsk-1",
        "GET /api/v1/contents/7-Zip",
    }


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"delta": DeltaOutlook.UNKNOWN}, "too little room"),
        ({"delta": DeltaOutlook.NONE}, "would save nothing"),
        ({"delta": DeltaOutlook.NONE, "deltas": 0}, "none would be made"),
    ],
)
def test_a_rehearsal_without_a_delta_says_why(logged_in, entrepot, changes: dict[str, Any], text: str) -> None:
    logged_in.replies["GET /api/v1/rehearsals/tsk-1"] = rehearsal(**changes)
    ran = entrepot("content", "rehearsal", "tsk-1")
    assert text in ran.out
    assert "with a delta" not in ran.out


def test_a_rehearsal_without_waiting_says_how_to_see_it(logged_in, entrepot) -> None:
    logged_in.replies["POST /api/v1/rehearsals"] = task(TaskState.CREATED)
    ran = entrepot(*COMMAND, "--no-wait")
    assert "entrepot content rehearsal tsk-1" in ran.err
    assert "POST /api/v1/contents" not in [asked for asked, _, _ in logged_in.asked]


def test_a_hostile_archive_is_refused_by_name(logged_in, entrepot) -> None:
    text = "The archive 'app.zip' holds the unsafe path '../x'."
    logged_in.replies |= {
        "POST /api/v1/contents": task(TaskState.FAILED, error=text, error_code="refused"),
    }
    ran = entrepot("content", "publish", "/srv/app.zip", "--unpack")
    assert ran.code == RefusedError.family.exit_code
    assert text in ran.err


def test_what_is_published_carries_its_note_deltas_and_unpacking(logged_in, entrepot) -> None:
    logged_in.replies |= {"POST /api/v1/contents": task(), "GET /api/v1/contents/pkg-1": content()}
    ran = entrepot("content", "publish", "/srv/app.zip", "--unpack", "--deltas", "0", "--note", "first")
    assert ran.code == 0, ran.err
    assert "'app.zip' is an archive" in ran.err
    asked = logged_in.bodies("POST /api/v1/contents")[0]
    assert (asked["unpack"], asked["delta_versions"], asked["note"]) == (True, 0, "first")
    logged_in.replies |= {
        "GET /api/v1/contents/app.zip": content(),
        "POST /api/v1/contents/pkg-1/versions": task(),
    }
    command = ("content", "publish", "/srv/app.zip", "--no-unpack", "--deltas", "5", "--note", "second")
    assert entrepot(*command).code == 0
    asked = logged_in.bodies("POST /api/v1/contents/pkg-1/versions")[0]
    assert (asked["unpack"], asked["delta_versions"], asked["note"]) == (False, 5, "second")
    assert entrepot("content", "publish", "/srv/x", "--deltas", "21").code == 2


@pytest.mark.parametrize("option", ["--isolated", "--for-windows"])
def test_what_only_counts_for_new_content_does_not_seem_to_count(logged_in, entrepot, option: str) -> None:
    logged_in.replies["GET /api/v1/contents/7-Zip"] = content()
    ran = entrepot("content", "publish", "/srv/7z", "--name", "7-Zip", option)
    assert ran.code == 4, ran.err
    assert not logged_in.bodies("POST /api/v1/contents/pkg-1/versions")


def test_an_update_sends_what_is_given_only(logged_in, entrepot) -> None:
    logged_in.replies["PATCH /api/v1/contents/7-Zip"] = content(delta_versions=5)
    ran = entrepot("content", "update", "7-Zip", "--deltas", "5", "--no-excludes", "--for-windows")
    assert ran.code == 0, ran.err
    assert "the last 5" in ran.err
    nothing = {"source": None, "unpack": None}
    assert logged_in.bodies("PATCH /api/v1/contents/7-Zip") == [
        {"delta_versions": 5, "excludes": [], "for_windows": True} | nothing
    ]
    assert entrepot("content", "update", "7-Zip").code == 2
    assert entrepot("content", "update", "7-Zip", "--exclude", "x", "--no-excludes").code == 2
    assert len(logged_in.bodies("PATCH /api/v1/contents/7-Zip")) == 1


def test_notes_are_set_listed_and_shown(logged_in, entrepot) -> None:
    logged_in.replies |= {
        "PATCH /api/v1/contents/7-Zip/versions/1": content(),
        "GET /api/v1/contents": [content()],
        "GET /api/v1/contents/7-Zip": content(unpack=True, delta_versions=2),
    }
    assert entrepot("content", "note", "7-Zip", "1", "[tested] on ARM").code == 0
    assert logged_in.bodies("PATCH /api/v1/contents/7-Zip/versions/1") == [{"note": "[tested] on ARM"}]
    assert "[tested] on ARM" in entrepot("content", "list").out
    assert "Version 1 of 7-Zip: [tested] on ARM" in entrepot("content", "note", "7-Zip", "1", "[tested] on ARM").err
    shown = entrepot("content", "show", "7-Zip").out
    for text in ("[tested] on ARM", "what /srv/app.zip holds", "the last 2 versions"):
        assert text in shown


@pytest.mark.parametrize(
    ("option", "text"), [("--isolated", "shares chunks with other content"), ("--for-windows", "need not suit Windows")]
)
@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
def test_a_dry_run_refuses_what_publishing_refuses(logged_in, entrepot, option: str, text: str, dry: Any) -> None:
    logged_in.replies["GET /api/v1/contents/7-Zip"] = content()
    ran = entrepot("content", "publish", "/srv/7z", "--name", "7-Zip", option, *dry)
    assert (ran.code, text in ran.err) == (ConflictError.family.exit_code, True)
    assert [asked for asked, _, _ in logged_in.asked] == ["GET /api/v1/contents/7-Zip"]


def test_a_version_that_came_from_elsewhere_than_the_next_one_will_says_so(logged_in, entrepot) -> None:
    old = OriginInfo(source="/srv/7z-24", excludes=("*.pdb", "docs"), unpack=False)
    same = OriginInfo(source="/srv/app.zip", excludes=(), unpack=False)
    versions = (
        msgspec.structs.replace(VERSION, origin=old),
        msgspec.structs.replace(VERSION, number=2, origin=same),
    )
    logged_in.replies["GET /api/v1/contents/7-Zip"] = content(versions=versions)
    shown = entrepot("content", "show", "7-Zip").out
    assert shown.count("/srv/7z-24, without *.pdb, docs") == 1
    assert shown.count("/srv/app.zip") == 1, "as the source of the content"
    assert entrepot("content", "show", "7-Zip", "--json").value["versions"][0]["origin"]["source"] == "/srv/7z-24"


def test_interrupting_a_rehearsal_cancels_it(logged_in, entrepot, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> TaskInfo:
        raise KeyboardInterrupt

    monkeypatch.setattr("entrepot.cli.publishing.watched", interrupt)
    logged_in.replies |= {
        "POST /api/v1/rehearsals": task(TaskState.CREATED),
        "POST /api/v1/tasks/tsk-1/cancel": task(TaskState.CANCELLED),
    }
    assert entrepot(*COMMAND).code == 130
    assert logged_in.asked[-1][0] == "POST /api/v1/tasks/tsk-1/cancel"


def test_a_path_need_not_exist_here(logged_in, entrepot, tmp_path: Path) -> None:
    logged_in.replies |= {"POST /api/v1/contents": task(), "GET /api/v1/contents/pkg-1": content(versions=())}
    assert entrepot("content", "publish", str(tmp_path / "on-the-site-only")).code == 0


def test_clients_are_counted_in_a_dry_run_only(logged_in, entrepot) -> None:
    ran = entrepot("content", "publish", "/srv/7z", "--clients", "5000")
    assert ran.code == 2
    assert "Add --dry-run to ask" in ran.err
    assert logged_in.asked == [], "nothing was published by mistake"


def test_an_empty_name_is_none(logged_in, entrepot) -> None:
    assert entrepot("content", "publish", "/srv/7z", "--name", "").code == 2
    assert [asked for asked, _, _ in logged_in.asked if asked.startswith("POST")] == []


def test_content_without_a_version_says_where_to_look(logged_in, entrepot) -> None:
    logged_in.replies["GET /api/v1/contents/7-Zip"] = content(state="failed", current=0, versions=())
    ran = entrepot("content", "show", "7-Zip")
    assert "entrepot task list" in ran.out + ran.err
    assert "distribute" not in ran.out + ran.err


def test_content_on_no_point_names_itself_in_the_next_step(logged_in, entrepot) -> None:
    logged_in.replies["GET /api/v1/contents/pkg-1"] = content(name="Office 24")
    ran = entrepot("content", "show", "pkg-1")
    assert "entrepot content distribute 'Office 24' --to POINT" in ran.out + ran.err
