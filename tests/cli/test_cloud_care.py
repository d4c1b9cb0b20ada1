"""Upload windows, costs, figures and orphans of cloud points on the command line."""

import msgspec
import pytest

from entrepot.cli.cloud.care import parse_window
from entrepot.cli.output import when
from entrepot.core.errors import BadInputError, ConflictError
from entrepot.protocol.cloudapi import (
    ARM,
    MACHINE,
    AcceptedPin,
    AzureOptions,
    CloudAccount,
    CloudResources,
    Comparison,
    Orphan,
    PlannedResource,
    Reconciled,
    Reconciliation,
    RenewalPlan,
    UploadSchedule,
    UploadWindow,
)
from entrepot.protocol.cloudpointapi import CloudPointInfo, CloudPointState
from entrepot.protocol.control import Delivery
from entrepot.protocol.removalapi import Removal
from entrepot.protocol.siteapi import TaskInfo, TaskState
from entrepot.site.cloud.proofs import records_left

from .test_cloud_drill import cloud_point_info


@pytest.mark.parametrize(
    ("text", "window"),
    [
        ("mon-fri 08:00-18:00 0", UploadWindow(begin=480, end=1080, days=(1, 2, 3, 4, 5))),
        ("Sat,Sun 00:00-24:00 2MB", UploadWindow(begin=0, end=1440, days=(6, 7), bytes_per_second=2_000_000)),
        ("fri-mon 22:00-06:00 500KB", UploadWindow(begin=1320, end=360, days=(5, 6, 7, 1), bytes_per_second=500_000)),
    ],
)
def test_windows_are_read_as_people_write_them(text, window) -> None:
    assert parse_window(text) == window


@pytest.mark.parametrize(
    "text", ["", "mon", "mon 8-18 0", "mon 08:00-25:00 0", "xyz 08:00-18:00 0", "mon 08:60-18:00 0", "mon 1:0-2:0 fast"]
)
def test_other_texts_are_refused_with_an_example(text) -> None:
    with pytest.raises(BadInputError):
        parse_window(text)


def test_upload_windows_can_be_removed_and_the_rate_stays(logged_in, entrepot) -> None:
    path = "/api/v1/cloud-points/cloud-eu/upload"
    kept = UploadSchedule(bytes_per_second=5_000_000, windows=(UploadWindow(begin=480, end=1080),))
    logged_in.replies |= {f"GET {path}": kept, f"PUT {path}": UploadSchedule(bytes_per_second=5_000_000)}
    ran = entrepot("cloud", "upload-limit", "cloud-eu", "--no-windows", "--json")
    assert ran.value == {"bytes_per_second": 5_000_000, "windows": []}
    assert logged_in.bodies(f"PUT {path}") == [{"bytes_per_second": 5_000_000, "windows": []}]
    both = entrepot("cloud", "upload-limit", "cloud-eu", "--no-windows", "--window", "mon 08:00-18:00 0")
    assert (both.code, "contradict" in both.err) == (BadInputError.family.exit_code, True)
    entrepot("cloud", "upload-limit", "cloud-eu", "--rate", "1MB")
    assert logged_in.bodies(f"PUT {path}")[-1]["windows"], "what is not named stays"
    assert len(logged_in.bodies(f"PUT {path}")) == 2


PLAN = CloudResources(
    resources=(
        PlannedResource(kind="Resource group", name="entrepot-cloud-az"),
        PlannedResource(
            kind="Container app",
            name="cloud-az",
            meter="instance_hour",
            unit="replica-hour",
            quantity=1460,
            stays=False,
            monthly=73,
        ),
        PlannedResource(
            kind="Storage", name="entrepot01", meter="storage_gb_month", unit="GB-month", quantity=50, monthly=1
        ),
        PlannedResource(kind="Operations", name="entrepot01", meter="writes_per_10000", unit="10,000 operations"),
        PlannedResource(
            kind="Transfers",
            name="cloud-az",
            meter="egress_gb",
            unit="GB",
            stays=False,
            monthly=0,
            rate=0.08,
            currency="EUR",
        ),
    ),
    running=74,
    stopped=1,
    currency="EUR",
    unpriced=("writes_per_10000",),
)


