"""What commands ask of the site, and what they print."""

import json
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from entrepot.cli import waiting
from entrepot.cli.waiting import amount, error_of
from entrepot.core.errors import ConflictError, Family, LimitedError, RefusedError
from entrepot.protocol.alertapi import AlertEvent, AlertInfo, AlertState, Severity
from entrepot.protocol.cloudpointapi import CertificateInfo, DnsCheck, DnsRecord, PublicCertificate, ServiceCertificate
from entrepot.protocol.contentapi import (
    ContentInfo,
    ContentType,
    DistributionInfo,
    DistributionState,
    Priority,
    VersionInfo,
)
from entrepot.protocol.deviceapi import CollectionInfo, DeviceInfo, DeviceState, EnrolmentCodeReply
from entrepot.protocol.pointapi import BoundaryGroupInfo, BoundaryPoint, PointCode, PointInfo
from entrepot.protocol.siteapi import TaskInfo, TaskState
from entrepot.rules.alerts import SYSTEM


def task(state: TaskState = TaskState.COMPLETED, **changes: Any) -> TaskInfo:
    values: dict[str, Any] = {
        "id": "tsk-1", "kind": "publish", "subject": "pkg-1", "title": "Publish 7-Zip", "state": state, "step": "",
        "done": 0, "total": 0, "unit": "bytes", "message": "", "error": "", "error_code": "", "attempts": 1,
        "created": 1, "started": 1, "finished": 2, "run_after": 0,
    }  # fmt: skip
    return TaskInfo(**(values | changes))


def content(**changes: Any) -> ContentInfo:
    values: dict[str, Any] = {
        "id": "pkg-1", "name": "7-Zip", "type": ContentType.APPLICATION, "source": "/srv", "excludes": (),
        "for_windows": False, "isolated": False, "state": "ready", "current": 1, "created": 1, "versions": (),
        "distribution": (),
    }  # fmt: skip
    return ContentInfo(**(values | changes))


def row(state: DistributionState, message: str = "") -> DistributionInfo:
    return DistributionInfo(
        content="pkg-1", content_name="7-Zip", point="pt-1", point_name="dp-berlin", state=state,
        priority=Priority.NORMAL, version=1, held=1, done=5, total=10, sent_objects=1, sent_bytes=10, objects=1,
        attempts=1, next_try=0, message=message, changed=1,
    )  # fmt: skip


def alert(state: AlertState) -> AlertInfo:
    return AlertInfo(
        id=f"alr-{state.value}", type="storage", subject="pt-1", subject_name="cloud-eu", title="Storage",
        severity=Severity.WARNING, state=state, message="[full]", remedies=("Trim",), occurrences=1, created=1,
        changed=1, skip_until=0, closed_by="", comment="",
    )  # fmt: skip


def test_how_far_a_transfer_is_is_shown_while_it_runs(logged_in, entrepot) -> None:
    for state, shown in ((DistributionState.IN_PROGRESS, True), (DistributionState.PENDING, False)):
        logged_in.replies["GET /api/v1/contents/7-Zip/distribution"] = [row(state)]
        ran = entrepot("content", "status", "7-Zip")
        assert ("in progress, 5 B of 10 B" in ran.out) is shown, ran.out


def test_publishing_makes_a_content_the_first_time_and_a_version_later(logged_in, entrepot, tmp_path: Path) -> None:
    logged_in.replies |= {
        "POST /api/v1/contents": task(),
        "GET /api/v1/contents/pkg-1": content(),
        "POST /api/v1/contents/pkg-1/versions": task(),
    }
    ran = entrepot(
        "content", "publish", str(tmp_path), "--name", "7-Zip", "--exclude", "*.log", "--for-windows", "--json"
    )
    assert ran.code == 0, ran.err
    assert ran.value["state"] == "completed"
    asked = logged_in.bodies("POST /api/v1/contents")[0]
    assert {name: asked[name] for name in ("name", "source", "type", "excludes", "for_windows", "isolated")} == {
        "name": "7-Zip", "source": str(tmp_path), "type": "package", "excludes": ["*.log"], "for_windows": True,
        "isolated": False,
    }  # fmt: skip
    logged_in.replies["GET /api/v1/contents/7-Zip"] = content()
    assert entrepot("content", "publish", str(tmp_path), "--name", "7-Zip").code == 0
    assert logged_in.bodies("POST /api/v1/contents/pkg-1/versions") == [
        {"source": str(tmp_path), "excludes": None, "unpack": None, "delta_versions": None, "note": ""}
    ]


