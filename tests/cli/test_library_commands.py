"""Commands about the library and about single versions, against a prepared site."""

import io
import sys

import msgspec
import pytest

from entrepot.core.errors import IntegrityError
from entrepot.protocol.deviceapi import DeploymentInfo, DeploymentOptions
from entrepot.protocol.libraryapi import (
    Change,
    Comparison,
    ContentEvent,
    ContentLibraryInfo,
    ContentUses,
    Difference,
    LibraryFigures,
    LibraryInfo,
    MissingDelta,
    MissingDeltas,
    SetValidation,
    SweepPreview,
    Validation,
    VersionUses,
)
from entrepot.protocol.siteapi import TaskInfo, TaskState

FIGURES = LibraryFigures(**dict.fromkeys(LibraryFigures.__struct_fields__, 0))
SOUND = Validation(objects=5, checked_objects=5, checked=1_774_267_200, missing=0, damaged=0)
BROKEN = msgspec.structs.replace(SOUND, missing=1, damaged=2)
USES = VersionUses(
    content="pkg-1",
    content_name="App",
    version=1,
    current=False,
    deployments=(),
    points=(),
    deltas=(),
    tasks=(),
    devices=0,
    freed_objects=4,
    freed_bytes=1_500_000,
    refusal="",
    objections=(),
)


def done(kind: str) -> TaskInfo:
    texts = dict.fromkeys(("step", "unit", "message", "error", "error_code", "subject"), "")
    zeros = dict.fromkeys(("done", "total", "attempts", "created", "started", "finished", "run_after"), 0)
    return TaskInfo(id="task-1", kind=kind, title=kind, state=TaskState.COMPLETED, **texts, **zeros)


def library(validation: Validation) -> LibraryInfo:
    return LibraryInfo(
        figures=FIGURES,
        validation=validation,
        waiting_objects=0,
        waiting_bytes=0,
        open_sessions=0,
        contents=1,
        tasks=(),
    )


@pytest.mark.parametrize(("validation", "code"), [(SOUND, 0), (BROKEN, IntegrityError.family.exit_code)])
def test_a_validation_that_finds_damage_fails(logged_in, entrepot, validation: Validation, code: int) -> None:
    logged_in.replies["POST /api/v1/library/validate"] = done("library-validate")
    logged_in.replies["GET /api/v1/library"] = library(validation)
    ran = entrepot("library", "validate", "--rate", "50MB")
    assert ran.code == code
    assert logged_in.bodies("POST /api/v1/library/validate") == [{"content": None, "rate": 50_000_000}]


def test_the_library_is_shown(logged_in, entrepot) -> None:
    logged_in.replies["GET /api/v1/library"] = library(BROKEN)
    logged_in.replies["GET /api/v1/library/contents"] = [
        ContentLibraryInfo(content="pkg-1", content_name="App", figures=FIGURES, validation=SOUND)
    ]
    ran = entrepot("library", "show")
    assert "1 missing, 2 damaged" in ran.out
    assert "App" in ran.out
    assert entrepot("library", "show", "--json").value["library"]["validation"]["damaged"] == 2


def test_figures_of_the_library_add_up(logged_in, entrepot) -> None:
    figures = msgspec.structs.replace(FIGURES, objects=9, stored=3_000_000, overhead=200_000, former=50_000)
    logged_in.replies["GET /api/v1/library"] = msgspec.structs.replace(
        library(SOUND), figures=figures, held_objects=4, held_bytes=7_000_000
    )
    logged_in.replies["GET /api/v1/library/contents"] = []
    shown = entrepot("library", "show").out
    for text in ("50.0 kB of former seals and versions", "3.2 MB in 9 objects", "4 objects, 7.0 MB, until it ends"):
        assert text in shown
    logged_in.replies["GET /api/v1/library"] = library(SOUND)
    shown = entrepot("library", "show").out
    assert "former" not in shown
    assert "being published" not in shown


class Doubting(io.StringIO):
    """A person at a terminal who says no."""

    def __init__(self) -> None:
        super().__init__("n\n")

    def isatty(self) -> bool:
        return True