def test_resources_tell_what_goes_on_costing(logged_in, entrepot) -> None:
    logged_in.replies["GET /api/v1/cloud-points/cloud-az/resources"] = PLAN
    ran = entrepot("cloud", "resources", "cloud-az")
    assert ran.code == 0, ran.err
    lines = {line.split()[0]: line for line in ran.out.splitlines() if line.split()}
    assert "goes on" in lines["Storage"]
    assert "50.00 GB-month" in lines["Storage"]
    assert "ends" in lines["Container"]
    assert "by use" in lines["Operations"]
    for text in (
        "Free of charge: entrepot-cloud-az",
        "74.00 EUR a month while it runs",
        "1.00 EUR a month while it is",
    ):
        assert text in ran.err
    assert "by use, 0.08 EUR per GB" in lines["Transfers"]
    assert "Without a known price: writes_per_10000" in ran.err
    assert entrepot("cloud", "resources", "cloud-az", "--json").value["stopped"] == 1


def test_the_price_of_a_single_request_is_told_however_small(logged_in, entrepot) -> None:
    priced = {"monthly": 0, "rate": 4e-7, "currency": "EUR"}
    part = PlannedResource(kind="Requests", name="cloud-az", meter="requests", unit="request", **priced)
    cheap = CloudResources(resources=(part,), running=1234.5, stopped=0, currency="EUR", unpriced=())
    logged_in.replies["GET /api/v1/cloud-points/cloud-az/resources"] = cheap
    ran = entrepot("cloud", "resources", "cloud-az")
    assert "by use, 0.0000004 EUR per request" in ran.out
    assert "1,234.50 EUR a month while it runs" in ran.err


def test_costs_that_are_not_known_are_said_to_be_with_what_to_do(logged_in, entrepot) -> None:
    parts = tuple(msgspec.structs.replace(one, monthly=None, rate=None) for one in PLAN.resources)
    unknown = CloudResources(resources=parts, running=None, stopped=None, currency="", unpriced=("instance_hour",))
    logged_in.replies["GET /api/v1/cloud-points/cloud-az/resources"] = unknown
    ran = entrepot("cloud", "resources", "cloud-az")
    assert "What cloud-az costs a month is not known." in ran.err
    assert "Next: entrepot cost sheet use" in ran.err
    assert " 0.00" not in ran.out + ran.err
    assert entrepot("cloud", "resources", "cloud-az", "--json").value["running"] is None


def test_metrics_say_whether_the_clouds_figures_agree(logged_in, entrepot) -> None:
    figures = (
        Reconciled(figure="sent to clients", by_cloud=2 * 10**9, by_site=10**9, verdict="differs", message="Gaps?"),
        Reconciled(figure="stored", by_cloud=None, by_site=5, verdict="unknown", message="Not told."),
    )
    path = "GET /api/v1/cloud-points/cloud-az/reconciliation?days=7"
    logged_in.replies[path] = Reconciliation(since=1_774_000_000, until=1_774_267_200, figures=figures)
    ran = entrepot("cloud", "metrics", "cloud-az", "--days", "7")
    assert ran.code == 0, ran.err
    for text in ("2.0 GB", "1.0 GB", "differs", "Gaps?", "not told", "unknown"):
        assert text in ran.out
    assert entrepot("cloud", "metrics", "cloud-az", "--days", "7", "--json").value["figures"][0]["verdict"] == "differs"


