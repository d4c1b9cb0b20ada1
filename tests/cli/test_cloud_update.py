"""`entrepot cloud update` with other options, and what is remarked on about images."""

from pathlib import Path

import pytest

from entrepot.core.errors import BadInputError
from entrepot.protocol.cloudapi import CloudPlan, OptionChange, UpdatePlan

from .test_cloud_care import task_info

UPDATE = "POST /api/v1/cloud-points/cloud-az/update"
NEW_IMAGE = "contoso.azurecr.io/entrepot@sha256:" + "11" * 32


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    path = tmp_path / "registry-password"
    path.touch(mode=0o600)
    path.write_text("second-secret\n")
    return path


def test_options_that_are_given_are_sent_and_the_password_comes_from_its_file(logged_in, entrepot, secret_file) -> None:
    logged_in.replies[UPDATE] = task_info("cloud-update", "cloud-az is as wanted.")
    options = ("--azure-image", NEW_IMAGE, "--registry-user", "puller", "--registry-password-file", str(secret_file))
    ran = entrepot("cloud", "update", "cloud-az", *options, "--cpu", "1")
    assert ran.code == 0, ran.err
    assert "cloud-az is as wanted." in ran.err
    assert "second-secret" not in ran.err + ran.out
    assert logged_in.bodies(UPDATE) == [
        {
            "image": NEW_IMAGE,
            "registry_user": "puller",
            "registry_password": "second-secret",
            "cpu": 1.0,
            "memory_gib": None,
        }
    ]


def test_without_options_nothing_of_them_is_sent(logged_in, entrepot) -> None:
    logged_in.replies[UPDATE] = task_info("cloud-update", "cloud-az is as wanted.")
    assert entrepot("cloud", "update", "cloud-az").code == 0
    (sent,) = logged_in.bodies(UPDATE)
    assert set(sent.values()) == {None}


def test_a_new_password_alone_keeps_the_user(logged_in, entrepot, secret_file) -> None:
    logged_in.replies[UPDATE] = task_info("cloud-update", "cloud-az is as wanted.")
    assert entrepot("cloud", "update", "cloud-az", "--registry-password-file", str(secret_file)).code == 0
    (sent,) = logged_in.bodies(UPDATE)
    assert (sent["registry_user"], sent["registry_password"]) == (None, "second-secret")


def test_where_nobody_can_be_asked_the_option_for_the_password_is_named(logged_in, entrepot) -> None:
    ran = entrepot("cloud", "update", "cloud-az", "--registry-user", "puller")
    assert ran.code == BadInputError.family.exit_code
    assert "--registry-password-file" in ran.err
    assert logged_in.bodies(UPDATE) == []


def test_a_dry_run_shows_what_changes_and_what_stays(logged_in, entrepot) -> None:
    logged_in.replies[f"{UPDATE}/plan"] = UpdatePlan(
        options=(
            OptionChange(option="image", now="registry/entrepot:1", then="registry/entrepot:2"),
            OptionChange(option="cores of a replica", now="0.5", then="0.5"),
        ),
        remarks=("The image is named without its digest.",),
    )
    ran = entrepot("cloud", "update", "cloud-az", "--azure-image", "registry/entrepot:2", "--dry-run")
    assert ran.code == 0, ran.err
    lines = [" ".join(line.split()) for line in ran.out.splitlines()]
    assert "image registry/entrepot:1 registry/entrepot:2" in lines
    assert "cores of a replica 0.5 stays" in lines
    assert "Remark: The image is named without its digest." in ran.err
    assert "Nothing was changed." in ran.err
    shown = entrepot("cloud", "update", "cloud-az", "--azure-image", "registry/entrepot:2", "--dry-run", "--json").value
    assert shown["options"][0]["then"] == "registry/entrepot:2"
    assert logged_in.bodies(UPDATE) == []


def test_an_update_that_is_only_started_shows_what_the_site_remarks_on(logged_in, entrepot) -> None:
    logged_in.replies[UPDATE] = task_info("cloud-update", "The image is named without its digest.")
    ran = entrepot("cloud", "update", "cloud-az", "--no-wait")
    assert "Remark: The image is named without its digest." in ran.err


@pytest.mark.parametrize(("size", "memory"), [((), 1.0), (("--cpu", "2"), 4.0), (("--memory", "3"), 3.0)])
def test_a_creation_names_the_size_and_shows_what_is_remarked_on(
    logged_in, entrepot, tmp_path, secret_file, size, memory
) -> None:
    pfx = tmp_path / "service.pfx"
    pfx.write_bytes(b"pfx")
    plan = CloudPlan(resources=(), monthly=0, currency="", unpriced=(), checks=(), remarks=("No digest.",))
    logged_in.replies["POST /api/v1/cloud-points/plan"] = plan
    ran = entrepot(
        *("cloud", "create", "cloud-az", "--subscription", "s", "--certificate", "c", "--service-pfx", str(pfx)),
        *("--service-password-file", str(secret_file), "--region", "westeurope", "--azure-tenant", "contoso"),
        *("--azure-application", "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee", "--azure-image", "registry/entrepot:1"),
        *(*size, "--upload-quota", "3TB", "--azure-authority", "https://login.example", "--dry-run"),
    )
    assert ran.code == 0, ran.err
    assert "Remark: No digest." in ran.err
    (sent,) = logged_in.bodies("POST /api/v1/cloud-points/plan")
    assert sent["azure"]["memory_gib"] == memory
    assert sent["azure"]["authority"] == "https://login.example"
    assert sent["thresholds"]["upload_quota"] == 3 * 10**12