def test_a_sweep_asks_first_and_a_dry_run_only_tells(logged_in, entrepot, monkeypatch) -> None:
    logged_in.replies["GET /api/v1/library/sweep"] = SweepPreview(
        due_objects=3, due_bytes=1500, later_objects=1, later_bytes=10, lapsed_sessions=0, unused_sets=0
    )
    logged_in.replies["POST /api/v1/library/sweep"] = done("library-sweep")
    assert "3 objects, 1.5 kB" in entrepot("library", "sweep", "--dry-run").out
    logged_in.asked.clear()
    refused = entrepot("library", "sweep")
    assert refused.code != 0
    assert "Nobody is there to ask" in refused.err
    assert logged_in.asked == [], "nothing is counted for nobody"
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdin", Doubting())
        asked = entrepot("library", "sweep")
    assert asked.code != 0
    assert "Delete 3 objects (1.5 kB) that nothing needs, in an hour 1 more" in asked.err
    assert logged_in.bodies("POST /api/v1/library/sweep") == []
    assert entrepot("library", "sweep", "--now", "--yes").code == 0
    assert logged_in.bodies("POST /api/v1/library/sweep") == [{"now": True, "strays": False}]


def test_a_dry_run_counts_files_that_nobody_knows_where_they_would_go_too(logged_in, entrepot) -> None:
    known = SweepPreview(due_objects=0, due_bytes=0, later_objects=0, later_bytes=0, lapsed_sessions=0, unused_sets=0)
    logged_in.replies["GET /api/v1/library/sweep"] = known
    counted = msgspec.structs.replace(known, stray_objects=7, stray_bytes=1500)
    logged_in.replies["GET /api/v1/library/sweep?strays=true"] = counted
    assert "only with --strays" in entrepot("library", "sweep", "--dry-run").out
    assert "7 objects, 1.5 kB" in entrepot("library", "sweep", "--dry-run", "--strays").out
    assert entrepot("library", "sweep", "--dry-run", "--strays", "--json").value["stray_objects"] == 7
    assert "files that the database does not know" in entrepot("library", "sweep", "--strays").err


def test_deleting_a_version_shows_what_uses_it_and_asks(logged_in, entrepot) -> None:
    logged_in.replies["GET /api/v1/contents/App/versions/1/uses"] = USES
    logged_in.replies["DELETE /api/v1/contents/App/versions/1?force=false"] = done("version-delete")
    ran = entrepot("content", "delete-version", "App", "1", "--dry-run")
    assert (ran.code, "4 objects, 1.5 MB" in ran.out) == (0, True)
    assert entrepot("content", "delete-version", "App", "1").code != 0
    assert not any(asked.startswith("DELETE") for asked, _, _ in logged_in.asked)
    assert entrepot("content", "delete-version", "App", "1", "--yes").code == 0
    assert entrepot("content", "delete-version", "App", "1", "--dry-run", "--json").value["freed_objects"] == 4


def test_the_current_version_is_refused_before_anything_is_asked(logged_in, entrepot) -> None:
    refused = msgspec.structs.replace(USES, current=True, refusal="Version 1 is the current one.")
    logged_in.replies["GET /api/v1/contents/App/versions/1/uses"] = refused
    ran = entrepot("content", "delete-version", "App", "1", "--yes")
    assert (ran.code, "current one" in ran.err) == (4, True)


CONTENT_USES = ContentUses(
    content="pkg-1", content_name="App", versions=(1, 2), deployments=(), points=("dp-berlin",), deltas=1, tasks=(),
    devices=12, budgets=("5.0 GB of its own",), freed_objects=9, freed_bytes=3_500_000, refusals=(),
)  # fmt: skip
DEPLOYED = DeploymentInfo(
    id="dep-1", content="pkg-1", content_name="App", collection="col-1", collection_name="Offices",
    options=DeploymentOptions(), created=1,
)  # fmt: skip


def test_deleting_a_content_shows_what_uses_it_and_asks(logged_in, entrepot) -> None:
    logged_in.replies["GET /api/v1/contents/App/uses"] = CONTENT_USES
    logged_in.replies["DELETE /api/v1/contents/App"] = done("content-delete")
    ran = entrepot("content", "delete", "App", "--dry-run")
    assert ran.code == 0
    for text in ("9 objects, 3.5 MB", "dp-berlin", "5.0 GB of its own", "12", "1, 2"):
        assert text in ran.out
    asked = entrepot("content", "delete", "App")
    assert (asked.code, "--yes" in asked.err) == (2, True)
    assert not any(request.startswith("DELETE") for request, _, _ in logged_in.asked)
    assert entrepot("content", "delete", "App", "--yes").code == 0
    assert entrepot("content", "uses", "App", "--json").value["devices"] == 12
    logged_in.replies["GET /api/v1/contents/App/versions/1/uses"] = USES
    assert "4 objects, 1.5 MB" in entrepot("content", "uses", "App", "1").out