def test_the_last_daily_comparison_is_shown_with_its_age_and_what_came_of_asking_since(logged_in, entrepot) -> None:
    sent = Reconciled(figure="sent to clients", by_cloud=2 * 10**9, by_site=10**9, verdict="differs", message="Gaps?")
    stored = Reconciled(figure="stored", by_cloud=5, by_site=5, verdict="agrees", message="")
    last = Comparison(
        at=1_774_300_000,
        age_seconds=5 * 3600,
        since=1_774_137_600,
        until=1_774_224_000,
        figures=(sent, stored),
        tried=1_774_318_000,
        error="The cloud does not answer.",
    )
    path = "GET /api/v1/cloud-points/cloud-az"
    logged_in.replies[path] = msgspec.structs.replace(cloud_point_info(), name="cloud-az", compared=last)
    ran = entrepot("cloud", "metrics", "cloud-az", "--last")
    assert "compared 5 h ago" in ran.err
    assert "The cloud does not answer." in ran.err
    assert "Gaps?" in ran.out
    shown = " ".join(entrepot("cloud", "show", "cloud-az").out.split())
    assert "sent to clients differs: 2.0 GB by the cloud, 1.0 GB by the site" in shown
    assert "stored agrees; compared 5 h ago" in shown
    logged_in.replies[path] = msgspec.structs.replace(cloud_point_info(), name="cloud-az")
    assert "not compared yet" in entrepot("cloud", "metrics", "cloud-az", "--last").err


def test_what_is_stored_is_told_by_its_newest_figure_with_whose_and_how_old_each_is(logged_in, entrepot) -> None:
    info = cloud_point_info()
    measured, counted = 1_774_224_000, 1_774_267_200
    used = msgspec.structs.replace(
        info.usage,
        stored_bytes=10**9,
        stored_at=measured,
        counted_bytes=3 * 10**9,
        counted_at=counted,
        present_bytes=3 * 10**9,
        present_at=counted,
    )
    logged_in.replies["GET /api/v1/cloud-points/cloud-az"] = msgspec.structs.replace(info, usage=used)
    shown = " ".join(entrepot("cloud", "show", "cloud-az").out.split())
    assert f"3.0 GB, {when(counted)}, counted by the site" in shown
    assert f"1.0 GB, {when(measured)}" in shown
    used = msgspec.structs.replace(used, stored_at=counted, present_bytes=10**9, stored_objects=4)
    logged_in.replies["GET /api/v1/cloud-points/cloud-az"] = msgspec.structs.replace(info, usage=used)
    shown = " ".join(entrepot("cloud", "show", "cloud-az").out.split())
    assert f"1.0 GB in 4 objects, {when(counted)}, measured by the cloud" in shown


def _orphan(account: CloudAccount) -> Orphan:
    return Orphan(
        service="cloud-old",
        point="pt-1",
        fqdn="old.contoso.com",
        state="degraded",
        stored_bytes=0,
        account=account,
        parts=("resource group entrepot-cloud-old", "storage account entrepot01"),
    )


AZURE_OPTIONS = (
    *("--subscription", "2222", "--certificate", "contoso-cloud"),
    *("--azure-tenant", "contoso.onmicrosoft.com", "--azure-application", "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"),
)


def test_orphans_in_another_azure_are_looked_for_by_its_own_sign_in_address(logged_in, entrepot) -> None:
    logged_in.replies["POST /api/v1/cloud-orphans/search"] = []
    elsewhere = ("--host", "https://management.example", "--azure-authority", "https://login.example")
    assert entrepot("cloud", "orphans", *AZURE_OPTIONS, *elsewhere).code == 0
    (asked,) = logged_in.bodies("POST /api/v1/cloud-orphans/search")
    assert asked["account"]["azure"]["authority"] == "https://login.example"
    assert asked["account"]["host_url"] == "https://management.example"


@pytest.mark.parametrize("wrong", ["1111…", "my-application"])
def test_what_is_no_application_in_azure_is_told_as_that_before_the_site_is_asked(logged_in, entrepot, wrong) -> None:
    ran = entrepot("cloud", "orphans", *AZURE_OPTIONS[:-1], wrong)
    assert ran.code != 0
    assert "is not the client id of an application registration" in ran.err
    assert "Application (client) ID" in ran.err
    assert logged_in.bodies("POST /api/v1/cloud-orphans/search") == []


RENEWAL = RenewalPlan(
    subject="CN=cloud1.contoso.com",
    thumbprint="ab" * 32,
    expires=1_774_267_200,
    new_thumbprint="cd" * 32,
    new_expires=1_805_803_200,
    checks=("It has the name of the old one.",),
    remarks=("It ends soon.",),
)