def test_names_with_spaces_are_one_path_segment_and_slashes_are_refused(logged_in, entrepot) -> None:
    logged_in.replies["GET /api/v1/contents/b%20c%3F"] = content(name="b c?")
    assert entrepot("content", "show", "b c?", "--json").value["name"] == "b c?"
    assert entrepot("content", "show", "a/b").code == 2
    assert len(logged_in.asked) == 1


def test_no_wait_names_the_task_and_returns_at_once(logged_in, entrepot, tmp_path: Path) -> None:
    logged_in.replies["POST /api/v1/contents"] = task(TaskState.CREATED)
    ran = entrepot("content", "publish", str(tmp_path), "--no-wait")
    assert ran.code == 0
    assert "entrepot task show tsk-1" in ran.err
    assert not [asked for asked, _, _ in logged_in.asked if asked.startswith("GET /api/v1/tasks")]


def test_waiting_follows_the_task_to_its_end_and_fails_as_it_failed(logged_in, entrepot, tmp_path: Path) -> None:
    states = iter([task(TaskState.IN_PROGRESS), task(TaskState.FAILED, error="Disk full.", error_code="storage")])
    logged_in.replies |= {
        "POST /api/v1/contents": task(TaskState.CREATED),
        "GET /api/v1/tasks/tsk-1": lambda _: next(states),
    }
    ran = entrepot("content", "publish", str(tmp_path))
    assert ran.code == 11
    assert "Disk full." in ran.err
    assert "entrepot task show tsk-1" in ran.err


def test_what_is_surprising_is_counted_in_the_list_and_told_with_the_content_version_by_version(
    logged_in, entrepot
) -> None:
    version = VersionInfo(
        number=1, set_id="00", files=1, folders=0, links=0, plain_size=1, chunks=1, stored_size=1, new_objects=1,
        new_bytes=1, objects=1, created=1, warnings=("'[x].key' looks like a secret.",),
    )  # fmt: skip
    later = msgspec.structs.replace(version, number=2, warnings=(*version.warnings, "It is [much] larger."))
    plain = msgspec.structs.replace(version, number=3, warnings=())
    info = content(versions=(version, later, plain))
    logged_in.replies |= {"GET /api/v1/contents/7-Zip": info, "GET /api/v1/contents": [info]}
    ran = entrepot("content", "show", "7-Zip")
    assert "Warning: versions 1, 2: '[x].key' looks like a secret." in ran.err
    assert "Warning: version 2: It is [much] larger." in ran.err
    listed = entrepot("content", "list")
    assert "Warnings" in listed.out
    assert "1 (others: 2)" in listed.out
    [told] = entrepot("content", "list", "--json").value
    assert [len(each["warnings"]) for each in told["versions"]] == [1, 2, 0]