def test_a_deployed_content_is_refused_with_its_deployments(logged_in, entrepot) -> None:
    text = "'App' is deployed to Offices (dep-1)."
    logged_in.replies["GET /api/v1/contents/App/uses"] = msgspec.structs.replace(
        CONTENT_USES, deployments=(DEPLOYED,), refusals=(text,)
    )
    ran = entrepot("content", "delete", "App", "--yes")
    assert (ran.code, text in ran.err, "Offices (dep-1)" in ran.out) == (4, True, True)
    assert not any(request.startswith("DELETE") for request, _, _ in logged_in.asked)


def test_two_versions_are_compared(logged_in, entrepot) -> None:
    counts = {"added": 0, "changed": 0, "removed": 0, "moved": 1, "same": 7}
    logged_in.replies["GET /api/v1/contents/App/comparison?old=1&new=2&limit=100"] = Comparison(
        content="pkg-1",
        old=1,
        new=2,
        **counts,
        fetch_bytes=2_000_000,
        delta_bytes=300_000,
        has_delta=True,
        differences=(Difference(change=Change.MOVED, path="b", old_path="a", old_size=5, new_size=5),),
        more=True,
        remark="Every file counts as changed.",
    )
    ran = entrepot("content", "compare", "App", "1", "2")
    assert "Remark: Every file counts as changed." in ran.err
    assert "b  (was a)" in ran.out
    assert "300.0 kB" in ran.out
    assert "--after 'b'" in ran.err


def test_history_tells_who_did_what(logged_in, entrepot) -> None:
    event = ContentEvent(at=1, event="made_current", version=1, previous=2, by="admin", note="2 crashes")
    logged_in.replies["GET /api/v1/contents/App/history"] = [event]
    assert "2 crashes" in entrepot("content", "history", "App").out


def test_a_point_with_damage_fails_its_validation(logged_in, entrepot) -> None:
    found = SetValidation(
        content="pkg-1", content_name="App", version=2, from_version=1, checked=1, missing=0, damaged=3, message=""
    )
    logged_in.replies["POST /api/v1/points/dp/validate"] = done("point-validate")
    logged_in.replies["GET /api/v1/points/dp/validation"] = [found]
    ran = entrepot("point", "validate", "dp", "--repair")
    assert (ran.code, "1 to 2" in ran.out) == (IntegrityError.family.exit_code, True)
    assert logged_in.bodies("POST /api/v1/points/dp/validate") == [{"content": None, "repair": True, "rate": None}]


def test_a_distribution_is_cancelled_and_sent_anew(logged_in, entrepot) -> None:
    logged_in.replies["POST /api/v1/contents/App/distribution/dp/cancel"] = None
    logged_in.replies["GET /api/v1/contents/App/distribution"] = []
    logged_in.replies["POST /api/v1/contents/App/redistribute"] = []
    assert entrepot("content", "cancel-distribution", "App", "--to", "dp").code == 0
    assert entrepot("content", "redistribute", "App", "--to", "dp", "--no-wait").code == 0
    assert logged_in.bodies("POST /api/v1/contents/App/redistribute") == [{"points": ["dp"], "priority": "normal"}]


MISSING = MissingDeltas(
    missing=1200, tasks=0, deltas=(MissingDelta(content="pkg-1", content_name="App", from_version=1, to_version=3),)
)


def test_a_dry_run_lists_the_deltas_that_are_missing_and_orders_none(logged_in, entrepot) -> None:
    logged_in.replies["GET /api/v1/library/deltas?content=App"] = MISSING
    ran = entrepot("library", "deltas", "--content", "App", "--dry-run")
    assert "pkg-1" in ran.out
    assert "1200 are missing; only the first 1 are listed." in ran.err
    assert "Nothing was changed." in ran.err
    assert logged_in.bodies("POST /api/v1/library/deltas") == []


def test_missing_deltas_are_ordered(logged_in, entrepot) -> None:
    logged_in.replies["POST /api/v1/library/deltas"] = msgspec.structs.replace(MISSING, missing=1, tasks=1)
    ran = entrepot("library", "deltas")
    assert "1 tasks were started." in ran.err
    assert logged_in.bodies("POST /api/v1/library/deltas") == [{"content": None}]