@pytest.mark.parametrize(
    ("command", "password", "path"),
    [
        (("cloud", "renew-certificate"), "--service-password-file", "/api/v1/cloud-points/mine/certificate/plan"),
        (("certificate", "renew"), "--password-file", "/api/v1/management-certificates/mine/renew/plan"),
    ],
)
def test_a_renewal_shows_what_it_would_exchange_and_changes_nothing(
    logged_in, entrepot, tmp_path, password_file, command, password, path
) -> None:
    pfx = tmp_path / "new.pfx"
    pfx.write_bytes(b"pfx")
    logged_in.replies[f"POST {path}"] = RENEWAL
    ran = entrepot(*command, "mine", str(pfx), password, str(password_file), "--dry-run")
    assert ran.code == 0, ran.err
    told = ran.out + ran.err
    for part in ("CN=cloud1.contoso.com", "ab" * 8, "cd" * 8, "2026-03-23", "2027-03-23", "name of the old one"):
        assert part in told
    assert "Remark: It ends soon." in told
    assert "Nothing was changed." in told
    assert len(logged_in.bodies(f"POST {path}")) == 1


def test_orphans_of_azure_are_listed_with_their_parts_and_removed(logged_in, entrepot) -> None:
    account = CloudAccount(
        subscription="2222",
        management_certificate="contoso-cloud",
        provider="azure",
        host_url=ARM,
        azure=AzureOptions(tenant="contoso.onmicrosoft.com", application="aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"),
    )
    logged_in.replies["POST /api/v1/cloud-orphans/search"] = [_orphan(account)]
    ran = entrepot("cloud", "orphans", *AZURE_OPTIONS)
    assert ran.code == 0, ran.err
    for text in ("cloud-old", "storage account entrepot01", "not told"):
        assert text in ran.out
    (asked,) = logged_in.bodies("POST /api/v1/cloud-orphans/search")
    assert asked["account"]["provider"] == "azure"
    assert asked["account"]["host_url"] == ARM
    logged_in.replies["POST /api/v1/cloud-orphans/remove"] = ConflictError("It is being removed already.")
    ran = entrepot("cloud", "orphans", *AZURE_OPTIONS, "--remove", "cloud-old", "--yes")
    assert "being removed already" in ran.err
    (removed,) = logged_in.bodies("POST /api/v1/cloud-orphans/remove")
    assert (removed["service"], removed["point"]) == ("cloud-old", "pt-1")
    assert entrepot("cloud", "orphans", *AZURE_OPTIONS, "--remove", "cloud-new", "--yes").code == 3


def test_of_orphans_with_the_same_name_none_is_removed_until_one_is_named(logged_in, entrepot) -> None:
    accounts = [
        CloudAccount(subscription=name, management_certificate="c", provider="host", host_url=f"https://{name}")
        for name in ("sub-a", "sub-b")
    ]
    first, second = (_orphan(account) for account in accounts)
    second = msgspec.structs.replace(second, point="pt-2")
    logged_in.replies |= {
        "POST /api/v1/cloud-orphans/search": [first, second],
        "POST /api/v1/cloud-orphans/remove": task_info("remove", "It is gone."),
    }
    refused = entrepot("cloud", "orphans", "--remove", "cloud-old", "--yes")
    assert refused.code == ConflictError.family.exit_code
    for text in ("pt-1 in sub-a at https://sub-a", "pt-2 in sub-b at https://sub-b", "--subscription"):
        assert text in refused.err
    tried = entrepot("cloud", "orphans", "--remove", "pt-2", "--dry-run")
    assert (tried.code, "pt-2 in sub-b" in tried.err, "Nothing was removed." in tried.err) == (0, True, True)
    assert logged_in.bodies("POST /api/v1/cloud-orphans/remove") == []
    assert entrepot("cloud", "orphans", "--remove", "pt-2", "--yes").code == 0
    [removed] = logged_in.bodies("POST /api/v1/cloud-orphans/remove")
    assert (removed["point"], removed["account"]["subscription"]) == ("pt-2", "sub-b")
    asked = entrepot("cloud", "orphans", "--remove", "pt-1")
    assert (asked.code, "pt-1 in sub-a at https://sub-a" in asked.err) == (BadInputError.family.exit_code, True)
    assert entrepot("cloud", "orphans", "--dry-run").code == BadInputError.family.exit_code