def interrupted_while_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody presses Ctrl-C as soon as progress is shown."""

    def pressed(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(waiting.time, "sleep", pressed)


def test_why_a_task_is_put_back_is_told_once_while_it_waits(
    logged_in, entrepot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting.time, "sleep", lambda _: None)
    silent = {"error": "vm1:8440 refuses connections.", "run_after": 1_800_000_000}
    states = [
        task(TaskState.CREATED),
        task(TaskState.CREATED, **silent),
        task(TaskState.IN_PROGRESS, **silent),
        task(TaskState.CREATED, **silent),
        task(message="cloud-eu serves clients again."),
    ]
    logged_in.replies["GET /api/v1/tasks/tsk-1"] = lambda _: states.pop(0)
    ran = entrepot("task", "show", "tsk-1", "--wait")
    assert ran.code == 0, ran.err
    assert ran.err.count("refuses connections. It is tried again by itself, next at ") == 1


def test_ctrl_c_ends_the_watching_and_says_that_the_site_goes_on(
    logged_in, entrepot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted_while_waiting(monkeypatch)
    logged_in.replies["POST /api/v1/contents"] = task(TaskState.IN_PROGRESS)
    ran = entrepot("content", "publish", str(tmp_path))
    assert ran.code == 130
    assert "The site goes on" in ran.err
    assert "entrepot task show tsk-1 --wait" in ran.err
    assert "entrepot task cancel tsk-1" in ran.err
    assert "POST /api/v1/tasks/tsk-1/cancel" not in [asked for asked, _, _ in logged_in.asked]


def test_ctrl_c_cancels_a_rehearsal_which_is_of_no_use_later(
    logged_in, entrepot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted_while_waiting(monkeypatch)
    logged_in.replies |= {
        "POST /api/v1/rehearsals": task(TaskState.IN_PROGRESS),
        "POST /api/v1/tasks/tsk-1/cancel": task(TaskState.CANCELLED),
    }
    ran = entrepot("content", "publish", str(tmp_path), "--dry-run")
    assert ran.code == 130
    assert "Cancelled" in ran.err
    assert "POST /api/v1/tasks/tsk-1/cancel" in [asked for asked, _, _ in logged_in.asked]


def test_a_cancelled_task_has_its_own_exit_code(logged_in, entrepot) -> None:
    logged_in.replies["GET /api/v1/tasks/tsk-1"] = task(TaskState.CANCELLED)
    assert entrepot("task", "show", "tsk-1", "--wait").code == 13


def test_distributing_waits_for_every_point_and_reports_failures(logged_in, entrepot) -> None:
    path = "/api/v1/contents/7-Zip/distribution"
    states = iter([[row(DistributionState.IN_PROGRESS)], [row(DistributionState.SUCCESS)]])
    logged_in.replies |= {
        f"POST {path}": [row(DistributionState.PENDING)],
        f"GET {path}": lambda _: next(states),
    }
    ran = entrepot("content", "distribute", "7-Zip", "--to", "dp-berlin", "--priority", "high", "--json")
    assert ran.code == 0, ran.err
    assert ran.value[0]["state"] == "success"
    assert logged_in.bodies(f"POST {path}") == [{"points": ["dp-berlin"], "priority": "high"}]
    logged_in.replies[f"GET {path}"] = [row(DistributionState.FAILED, "no room")]
    ran = entrepot("content", "distribute", "7-Zip", "--to", "dp-berlin")
    assert (ran.code, "no room" in ran.err) == (10, True)


def test_waiting_for_a_point_that_cannot_be_reached_says_why_once(logged_in, entrepot) -> None:
    path = "/api/v1/contents/7-Zip/distribution"
    waits = [row(DistributionState.RETRYING, "dp-berlin:443 refuses connections.")]
    states = iter([waits, waits, [row(DistributionState.SUCCESS)]])
    logged_in.replies |= {f"POST {path}": waits, f"GET {path}": lambda _: next(states)}
    ran = entrepot("content", "distribute", "7-Zip", "--to", "dp-berlin")
    assert (ran.code, ran.err.count("refuses connections")) == (0, 1)


@pytest.mark.parametrize(
    "arguments",
    [
        ["content", "remove", "7-Zip", "--from", "dp"], ["cloud", "stop", "c"],
        ["cloud", "delete", "c"], ["point", "remove", "dp"], ["boundary", "remove", "b"], ["collection", "remove", "c"],
        ["deploy", "remove", "d"], ["settings", "remove", "s"], ["device", "block", "d"], ["task", "cancel", "t"],
        ["certificate", "remove", "c"], ["device", "remove", "d"], ["device", "withdraw", "code-1"],
    ],
)  # fmt: skip
def test_what_destroys_asks_nobody_and_does_nothing_without_yes(logged_in, entrepot, arguments: list[str]) -> None:
    ran = entrepot(*arguments)
    assert ran.code == 2
    assert "--yes" in ran.err
    assert logged_in.asked == []


def test_listings_show_people_a_table_or_what_to_do_next(logged_in, entrepot) -> None:
    logged_in.replies["GET /api/v1/contents"] = []
    assert "entrepot content publish" in entrepot("content", "list").out
    logged_in.replies["GET /api/v1/contents"] = [content()]
    assert "7-Zip" in entrepot("content", "list").out


def test_open_alerts_are_listed_with_postponed_ones_and_disabled_ones_are_counted(logged_in, entrepot) -> None:
    postponed = msgspec.structs.replace(alert(AlertState.POSTPONED), skip_until=1_774_267_200)
    opened = [alert(AlertState.ACTIVE), postponed]
    logged_in.replies |= {
        "GET /api/v1/alerts?open_only=true": opened,
        "GET /api/v1/alerts?in_state=disabled": [alert(AlertState.DISABLED)],
        "GET /api/v1/alerts": [*opened, alert(AlertState.CANCELED), alert(AlertState.DISABLED)],
    }
    assert [one["state"] for one in entrepot("alert", "list", "--json").value] == ["active", "postponed"]
    assert len(entrepot("alert", "list", "--all", "--json").value) == 4
    ran = entrepot("alert", "list")
    assert "[full]" in ran.out, "brackets are no markup"
    assert "postponed until 2026-03-23" in " ".join(ran.out.split())
    assert "1 is disabled" in ran.err
    assert "disabled" not in entrepot("alert", "list", "--all").err


def test_alerts_are_narrowed_down_by_what_they_are_about_type_and_severity(logged_in, entrepot) -> None:
    named = "subject=cloud-eu&of_type=transfer_warning&severity=warning"
    logged_in.replies |= {
        f"GET /api/v1/alerts?open_only=true&{named}": [alert(AlertState.ACTIVE)],
        f"GET /api/v1/alerts?in_state=disabled&{named}": [],
    }
    ran = entrepot("alert", "list", "--about", "cloud-eu", "--type", "transfer_warning", "--severity", "warning")
    assert ran.code == 0, ran.err
    assert "[full]" in ran.out
    assert ran.err == ""


def test_codes_are_printed_alone_on_standard_output(logged_in, entrepot, monkeypatch) -> None:
    point = PointInfo(
        id="pt-1", name="dp", kind="standard", url="", state="awaiting", fallback=False, internet_facing=False,
        fingerprint="", certificate_expires=0, control_counter=0, control_pushed=0, contents=0, message="",
    )  # fmt: skip
    logged_in.replies |= {
        "POST /api/v1/points": PointCode(point=point, code="entrepot1.point"),
        "POST /api/v1/enrolment-codes": EnrolmentCodeReply(id="c", code="entrepot1.device", expires=1),
    }
    assert entrepot("point", "add", "dp").out == "entrepot1.point\n"
    assert entrepot("device", "code", "--uses", "3").out == "entrepot1.device\n"
    assert logged_in.bodies("POST /api/v1/enrolment-codes")[0]["uses"] == 3
    logged_in.replies["POST /api/v1/points"] = PointCode(point=point, code="entrepot1.\x1b[2J")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert entrepot("point", "add", "dp").out == "entrepot1.\\x1b[2J\n", "it does not steer a terminal"


def test_changing_a_boundary_group_keeps_what_is_left_out(logged_in, entrepot) -> None:
    group = BoundaryGroupInfo(id="bg-1", name="Berlin", ranges=("10.1.0.0/16",), points=(BoundaryPoint(name="a"),))
    logged_in.replies |= {"GET /api/v1/boundary-groups": [group], "PUT /api/v1/boundary-groups/bg-1": group}
    assert entrepot("boundary", "set", "Berlin", "--point", "b:slow").code == 0
    sent = logged_in.bodies("PUT /api/v1/boundary-groups/bg-1")[0]
    assert sent == {"name": "Berlin", "ranges": ["10.1.0.0/16"], "points": [{"name": "b", "speed": "slow"}]}
    assert entrepot("boundary", "set", "Berlin", "--point", "b:snail").code == 2


def test_thresholds_take_sizes_and_leave_out_what_is_not_given(logged_in, entrepot) -> None:
    entrepot("cloud", "thresholds", "cloud-eu", "--storage-quota", "1.5GB", "--transfer-warning", "60")
    (sent,) = logged_in.bodies("PATCH /api/v1/cloud-points/cloud-eu")
    assert {name: value for name, value in sent.items() if value is not None} == {
        "storage_quota": 1_500_000_000, "transfer_warning_percent": 60, "features": [],
    }  # fmt: skip


def test_a_management_certificate_is_made_public_half_first_and_imported(
    logged_in, entrepot, tmp_path, password_file
) -> None:
    out = tmp_path / "certs"
    made = entrepot("certificate", "new-management", "contoso", "--out", str(out), "--key", "ec", "--password-file",
                    str(password_file), "--json")  # fmt: skip
    assert made.code == 0, made.err
    cer, pfx = Path(made.value["cer"]), Path(made.value["pfx"])
    assert b"PRIVATE" not in cer.read_bytes()
    if sys.platform != "win32":
        assert pfx.stat().st_mode & 0o077 == 0
    again = entrepot(
        "certificate", "new-management", "contoso", "--out", str(out), "--password-file", str(password_file)
    )
    assert again.code == 4
    logged_in.replies["POST /api/v1/management-certificates"] = CertificateInfo(
        id="crt-1", name="contoso", subject="CN=contoso", thumbprint=made.value["thumbprint"], key="ec-p256",
        not_before=0, not_after=1, imported=1,
    )  # fmt: skip
    assert entrepot("certificate", "import", "contoso", str(pfx), "--password-file", str(password_file)).code == 0
    assert logged_in.bodies("POST /api/v1/management-certificates")[0]["name"] == "contoso"


@pytest.mark.parametrize("name", ["../elsewhere/contoso", "a/b", "a\\b", "a:b", "con", "a\nb"])
def test_a_certificate_is_made_in_the_folder_that_was_asked_for_and_nowhere_else(
    entrepot, tmp_path, password_file, name
) -> None:
    ran = entrepot("certificate", "new-management", name, "--out", str(tmp_path / "certs"), "--key", "ec",
                   "--password-file", str(password_file))  # fmt: skip
    assert (ran.code, "--out" in ran.err) == (Family.USAGE.exit_code, True)
    assert not (tmp_path / "certs").exists()


def test_a_service_certificate_is_kept_private(logged_in, entrepot, tmp_path, password_file) -> None:
    logged_in.replies["POST /api/v1/service-certificates"] = ServiceCertificate(
        fqdn="c.example", pfx=b"PFX", certificate="", not_after=1
    )
    ran = entrepot("certificate", "issue-service", "c.example", "--out", str(tmp_path), "--password-file",
                   str(password_file), "--json")  # fmt: skip
    assert ran.code == 0, ran.err
    assert (tmp_path / "c.example.pfx").read_bytes() == b"PFX"


def test_a_renewal_by_the_own_issuer_names_the_point_and_the_next_step(
    logged_in, entrepot, tmp_path, password_file
) -> None:
    logged_in.replies["POST /api/v1/service-certificates"] = ServiceCertificate(
        fqdn="c.example", pfx=b"PFX", certificate="", not_after=1
    )
    ran = entrepot("certificate", "issue-service", "c.example", "--renews", "cloud-eu", "--out", str(tmp_path),
                   "--password-file", str(password_file))  # fmt: skip
    assert logged_in.bodies("POST /api/v1/service-certificates")[0]["renews"] == "cloud-eu"
    assert "entrepot cloud renew-certificate cloud-eu" in ran.err + ran.out


def test_the_public_half_of_an_imported_certificate_is_written_for_the_cloud(logged_in, entrepot, tmp_path) -> None:
    logged_in.replies["GET /api/v1/management-certificates/contoso/public"] = PublicCertificate(
        name="contoso", thumbprint="ab12", certificate=b"DER"
    )
    ran = entrepot("certificate", "export", "contoso", "--out", str(tmp_path), "--json")
    assert (ran.code, ran.value["thumbprint"]) == (0, "ab12")
    assert (tmp_path / "contoso.cer").read_bytes() == b"DER"
    again = entrepot("certificate", "export", "contoso", "--out", str(tmp_path))
    assert (again.code, "exists already" in again.err) == (4, True)


def test_an_error_of_a_task_is_of_the_class_that_its_code_names() -> None:
    assert isinstance(error_of(task(TaskState.FAILED, error="Slow.", error_code="limited")), LimitedError)
    assert error_of(task(TaskState.FAILED, error_code="of-the-future")).family.exit_code == 1


def test_amounts_are_readable() -> None:
    assert amount(task(done=1500, total=3000)) == "1.5 kB of 3.0 kB"
    assert amount(task(done=2, total=5, unit="objects")) == "2 of 5 objects"
    assert amount(task()) == ""


def test_json_is_one_document_of_the_protocols_model(logged_in, entrepot) -> None:
    logged_in.replies["GET /api/v1/tasks"] = [task()]
    assert msgspec.convert(json.loads(entrepot("task", "list", "--json").out), list[TaskInfo]) == [task()]


@pytest.mark.parametrize(("by", "told"), [("Alice", "Alice"), (SYSTEM, "the site itself")])
def test_a_task_is_listed_and_shown_with_who_ordered_it(logged_in, entrepot, by, told) -> None:
    logged_in.replies |= {"GET /api/v1/tasks": [task(by=by)], "GET /api/v1/tasks/tsk-1": task(by=by)}
    for command in (("list",), ("show", "tsk-1")):
        assert told in " ".join(entrepot("task", *command).out.split()), command


@pytest.mark.parametrize(("by", "told"), [("Alice", "Alice"), (SYSTEM, "the site itself")])
def test_a_cancelled_task_is_listed_and_shown_with_who_cancelled_it(logged_in, entrepot, by, told) -> None:
    cancelled = task(TaskState.CANCELLED, by="Ben", cancelled_by=by)
    logged_in.replies |= {"GET /api/v1/tasks": [cancelled], "GET /api/v1/tasks/tsk-1": cancelled}
    for command in (("list",), ("show", "tsk-1")):
        assert told in " ".join(entrepot("task", *command).out.split()), command


def test_only_a_task_that_is_not_completed_is_at_a_step(logged_in, entrepot) -> None:
    states = {TaskState.IN_PROGRESS: True, TaskState.FAILED: True, TaskState.COMPLETED: False}
    for state, told in states.items():
        logged_in.replies["GET /api/v1/tasks/tsk-1"] = task(state, step="Sealing everything")
        assert ("Sealing everything" in entrepot("task", "show", "tsk-1").out) is told


def test_tasks_are_chosen_by_state_kind_and_subject(logged_in, entrepot) -> None:
    logged_in.replies["GET /api/v1/tasks?active=true&kind=publish&subject=pkg-1&limit=5"] = []
    ran = entrepot("task", "list", "--active", "--kind", "publish", "--subject", "pkg-1", "--limit", "5")
    assert (ran.code, "No such task." in ran.out) == (0, True)
    assert entrepot("task", "list", "--limit", "0").code == 2


def test_a_device_is_forgotten_and_a_code_withdrawn(logged_in, entrepot) -> None:
    logged_in.replies |= {"DELETE /api/v1/devices/pc%201": None, "DELETE /api/v1/enrolment-codes/code-1": None}
    assert entrepot("device", "remove", "pc 1", "--yes").code == 0
    assert entrepot("device", "withdraw", "code-1", "--yes").code == 0
    assert [asked for asked, _, _ in logged_in.asked] == [
        "DELETE /api/v1/devices/pc%201", "DELETE /api/v1/enrolment-codes/code-1",
    ]  # fmt: skip
    logged_in.replies["DELETE /api/v1/devices/pc-2"] = ConflictError("It is approved.", next_step="Block it first.")
    refused = entrepot("device", "remove", "pc-2", "--yes")
    assert (refused.code, "Block it first." in refused.err) == (4, True)


def test_devices_are_shown_by_state_and_one_by_one(logged_in, entrepot) -> None:
    device = DeviceInfo(
        id="dev-1", name="pc-1", state=DeviceState.PENDING, fingerprint="AA-BB", enrolled=1, seen=0, address="",
        collections=("Laptops",),
    )  # fmt: skip
    logged_in.replies |= {
        "GET /api/v1/devices?device_state=pending": [device],
        "GET /api/v1/devices?device_state=blocked": [],
        "GET /api/v1/devices/pc-1": device,
    }
    assert [one["name"] for one in entrepot("device", "list", "--state", "pending", "--json").value] == ["pc-1"]
    assert "No device is blocked." in entrepot("device", "list", "--state", "blocked").out
    assert "AA-BB" in entrepot("device", "show", "pc-1").out
    assert entrepot("device", "list", "--state", "asleep").code == 2


def test_the_members_of_a_collection_are_shown(logged_in, entrepot) -> None:
    logged_in.replies["GET /api/v1/collections/Laptops"] = CollectionInfo(
        id="col-1", name="Laptops", built_in=False, members=("dev-1", "dev-2")
    )
    assert entrepot("collection", "show", "Laptops", "--json").value["members"] == ["dev-1", "dev-2"]
    assert "dev-2" in entrepot("collection", "show", "Laptops").out


@pytest.mark.parametrize(
    ("problem", "code", "told"),
    [("", 0, "good: clients get"), ("c.example cannot be resolved: create …", 10, "create")],
)
def test_the_dns_check_tells_what_to_create_and_fails_when_clients_would(
    logged_in, entrepot, problem: str, code: int, told: str
) -> None:
    record = DnsRecord(name="c.example", type="CNAME", value="vm1.example")
    logged_in.replies["GET /api/v1/cloud-points/c/dns"] = DnsCheck(record=record, good=not problem, problem=problem)
    ran = entrepot("cloud", "dns", "c")
    assert (ran.code, told in ran.out, "vm1.example" in ran.out) == (code, True, True)
    as_json = entrepot("cloud", "dns", "c", "--json")
    assert (as_json.code, as_json.value["good"]) == (code, not problem)


def test_the_description_of_a_cloud_point_is_changed_and_nothing_else(logged_in, entrepot) -> None:
    entrepot("cloud", "set", "cloud-eu", "--description", "")
    (sent,) = logged_in.bodies("PATCH /api/v1/cloud-points/cloud-eu")
    assert {name: value for name, value in sent.items() if value is not None} == {
        "description": "", "features": [],
    }  # fmt: skip
    logged_in.replies["PATCH /api/v1/cloud-points/cloud-eu"] = RefusedError("No PXE.", next_step="Elsewhere.")
    refused = entrepot("cloud", "set", "cloud-eu", "--feature", "pxe")
    assert (refused.code, "Elsewhere." in refused.err) == (5, True)
    assert logged_in.bodies("PATCH /api/v1/cloud-points/cloud-eu")[1]["features"] == ["pxe"]
    nothing = entrepot("cloud", "set", "cloud-eu")
    assert (nothing.code, "--description" in nothing.err) == (Family.USAGE.exit_code, True)


def test_an_alert_is_commented_and_tells_its_history(logged_in, entrepot) -> None:
    event = AlertEvent(at=1, event="opened", state=AlertState.ACTIVE, by="", message="90 % used")
    logged_in.replies |= {
        "GET /api/v1/alerts/alert-1/history": [event],
        "POST /api/v1/alerts/alert-1/comment": alert(AlertState.ACTIVE),
    }
    assert "90 % used" in entrepot("alert", "history", "alert-1").out
    assert entrepot("alert", "history", "alert-1", "--json").value[0]["event"] == "opened"
    assert entrepot("alert", "comment", "alert-1", "quota asked for").code == 0
    assert logged_in.bodies("POST /api/v1/alerts/alert-1/comment") == [{"comment": "quota asked for"}]


def test_a_file_that_is_too_large_to_be_a_certificate_is_not_even_sent(logged_in, entrepot, tmp_path, password_file):
    giant = tmp_path / "giant.pfx"
    giant.write_bytes(bytes(300_000))
    ran = entrepot("certificate", "import", "cert", str(giant), "--password-file", str(password_file))
    assert (ran.code, "at most 256 KiB" in ran.err) == (Family.USAGE.exit_code, True)
    ran = entrepot("certificate", "renew", "cert", str(giant), "--password-file", str(password_file))
    assert (ran.code, "at most 64 KiB" in ran.err, "its own chain" in ran.err) == (Family.USAGE.exit_code, True, True)
    assert not [asked for asked, _, _ in logged_in.asked if "certificates" in asked]
