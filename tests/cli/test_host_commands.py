"""``entrepot host``: what the administrator of a cloud host does on its own machine."""

import json
from pathlib import Path

import pytest

from entrepot.core.errors import Family

from .conftest import Command


@pytest.fixture
def host(entrepot: Command, tmp_path: Path) -> Path:
    """A cloud host's home with the subscription contoso: 500 GB, 4 instances."""
    home = tmp_path / "host"
    assert entrepot("host", "init", "--home", str(home)).code == 0
    quotas = ("--storage", "500GB", "--instances", "4")
    assert entrepot("host", "subscription", "add", "contoso", *quotas, "--home", str(home)).code == 0
    return home


def test_what_is_stored_is_listed_beside_the_quota(host, entrepot) -> None:
    assert "0 B of 500.0 GB" in entrepot("host", "subscription", "list", "--home", str(host)).out
    (row,) = entrepot("host", "subscription", "list", "--home", str(host), "--json").value
    assert (row["stored_bytes"], row["charged_bytes"], row["storage_quota"]) == (0, 0, 500 * 10**9)


def _listed(entrepot: Command, home: Path) -> dict[str, object]:
    (row,) = entrepot("host", "subscription", "list", "--home", str(home), "--json").value
    return {name: row[name] for name in ("storage_quota", "instance_quota", "instances")}


def test_a_quota_is_changed_by_itself_and_noted_in_the_audit_log(host, entrepot) -> None:
    ran = entrepot("host", "subscription", "set", "contoso", "--storage", "4TB", "--home", str(host))
    assert (ran.code, "4.0 TB and run 4 instances" in ran.err) == (0, True)
    assert _listed(entrepot, host) == {"storage_quota": 4 * 10**12, "instance_quota": 4, "instances": 0}
    changed = entrepot("host", "subscription", "set", "contoso", "--instances", "32", "--home", str(host), "--json")
    assert (changed.value["storage_quota"], changed.value["instance_quota"]) == (4 * 10**12, 32)
    assert "0 of 32" in entrepot("host", "subscription", "list", "--home", str(host)).out
    last = json.loads((host / "audit.log").read_text().splitlines()[-1])
    assert (last["action"], last["actor"], last["storage_quota"], last["instance_quota"]) == (
        "subscription.set",
        "local",
        4 * 10**12,
        32,
    )


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("contoso",), Family.USAGE),
        (("contoso", "--storage", "0"), Family.USAGE),
        (("contoso", "--storage", "99999999999TB"), Family.USAGE),
        (("contoso", "--instances", "0"), Family.USAGE),
        (("fabrikam", "--instances", "8"), Family.NOT_FOUND),
    ],
)
def test_quotas_that_make_no_sense_change_nothing(host, entrepot, arguments, code) -> None:
    assert entrepot("host", "subscription", "set", *arguments, "--home", str(host)).code == code.exit_code
    assert _listed(entrepot, host) == {"storage_quota": 500 * 10**9, "instance_quota": 4, "instances": 0}


def test_the_audit_log_is_shown_with_the_newest_line_last(host, entrepot) -> None:
    entrepot("host", "subscription", "set", "contoso", "--instances", "8", "--home", str(host))
    shown = entrepot("host", "audit", "--home", str(host))
    assert (shown.code, "instance_quota 8" in shown.out.rstrip().splitlines()[-1]) == (0, True)
    lines = entrepot("host", "audit", "--home", str(host), "--json").value
    assert [(line["action"], line["outcome"]) for line in lines] == [
        ("subscription.add", "done"),
        ("subscription.set", "done"),
    ]
    assert len(entrepot("host", "audit", "--limit", "1", "--home", str(host), "--json").value) == 1


def test_the_hosts_key_is_announced_switched_and_taken_back_on_the_command_line(host, entrepot) -> None:
    at = ("--home", str(host))
    first = entrepot("host", "status", *at, "--json").value
    assert first["next_pin"] == ""
    announced = entrepot("host", "identity", "rotate", "--days", "30", *at, "--json").value
    assert (announced["pin"], announced["due"] - announced["announced"]) == (first["pin"], 30 * 86_400)
    assert entrepot("host", "status", *at, "--json").value["next_pin"] == announced["next_pin"]
    again = entrepot("host", "identity", "rotate", *at)
    assert (again.code, "host identity switch" in again.err) == (Family.CONFLICT.exit_code, True)
    foreseen = entrepot("host", "identity", "switch", "--dry-run", *at, "--json").value
    assert foreseen["effects"][0]["what"] == "sites that must accept the new pin by hand"
    assert entrepot("host", "identity", "switch", *at).code == Family.USAGE.exit_code, "it asks first"
    switched = entrepot("host", "identity", "switch", "--yes", *at)
    assert f"entrepot cloud accept-pin NAME --host-pin {announced['next_pin']}" in switched.err
    assert entrepot("host", "status", *at, "--json").value["pin"] == announced["next_pin"]
    entrepot("host", "identity", "rotate", *at)
    assert entrepot("host", "identity", "cancel", "--yes", *at, "--json").value["next_pin"] == ""
    now = entrepot("host", "identity", "rotate", "--now", "--yes", *at, "--json").value
    assert now["pin"] not in (first["pin"], announced["next_pin"])
    actions = [line["action"] for line in entrepot("host", "audit", *at, "--json").value]
    assert [one for one in actions if one.startswith("identity")] == [
        f"identity.{one}" for one in ("announce", "switch", "announce", "cancel", "switch")
    ]


def test_a_dry_run_of_a_new_key_makes_none(host, entrepot) -> None:
    at = ("--home", str(host))
    before = entrepot("host", "identity", "show", *at, "--json").value
    for order in (("rotate",), ("rotate", "--now"), ("switch",), ("cancel",)):
        assert entrepot("host", "identity", *order, "--dry-run", *at).code == 0
    assert entrepot("host", "identity", "show", *at, "--json").value == before