@pytest.mark.parametrize("left_out", range(0, len(AZURE_OPTIONS), 2))
def test_a_subscription_is_named_whole(logged_in, entrepot, left_out) -> None:
    options = AZURE_OPTIONS[:left_out] + AZURE_OPTIONS[left_out + 2 :]
    ran = entrepot("cloud", "orphans", *options)
    assert ran.code == BadInputError.family.exit_code
    assert "named by" in ran.err
    assert entrepot("cloud", "orphans", "--host", "https://h").code == BadInputError.family.exit_code


def task_info(kind: str, message: str) -> TaskInfo:
    """A task that has ended well."""
    texts = dict.fromkeys(("step", "unit", "error", "error_code"), "")
    numbers = dict.fromkeys(("done", "total", "attempts", "created", "started", "finished", "run_after"), 0)
    return TaskInfo(
        id="task-1",
        kind=kind,
        subject="pt-1",
        title=f"{kind} cloud-eu",
        state=TaskState.COMPLETED,
        message=message,
        **texts,
        **numbers,
    )


@pytest.mark.parametrize(
    ("arguments", "request_line", "message"),
    [
        (
            ("stop", "--yes"),
            "POST /api/v1/cloud-points/cloud-eu/stop",
            "cloud-eu is stopped. The disk goes on costing.",
        ),
        (("scale", "3"), "POST /api/v1/cloud-points/cloud-eu/scale", "cloud-eu will start with 3 instances."),
        (("delete", "--yes"), "DELETE /api/v1/cloud-points/cloud-eu", "It is deleted. Remove its DNS record c1.x.y."),
    ],
)
def test_what_the_site_has_to_say_at_the_end_is_shown(entrepot, logged_in, arguments, request_line, message) -> None:
    logged_in.replies[request_line] = task_info(arguments[0], message)
    ran = entrepot("cloud", arguments[0], "cloud-eu", *arguments[1:])
    assert (ran.code, message in ran.err) == (0, True)


@pytest.mark.parametrize(
    ("state", "status", "told"),
    [
        ("ready", "Ready", "Ready"),
        ("scaling", "Upgrading", "Upgrading (scaling)"),
        ("failed", "Error", "Error (failed)"),
    ],
)
def test_the_status_is_told_with_the_state_behind_it(entrepot, logged_in, state, status, told) -> None:
    info = msgspec.structs.replace(cloud_point_info(), state=CloudPointState(state), status=status)
    logged_in.replies |= {"GET /api/v1/cloud-points/cloud-eu": info, "GET /api/v1/cloud-points": [info]}
    for command in (("show", "cloud-eu"), ("list",)):
        shown = " ".join(entrepot("cloud", *command).out.split())
        assert told in shown, command
        assert told != "Ready" or "(ready)" not in shown


def test_a_point_is_forgotten_only_when_asked_to_and_what_that_means_is_told(entrepot, logged_in) -> None:
    gone = "cloud-eu is forgotten; its figures are kept."
    logged_in.replies["DELETE /api/v1/cloud-points/cloud-eu?forget=true"] = task_info("forget", gone)
    refused = entrepot("cloud", "delete", "cloud-eu", "--forget")
    assert refused.code != 0
    assert "nobody will remove" in refused.out + refused.err
    assert logged_in.asked == []
    assert gone in entrepot("cloud", "delete", "cloud-eu", "--forget", "--yes").err


FORESEEN = Removal(what="cloud point, ready", id="pt", name="cloud-eu", effects=())
DELETABLE = {"GET /api/v1/cloud-points/cloud-eu/removal": FORESEEN}


def test_a_forgetting_is_told_before_it_is_done_and_what_it_is_refused_for(entrepot, logged_in) -> None:
    refused = msgspec.structs.replace(FORESEEN, refusal="It is ready.", next_step="Delete it.")
    logged_in.replies |= {
        "GET /api/v1/cloud-points/cloud-eu": cloud_point_info(),
        "GET /api/v1/cloud-points/cloud-eu/resources": PLAN,
        "GET /api/v1/cloud-points/cloud-eu/removal?forget=true": refused,
    }
    told = entrepot("cloud", "delete", "cloud-eu", "--forget", "--dry-run")
    shown = " ".join(told.out.split())
    assert (told.code, "Nothing was deleted." in told.err) == (0, True)
    for text in (
        "in the cloud what cannot be removed stays, and is charged for Resource group entrepot-cloud-az",
        "figures kept, without what was not collected",
        "refused It is ready. then Delete it.",
    ):
        assert text in shown
    told = entrepot("cloud", "delete", "cloud-eu", "--forget", "--dry-run", "--json")
    assert (told.value["refusal"], told.value["next_step"]) == ("It is ready.", "Delete it.")
    assert not any(request.startswith("DELETE") for request, _, _ in logged_in.asked)


def test_a_deletion_is_told_before_it_is_done(entrepot, logged_in) -> None:
    logged_in.replies |= DELETABLE | {
        "GET /api/v1/cloud-points/cloud-eu": cloud_point_info(),
        "GET /api/v1/cloud-points/cloud-eu/resources": PLAN,
    }
    told = entrepot("cloud", "delete", "cloud-eu", "--dry-run")
    assert told.code == 0
    assert "Container app cloud-az" in told.out
    assert "Nothing was deleted." in told.err
    assert entrepot("cloud", "delete", "cloud-eu", "--dry-run", "--json").value["parts"][2] == "Storage entrepot01"
    assert not any(request.startswith("DELETE") for request, _, _ in logged_in.asked)


def test_the_machine_of_a_cloud_host_is_none_of_what_a_deletion_removes(entrepot, logged_in) -> None:
    rented = PlannedResource(kind="the host's machine", name="vm1.contoso.com", meter=MACHINE)
    logged_in.replies |= DELETABLE | {
        "GET /api/v1/cloud-points/cloud-eu": cloud_point_info(),
        "GET /api/v1/cloud-points/cloud-eu/resources": msgspec.structs.replace(
            PLAN, resources=(rented, *PLAN.resources)
        ),
    }
    told = entrepot("cloud", "delete", "cloud-eu", "--dry-run")
    assert "Container app cloud-az" in told.out
    assert "machine" not in told.out


def test_a_deletion_in_azure_names_the_proof_record_that_is_left(entrepot, logged_in) -> None:
    info = msgspec.structs.replace(cloud_point_info(), provider="azure")
    logged_in.replies |= DELETABLE | {
        "GET /api/v1/cloud-points/cloud-eu": info,
        "GET /api/v1/cloud-points/cloud-eu/resources": PLAN,
    }
    assert f"asuid.{info.fqdn}" in entrepot("cloud", "delete", "cloud-eu", "--dry-run").out
    assert entrepot("cloud", "delete", "cloud-eu", "--dry-run", "--json").value["proof_record"].startswith("asuid.")
    assert records_left(info.fqdn, info.provider).endswith(f"and its TXT record asuid.{info.fqdn}.")


def test_a_deletion_tells_the_newest_figure_of_what_is_stored(entrepot, logged_in) -> None:
    info = cloud_point_info()
    used = msgspec.structs.replace(
        info.usage, stored_bytes=10**9, stored_at=1_774_224_000, present_bytes=3 * 10**9, present_at=1_774_267_200
    )
    logged_in.replies |= DELETABLE | {
        "GET /api/v1/cloud-points/cloud-eu": msgspec.structs.replace(info, usage=used),
        "GET /api/v1/cloud-points/cloud-eu/resources": PLAN,
    }
    told = entrepot("cloud", "delete", "cloud-eu", "--dry-run")
    assert "3.0 GB" in told.out
    assert "0 objects" not in told.out
    assert entrepot("cloud", "delete", "cloud-eu", "--dry-run", "--json").value["stored_bytes"] == 3 * 10**9


def test_a_cloud_that_is_silent_keeps_nobody_from_looking_at_a_deletion(entrepot, logged_in) -> None:
    logged_in.replies |= DELETABLE | {
        "GET /api/v1/cloud-points/cloud-eu": cloud_point_info(),
        "GET /api/v1/cloud-points/cloud-eu/resources": ConflictError("silent"),
    }
    told = entrepot("cloud", "delete", "cloud-eu", "--dry-run")
    assert (told.code, "is not known now: silent" in told.err) == (0, True)


def _redirecting(note: str = "Clients fetch by links that stay good for up to 60 seconds.") -> CloudPointInfo:
    info = cloud_point_info()
    used = msgspec.structs.replace(info.usage, transferred_30_days=4 * 10**9, granted_30_days=3 * 10**9)
    return msgspec.structs.replace(info, delivery=Delivery.REDIRECT, delivery_note=note, usage=used)


def test_the_delivery_can_be_set_and_is_shown_with_what_was_granted(logged_in, entrepot) -> None:
    logged_in.replies |= {
        "PATCH /api/v1/cloud-points/cloud-eu": _redirecting(),
        "GET /api/v1/cloud-points/cloud-eu": _redirecting(),
    }
    for ran in (
        entrepot("cloud", "set", "cloud-eu", "--delivery", "redirect"),
        entrepot("cloud", "show", "cloud-eu"),
    ):
        assert ran.code == 0, ran.err
        text = " ".join(ran.out.split())
        assert "redirect. Clients fetch by links" in text
        assert "4.0 GB, 3.0 GB of it granted by links" in text
    [sent] = logged_in.bodies("PATCH /api/v1/cloud-points/cloud-eu")
    assert sent["delivery"] == "redirect"
    assert entrepot("cloud", "set", "cloud-eu", "--delivery", "pigeon").code == 2
    shown = entrepot("cloud", "show", "cloud-eu", "--json").value
    assert (shown["delivery"], shown["usage"]["granted_30_days"]) == ("redirect", 3 * 10**9)


def test_more_instances_than_a_budget_can_use_are_shown_and_added_only_by_force(logged_in, entrepot) -> None:
    crowded = msgspec.structs.replace(cloud_point_info(), budget_note="12 instances, but under a budget 8 serve.")
    logged_in.replies |= {
        "GET /api/v1/cloud-points/cloud-eu": crowded,
        "POST /api/v1/cloud-points/cloud-eu/scale": task_info("scale", "cloud-eu runs 12 instances."),
    }
    assert "under a budget 8 serve" in " ".join(entrepot("cloud", "show", "cloud-eu").out.split())
    for options, forced in (((), False), (("--force",), True)):
        assert entrepot("cloud", "scale", "cloud-eu", "12", *options).code == 0
        assert logged_in.bodies("POST /api/v1/cloud-points/cloud-eu/scale")[-1] == {"instances": 12, "force": forced}


def test_a_hosts_new_pin_is_accepted_however_its_digits_are_grouped(logged_in, entrepot) -> None:
    path, pin = "POST /api/v1/cloud-points/cloud-eu/host-pin", "3f2a" * 16
    logged_in.replies[path] = AcceptedPin(
        host_url="https://vm1:8440", before="00" * 32, pin=pin, points=("cloud-eu", "cloud-us")
    )
    grouped = "-".join(pin[at : at + 4].upper() for at in range(0, 64, 4))
    ran = entrepot("cloud", "accept-pin", "cloud-eu", "--host-pin", grouped)
    assert (ran.code, "for cloud-eu, cloud-us" in ran.err) == (0, True)
    assert logged_in.bodies(path) == [{"host_pin": pin}]
    short = entrepot("cloud", "accept-pin", "cloud-eu", "--host-pin", "3f2a")
    assert (short.code, "64 hexadecimal digits" in short.err) == (BadInputError.family.exit_code, True)
